"""The page, made with Gradio: thresholds as sliders, names under the pointer, attention at a click."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detr_d2.errors import ConfigError
from detr_d2.prediction.app.session import Choices, Limits, SeenPhoto, sentence_of
from detr_d2.prediction.predictor import Predictor

logger = logging.getLogger(__name__)

_TITLE = "detr_d2: what the model sees"
_OPTIONS = {"show_progress": "minimal", "api_name": False, "concurrency_limit": 1}


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
        gr.Markdown(f"# {_TITLE}")
        with gr.Row():
            with gr.Column(scale=1):
                upload = gr.File(label="A photo", file_types=["image"], type="filepath", elem_id="upload")
                score = gr.Slider(0, 1, own.score_threshold, step=0.01, label="least score", elem_id="score")
                overlap = gr.Slider(0, 1, own.overlap_threshold, step=0.01, label="least seen part of a mask")
                area = gr.Slider(0, 5000, own.min_segment_area, step=1, label="least pixels of a segment")
                names = [category.name for category in predictor.categories]
                classes = gr.CheckboxGroup(names, value=names, label="classes", elem_id="classes")
                if examples:
                    gr.Examples([str(path) for path in examples], upload, label="examples")
            with gr.Column(scale=2):
                summary = gr.Markdown(elem_id="summary")
                segments = gr.AnnotatedImage(label="segments: click one", elem_id="segments", color_map=None)
                attention = gr.Image(label="where its queries look", elem_id="attention", interactive=False)
                sentence = gr.Markdown(elem_id="sentence")
                files = gr.File(label="downloads", interactive=False, elem_id="files")
        chosen = [score, overlap, area, classes]
        predict, explain = _predicting(predictor, limits), _explaining(gr)
        upload.change(predict, [upload, *chosen], [state, segments, summary, attention, files], **_OPTIONS)
        for control in chosen:
            outputs = [segments, summary, attention, files]
            control.change(_change, [state, *chosen], outputs, trigger_mode="always_last", **_OPTIONS)
        segments.select(explain, [state], [attention, sentence], **_OPTIONS)
    return page


def _predicting(predictor: Predictor, limits: Limits) -> Callable[..., tuple[Any, ...]]:
    def predict(path: str | None, *chosen: Any) -> tuple[Any, ...]:
        if path is None:
            return None, None, "", None, None
        try:
            photo = SeenPhoto(predictor, path, limits)
            photo.choose(_choices(*chosen))
        except Exception as error:
            logger.info("%s: %r", path, error)
            return None, None, f"**{sentence_of(error)}**", None, None
        return photo, photo.shown(), _summary(photo), None, photo.files()

    return predict


def _change(photo: SeenPhoto | None, *chosen: Any) -> tuple[Any, ...]:
    if photo is None:
        return None, "", None, None
    photo.choose(_choices(*chosen))
    return photo.shown(), _summary(photo), None, photo.files()


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
    folders = sorted({str(path.parent) for path in examples})
    _, url, _ = page.queue(default_concurrency_limit=1).launch(
        prevent_thread_lock=True,
        server_name=address,
        server_port=port,
        share=False,
        quiet=True,
        max_file_size=f"{limits.megabytes}mb",
        allowed_paths=folders,
        footer_links=[],
        theme=_plain_theme(),
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
    return f"{repr(photo.prediction).removeprefix('Prediction(').removesuffix(')')}"
