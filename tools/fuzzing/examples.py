"""Real examples of every kind of file that the project reads, made by its own commands, small and always the same."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import detr_d2
from detr_d2 import cli
from detr_d2.checkpoint.model_file import load_model
from detr_d2.config import configs_folder
from detr_d2.data import DetrPanopticDatasetMapper, register_from_config
from detr_d2.prediction.video_files import Frame, Video, write_video
from detr_d2.training.saved_step import SavedStep, diagnose, random_state_of, write_step
from detr_d2.yard import write_yard, write_yard_exports, yard_video
from detr_d2.yard.scene import THINGS

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

#: Width and height of every image.
SIZE = (64, 48)
#: A model of few channels, which is as good as one of many where files are damaged.
TINY = {
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 8,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.DETR.HIDDEN_DIM": 32,
    "MODEL.DETR.NHEADS": 4,
    "MODEL.DETR.DIM_FEEDFORWARD": 32,
    "MODEL.DETR.NUM_QUERIES": 8,
    "MODEL.DETR.SCORE_THRESHOLD": 0.0,
    "MODEL.DETR.ATTENTION_GAIN": 10000.0,
    "MODEL.DETR.MASK_ON": True,
    "MODEL.DETR.FREEZE_DETECTOR": False,
    "MODEL.DEVICE": "cpu",
    "INPUT.MIN_SIZE_TRAIN": (48,),
    "INPUT.MAX_SIZE_TRAIN": 64,
    "INPUT.MIN_SIZE_TEST": 48,
    "INPUT.MAX_SIZE_TEST": 64,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.WARMUP_ITERS": 1,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "TEST.EVAL_PERIOD": 0,
}
_META = (
    "<version>1.1</version><meta><task><labels><label><name>brick</name><color>#ff0080</color></label>"
    "<label><name>pipe</name></label></labels></task></meta>"
)
_SHAPES = """<polygon label="brick" source="manual" occluded="0" points="5.00,6.00;15.00,6.00;15.00,16.00" z_order="2"/>
<box label="pipe" xtl="1.50" ytl="2" xbr="13" ybr="14.25" rotation="30.5" group_id="1">
<attribute name="iscrowd">true</attribute></box>
<ellipse label="brick" cx="29" cy="18" rx="13" ry="12" rotation="45"/>
<mask label="brick" rle="2, 3, 1" left="4" top="5" width="3" height="2"/>
<polyline label="pipe" points="1,1;20,20"/><skeleton label="pipe"><points label="a" points="3,4"/></skeleton>"""


def make_examples(folder: Path) -> None:
    """Writes all examples in a process of its own, as the commands that make them register datasets.

    Raises:
        RuntimeError: it failed.
    """
    process = multiprocessing.get_context("fork").Process(target=_make_examples, args=(folder,))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError("the examples can't be made; see above")


def _make_examples(folder: Path) -> None:
    """Writes all examples: ``yard``, ``exports``, ``xml``, ``masks``, ``zips``, ``run``, ``model`` and more."""
    write_yard(folder / "yard", train=2, val=2, width=SIZE[0], height=SIZE[1], seed=0)
    write_yard_exports(folder / "exports", images=4, width=SIZE[0], height=SIZE[1], seed=0)
    photos = sorted((folder / "yard" / "images").iterdir())
    _write_cvat(folder, photos[0])
    _write_configs(folder / "configs", folder / "yard")
    _write_inputs(folder / "inputs", photos)
    _write_run(folder)
    _write_step(folder / "diverged" / "step.pth", folder)
    _write_weights(folder / "weights", folder / "run" / "model_final.pth")
    _write_predictions(folder)


def tiny_config(yard: Path) -> CfgNode:
    """The config of a very small panoptic model on a yard."""
    cfg = detr_d2.load_config(str(configs_folder() / "quickstart" / "detr_yard.yaml"))
    cfg.merge_from_list([part for pair in TINY.items() for part in pair])
    cfg.DATASETS.REGISTER = [str(yard / "register.yaml")]
    return cfg


def write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    """A zip whose bytes don't depend on the time of day."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def files_below(folder: Path) -> dict[str, bytes]:
    """The content of each file, by its path in the folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _write_cvat(folder: Path, photo: Path) -> None:
    """CVAT's XML and masks, in folders and zips, and its "COCO 1.0" in a zip."""
    width, height = SIZE
    image = f'<image id="0" name="1.jpg" width="{width}" height="{height}">{_SHAPES}</image>'
    xml = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{_META}{image}</annotations>'
    classes, objects = np.zeros((2, height, width, 3), np.uint8)
    classes[:20, :30], objects[:20, :15], objects[:20, 15:30] = (255, 0, 0), (128, 0, 0), (0, 128, 0)
    classes[30:], objects[30:] = (0, 10, 200), (128, 0, 0)
    exports = {
        "xml": {"annotations.xml": xml.encode(), "images/1.jpg": photo.read_bytes()},
        "masks": {
            "labelmap.txt": b"# label:color_rgb:parts:actions\nbackground:0,0,0::\nbrick:255,0,0::\npipe:0,10,200::\n",
            "ImageSets/Segmentation/default.txt": b"1\n",
            "JPEGImages/1.jpg": photo.read_bytes(),
            "SegmentationClass/1.png": _png(classes),
            "SegmentationObject/1.png": _png(objects),
        },
    }
    for name, files in exports.items():
        for path, content in files.items():
            _write(folder / name / path, content)
    (folder / "zips").mkdir()
    for name, files in {**exports, "coco": files_below(folder / "exports" / "cvat" / "north_gate")}.items():
        write_zip(folder / "zips" / f"{name}.zip", files)


def _write_configs(folder: Path, yard: Path) -> None:
    """A config with a base, a file of classes and a list of categories; and the dataset that they speak of."""
    shutil.copytree(yard, folder / "yard")
    base = tiny_config(folder / "yard").dump()
    _write(folder / "base.yaml", base.encode())
    child = "_BASE_: base.yaml\nSOLVER: {MAX_ITER: 1, BASE_LR: 1e-4}\n"
    _write(folder / "config.yaml", (child + "MODEL:\n  DETR:\n    NUM_QUERIES: 8\nSEED: 3\n").encode())
    _write(folder / "classes.yaml", b"cone: cone\nbarrow: void\n' Brick stack': brick_stack\n")
    entries = [{"id": i, "name": name, "isthing": 1, "color": [9, 9, 9]} for i, name in enumerate(THINGS, 1)]
    _write(folder / "categories.json", json.dumps(entries).encode())


def _write_inputs(folder: Path, photos: list[Path]) -> None:
    """Images of several kinds, a list of them, a zip and a video."""
    for number, photo in enumerate(photos[:2]):
        _write(folder / "photos" / f"{number}.jpg", photo.read_bytes())
    with Image.open(photos[2]) as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(folder / "photos" / "turned.jpg", exif=exif)
        image.convert("P").save(folder / "photos" / "palette.png")
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 256).save(folder / "photos" / "deep.png")
    write_zip(folder / "photos.zip", files_below(folder / "photos"))
    names = [str(folder / "photos" / name) for name in ("0.jpg", "turned.jpg")]
    _write(folder / "list.txt", "\n".join(["# photos", *names, ""]).encode())
    frames = (Frame(image, Fraction(number, 5)) for number, (image, _, _) in enumerate(yard_video(4, SIZE)))
    write_video(folder / "video.mp4", Video("yard", Fraction(5), Fraction(1, 5), 4, iter(()), None), frames)


def _write_run(folder: Path) -> None:
    """A training of two iterations with an evaluation behind it: checkpoints, metrics, records, predictions."""
    cfg = tiny_config(folder / "yard")
    cfg.OUTPUT_DIR = str(folder / "run")
    cfg.TEST.EVAL_PERIOD = 2
    path = _write(folder / "run.yaml", cfg.dump().encode())
    import train_net

    with _arguments("train_net.py", "--config-file", str(path)), contextlib.redirect_stdout(io.StringIO()):
        train_net.invoke_main()
    path.unlink()
    for spare in [*(folder / "run").glob("events.*"), *(folder / "run").glob("model_0000000.pth")]:
        spare.unlink()  # which no case is about, and every case would copy
    (folder / "run" / "model_best.pth").unlink(missing_ok=True)
    (folder / "model").mkdir()
    shutil.copy(folder / "run" / "model_final.pth", folder / "model")


def _write_step(path: Path, folder: Path) -> None:
    """A step of a training as one that diverges writes it."""
    cfg = tiny_config(folder / "yard")
    register_from_config(cfg)
    model, _ = load_model(str(folder / "model" / "model_final.pth"))
    mapper = DetrPanopticDatasetMapper(cfg, augmentations=[])
    batch = [mapper(record) for record in DatasetCatalog.get("yard_train")]
    state = random_state_of(model.device)
    step = SavedStep(0, 0, batch, state, "", diagnose(model.train(), batch, state, ""))
    path.parent.mkdir()
    write_step(path, model, step)


def _write_weights(folder: Path, checkpoint: Path) -> None:
    """One model in each of the formats: ours, safetensors with a config beside it, pickled arrays, torch's old one."""
    content = torch.load(checkpoint, weights_only=True)
    small = {name: value for name, value in content["model"].items() if "backbone" not in name}
    (folder / "huggingface").mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in small.items()}, folder / "huggingface" / "model.safetensors")
    labels = {"id2label": {"0": "cone", "1": "barrow"}, "model_type": "detr", "num_queries": 8, "d_model": 32}
    _write(folder / "huggingface" / "config.json", json.dumps(labels).encode())
    scale = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    _write(folder / "huggingface" / "preprocessor_config.json", json.dumps(scale).encode())
    shards = {"weight_map": dict.fromkeys(small, "model.safetensors")}
    _write(folder / "huggingface" / "model.safetensors.index.json", json.dumps(shards).encode())
    arrays = {name: value.numpy() for name, value in small.items()}
    _write(folder / "arrays.pkl", pickle.dumps({"model": arrays, "__author__": "somebody"}))
    torch.save({"model": small}, folder / "old.pth", _use_new_zipfile_serialization=False)
    shutil.copy(checkpoint, folder / "ours.pth")


def _write_predictions(folder: Path) -> None:
    """What ``predict`` leaves in its folder, journal included."""
    words = ["predict", str(folder / "run" / "model_final.pth"), str(folder / "inputs" / "photos")]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = cli.main([*words, "--out", str(folder / "predicted"), "--write", "all", "--device", "cpu"])
    if code:
        raise RuntimeError(f"the example of predictions can't be made: predict gave {code}")


@contextlib.contextmanager
def _arguments(*words: str) -> Iterator[None]:
    before, sys.argv = sys.argv, list(words)
    try:
        yield
    finally:
        sys.argv = before


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _write(path: Path, content: bytes) -> Path:
    os.makedirs(path.parent, exist_ok=True)
    path.write_bytes(content)
    return path
