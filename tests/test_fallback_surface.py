"""The fallback holds the names that the project imports from detectron2, no more, no fewer, within its budget.

What the fallback exports: every name in a package's ``__all__``, and, of a module that the project imports directly
(``detectron2.engine.hooks``), its public names that the rest of the fallback doesn't need itself.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
FALLBACK = PROJECT / "detr_d2" / "fallback"
IMPORTING = ("detr_d2", "tools", "datasets", "tests", "train_net.py", "demo.py")
#: Imported where a real Detectron2 is in use, and only there.
ONLY_IN_DETECTRON2 = {
    ("detectron2.config.defaults", "_C"),
    ("detectron2.engine.defaults", "create_ddp_model"),
    ("detectron2.evaluation", "COCOPanopticEvaluator"),
    ("detectron2.export", "TracingAdapter"),
    ("detectron2.solver", "build"),
    ("detectron2.utils.analysis", "FlopCountAnalysis"),
}
OPENING = '"""An independently written subset of Detectron2\'s API; not Detectron2.'
BUDGET = 2500

Name = tuple[str, str]  # (module, name in it)


def importing_files() -> list[Path]:
    """The project's Python files, without the fallback's."""
    found = [path for entry in IMPORTING for path in [PROJECT / entry, *(PROJECT / entry).rglob("*.py")]]
    return sorted(path for path in found if path.is_file() and FALLBACK not in path.parents)


@cache
def fallback_files() -> dict[str, Path]:
    """Module name to file, for the whole fallback."""
    names = {}
    for path in sorted(FALLBACK.rglob("*.py")):
        parts = path.relative_to(FALLBACK).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def is_module(name: str) -> bool:
    return name in fallback_files()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported_names(path: Path) -> set[Name]:
    """What a file takes from detectron2: by ``from ... import``, and as attributes of modules it imports."""
    tree = parse(path)
    names: set[Name] = set()
    modules: dict[str, str] = {}  # dotted expression in this file -> module
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and is_detectron2(source := absolute_module(node, path)):
            for alias in node.names:
                full = f"{source}.{alias.name}"
                if is_module(full):
                    modules[alias.asname or alias.name] = full
                else:
                    names.add((source, alias.name))
        elif isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names if is_detectron2(alias.name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (module := modules.get(ast.unparse(node.value))):
            names.add((module, node.attr))
    return {(module, name) for module, name in names if not is_module(f"{module}.{name}")}


def absolute_module(node: ast.ImportFrom, path: Path) -> str:
    """The full name of the module that a statement imports from; '' if it is relative, and not in the fallback."""
    if not node.level:
        return node.module or ""
    if FALLBACK not in path.parents:
        return ""
    package = path.relative_to(FALLBACK).parts[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def is_detectron2(module: str) -> bool:
    return module.split(".")[0] == "detectron2"


@cache
def wanted() -> frozenset[Name]:
    return frozenset().union(*map(imported_names, importing_files()))


def public_names(module: str) -> set[str]:
    """A module's ``__all__``, or else the public names that it defines, and, if it is a package, takes from inside."""
    path = fallback_files()[module]
    if declared := declared_names(parse(path)):
        return declared
    is_package = path.name == "__init__.py"
    names = {
        name for name, source in bound_names(path).items() if source is None or (is_package and is_detectron2(source))
    }
    return {name for name in names if not name.startswith("_")} - {"logger"}


def declared_names(tree: ast.Module) -> set[str]:
    """What ``__all__ = [...]`` and ``__all__ += [...]`` list."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AugAssign):
            target = node.target if isinstance(node, ast.AugAssign) else node.targets[0]
            if ast.unparse(target) == "__all__":
                names |= set(ast.literal_eval(node.value))
    return names


def bound_names(path: Path) -> dict[str, str | None]:
    """Each name that a file binds at its top level, with the module it comes from; None if it is defined here."""
    bound: dict[str, str | None] = {}
    for node in parse(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound[node.name] = None
        elif isinstance(node, ast.ImportFrom):
            bound |= {alias.asname or alias.name: absolute_module(node, path) for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            bound |= {target.id: None for target in targets if isinstance(target, ast.Name)}
    return bound


@cache
def needed_inside() -> frozenset[Name]:
    """What the fallback's own files import of one another, or use of what they define."""
    names: set[Name] = set()
    for module, path in fallback_files().items():
        names |= imported_names(path)
        used = {node.id for node in ast.walk(parse(path)) if isinstance(node, ast.Name)}
        names |= {(module, name) for name in used}
    return frozenset(names)


def exported() -> Iterator[Name]:
    directly_imported = {module for module, _ in wanted()}
    for module, path in fallback_files().items():
        names = {name for name in public_names(module) if not is_module(f"{module}.{name}")}
        if path.name == "__init__.py":
            yield from ((module, name) for name in names)
        elif module in directly_imported:
            yield from ((module, name) for name in names if (module, name) not in needed_inside())


def offers(name: Name) -> bool:
    """Whether the fallback has a name: its own, or one that it takes from elsewhere, as Detectron2 does from fvcore."""
    module, attribute = name
    return is_module(module) and attribute in public_names(module) | bound_names(fallback_files()[module]).keys()


def listed(names: set[Name] | frozenset[Name]) -> str:
    return "".join(f"\n    {module}.{name}" for module, name in sorted(names)) or " none"


def test_fallback_exports_exactly_what_the_project_imports() -> None:
    missing = {name for name in wanted() - ONLY_IN_DETECTRON2 if not offers(name)}
    unused = set(exported()) - wanted()

    message = (
        f"\nimported, but not in the fallback:{listed(missing)}\nin the fallback, but not imported:{listed(unused)}"
    )
    assert not missing and not unused, message


def test_allow_list_names_only_what_is_imported_and_absent() -> None:
    assert wanted() >= ONLY_IN_DETECTRON2
    assert not any(map(offers, ONLY_IN_DETECTRON2))


@pytest.mark.parametrize("module", sorted({module for module, _ in wanted() - ONLY_IN_DETECTRON2}))
def test_detectron2_in_use_has_every_imported_name(module: str) -> None:
    loaded = importlib.import_module(module)

    names = {name for owner, name in wanted() - ONLY_IN_DETECTRON2 if owner == module}
    assert {name for name in names if not hasattr(loaded, name)} == set()


def test_fallback_stays_within_its_budget() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in fallback_files().items()}

    total = sum(lines.values())
    longest = sorted(lines.items(), key=lambda item: -item[1])
    assert total <= BUDGET, f"{total} lines, {BUDGET} are allowed: {longest}"


@pytest.mark.parametrize("path", fallback_files().values(), ids=fallback_files().keys())
def test_fallback_file_opens_by_saying_that_it_is_not_detectron2(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith(OPENING)
