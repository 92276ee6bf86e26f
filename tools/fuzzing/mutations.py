"""Mutations of a file's bytes, of values in texts and structures, and of what stands at a path."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzzing.guard import CANARY

#: Whole numbers where something overflows, wraps round or runs out.
NUMBERS = (0, -1, 1, 2, 7, 255, 256, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**30)
FLOATS = (0.5, -0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"))
#: Names of files and classes that lead elsewhere, steer a terminal or a page, or are no text.
TEXTS = (
    *(
        "",
        " ",
        ".",
        "..",
        "/",
        "~",
        "-",
        "x" * 300,
        "x" * 5000,
        "a\0b",
        "a\nb",
        "\ud800",
        "\udcff",
        "\x1b[2J",
        "\ufeff",
    ),
    *("é" * 60, "e\u0301", "CON", "a/b", "a\\b", "%s%n", "{0}", "{{7*7}}", "$(id)", "`id`", "--help", "@list", "NaN"),
    *("<script>alert(1)</script>", "</script>", "'\"><b>", "$\\frac{", "$HOME", "file:///etc/passwd", "C:\\x.png"),
    *("../outside/secret.png", "../../outside/secret.png", "../../../outside/secret.png", "../outside", "/etc/passwd"),
    *("/proc/self/mem", "/dev/zero", "/dev/stdin", f"__import__('os').system('{CANARY}')", "1e999", "true", "null"),
)
SPECIAL = ("pipe", "socket", "folder", "zeros", "full", "nowhere", "itself", "empty", "absent", "other", "closed")


def any_value(rng: random.Random, depth: int = 0) -> Any:
    """A value of any type of JSON, mostly an odd one."""
    kind = rng.randrange(9 if depth < 2 else 6)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind in (1, 2):
        return rng.choice(NUMBERS) * rng.choice([1, 1, 1, -1])
    if kind == 3:
        return rng.choice(FLOATS)
    if kind in (4, 5):
        return rng.choice(TEXTS)
    if kind == 6:
        return [any_value(rng, depth + 1) for _ in range(rng.choice([0, 1, 3, 1000]))]
    if kind == 7:
        return {rng.choice(TEXTS): any_value(rng, depth + 1) for _ in range(rng.choice([0, 1, 3]))}
    return nested(rng.choice([30, 400]), rng.choice([list, dict]))


def nested(levels: int, kind: type) -> Any:
    """A list in a list, or a dict in a dict, and so on."""
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind is list else {"a": value}
    return value


def places_in(content: Any) -> list[tuple[Any, Any]]:
    """Each container with each of its keys or indices."""
    found: list[tuple[Any, Any]] = []
    waiting = [content]
    while waiting:
        value = waiting.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            found.append((value, key))
            waiting.append(value[key])
    return found


def _place_on_a_walk(content: Any, rng: random.Random) -> tuple[Any, Any]:
    """A place near the top rather than one of the many at the bottom."""
    while True:
        key = rng.choice(list(content) if isinstance(content, dict) else range(len(content)))
        if not isinstance(content[key], dict | list) or not content[key] or rng.random() < 0.2:
            return content, key
        content = content[key]


def change_value_(content: Any, rng: random.Random) -> None:
    """Changes one value in a structure of dicts and lists: replaced, removed, doubled, exchanged or renamed."""
    places = places_in(content)
    if not places:
        return
    inside, key = rng.choice(places) if rng.random() < 0.5 else _place_on_a_walk(content, rng)
    way = rng.randrange(6)
    if way == 0:
        del inside[key]
    elif way == 1:
        other, other_key = rng.choice(places)
        inside[key] = other[other_key] if not isinstance(other[other_key], dict | list) else any_value(rng)
    elif way == 2 and isinstance(inside, list):
        inside.append(inside[key])
    elif way == 2:
        inside[rng.choice(TEXTS)] = inside.pop(key)
    elif way == 3 and isinstance(inside[key], int | float):
        inside[key] = inside[key] * rng.choice([-1, 2, 1000, 1.5]) + rng.choice([0, 1, -1])
    else:
        inside[key] = any_value(rng)


def change_bytes(content: bytes, rng: random.Random) -> bytes:
    """The content with bytes flipped, cut off, doubled, exchanged, put in or taken out."""
    data = bytearray(content or b"\0")
    way = rng.randrange(8)
    start = rng.randrange(len(data))
    length = min(rng.choice([1, 2, 4, 16, 200]), len(data) - start)
    if way == 0:
        for _ in range(rng.choice([1, 1, 3, 30])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif way == 1:
        del data[start:]
    elif way == 2:
        data[start : start + length] = rng.randbytes(length)
    elif way == 3:
        del data[start : start + length]
    elif way == 4:
        data[start:start] = data[start : start + length] * rng.choice([1, 2, 500])
    elif way == 5:
        data[start : start + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(NUMBERS) % 2**32)
    elif way == 6:
        other = rng.randrange(len(data))
        data[start : start + length] = data[other : other + length]
    else:
        data = bytearray(
            rng.choice([b"", b"\0" * 5000, b"[" * 100_000, b"\xef\xbb\xbf" + content, b"\xff\xfe" + content])
        )
    return bytes(data)


def change_text(content: bytes, rng: random.Random) -> bytes:
    """The content with one of its words replaced, a line doubled, left out or moved, or odd bytes put in."""
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    index = rng.randrange(len(lines))
    way = rng.randrange(6)
    if way == 0:
        lines.insert(index, lines[rng.randrange(len(lines))])
    elif way == 1:
        del lines[index]
    elif way == 2:
        lines[index : index + 1] = lines[index : index + 1] * rng.choice([2, 3000])
    else:
        words = lines[index].split(rng.choice([" ", ":", ",", '"', "="]))
        words[rng.randrange(len(words))] = str(any_value(rng))[:20_000]
        lines[index] = rng.choice([" ", ":", ",", '"', "="]).join(words)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def put_special(path: Path, kind: str, others: list[Path], rng: random.Random) -> None:
    """Replaces a file by something else that may stand at its path, one of :data:`SPECIAL`."""
    content, other = path.read_bytes(), rng.choice(others).read_bytes()
    path.unlink()
    makers: dict[str, Callable[[], object]] = {
        "pipe": lambda: os.mkfifo(path),
        "socket": lambda: _bind(path),
        "folder": lambda: path.mkdir(),
        "zeros": lambda: path.symlink_to("/dev/zero"),
        "full": lambda: path.symlink_to("/dev/full"),
        "nowhere": lambda: path.symlink_to("nowhere"),
        "itself": lambda: path.symlink_to(path.name),
        "empty": lambda: path.write_bytes(b""),
        "absent": lambda: None,
        "other": lambda: path.write_bytes(other),
        "closed": lambda: (path.write_bytes(content), path.chmod(0)),
    }
    makers[kind]()


def _bind(path: Path) -> None:
    """A socket file; its name in the folder is used, as a path may be too long for a socket."""
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def rename(path: Path, rng: random.Random) -> None:
    """Gives a file another name with the same suffix: long, odd, or no text at all."""
    stem = rng.choice(["x" * 200, "a b", "-", "é", "\udcff", "a\nb", "[a]*?", "%41", "..", " ", "\x1b[2J", "$x$"])
    path.rename(path.with_name(f"{stem}{path.suffix}"))
