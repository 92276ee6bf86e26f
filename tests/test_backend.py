"""Which detectron2 is chosen; each case in a process of its own, so that it is the same on every machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from detr_d2.backend import FALLBACK_FOLDER

PROJECT = Path(__file__).resolve().parent.parent

#: Only backend.py is under test, so the rest of the package isn't imported: seconds become milliseconds.
PREAMBLE = f"""
import json, sys, types
package = types.ModuleType("detr_d2")
package.__path__ = [{str(PROJECT / "detr_d2")!r}]
sys.modules["detr_d2"] = package
from detr_d2.backend import ensure_detectron2
"""

REPORT = (
    PREAMBLE
    + """
report = ensure_detectron2()
import detectron2
where = [entry for entry in sys.path if entry.endswith("fallback")]
print(json.dumps({"name": report.name, "version": report.version, "why": report.why, "location": str(report.location),
                  "imported": detectron2.__file__, "path": where, "in_front": sys.path[0] in where,
                  "text": str(report)}))
"""
)

#: A sitecustomize module that hides what pip has installed under the name detectron2, and nothing else.
HIDE_INSTALLED = """
import importlib.machinery, site, sys, sysconfig
SITE = {sysconfig.get_path(key) for key in ("purelib", "platlib")} | set(site.getsitepackages())
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "").lower()
                    and "editable" not in getattr(finder, "__name__", "").lower()]

class PathFinderWithoutInstalled(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "detectron2":
            path = [entry for entry in sys.path if entry not in SITE]
        return super().find_spec(name, path, target)

sys.meta_path[:] = [PathFinderWithoutInstalled if finder is importlib.machinery.PathFinder else finder
                    for finder in sys.meta_path]
"""


@dataclass(frozen=True)
class Machine:
    """A machine as the test wants it: no Detectron2 but what the test puts there."""

    folder: Path

    def install(self, version: str = "0.6.test", name: str = "installed") -> Path:
        """Puts a stand-in for Detectron2 into a folder of its own, and returns that folder."""
        package = self.folder / name / "detectron2"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"__version__ = {version!r}\n")
        return package.parent

    def run(self, code: str, *paths: Path, backend: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs code with these folders on the path, in the machine's own working directory."""
        environment = {key: value for key, value in os.environ.items() if key not in ("DETR_D2_BACKEND", "PYTHONPATH")}
        environment["PYTHONPATH"] = os.pathsep.join(map(str, [self.folder / "hide", *paths]))
        if backend is not None:
            environment["DETR_D2_BACKEND"] = backend
        script = self.folder / "work" / "script.py"
        script.write_text(code)
        command = [sys.executable, str(script)]
        return subprocess.run(command, cwd=script.parent, env=environment, capture_output=True, text=True)

    def report(self, *paths: Path, backend: str | None = None, code: str = REPORT) -> dict[str, object]:
        """What ensure_detectron2 reports, and what 'import detectron2' then gives."""
        done = self.run(code, *paths, backend=backend)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def error(self, *paths: Path, backend: str | None = None) -> str:
        """The BackendError's message."""
        done = self.run(REPORT, *paths, backend=backend)
        assert done.returncode != 0, done.stdout
        last = done.stderr[done.stderr.rindex("BackendError: ") :]
        return last.removeprefix("BackendError: ")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "work").mkdir()
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "sitecustomize.py").write_text(HIDE_INSTALLED)
    return Machine(tmp_path)


def test_installed_detectron2_is_used(machine: Machine) -> None:
    installed = machine.install()

    report = machine.report(installed)

    assert (report["name"], report["version"]) == ("installed", "0.6.test")
    assert Path(str(report["imported"])).parent == Path(str(report["location"])) == installed / "detectron2"
    assert report["path"] == []


def test_fallback_is_appended_where_detectron2_is_absent(machine: Machine) -> None:
    report = machine.report()

    assert (report["name"], report["version"]) == ("fallback", "0.0+detr_d2")
    assert report["path"] == [str(FALLBACK_FOLDER)]
    assert not report["in_front"]
    assert "not Detectron2" in str(report["text"])


@pytest.mark.parametrize("backend", [None, "auto", "installed"])
def test_folder_named_detectron2_is_refused_by_name_with_what_to_do(machine: Machine, backend: str | None) -> None:
    folder = machine.folder / "work" / "detectron2"
    folder.mkdir()

    message = machine.error(backend=backend)

    assert str(folder) in message
    assert "Rename" in message and "DETR_D2_BACKEND=fallback" in message


def test_folder_named_detectron2_hides_no_installed_one(machine: Machine) -> None:
    (machine.folder / "work" / "detectron2").mkdir()

    report = machine.report(machine.install())

    assert report["name"] == "installed"


def test_override_fallback_goes_in_front_of_an_installed_detectron2(machine: Machine) -> None:
    report = machine.report(machine.install(), backend="fallback")

    assert report["name"] == "fallback"
    assert report["in_front"]
    assert Path(str(report["imported"])).parent.parent == FALLBACK_FOLDER


def test_override_fallback_works_beside_a_folder_named_detectron2(machine: Machine) -> None:
    (machine.folder / "work" / "detectron2").mkdir()

    assert machine.report(backend="fallback")["name"] == "fallback"


def test_override_installed_uses_the_installed_one(machine: Machine) -> None:
    report = machine.report(machine.install(), backend="installed")

    assert report["name"] == "installed"
    assert "DETR_D2_BACKEND=installed" in str(report["why"])


def test_override_installed_is_an_error_where_detectron2_is_absent(machine: Machine) -> None:
    message = machine.error(backend="installed")

    named = re.search(r"no Detectron2 is installed for (.+?)\. Install it", message)
    assert named is not None
    assert os.path.samefile(named[1], sys.executable)  # which may have been started as ../venv/bin/python


def test_override_installed_does_not_take_the_fallback_for_an_installed_one(machine: Machine) -> None:
    message = machine.error(FALLBACK_FOLDER, backend="installed")

    assert "no Detectron2 is installed" in message


def test_unknown_override_names_the_allowed_values(machine: Machine) -> None:
    message = machine.error(backend="detectron")

    assert "'detectron'" in message
    assert "auto, installed, fallback" in message


def test_override_ignores_case_and_surrounding_blanks(machine: Machine) -> None:
    assert machine.report(backend=" Fallback ")["name"] == "fallback"


def test_editable_install_by_a_finder_is_recognised(machine: Machine) -> None:
    installed = machine.install(name="checkout")
    finder = machine.folder / "site" / "editable_finder.py"
    finder.parent.mkdir()
    finder.write_text(
        "import importlib.util, sys\n"
        "class Finder:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'detectron2':\n"
        f"            origin = {str(installed / 'detectron2' / '__init__.py')!r}\n"
        "            return importlib.util.spec_from_file_location(name, origin)\n"
        "def install():\n"
        "    sys.meta_path.append(Finder)\n"
    )
    (finder.parent / "__editable__.detectron2.pth").write_text("import editable_finder; editable_finder.install()\n")
    read_pth_files = f"import site; site.addsitedir({str(finder.parent)!r})\n"

    report = machine.report(code=read_pth_files + REPORT)

    assert (report["name"], report["version"]) == ("installed", "0.6.test")
    assert Path(str(report["location"])) == installed / "detectron2"


def test_editable_install_by_a_path_is_recognised(machine: Machine) -> None:
    installed = machine.install(name="checkout")
    site = machine.folder / "site"
    site.mkdir()
    (site / "detectron2.pth").write_text(f"{installed}\n")

    report = machine.report(code=f"import site; site.addsitedir({str(site)!r})\n" + REPORT)

    assert report["name"] == "installed"


def test_detectron2_imported_before_counts(machine: Machine) -> None:
    installed = machine.install()

    report = machine.report(installed, code="import detectron2\n" + REPORT)

    assert report["name"] == "installed"
    assert "before" in str(report["why"])


def test_override_against_a_detectron2_imported_before_is_an_error(machine: Machine) -> None:
    done = machine.run("import detectron2\n" + REPORT, machine.install(), backend="fallback")

    assert done.returncode != 0
    assert "before the first 'import detectron2'" in done.stderr


def test_broken_detectron2_is_an_error_that_names_both_cures(machine: Machine) -> None:
    installed = machine.install()
    (installed / "detectron2" / "__init__.py").write_text("from detectron2 import _C\n")

    message = machine.error(installed)

    assert "_C" in message
    assert "DETR_D2_BACKEND=fallback" in message


def test_choosing_leaves_an_installed_detectron2_untouched(machine: Machine) -> None:
    installed = machine.install()
    (installed / "detectron2" / "layers.py").write_text("MARK = 'the installed one'\n")
    before = "before = list(__import__('sys').path)\n"
    after = (
        "\nassert sys.path == before, sys.path\nfrom detectron2.layers import MARK\nassert MARK == 'the installed one'"
        f"\nprint({json.dumps(json.dumps({'name': 'untouched'}))})"
    )

    assert machine.report(installed, code=before + REPORT + after) == {"name": "untouched"}


def test_choice_is_logged_once_at_info(machine: Machine) -> None:
    logged_twice = "import logging; logging.basicConfig(level=logging.INFO)\n" + PREAMBLE + "ensure_detectron2()\n" * 2

    done = machine.run(logged_twice)

    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("INFO:detr_d2.backend:Using ") and "0.0+detr_d2" in lines[0]


SPAWNED = (
    PREAMBLE.replace("import json, sys, types", "import json, os, sys, types")
    + """
def where(_=None):
    import detectron2
    return [os.getpid(), detectron2.__file__]

class Places:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return where()

def first(batch):
    return batch[0]
"""
)

SPAWNED_POOL = (
    "import multiprocessing\n"
    + SPAWNED
    + """
if __name__ == "__main__":
    ensure_detectron2()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(json.dumps({"here": where(), "there": pool.apply(where)}))
"""
)

SPAWNED_LOADER = (
    "import torch.utils.data\n"
    + SPAWNED
    + """
if __name__ == "__main__":
    ensure_detectron2()
    loader = torch.utils.data.DataLoader(Places(), num_workers=1, multiprocessing_context="spawn", collate_fn=first)
    print(json.dumps({"here": where(), "there": next(iter(loader))}))
"""
)


@pytest.mark.parametrize("code", [SPAWNED_POOL, SPAWNED_LOADER], ids=["process", "data loader"])
@pytest.mark.parametrize("backend", [None, "fallback"])
def test_spawned_workers_inherit_the_choice(machine: Machine, code: str, backend: str | None) -> None:
    paths = [machine.install()] if backend else []

    report = machine.report(*paths, backend=backend, code=code)

    (here, mine), (there, theirs) = report["here"], report["there"]  # type: ignore[misc]
    assert here != there
    assert mine == theirs == str(FALLBACK_FOLDER / "detectron2" / "__init__.py")


def test_whole_package_imports_in_a_fresh_process() -> None:
    code = "import detr_d2, detectron2; print(detr_d2.backend_report().version == detectron2.__version__)"

    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)

    assert done.stdout.split() == ["True"], done.stderr
