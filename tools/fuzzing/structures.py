"""Mutations that know a format: JSON, yaml, images, zips, checkpoints, safetensors, pickles."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image

from fuzzing.guard import CANARY
from fuzzing.mutations import NUMBERS, TEXTS, any_value, change_bytes, change_text, change_value_

_YAML = (
    f"!!python/object/apply:os.system ['{CANARY}']",
    f"!!python/object/new:type {{args: ['{CANARY}', [], {{}}]}}",
    "!!python/name:os.system",
    "!!python/tuple [1, 2]",
    "!!binary aGVsbG8=",
    "&a [*a, *a]",
    "*unknown",
    "2020-99-99",
    "0x7fffffffffffffffff",
    "[" * 3000,
    "{? [1] : 2}",
    "<<: 1",
    "_BASE_: config.yaml",
    "_BASE_: ../outside/secret.png",
    "_BASE_: http://127.0.0.1:9/x.yaml",
    "190:20:30",
    ".nan",
    "'\\ud800'",
)


class _Runs:
    """An object whose pickle asks for a function to be called."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


def attack(rng: random.Random) -> Any:
    """What runs code where it is unpickled in earnest."""
    command = f"echo {CANARY}"
    return rng.choice(
        [_Runs(os.system, command), _Runs(eval, f"'{CANARY}'"), _Runs(exec, f"x = '{CANARY}'"), _Runs(os.mkdir, CANARY)]
    )


def change_json(content: bytes, rng: random.Random) -> bytes:
    """A JSON, or a line of JSON lines, with some values changed, or a key twice."""
    text = content.decode()
    lines = text.splitlines() if text.count("\n{") or text.count("\n[") else [text]
    index = rng.randrange(len(lines))
    try:
        value = json.loads(lines[index])
    except ValueError:
        return change_text(content, rng)
    for _ in range(rng.choice([1, 1, 2, 5])):
        change_value_(value, rng)
    if rng.random() < 0.05:
        value = any_value(rng)
    lines[index] = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.05:
        lines[index] = lines[index].replace("{", '{"id": 1, "id": 2, ', rng.choice([1, 5]))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def change_yaml(content: bytes, rng: random.Random) -> bytes:
    """A yaml with an odd value behind a key, or an odd line."""
    if rng.random() < 0.4:
        return change_text(content, rng)
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    index = rng.randrange(len(lines))
    key, found, _ = lines[index].partition(":")
    value = rng.choice(_YAML) if rng.random() < 0.6 else json.dumps(any_value(rng))
    lines[index] = f"{key}: {value}" if found else value
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def change_image(content: bytes, rng: random.Random) -> bytes:
    """The image in another mode, format or size, with odd EXIF, or saying that it is huge."""
    way = rng.randrange(6)
    if way == 0 and content.startswith(b"\x89PNG"):
        return _with_size(content, rng.choice(NUMBERS) % 2**32, rng.choice(NUMBERS) % 2**32)
    if way == 1 and content.startswith(b"\x89PNG"):
        return _with_chunk(content, rng)
    try:
        with Image.open(io.BytesIO(content)) as opened:
            image = opened.copy()
        return _saved(image, rng)
    except (OSError, ValueError, KeyError, struct.error, SyntaxError):
        return change_bytes(content, rng)


def _saved(image: Image.Image, rng: random.Random) -> bytes:
    modes = ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "I", "F", "I;16", "HSV", "LAB"]
    if rng.random() < 0.6:
        image = (
            image.convert("L").convert(rng.choice(modes)) if rng.random() < 0.5 else image.convert(rng.choice(modes))
        )
    if rng.random() < 0.4:
        image = image.resize((rng.choice([1, 2, 7, 64, 3000]), rng.choice([1, 2, 7, 48])))
    exif = Image.Exif()
    for _ in range(rng.choice([0, 1, 3])):
        exif[rng.choice([0x0112, 0x0100, 0x8769, 0x927C, 0x9286])] = rng.choice(
            [0, 3, 6, 8, 9, 65535, "x", b"\xff" * 50]
        )
    file = io.BytesIO()
    options: dict[str, Any] = {"exif": exif.tobytes()} if rng.random() < 0.5 else {}
    image.save(file, rng.choice(["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "ICO", "TGA", "PDF"]), **options)
    return file.getvalue()


def _with_size(content: bytes, width: int, height: int) -> bytes:
    """A PNG whose header says another size, its checksum right."""
    data = bytearray(content)
    struct.pack_into(">II", data, 16, width, height)
    struct.pack_into(">I", data, 29, zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def _with_chunk(content: bytes, rng: random.Random) -> bytes:
    """A PNG with a chunk of text that unpacks to very much, or of anything, its checksum right."""
    name = rng.choice([b"zTXt", b"iTXt", b"tEXt", b"iCCP", b"eXIf", b"tRNS", b"PLTE", b"acTL", b"IDAT", b"gAMA"])
    packed = zlib.compress(bytes(rng.choice([10, 2**26])), 9)
    body = rng.choice([b"a\0\0" + packed, b"a\0\1\0\0\0" + packed, rng.randbytes(30), b""])
    chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return content[:33] + chunk + content[33:]


def change_zip(content: bytes, rng: random.Random) -> bytes:
    """A zip with a member changed, named otherwise, there twice, a link, far too large, or another zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:  # it was damaged before
        return change_bytes(content, rng)
    index = rng.randrange(len(members))
    name, inner = members[index]
    info = zipfile.ZipInfo(name)
    way = rng.randrange(9)
    if way in (0, 1, 2):
        inner = change_content(name, inner, rng)
    elif way == 3:
        info.filename = rng.choice([*TEXTS, "/etc/x.png", "images/../../x.png", "C:/x.png", name.upper(), name + "/"])
    elif way == 4:
        members.append((name, change_bytes(inner, rng)))
    elif way == 5:
        info.create_system, info.external_attr = 3, rng.choice([0o120777, 0o010777, 0o060777, 0o040777]) << 16
        inner = rng.choice([b"../outside/secret.png", b"/etc/passwd", inner])
    elif way == 6:
        inner = bytes(rng.choice([2**20, 2**26]))
    elif way == 7:
        inner, info.filename = content, rng.choice(["inner.zip", name])
    elif way == 8:
        members += [(f"{name}{number}", b"") for number in range(rng.choice([3, 3000]))]
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")
        for number, (other, other_content) in enumerate(members):
            entry = info if number == index else zipfile.ZipInfo(other)
            method = rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA])
            archive.writestr(entry, inner if number == index else other_content, method)
    data = bytearray(file.getvalue())
    if rng.random() < 0.15:  # in the list of members: sizes, flags, places
        start = data.rindex(b"PK\x01\x02")
        place = start + rng.choice([8, 10, 20, 24, 28, 30, 42])
        data[place : place + 4] = struct.pack("<I", rng.choice(NUMBERS) % 2**32)
    return bytes(data)


def change_checkpoint(content: bytes, rng: random.Random) -> bytes:
    """A checkpoint of ``torch.save`` with tensors, entries or its record changed, or with an attack in it."""
    try:
        loaded = torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # it was damaged before
        return change_bytes(content, rng)
    for _ in range(rng.choice([1, 1, 3])):
        way = rng.randrange(5)
        tables = [loaded.get("model") if isinstance(loaded.get("model"), dict) else loaded]
        if isinstance(loaded.get("step"), dict):  # of a training that diverged
            tables += [table for item in loaded["step"]["batch"] for table in (item, item["instances"])]
        tensors = rng.choice(tables)
        name = rng.choice(list(tensors)) if tensors else ""
        if way == 0:
            loaded[rng.choice([*loaded, "x"])] = attack(rng)
        elif way in (1, 2) and tensors:
            tensors[name] = _changed_tensor(tensors[name], rng)
        elif way == 3 and tensors:
            tensors[rng.choice([name + ".x", *TEXTS])] = tensors.pop(name)
        else:
            change_value_(loaded, rng)
    file = io.BytesIO()
    try:
        torch.save(loaded, file, _use_new_zipfile_serialization=rng.random() < 0.8)
    except Exception:  # half of a character, or a mere view of something
        return change_bytes(content, rng)
    return change_bytes(file.getvalue(), rng) if rng.random() < 0.1 else file.getvalue()


def _changed_tensor(value: Any, rng: random.Random) -> Any:
    if not isinstance(value, torch.Tensor):
        return any_value(rng)
    changes: list[Callable[[], Any]] = [
        lambda: value.flatten()[:1],
        lambda: torch.zeros(()),
        lambda: value[None],
        lambda: value.new_zeros((0, *value.shape)),
        lambda: torch.cat([value[None], value[None]], 0).flatten(0, min(1, value.dim())),
        lambda: value * float("nan"),
        lambda: value.to(rng.choice([torch.float16, torch.bfloat16, torch.int64, torch.complex64, torch.bool])),
        lambda: torch.zeros(1).expand(rng.choice([2**16, 2**22]), *[1] * max(value.dim() - 1, 0)),
        lambda: value.t() if value.dim() == 2 else value.to_sparse(),
        lambda: value.to("meta"),
        lambda: any_value(rng),
    ]
    try:
        return rng.choice(changes)()
    except (RuntimeError, TypeError):
        return torch.zeros(0)


def change_safetensors(content: bytes, rng: random.Random) -> bytes:
    """Safetensors with another header: its length, or the names, types, shapes and places in it."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
    except ValueError:
        return change_bytes(content, rng)
    change_value_(header, rng)
    text = json.dumps(header).encode()
    said = rng.choice([len(text)] * 4 + [0, length + 9, 2**31, 2**63])
    return said.to_bytes(8, "little") + text + content[8 + length :]


def change_pickle(content: bytes, rng: random.Random) -> bytes:
    """A pickle of arrays with an entry changed, an attack in it, or a flood of instructions."""
    way = rng.randrange(4)
    if way == 0:
        return rng.choice([b"\x80\x04", b"\x80\x02"]) + rng.choice(
            [
                b"(" * 200_000 + b".",
                b"]" * 200_000 + b".",
                b"X\xff\xff\xff\x7f",
                b"\x8d" + b"\xff" * 8,
                b"cos\nsystem\n.",
            ]
        )
    loaded = pickle.loads(content) if content.startswith(b"\x80") else {}
    arrays = loaded.get("model") or {"x": np.zeros(1)}
    name = rng.choice(list(arrays))
    options = [np.array(["a"]), np.array([object()]), np.zeros(0), np.array(float("nan")), attack(rng), any_value(rng)]
    arrays[name] = rng.choice(options)
    return pickle.dumps(rng.choice([loaded, arrays, [arrays], attack(rng)]), protocol=rng.choice([0, 2, 4]))


_CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    **dict.fromkeys((".json", ".jsonl"), change_json),
    **dict.fromkeys((".yaml", ".yml"), change_yaml),
    **dict.fromkeys((".xml", ".txt", ".csv", ""), change_text),
    **dict.fromkeys((".png", ".jpg", ".jpeg"), change_image),
    **{".zip": change_zip, ".pth": change_checkpoint, ".pkl": change_pickle, ".safetensors": change_safetensors},
}


def change_content(name: str, content: bytes, rng: random.Random) -> bytes:
    """The content of a file changed in a way that its format has, or in its bytes."""
    suffix = PurePosixPath(name).suffix.lower()
    change = _CHANGES.get(suffix, change_bytes) if rng.random() < 0.7 else change_bytes
    try:
        return change(content, rng)
    except Exception:  # Pillow, torch and zipfile refuse to write some of what is asked for
        return change_bytes(content, rng)
