"""Which ``detectron2`` is used: an installed one, or the subset in ``detr_d2/fallback``.

The choice is an entry in ``sys.path``, not an import hook, so that spawned data-loader workers, which inherit the path,
make the same one. ``DETR_D2_BACKEND`` overrides it:

* ``auto`` (or unset): an installed Detectron2 if there is one, else the subset;
* ``installed``: an installed Detectron2, or an error;
* ``fallback``: the subset, even where Detectron2 is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

from detr_d2.errors import BackendError

logger = logging.getLogger(__name__)

ENVIRONMENT_VARIABLE = "DETR_D2_BACKEND"
CHOICES = ("auto", "installed", "fallback")
FALLBACK_FOLDER = Path(__file__).resolve().parent / "fallback"
INSTALL_GUIDE = "https://detectron2.readthedocs.io/en/latest/tutorials/install.html"


@dataclass(frozen=True)
class BackendReport:
    """The ``detectron2`` in use.

    Attributes:
        name: ``"installed"`` or ``"fallback"``.
        version: its ``__version__``.
        why: the reason for this choice, as the end of a sentence.
        location: the folder of the package.
    """

    name: str
    version: str
    why: str
    location: Path

    def __str__(self) -> str:
        title = "Detectron2" if self.name == "installed" else "detr_d2's own subset of Detectron2, not Detectron2,"
        return f"Using {title} version {self.version}, from {self.location}: {self.why}."


_report: BackendReport | None = None


def ensure_detectron2() -> BackendReport:
    """Makes ``import detectron2`` work, chooses once a process, and logs the choice as one INFO line.

    Raises:
        BackendError: the override has an unknown value, the one asked for isn't there or can't be imported, another
            one is imported already, or a mere folder called ``detectron2`` stands in the way.
    """
    global _report
    if _report is None:
        _report = _choose(_override())
        logger.info("%s", _report)
    return _report


def backend_report() -> BackendReport:
    """The ``detectron2`` in use, its version, the reason and its folder."""
    return ensure_detectron2()


def _override() -> str:
    value = os.environ.get(ENVIRONMENT_VARIABLE, "").strip().lower() or "auto"
    if value not in CHOICES:
        raise BackendError(
            f"{ENVIRONMENT_VARIABLE}={os.environ[ENVIRONMENT_VARIABLE]!r} isn't a backend; "
            f"allowed are {', '.join(CHOICES)}. Set one of them, or unset the variable."
        )
    return value


def _choose(override: str) -> BackendReport:
    if "detectron2" in sys.modules:
        return _accept_imported(override)
    if override == "fallback":
        _put_fallback_on_path(in_front=True)
        return _import_and_report("fallback", f"{ENVIRONMENT_VARIABLE}=fallback asks for it")
    spec = _find_installed()
    if spec is None:
        if override == "installed":
            raise BackendError(
                f"{ENVIRONMENT_VARIABLE}=installed, but no Detectron2 is installed for {sys.executable}. "
                f"Install it ({INSTALL_GUIDE}), or unset the variable to use detr_d2's own subset."
            )
        _put_fallback_on_path(in_front=False)
        return _import_and_report("fallback", "no Detectron2 is installed")
    if not spec.origin:
        raise _namespace_error(list(spec.submodule_search_locations or []))
    asked = f"{ENVIRONMENT_VARIABLE}=installed asks for it" if override == "installed" else "it is installed"
    return _import_and_report("installed", asked)


def _accept_imported(override: str) -> BackendReport:
    """Whoever imported ``detectron2`` before us has chosen; all that is left is to see whether it will do."""
    module = sys.modules["detectron2"]
    origin = getattr(module, "__file__", None)
    if not origin:
        raise _namespace_error(list(getattr(module, "__path__", [])))
    name = "fallback" if _is_in_fallback(origin) else "installed"
    if override not in ("auto", name):
        raise BackendError(
            f"{ENVIRONMENT_VARIABLE}={override}, but detectron2 has been imported from {Path(origin).parent} already. "
            "Put 'import detr_d2' before the first 'import detectron2', or unset the variable."
        )
    return _import_and_report(name, "it had been imported before detr_d2")


def _find_installed() -> ModuleSpec | None:
    """The spec that ``import detectron2`` would use if the fallback were not on the path.

    ``find_spec`` asks every finder, so an editable install, which may come as a finder of its own, is seen too.
    """
    before = list(sys.path)
    sys.path[:] = [entry for entry in before if not _is_fallback_entry(entry)]
    try:
        return importlib.util.find_spec("detectron2")
    finally:
        sys.path[:] = before


def _put_fallback_on_path(in_front: bool) -> None:
    sys.path[:] = [entry for entry in sys.path if not _is_fallback_entry(entry)]
    sys.path.insert(0 if in_front else len(sys.path), str(FALLBACK_FOLDER))


def _is_fallback_entry(entry: str) -> bool:
    return isinstance(entry, str) and os.path.realpath(entry or ".") == str(FALLBACK_FOLDER)


def _is_in_fallback(origin: str) -> bool:
    return FALLBACK_FOLDER in Path(origin).resolve().parents


def _import_and_report(name: str, why: str) -> BackendReport:
    try:
        module = importlib.import_module("detectron2")
    except ImportError as error:
        raise BackendError(
            f"Detectron2 is there but can't be imported ({error}). Install it anew for {sys.executable} "
            f"({INSTALL_GUIDE}), or set {ENVIRONMENT_VARIABLE}=fallback to use detr_d2's own subset."
        ) from error
    version = str(getattr(module, "__version__", "of unknown version"))
    return BackendReport(name, version, why, Path(str(module.__file__)).resolve().parent)


def _namespace_error(folders: list[str]) -> BackendError:
    named = ", ".join(folders) or "a folder"
    return BackendError(
        f"'import detectron2' finds only {named}, a folder without __init__.py, not an installed Detectron2. "
        "Rename that folder or work from another one; if it is a clone of Detectron2's repository, install it "
        f"({INSTALL_GUIDE}). To use detr_d2's own subset all the same, set {ENVIRONMENT_VARIABLE}=fallback."
    )
