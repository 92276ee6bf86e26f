"""What ``detr-d2 check`` finds, and what ``--fix`` makes of it, in every broken, real and made-up dataset."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from detr_d2.cli import main
from detr_d2.errors import UserError
from tests.golden.datasets import BREAKS, REAL, break_dataset, real_arguments
from tests.golden.store import compare, file_digest, summary


def findings(arguments: list[str], folder: Path) -> Any:
    """Code, severity, file, image and segment of each finding, and the exit code."""
    report = folder.parent / "report.json"
    code = main(["check", *arguments, "--workers", "1", "--json", str(report)])
    found = json.loads(report.read_text())["faults"]
    keys = ("code", "severity", "file", "image_id", "segment_id")
    entries = [[*(one[key] for key in keys)] for one in found]
    for entry in entries:
        entry[2] = str(entry[2]).replace(str(folder), "ROOT")
    return {"exit": code, "findings": summary(entries)}


def repaired(arguments: list[str], folder: Path, out: Path) -> Any:
    """What each file of the repaired copy says, and the list of changes."""
    try:
        code = main(["check", *arguments, "--workers", "1", "--fix", str(out)])
    except UserError as error:
        assert not out.exists()
        return {"refused": type(error).__name__}
    with open(out / "changes.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    changes = [[fault, action, path.replace(str(folder), "ROOT"), *ids] for action, fault, path, *ids, _ in rows]
    files = {
        str(path.relative_to(out)): file_digest(path, str(folder))
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "changes.csv"
    }
    kept = (
        files if len(files) <= 40 else {"number": len(files), "digest": summary([list(one) for one in files.items()])}
    )
    return {"exit": code, "changes": summary(changes), "files": kept}


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("name", BREAKS)
def test_findings_in_broken_datasets(name: str, which: int, tmp_path: Path) -> None:
    arguments = break_dataset(name, tmp_path / "data", number=which, which=which)

    compare("check_broken", f"{name}-{which}", findings(arguments, tmp_path / "data"))


@pytest.mark.parametrize("name", BREAKS)
def test_repairs_of_broken_datasets(name: str, tmp_path: Path) -> None:
    arguments = break_dataset(name, tmp_path / "data")

    compare("fix_broken", name, repaired(arguments, tmp_path / "data", tmp_path / "out"))


@pytest.mark.parametrize("name", REAL)
def test_findings_in_real_datasets(name: str, shared_data: Path, tmp_path: Path) -> None:
    arguments = real_arguments(name, shared_data, tmp_path / "data")

    compare("check_real", name, findings(arguments, tmp_path / "data"))


@pytest.mark.parametrize("name", REAL)
def test_repairs_of_real_datasets(name: str, shared_data: Path, tmp_path: Path) -> None:
    arguments = real_arguments(name, shared_data, tmp_path / "data")

    compare("fix_real", name, repaired(arguments, tmp_path / "data", tmp_path / "out"))


@pytest.mark.parametrize("name", ["yard", "yard/register.yaml", "exports/cvat", "exports/cvat/north_gate"])
def test_findings_in_the_yard(name: str, yard: Path) -> None:
    compare("check_yard", name, findings([str(yard / name)], yard))


@pytest.mark.parametrize("name", ["yard", "exports/cvat"])
def test_repairs_of_the_yard(name: str, yard: Path, tmp_path: Path) -> None:
    compare("fix_yard", name, repaired([str(yard / name)], yard, tmp_path / "out"))
