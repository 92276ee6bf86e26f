"""Pickles, read without running anything that they bring along.

Detectron2's and Caffe2's ``.pkl`` files hold numpy arrays. Of a pickle that is refused it is said which functions and
classes it wants, read off its instructions.
"""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from detr_d2.errors import WeightsError
from detr_d2.files import open_regular, read_at_most

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
_BUILT_IN = ("builtins.", "__builtin__.")
_MOST_BYTES = 2**26


class _ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays and plain containers; everything else is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise WeightsError(f"it holds {module}.{name}, and a .pkl file may hold numpy arrays only")
        return super().find_class(module, name)


def read_arrays(path: str) -> dict[str, Any]:
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


def foreign_globals(path: str) -> list[str]:
    """What a file that ``torch.save`` or ``pickle.dump`` wrote wants beside tensors and plain containers.

    Args:
        path: of the file.

    Returns:
        Names such as "posix.system", in the file's order, each once; as many as can be read of a damaged file.
    """
    found = dict.fromkeys(name for name in _all_globals(path) if name.rpartition(".")[0] not in _PLAIN_MODULES)
    return [_shown(name) for name in found if name not in _PLAIN]


def _shown(name: str) -> str:
    prefix = next((prefix for prefix in _BUILT_IN if name.startswith(prefix)), "")
    return name.removeprefix(prefix)


def _all_globals(path: str) -> Iterator[str]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    if member.endswith("data.pkl"):
                        with archive.open(member) as stream:
                            yield from _globals_of(stream.read(_MOST_BYTES))
        else:
            with open_regular(path) as file:
                yield from _globals_of_several(file)
    except Exception:  # a damaged zip raises anything
        return


def _globals_of_several(file: BinaryIO) -> Iterator[str]:
    """Old files have several pickles, one after the other, and then bytes."""
    content = read_at_most(file, _MOST_BYTES)
    for _ in range(4):
        end = [0]
        yield from _globals_of(content, end)
        if not end[0]:
            return
        content = content[end[0] :]


def _globals_of(content: bytes, end: list[int] | None = None) -> Iterator[str]:
    """``end`` gets the place behind the pickle, where that is reached."""
    words: list[str] = []  # texts on the stack, the last two of which are what STACK_GLOBAL takes
    memo: dict[int, str] = {}
    count, last = 0, ""
    try:
        for opcode, argument, position in pickletools.genops(content):
            if opcode.name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL":
                yield ".".join(words[-2:])
            elif "UNICODE" in opcode.name:
                last = str(argument)
                words.append(last)
                continue
            elif opcode.name == "MEMOIZE" or opcode.name.endswith("PUT"):
                memo[count if opcode.name == "MEMOIZE" else int(argument or 0)] = last
                count += 1
            elif opcode.name.endswith("GET"):
                words.append(memo.get(int(argument or 0), ""))
            elif opcode.name == "STOP" and end is not None and position is not None:
                end[0] = position + 1
            last = ""
    except Exception:  # a damaged pickle raises anything; what was read of it counts
        return
