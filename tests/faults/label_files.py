"""Small datasets to be handled badly, images of 16 bits a channel, and commands in processes of their own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import traceback
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from detr_d2 import cli
from detr_d2.errors import run_command

PROJECT_FOLDER = Path(__file__).resolve().parents[2]
#: Seconds after which a command counts as hanging, and bytes beyond which it counts as reading without end.
PATIENCE, MEMORY = 30, 4 * 2**30


class Hangs(BaseException):
    """A command doesn't end."""


class Done(NamedTuple):
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


def detr_d2(*words: Any) -> Done:
    """``detr-d2`` in this process; for so many seconds and bytes as it needs at most; raises :class:`Hangs`."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with _limited(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = run_command(lambda: cli.main([*map(str, words)]))
        except SystemExit as left:  # the command line's parser does so
            code = int(left.code or 0)
        except Exception:  # as the interpreter would
            traceback.print_exc()
            code = 1
    for stream in (out, err):
        stream.flush()
    return Done(code, *(stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)))


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """At most so many seconds, and bytes more than there are."""

    def stop(*_: Any) -> None:
        raise Hangs

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    earlier = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    signal.setitimer(signal.ITIMER_REAL, PATIENCE, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, earlier)


def detr_d2_apart(*words: Any, **options: Any) -> Done:
    """``detr-d2`` in a process of its own, with further arguments of ``subprocess.run``."""
    options = {"timeout": 4 * PATIENCE, "capture_output": True, "stdin": subprocess.DEVNULL, **options}
    command = [sys.executable, "-m", "detr_d2", *map(str, words)]
    done = subprocess.run(command, env=environment(), text=True, errors="replace", **options)
    return Done(done.returncode, done.stdout, done.stderr)


def environment() -> dict[str, str]:
    """With this checkout in front."""
    paths = [str(PROJECT_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def is_one_sentence(done: Done) -> bool:
    """Whether a command was refused with a sentence on one line, and not with a traceback."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return done.returncode == 2 and len(errors) == 1 and "Traceback" not in done.stderr


def write_dataset(folder: Path, images: Mapping[str, Image.Image | bytes], panoptic: bool = False) -> Path:
    """COCO labels with one object on each image: ``labels.json``, ``images/`` and ``panoptic/``; gives the JSON."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "brick", "isthing": 1}, {"id": 2, "name": "sand", "isthing": 0}],
    }
    for image_id, (name, image) in enumerate(images.items(), 1):
        path = folder / "images" / name
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            image.save(path)
        with Image.open(path) as opened:
            width, height = opened.size
        content["images"].append({"id": image_id, "file_name": name, "width": width, "height": height})
        content["annotations"].append(_annotation(folder, image_id, name, width, height, panoptic))
    return write_json(folder / "labels.json", content)


def _annotation(folder: Path, image_id: int, name: str, width: int, height: int, panoptic: bool) -> dict[str, Any]:
    x, y, w, h = 2, 3, width // 2, height // 2
    if not panoptic:
        polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
        entry = {"id": image_id, "image_id": image_id, "category_id": 1, "iscrowd": 0, "area": w * h}
        return {**entry, "bbox": [x, y, w, h], "segmentation": [polygon]}
    ids = np.zeros((height, width, 3), np.uint8)
    ids[y : y + h, x : x + w, 0] = 7
    png = Path(name).with_suffix(".png").name
    (folder / "panoptic").mkdir(exist_ok=True)
    Image.fromarray(ids).save(folder / "panoptic" / png)
    segment = {"id": 7, "category_id": 1, "iscrowd": 0, "area": w * h, "bbox": [x, y, w, h]}
    return {"image_id": image_id, "file_name": png, "segments_info": [segment]}


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def photo(seed: int = 0, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Noise in colours, of (width, height)."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def png_of_16_bits(values: np.ndarray) -> bytes:
    """A PNG of (H, W, C) values: grey with alpha, RGB, or RGB with alpha."""
    height, width, channels = values.shape
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8).astype(int)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = ((rows - above) % 256).astype(np.uint8)  # each row as the difference to the one above: filter 2
    data = b"".join(b"\x02" + row.tobytes() for row in filtered)
    kind = {2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def tiff_of_16_bits(values: np.ndarray, endian: str = "<", compressed: bool = False) -> bytes:
    """A TIFF in RGB of (H, W, 3) values; ``endian`` is ``<`` or ``>``."""
    height, width, channels = values.shape
    data = values.astype(f"{endian}u2").tobytes()
    data = zlib.compress(data) if compressed else data
    short, long = 3, 4
    entries = 9
    bits_at = 8 + 2 + 12 * entries + 4
    data_at = bits_at + 2 * channels
    tags = [(256, long, width), (257, long, height), (258, short, None), (259, short, 8 if compressed else 1)]
    tags += [(262, short, 2), (273, long, data_at), (277, short, channels), (278, long, height), (279, long, len(data))]
    directory = struct.pack(f"{endian}H", len(tags))
    for tag, kind, value in tags:
        count = channels if value is None else 1
        form = "I" if kind == long or value is None else "HH"
        content = struct.pack(endian + form, *([bits_at] if value is None else [value, 0][: len(form)]))
        directory += struct.pack(f"{endian}HHI", tag, kind, count) + content
    start = (b"II" if endian == "<" else b"MM") + struct.pack(f"{endian}HI", 42, 8)
    bits = struct.pack(f"{endian}{channels}H", *[16] * channels)
    return start + directory + struct.pack(f"{endian}I", 0) + bits + data


def everything_in(folder: Path) -> dict[str, bytes]:
    """Each file below a folder, hidden ones included, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def faults_of(path: Path) -> list[tuple[str, str]]:
    """Code and severity of each fault in a report of ``check --json``."""
    return [(fault["code"], fault["severity"]) for fault in json.loads(path.read_text())["faults"]]


def codes(faults: Sequence[tuple[str, str]]) -> set[str]:
    return {code for code, _ in faults}
