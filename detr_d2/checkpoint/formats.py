"""Files of weights on disk: read as data only, so that nothing in them is run, and written whole or not at all.

``torch.load(weights_only=True)``, safetensors, and numpy arrays in Detectron2's and Caffe2's pickles.
"""

from __future__ import annotations

import argparse
import io
import os
import pickle
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from detr_d2.errors import MissingFileError, WeightsError
from detr_d2.files import open_regular, read_at_most, refuse_special, uninterrupted, write_whole
from detr_d2.labels.rules.json_files import load_json
from detr_d2.wording import some

from .paths import INDEX

_ALLOWED = {
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
}
"""What numpy arrays in plain containers are made of."""
_PLAIN_MODULES = ("torch", "torch._utils", "torch._tensor", "torch.storage", "torch.nn.parameter")
_PLAIN = ("collections.OrderedDict", "argparse.Namespace")
#: Of a pickle that is refused, which is looked at only to say what it wants.
_MOST_BYTES = 2**26


def read_content(file: str) -> dict[str, Any]:
    """The dict in a file of weights, by its content where the name says nothing.

    Raises:
        MissingFileError: a part of it isn't there.
        WeightsError: it can't be read as plain data; the message says what it is instead.
    """
    _refuse_obvious(file)
    if file.endswith(INDEX):
        return _read_shards(file)
    if file.endswith(".safetensors"):
        try:
            return dict(load_file(file))
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(
                f"{file} is no safetensors file, or a truncated one ({first_sentence(error)}): it has "
                f"{os.path.getsize(file)} bytes. Copy or fetch it again."
            ) from error
    return _read_arrays(file) if file.endswith(".pkl") else _torch_load(file)


def write_checkpoint(content: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write tensors and plain data; what stood there before stays until all is written and on the disk.

    ``torch.save`` writes a zip with a checksum (CRC-32) of each tensor, which :func:`read_content` looks at, as does
    ``unzip -t``.

    Raises:
        OSError: what the system refused, such as for want of space; it names the path.
        KeyboardInterrupt: it was interrupted, and is written all the same.
    """
    # torch's writer, interrupted, aborts the process when it is taken down.
    with uninterrupted():
        return write_whole(path, lambda file: torch.save(dict(content), file), outlasts_power_cut=True)


def _read_shards(index: str) -> dict[str, Any]:
    folder, name = os.path.split(index)
    table = neighbouring_json(folder, name).get("weight_map")
    if not isinstance(table, dict) or not table or not all(isinstance(shard, str) for shard in table.values()):
        raise WeightsError(
            f"{index} has no 'weight_map' that names a file for each tensor, so that nobody knows where the weights "
            "are. Copy the folder again."
        )
    tensors: dict[str, Any] = {}
    for shard in sorted(set(table.values())):
        if os.path.basename(shard) != shard or not shard.endswith(".safetensors"):
            raise WeightsError(f"{index} names {shard!r}; parts of a model are .safetensors files beside it.")
        path = os.path.join(folder, shard)
        refuse_special(path)
        if not os.path.isfile(path):
            raise MissingFileError(f"{index} names {shard}, which isn't there. Copy the folder again.")
        tensors |= read_content(path)
    return tensors


def _torch_load(file: str) -> dict[str, Any]:
    _refuse_changed(file)
    try:
        # facebookresearch/detr keeps its options, a Namespace of plain values, in its checkpoints.
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises anything
        raise WeightsError(_why_unreadable(file, error)) from error
    if not isinstance(loaded, dict):
        raise WeightsError(
            f"{file} holds a {type(loaded).__name__}; a checkpoint is a dict with the entry 'model'. Name one, such "
            "as a training's model_final.pth."
        )
    return loaded


class _ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays and plain containers; everything else is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise WeightsError(f"it holds {module}.{name}, and a .pkl file may hold numpy arrays only")
        return super().find_class(module, name)


def _read_arrays(path: str) -> dict[str, Any]:
    """The dict that a ``.pkl`` file holds.

    Raises:
        WeightsError: it holds something else than numpy arrays in plain containers, or is damaged.
    """
    try:
        with open_regular(path) as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except WeightsError as error:
        raise WeightsError(
            f"{path} needs pickle: {error}. Convert it where you trust it: load it there, and save its tensors with "
            'torch.save({"model": tensors}, "weights.pth").'
        ) from error
    except Exception as error:  # a damaged pickle raises anything
        raise WeightsError(
            f"{path} is truncated, or no pickle of weights ({type(error).__name__}). Copy it again."
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}; weights are a dict. Use another file.")
    return content


def _refuse_changed(file: str) -> None:
    """Compares what is in a checkpoint with the checksums in it, which torch doesn't look at."""
    if not zipfile.is_zipfile(file):
        return
    try:
        archive = zipfile.ZipFile(file)
    except Exception:  # a damaged zip raises anything; what reads it next says why
        return
    with archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            return  # torch packs nothing, and what is packed may be of any size
        members = archive.namelist()
        changed, others = "", 0
        for member in members:
            if _is_as_written(archive, member):
                others += 1
            else:
                changed = changed or member
            if changed and others:  # without any that is right, the file was written without checksums
                raise WeightsError(
                    f"{file} isn't as it was written: its entry {changed} doesn't match its checksum (CRC-32). Copy it "
                    "again, or use an earlier checkpoint."
                )


def _is_as_written(archive: zipfile.ZipFile, member: str) -> bool:
    try:
        with archive.open(member) as stream:
            while stream.read(2**20):
                pass
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError):
        return False
    return True


def _why_unreadable(file: str, error: Exception) -> str:
    """One message, without torch's advice to read the file in an unsafe way."""
    with open_regular(file) as stream:
        start = stream.read(4)
    foreign = _foreign_globals(file)
    if foreign or (start.startswith(b"\x80") and isinstance(error, pickle.UnpicklingError)):
        what = f"it holds {some(foreign, 3)}, and" if foreign else "it is one, and"
        return (
            f"{file} needs pickle: {what} a checkpoint that is read safely holds tensors and plain data only. Convert "
            "it where you trust it: load it there, and save its tensors with "
            'torch.save({"model": model.state_dict()}, "weights.pth").'
        )
    if start == b"PK\x03\x04":
        return _why_no_archive(file, error)
    return (
        f"{file} is no checkpoint that can be read safely, or a truncated one; it begins with {start!r}. A checkpoint "
        "holds tensors and plain data, as torch.save and safetensors write them. Name another file, or fetch it again."
    )


def _foreign_globals(file: str) -> list[str]:
    """What a pickle wants beside tensors and containers, such as "posix.system"; of a damaged one what can be read."""
    found: dict[str, None] = {}
    with suppress(Exception):  # a damaged file raises anything
        stream = io.BytesIO(_pickled(file))
        for _ in range(4):  # old files have several pickles, one after the other, and then bytes
            for name in _globals_of(stream):
                found[name] = None
    foreign = [name for name in found if name.rpartition(".")[0] not in _PLAIN_MODULES and name not in _PLAIN]
    return [re.sub(r"^(builtins|__builtin__)\.", "", name) for name in foreign]


def _pickled(file: str) -> bytes:
    """The start of a file, or of the pickle in a zip."""
    with open_regular(file) as stream:
        if not zipfile.is_zipfile(stream):
            stream.seek(0)
            return read_at_most(stream, _MOST_BYTES)
        with zipfile.ZipFile(stream) as archive:
            name = next(member for member in archive.namelist() if member.endswith("data.pkl"))
            with archive.open(name) as member:
                return read_at_most(member, _MOST_BYTES)


def _globals_of(stream: BinaryIO) -> Iterator[str]:
    """The functions and classes that the next pickle names, read off its instructions."""
    words: list[str] = []  # texts on the stack, the last two of which are what STACK_GLOBAL takes
    memo: dict[int, str] = {}
    last = ""
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(words[-2:])
        elif opcode.name == "MEMOIZE" or opcode.name.endswith("PUT"):
            memo[len(memo) if opcode.name == "MEMOIZE" else int(argument or 0)] = last
        elif opcode.name.endswith("GET"):
            words.append(memo.get(int(argument or 0), ""))
        last = str(argument) if "UNICODE" in opcode.name else ""
        words += [last] if last else []


def _why_no_archive(file: str, error: Exception) -> str:
    """What is wrong with a zip, which checkpoints are."""
    if not zipfile.is_zipfile(file):
        return (
            f"{file} is a truncated or damaged checkpoint: its {os.path.getsize(file)} bytes don't end as they "
            "should. Copy or fetch it again."
        )
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.namelist()
    except Exception:  # a damaged zip raises anything
        members = ["data.pkl"]
    if not any(member.endswith("data.pkl") for member in members):
        return (
            f"{file} is a zip, but no checkpoint: it has {', '.join(members[:3]) or 'nothing'} in it. Name a file that "
            "torch.save or safetensors wrote."
        )
    return f"{file} is a damaged checkpoint ({first_sentence(error)}). Copy or fetch it again."


def _refuse_obvious(file: str) -> None:
    """What is often saved in a checkpoint's place."""
    with open_regular(file) as stream:
        start = stream.read(64)
    found = ""
    if not start:
        found = "is empty"
    elif start.startswith(b"version https://git-lfs"):
        found = "is a pointer of Git LFS, not the file itself; run 'git lfs pull' there"
    elif start.lstrip()[:1] == b"<":
        found = "is a web page"
    if found:
        raise WeightsError(f"{file} {found} ({os.path.getsize(file)} bytes), no checkpoint. Fetch it again.")


def first_sentence(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def neighbouring_json(folder: str, file: str) -> dict[str, Any]:
    """What a JSON file beside the weights says; empty if there is none.

    Raises:
        WeightsError: it is no JSON object.
    """
    path = os.path.join(folder, file)
    if not os.path.exists(path):
        return {}
    try:
        content = load_json(path)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} can't be read as JSON: {error}. Copy the folder again.") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__} where an object is expected. Copy it again.")
    return content
