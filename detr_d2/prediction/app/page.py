"""``detr-d2 app``: a page made with Gradio. Thresholds as sliders, names under the pointer, attention at a click."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detr_d2.arguments import whole_number
from detr_d2.errors import ConfigError
from detr_d2.prediction.app.session import Choices, Limits, SeenPhoto, sentence_of
from detr_d2.prediction.image_files import find_inputs
from detr_d2.prediction.predictor import Predictor

logger = logging.getLogger(__name__)

_TITLE = "detr_d2: what the model sees"
_HELP = (
    "Drop a photo. Point at the map for names and scores; click a segment for where its queries look. "
    "The network runs once a photo: thresholds and classes change the map at once."
)
_CSS = """
#segments .mask { opacity: 0.5 }
#segments .mask.active { opacity: 0.75 }
#segments .mask.inactive { opacity: 0.1 }
#segments .image-container { cursor: pointer }
#attention img { width: 100%; height: auto; object-fit: contain }
#attention :has(> img) { width: 100% }
#files .label-clear-button { display: none }
#pointed { position: fixed; z-index: 1000; display: none; pointer-events: none; padding: 2px 8px; border-radius: 4px;
           background: #222; color: #fff; font: 14px system-ui, sans-serif }
"""
_POINTING = """
() => {
  const label = document.body.appendChild(document.createElement("div"));
  label.id = "pointed";
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pixel = canvas.getContext("2d", { willReadFrequently: true });
  const map = (event) => event.target.closest?.("#segments .image-container");
  // The name, below the map, of the segment whose mask covers the pixel under the pointer.
  const nameUnder = (event) => {
    const box = map(event)?.querySelector(".base-image")?.getBoundingClientRect();
    if (!box) return undefined;
    const names = document.querySelectorAll("#segments .legend-item");
    const place = [...map(event).querySelectorAll(".mask")].findIndex((mask) => {
      const x = Math.floor((mask.naturalWidth * (event.clientX - box.left)) / box.width);
      const y = Math.floor((mask.naturalHeight * (event.clientY - box.top)) / box.height);
      pixel.clearRect(0, 0, 1, 1);
      pixel.drawImage(mask, x, y, 1, 1, 0, 0, 1, 1);
      return pixel.getImageData(0, 0, 1, 1).data[3] > 0;
    });
    return names[place];
  };
  let pointed;
  document.addEventListener("mousemove", (event) => {
    const name = nameUnder(event);
    if (name !== pointed) {
      pointed?.dispatchEvent(new MouseEvent("mouseout", { bubbles: true }));
      name?.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
      pointed = name;
    }
    label.textContent = name?.textContent ?? "";
    label.style.display = name ? "block" : "none";
    label.style.left = `${event.clientX + 14}px`;
    label.style.top = `${event.clientY + 14}px`;
  });
  document.addEventListener("click", (event) => nameUnder(event)?.click());
}
"""
"""Names under the pointer, on the map itself. Gradio has them at the names below it only; those are what this uses."""

_OPTIONS = {"show_progress": "minimal", "api_name": False, "concurrency_limit": 1}

_EPILOG = """\
examples:
  detr-d2 app model_final.pth --examples photos/
  detr-d2 app model_final.pth --address 0.0.0.0 --port 8080 --max-megapixels 20    # for everybody in the network

Needs Gradio: pip install 'detr_d2[app]'. The page is for this machine only (127.0.0.1) unless --address says otherwise;
nothing is sent to anybody else, and what is uploaded is deleted within an hour or two.
"""
_MOST_EXAMPLES = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = "Serve a page on which photos can be dropped and what the model sees in them be looked at."
    parser.epilog = _EPILOG
    parser.add_argument(
        "model", metavar="CHECKPOINT", help="a panoptic model_final.pth, or a name of published weights"
    )
    parser.add_argument("--examples", nargs="+", default=[], metavar="PATH", help="images or folders to choose from")
    parser.add_argument("--address", default="127.0.0.1", help="on which it listens (default: 127.0.0.1)")
    parser.add_argument(
        "--port", type=whole_number(1, 65535), metavar="N", help="(default: the first free one from 7860)"
    )
    parser.add_argument("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    limits, size = Limits(), whole_number(1, 10_000)
    parser.add_argument(
        "--max-megabytes", type=size, default=limits.megabytes, metavar="N", help="of a file (default: %(default)s)"
    )
    parser.add_argument(
        "--max-megapixels", type=size, default=limits.megapixels, metavar="N", help="of an image (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C."""
    gradio()  # or the model is loaded for nothing
    predictor = Predictor(args.model, device=args.device)
    if not predictor.has_masks:
        raise ConfigError(f"{args.model} has no mask head, only boxes; the page needs a panoptic model (stage 2).")
    found = find_inputs(args.examples)
    for complaint in found.complaints:
        print(f"skipped: {complaint}", file=sys.stderr)
    examples = [image.file.path for image in found.images if image.file.member is None][:_MOST_EXAMPLES]
    limits = Limits(args.max_megabytes, args.max_megapixels)
    page = build_page(predictor, limits, examples)
    serve(page, args.address, args.port, limits, examples)
    return 0


def build_page(predictor: Predictor, limits: Limits, examples: Sequence[Path] = ()) -> Any:
    """The page of a model, as Gradio's ``Blocks``, which ``launch`` serves.

    Args:
        predictor: with a mask head.
        limits: of what may be uploaded.
        examples: images to choose from.

    Raises:
        ConfigError: Gradio isn't installed.
    """
    gr = gradio()
    own = predictor.model.postprocess
    with gr.Blocks(title=_TITLE, analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        state = gr.State(None, time_to_live=3600)
        gr.Markdown(f"# {_TITLE}\n{_HELP}")
        with gr.Row():
            with gr.Column(scale=1):
                upload = gr.File(label="A photo", file_types=["image"], type="filepath", elem_id="upload")
                score = gr.Slider(0, 1, own.score_threshold, step=0.01, label="least score", elem_id="score")
                overlap = gr.Slider(0, 1, own.overlap_threshold, step=0.01, label="least seen part of a mask")
                area = gr.Slider(
                    0, max(5000, own.min_segment_area), own.min_segment_area, step=1, label="least pixels of a segment"
                )
                names = [category.name for category in predictor.categories]
                classes = gr.CheckboxGroup(names, value=names, label="classes", elem_id="classes")
                if examples:
                    labels = [f"{path.parent.name}/{path.name}" for path in examples]
                    gr.Examples([str(path) for path in examples], upload, label="examples", example_labels=labels)
            with gr.Column(scale=2):
                summary = gr.Markdown(elem_id="summary")
                segments = gr.AnnotatedImage(label="segments", elem_id="segments", buttons=[])
                sentence = gr.Markdown(elem_id="sentence")
                attention = gr.Image(
                    label="where its queries look", elem_id="attention", interactive=False, buttons=["download"]
                )
                files = gr.File(label="downloads", interactive=False, elem_id="files")
        chosen, outputs = [score, overlap, area, classes], [segments, summary, attention, sentence, files]
        changes = [upload.change(_predicting(gr, predictor, limits), [upload, *chosen], [state, *outputs], **_OPTIONS)]
        for control in chosen:
            change = control.change(_changing(gr), [state, *chosen], outputs, trigger_mode="always_last", **_OPTIONS)
            changes.append(change)
        for change in changes:  # the map first: files of a large photo take seconds
            change.then(_files, [state], [files], trigger_mode="always_last", **_OPTIONS)
        segments.select(_explaining(gr), [state], [attention, sentence], **_OPTIONS)
    return page


def _predicting(gr: Any, predictor: Predictor, limits: Limits) -> Callable[..., tuple[Any, ...]]:
    def predict(path: str | None, *chosen: Any) -> tuple[Any, ...]:
        if path is None:
            return None, *_outputs(gr, None)
        try:
            photo = SeenPhoto(predictor, path, limits)
            photo.choose(_choices(*chosen))
            return photo, *_outputs(gr, photo)
        except Exception as error:
            logger.info("%s: %r", path, error)
            return None, *_outputs(gr, None, f"**{sentence_of(error)}**")

    return predict


def _changing(gr: Any) -> Callable[..., tuple[Any, ...]]:
    def change(photo: SeenPhoto | None, *chosen: Any) -> tuple[Any, ...]:
        if photo is not None:
            photo.choose(_choices(*chosen))
        return _outputs(gr, photo)

    return change


def _outputs(gr: Any, photo: SeenPhoto | None, message: str = "") -> tuple[Any, ...]:
    """Segments, summary, attention with its sentence (none until the next click), and downloads (none until made)."""
    if photo is None:
        return None, message, None, "", None
    image, masks, colors = photo.shown()
    return gr.AnnotatedImage((image, masks), color_map=colors), _summary(photo), None, "", None


def _files(photo: SeenPhoto | None) -> list[str] | None:
    return None if photo is None else photo.files()


def _explaining(gr: Any) -> Callable[..., tuple[Any, str]]:
    def explain(photo: SeenPhoto | None, event: Any) -> tuple[Any, str]:
        return (None, "") if photo is None else photo.attention(int(event.index))

    explain.__annotations__["event"] = gr.SelectData  # by which Gradio knows that it is to be given
    return explain


def serve(
    page: Any, address: str, port: int | None, limits: Limits, examples: Sequence[Path] = (), waits: bool = True
) -> str:
    """Serves the page until Ctrl-C, or until it is closed where it doesn't wait; nothing is sent to anybody else.

    Returns:
        The page's address.
    """
    _, url, _ = page.queue(default_concurrency_limit=1).launch(
        prevent_thread_lock=True,
        server_name=address,
        server_port=port,
        share=False,
        quiet=True,
        max_file_size=f"{limits.megabytes}mb",
        allowed_paths=[str(path) for path in examples],
        footer_links=[],
        theme=_plain_theme(),
        css=_CSS,
        js=_POINTING,
    )
    if waits:
        print(f"Open {url}; Ctrl-C ends it.", flush=True)
        page.block_thread()
    return str(url)


def _plain_theme() -> Any:
    """Gradio's plain theme with fonts of the visitor's machine, so that none is fetched."""
    return gradio().themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"])


def gradio() -> Any:
    """The package, without its telemetry.

    Raises:
        ConfigError: it isn't installed.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import gradio as package
    except ImportError as error:
        raise ConfigError(f"Gradio is missing ({error}). Install it: pip install 'detr_d2[app]'") from error
    return package


def _choices(score: float, overlap: float, area: float, classes: Sequence[str]) -> Choices:
    return Choices(float(score), float(overlap), int(area), tuple(classes))


def _summary(photo: SeenPhoto) -> str:
    assert photo.prediction is not None
    return repr(photo.prediction).removeprefix("Prediction(").removesuffix(")")
