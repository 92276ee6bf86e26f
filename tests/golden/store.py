"""Golden results: what was recorded once, what is meant to differ from it, and how the two are renewed.

``recorded/*.json`` hold results of the code as it was when they were recorded; they never change. Where a result is
meant to be another one now, ``intended/*.json`` hold the new result, and :mod:`tests.golden.intended` the reason.

``DETR_D2_GOLDEN=record python -m pytest tests/golden`` writes results that aren't there at all into ``recorded/``, and
``DETR_D2_GOLDEN=intend`` those that differ into ``intended/``; each of these needs its reason before the tests pass.
"""

from __future__ import annotations

import hashlib
import json
import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.golden.intended import REASONS, RENAMED_CODES

FOLDER = Path(__file__).parent
#: More entries than this are kept as counts and a digest.
_LONGEST = 40


def compare(group: str, case: str, result: Any) -> None:
    """Compares a result with the golden one of its case, exactly.

    Args:
        group: the file that holds it.
        case: its key there.
        result: of what JSON can hold.
    """
    result = json.loads(json.dumps(result))
    expected = golden(group, case)
    mode = os.environ.get("DETR_D2_GOLDEN", "")
    if expected is None and mode == "record":
        _write("recorded", group, case, result)
    elif result != expected and mode == "intend":
        _write("intended", group, case, result)
    elif expected is None:
        pytest.fail(f"there is no golden result of {group}/{case}; DETR_D2_GOLDEN=record writes it")
    else:
        assert result == expected


def approximately(group: str, case: str, result: dict[str, Any], tolerance: float) -> None:
    """As :func:`compare`, but numbers may differ by a share of their size: other processors round otherwise."""
    expected = golden(group, case)
    close = expected is not None and expected.keys() == result.keys()
    if close and all(_is_close(result[name], expected[name], tolerance) for name in result):
        return
    compare(group, case, result)


def _is_close(result: Any, expected: Any, tolerance: float) -> bool:
    if isinstance(result, list) and isinstance(expected, list) and len(result) == len(expected):
        return all(_is_close(one, other, tolerance) for one, other in zip(result, expected))
    if isinstance(result, dict) and isinstance(expected, dict) and result.keys() == expected.keys():
        return all(_is_close(result[key], expected[key], tolerance) for key in result)
    if isinstance(result, (int, float)) and isinstance(expected, (int, float)):
        return bool(np.isclose(result, expected, rtol=tolerance, atol=tolerance))
    return bool(result == expected)


def golden(group: str, case: str) -> Any:
    """The golden result of a case; None where there is none. Codes have their present names."""
    intended = _read("intended", group)
    if case in intended:
        return intended[case]
    recorded = _read("recorded", group).get(case)
    return _renamed(recorded)


def reason(group: str, case: str) -> str | None:
    """Why a case has another result now."""
    return next((text for pattern, text in REASONS.items() if fnmatchcase(f"{group}/{case}", pattern)), None)


def intended_cases() -> list[tuple[str, str]]:
    """Group and case of every intended difference."""
    return [(path.stem, case) for path in sorted((FOLDER / "intended").glob("*.json")) for case in _read_file(path)]


def summary(entries: list[list[Any]]) -> Any:
    """A long list of findings as counts by kind and a digest; a short one as it is."""
    entries = sorted(entries, key=lambda entry: json.dumps(entry))
    if len(entries) <= _LONGEST:
        return entries
    counts: dict[str, int] = {}
    for entry in entries:
        counts[entry[0]] = counts.get(entry[0], 0) + 1
    return {"counts": counts, "digest": digest(entries)}


def digest(content: Any) -> str:
    """A short digest of JSON content, the same for any order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def file_digest(path: Path, root: str) -> str:
    """A digest of what a file says: pixels of images, content of JSON, text with ``root`` cut out of paths."""
    if path.suffix.lower() == ".json":
        return digest(json.loads(path.read_text(encoding="utf-8").replace(root, "ROOT")))
    if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif"):
        with Image.open(path) as image:
            pixels = np.asarray(image)
            return hashlib.sha256(repr((image.mode, image.size)).encode() + pixels.tobytes()).hexdigest()[:16]
    return hashlib.sha256(path.read_bytes().replace(root.encode(), b"ROOT")).hexdigest()[:16]


def _renamed(result: Any) -> Any:
    if isinstance(result, dict):
        return {RENAMED_CODES.get(key, key): _renamed(value) for key, value in result.items()}
    if isinstance(result, list):
        renamed = [_renamed(value) for value in result]
        is_of_findings = bool(renamed) and all(
            isinstance(one, list) and one and isinstance(one[0], str) for one in renamed
        )
        return sorted(renamed, key=json.dumps) if is_of_findings else renamed  # as summary() sorts them
    return RENAMED_CODES.get(result, result) if isinstance(result, str) else result


def _read(kind: str, group: str) -> dict[str, Any]:
    return _read_file(FOLDER / kind / f"{group}.json")


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write(kind: str, group: str, case: str, result: Any) -> None:
    path = FOLDER / kind / f"{group}.json"
    path.parent.mkdir(exist_ok=True)
    content = _read_file(path) | {case: result}
    lines = [f"{json.dumps(key)}: {json.dumps(content[key], sort_keys=True)}" for key in sorted(content)]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
