"""``detr-d2 predict``: what a model sees in images, folders and lists of them."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from detr_d2.arguments import add_engine, add_opts, number, whole_number
from detr_d2.errors import USER_ERROR_EXIT_CODE, ConfigError, MissingFileError
from detr_d2.parallel import import_ray
from detr_d2.prediction.image_files import FoundInputs, find_inputs
from detr_d2.prediction.predictor import Predictor
from detr_d2.prediction.ranking import rank_images
from detr_d2.prediction.running import Outcome, PredictEach, Tiles, WholeImages, predict_all, predict_on_cluster
from detr_d2.prediction.tracking import MEMORY
from detr_d2.prediction.video import VIDEO_FOLDER, predict_camera, predict_videos
from detr_d2.prediction.writers import DEFAULT_KINDS, RESULT_FOLDERS, WRITERS
from detr_d2.wording import counted

_EPILOG = """\
examples:
  detr-d2 predict model_final.pth photos/ --out results
  detr-d2 predict model_final.pth photos.zip 'site/**/*.jpg' @list --out results --write drawing,cvat-xml
  detr-d2 predict model_final.pth photos/ --out results --score-threshold 0.7 --classes brick,sand
  detr-d2 predict model_final.pth unlabelled/ --out next --rank
  detr-d2 predict model_final.pth drone.jpg --out results --tile 1024 --overlap 256
  detr-d2 predict model_final.pth site.mp4 --out results
  detr-d2 predict model_final.pth --camera 0 --out results
  detr-d2 predict model_final.pth photos/ --out results --engine ray     # on a cluster, see docs/scale.md
  find site -name '*.jpg' | detr-d2 predict detr-r50-panoptic - --out results --device cpu

The checkpoint alone is enough: it knows its classes, colours and thresholds. Folders are searched with all folders in
them. What can't be read is named and skipped; the exit code is then 2. An interrupted run goes on where it ended.

results, by --write:
"""


#: Arguments of which an engine is built.
_OF_AN_ENGINE = (
    *("model", "device", "score_threshold", "overlap_threshold", "classes", "max_size", "opts"),
    *("tile", "overlap"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments to ``parser``."""
    parser.description = "Predict images with a trained model; write drawings, counts and files for other programs."
    parser.epilog = _EPILOG + "".join(f"  {name:11} {writer.meaning}\n" for name, writer in WRITERS.items())
    parser.add_argument("model", metavar="CHECKPOINT", help="a model_final.pth, or a name such as detr-r50-panoptic")
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="images, folders, patterns, zips, videos, lists of paths (list.txt, @list), or - for the standard input",
    )
    parser.add_argument("--out", default="results", metavar="DIR", help="folder of the results (default: results)")
    parser.add_argument(
        "--write",
        type=_kinds,
        metavar="A,B",
        help=f"kinds of results, or all (default: {','.join(DEFAULT_KINDS)})",
    )
    add_model_arguments(parser)
    rank = "instead of results, a list of the images by how uncertain the model is: which to label next"
    parser.add_argument("--rank", action="store_true", help=rank)
    parser.add_argument(
        "--tile",
        type=whole_number(32, 100_000),
        metavar="N",
        help="predict images by tiles of so many pixels a side, and join their results",
    )
    parser.add_argument(
        "--overlap",
        type=whole_number(1, 100_000),
        metavar="N",
        help="pixels that neighbouring tiles share (default: a quarter of --tile)",
    )
    parser.add_argument("--camera", metavar="N", help="predict what a camera sees, by its number, until Ctrl-C")
    parser.add_argument(
        "--remember",
        type=whole_number(0, 100_000),
        default=MEMORY,
        metavar="N",
        help=f"in videos a thing that is gone for up to so many frames keeps its number (default: {MEMORY})",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results of other settings in --out")
    add_engine(parser, 1)
    add_opts(parser, "changes to the model's config")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of which :func:`build_predictor` makes a predictor, beside the checkpoint."""
    probability = number(0, 1, "a number between 0 and 1")
    parser.add_argument(
        "--score-threshold", type=probability, metavar="P", help="least score of a segment (default: the model's)"
    )
    parser.add_argument(
        "--overlap-threshold",
        type=probability,
        metavar="P",
        help="least part of its own mask that is seen of a segment (default: the model's)",
    )
    parser.add_argument("--classes", default="", metavar="A,B", help="only these classes (default: all)")
    parser.add_argument(
        "--max-size",
        type=whole_number(32, 100_000),
        metavar="N",
        help="larger images are made smaller for the network, to so many pixels (default: the model's)",
    )
    parser.add_argument("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    parser.add_argument(
        "--batch",
        type=whole_number(1, 1024),
        metavar="N",
        help="images of one size in one forward pass (default: 4 on a GPU, else 1)",
    )


def run(args: argparse.Namespace) -> int:
    """Predict what ``args`` name and say what was written."""
    logging.getLogger("fvcore").setLevel(logging.WARNING)
    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; name a folder.")
    found = find_inputs(args.inputs, leave_out=[out / name for name in (*RESULT_FOLDERS, VIDEO_FOLDER)])
    for complaint in found.complaints:
        print(f"skipped: {complaint}", file=sys.stderr)
    if not found.images and not found.videos and args.camera is None:
        if not args.inputs:
            raise MissingFileError("No INPUT is given: name an image, folder, pattern, zip, list or video; see --help.")
        raise MissingFileError(f"{' '.join(args.inputs)} names no image; see above, or --help.")
    _check_engine(args, found)
    predictor = build_predictor(args)
    if args.rank:
        return _rank(predictor, found, out, args)
    kinds, refused = _possible(args.write, predictor)
    batch = args.batch or (4 if predictor.model.device.type == "cuda" else 1)
    skipped = 0
    if found.images:
        engine = _engine(predictor, args, batch)
        each = _on_cluster(predictor, args, batch) if args.engine == "ray" else None
        outcome = predict_all(engine, found.images, out, kinds, batch=batch, begins_anew=args.overwrite, predict=each)
        print(_summary(outcome, len(found.images), out))
        skipped = outcome.skipped
    # A frame's own files are many, so that they are written only where they are asked for.
    frame_kinds = [kind for kind in kinds if kind != "drawing"] if args.write else []
    if found.videos:
        skipped += predict_videos(
            predictor,
            found.videos,
            out,
            frame_kinds,
            batch=batch,
            memory=args.remember,
            begins_anew=args.overwrite,
        )
    if args.camera is not None:
        predict_camera(predictor, args.camera, out, frame_kinds, args.remember)
    return USER_ERROR_EXIT_CODE if skipped or found.complaints or refused else 0


def _rank(predictor: Predictor, found: FoundInputs, out: Path, args: argparse.Namespace) -> int:
    if found.videos or args.camera is not None or args.tile is not None or args.write:
        raise ConfigError("--rank takes images only, and without --tile, --camera and --write.")
    ranked = rank_images(predictor, found.images, out)
    print(f"{counted(len(ranked), 'image')} ranked, the least certain first: {out / 'ranking.html'}, ranking.csv")
    return USER_ERROR_EXIT_CODE if len(ranked) < len(found.images) or found.complaints else 0


def _engine(predictor: Predictor, args: argparse.Namespace, batch: int) -> WholeImages:
    if args.tile is None:
        if args.overlap is not None:
            raise ConfigError(f"--overlap {args.overlap} is of tiles; give --tile, too.")
        return WholeImages(predictor)
    return Tiles(predictor, args.tile, args.overlap or max(args.tile // 4, 1), batch)


def _check_engine(args: argparse.Namespace, found: FoundInputs) -> None:
    """Refuses what a cluster can't do, before a model is loaded."""
    if args.engine == "local":
        if args.workers is not None:
            raise ConfigError(f"--workers {args.workers} is of a cluster; give --engine ray, too, or leave it out.")
        return
    if args.rank or found.videos or args.camera is not None:
        raise ConfigError("--engine ray takes images only, and without --rank and --camera; use --engine local.")
    import_ray()


def _on_cluster(predictor: Predictor, args: argparse.Namespace, batch: int) -> PredictEach:
    sent = argparse.Namespace(**{name: getattr(args, name) for name in _OF_AN_ENGINE})
    build = partial(_build_engine, sent, batch)
    gpus = int(predictor.model.device.type == "cuda")
    return partial(predict_on_cluster, build, batch=batch, workers=args.workers, gpus=gpus)


def _build_engine(args: argparse.Namespace, batch: int) -> WholeImages:
    return _engine(build_predictor(args), args, batch)


def build_predictor(args: argparse.Namespace) -> Predictor:
    """The predictor that the arguments describe."""
    return Predictor(
        args.model,
        device=args.device,
        score_threshold=args.score_threshold,
        overlap_threshold=args.overlap_threshold,
        classes=[name.strip() for name in args.classes.split(",") if name.strip()],
        max_size=args.max_size,
        opts=args.opts,
    )


def _kinds(text: str) -> list[str]:
    """The kinds of results that a command line names, each once."""
    names = list(WRITERS) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in WRITERS:
            raise argparse.ArgumentTypeError(f"{name!r} is no kind of result; there are {', '.join(WRITERS)}, and all")
    if not names:
        raise argparse.ArgumentTypeError(f"name some of {', '.join(WRITERS)}, or all")
    return list(dict.fromkeys(names))


def _possible(asked: Sequence[str] | None, predictor: Predictor) -> tuple[list[str], bool]:
    """The kinds of results that a model can give, and whether one that was asked for is none of them."""
    kinds = list(asked or DEFAULT_KINDS)
    if predictor.has_masks:
        return kinds, False
    possible = [kind for kind in kinds if not WRITERS[kind].needs_masks]
    lost = [kind for kind in kinds if WRITERS[kind].needs_masks]
    if not possible:
        allowed = ", ".join(name for name, writer in WRITERS.items() if not writer.needs_masks)
        raise ConfigError(f"--write {','.join(lost)}: the model has no mask head, only boxes; it can give {allowed}.")
    if lost:
        print(f"note: the model has no mask head, only boxes; {', '.join(lost)} isn't written.", file=sys.stderr)
    return possible, bool(lost and asked)


def _summary(outcome: Outcome, number: int, out: Path) -> str:
    details = [f"{outcome.reused} of them by an earlier run"] if outcome.reused else []
    details += [f"{outcome.skipped} skipped, see above"] if outcome.skipped else []
    text = f"{outcome.done} of {counted(number, 'image')} predicted{''.join(f', {detail}' for detail in details)}"
    return f"{text}: {out} has {', '.join(outcome.written)}" if outcome.written else text
