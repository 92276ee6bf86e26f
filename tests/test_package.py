"""What the wheel ships, and that building it leaves the checkout as it was."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import detr_d2
from detr_d2.config import get_config_file
from detr_d2.errors import MissingFileError

#: The import name of each distribution in setup.py whose two names differ.
IMPORT_NAMES = {"pillow": "PIL", "pyyaml": "yaml"}
#: Imported where they are installed, never required; all but the first two are extras of setup.py.
OPTIONAL = {"panopticapi", "cv2", "av", "cvat_sdk", "gradio", "timm", "ray"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, project_folder: Path) -> Path:
    """A copy of what a build reads, so that a build can't touch the real checkout."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("detr_d2", "configs"):
        shutil.copytree(project_folder / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md"):
        if (project_folder / name).is_file():
            shutil.copy(project_folder / name, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built without a network, after an older build left a module that is gone since."""
    stale = checkout / "build" / "lib" / "detr_d2" / "removed_since.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--wheel-dir", str(folder), "."], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def shipped(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def relative_files(folder: Path, pattern: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern) if "__pycache__" not in path.parts}


def test_wheel_ships_the_package_with_the_whole_fallback(shipped: set[str], checkout: Path) -> None:
    sources = {f"detr_d2/{name}" for name in relative_files(checkout / "detr_d2", "*.py")}

    assert {name for name in shipped if name.endswith(".py")} == sources
    assert "detr_d2/fallback/detectron2/__init__.py" in shipped


def test_wheel_ships_every_config_and_every_yaml_of_the_package(shipped: set[str], checkout: Path) -> None:
    configs = {f"detr_d2/configs/{name}" for name in relative_files(checkout / "configs", "*.yaml")}
    others = {f"detr_d2/{name}" for name in relative_files(checkout / "detr_d2", "*.yaml")}

    assert {name for name in shipped if name.endswith(".yaml")} == configs | others


def test_wheel_has_one_top_level_package(shipped: set[str]) -> None:
    top_level = {name.split("/")[0] for name in shipped}

    assert top_level == {"detr_d2", f"detr_d2-{detr_d2.__version__}.dist-info"}


def test_build_leaves_no_configs_in_the_package_folder(wheel: Path, checkout: Path) -> None:
    assert not (checkout / "detr_d2" / "configs").exists()


def test_unpacked_wheel_works_in_another_folder(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); from detr_d2.config import configs_folder; "
        "import detectron2; print(configs_folder(), detectron2.__version__)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == str(tmp_path / "site" / "detr_d2" / "configs")


def test_config_file_is_found_in_the_checkout(project_folder: Path) -> None:
    for path in (project_folder / "configs").rglob("*.yaml"):
        name = path.relative_to(project_folder / "configs").as_posix()

        assert Path(get_config_file(name)) == path


def test_unknown_config_file_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(MissingFileError, match=r"No config 'detr_R18\.yaml'.*There are: "):
        get_config_file("detr_R18.yaml")


@pytest.fixture(scope="module")
def declared(project_folder: Path) -> set[str]:
    """The import names of what setup.py requires."""
    setup = ast.parse((project_folder / "setup.py").read_text(encoding="utf-8"))
    (required,) = (
        ast.literal_eval(node.value)
        for node in setup.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "INSTALL_REQUIRES"
    )
    distributions = [requirement.split(">")[0].lower() for requirement in required]
    return {IMPORT_NAMES.get(name, name) for name in distributions}


@pytest.fixture(scope="module")
def imported(project_folder: Path) -> set[str]:
    """The third-party packages that the project imports, tests aside."""
    sources = [project_folder / "train_net.py", project_folder / "demo.py"]
    sources += [path for folder in ("detr_d2", "tools") for path in (project_folder / folder).rglob("*.py")]
    found = set().union(*(top_level_imports(path) for path in sources if path.is_file()))
    return found - sys.stdlib_module_names - {"detr_d2", "detectron2", "train_net", "demo", "benchmarking", "fuzzing"}


def test_every_third_party_import_is_a_declared_dependency(declared: set[str], imported: set[str]) -> None:
    assert imported - declared - OPTIONAL == set()


def test_every_declared_dependency_is_imported(declared: set[str], imported: set[str]) -> None:
    not_by_us = {"tensorboard", "torchvision"}  # by torch; by those who bring its weights, and by Detectron2

    assert declared - imported - not_by_us == set()


def test_every_declared_dependency_is_explained(declared: set[str], project_folder: Path) -> None:
    explained = (project_folder / "docs" / "dependencies.md").read_text(encoding="utf-8").lower()
    names = {import_name: distribution for distribution, import_name in IMPORT_NAMES.items()}

    assert {name for name in declared if f"| {names.get(name, name)}" not in explained} == set()


def top_level_imports(path: Path) -> set[str]:
    """The first part of every module that a file imports by its full name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found
