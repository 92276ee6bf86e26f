"""``detr-d2 env``: what this machine has, and which detectron2 is used; the first thing to paste into a bug report."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import sys
from pathlib import Path

import torch

import detr_d2
from detr_d2.backend import ENVIRONMENT_VARIABLE, backend_report
from detr_d2.files import real_path

_EXAMPLE = """\
example:
  DETECTRON2_DATASETS=~/datasets detr-d2 env
"""

_REQUIRED_PACKAGES = ("torch", "torchvision", "fvcore", "iopath", "numpy", "scipy", "pycocotools", "Pillow")
_OPTIONAL_PACKAGES = ("panopticapi", "tensorboard")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the subcommand; it takes no arguments."""
    parser.description = (
        "Show the versions of python and of the packages that matter, the detectron2 in use and why, "
        "the devices, and the dataset folders found."
    )
    parser.epilog = _EXAMPLE


def run(args: argparse.Namespace) -> int:
    """Prints the table."""
    for title, value in describe_environment():
        print(f"{title:<19}{value}")
    return 0


def describe_environment() -> list[tuple[str, str]]:
    """What this machine has: (title, value), in the order to be read."""
    return [
        ("detr_d2", f"{detr_d2.__version__} ({Path(detr_d2.__file__).parent})"),
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("platform", platform.platform()),
        *((name, package_version(name) or "not installed") for name in _REQUIRED_PACKAGES),
        *((name, _optional_version(name)) for name in _OPTIONAL_PACKAGES),
        *_describe_backend(),
        *_describe_devices(),
        *_describe_datasets(),
    ]


def package_version(name: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _dataset_folders(root: Path) -> list[str]:
    """The names of the folders directly below ``root``, sorted; none if it isn't a folder."""
    if not root.is_dir():
        return []
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _optional_version(name: str) -> str:
    """Like the required ones, but a package may come under another name (panopticapi-lite brings panopticapi)."""
    version = package_version(name)
    if version is not None:
        return version
    spec = importlib.util.find_spec(name)
    if spec is None:
        return "not installed (optional)"
    owners = importlib.metadata.packages_distributions().get(name, [])
    return ", ".join(f"{package_version(owner)} ({owner})" for owner in owners) or "of unknown version"


def _describe_backend() -> list[tuple[str, str]]:
    report = backend_report()
    # Detectron2 doesn't install it; its other modules do without.
    has_opencv = report.name != "installed" or importlib.util.find_spec("cv2") is not None
    absent = "not installed; Detectron2's Visualizer needs it: pip install opencv-python-headless"
    return [
        ("detectron2", f"{report.name}, version {report.version}"),
        ("  why", report.why),
        ("  location", str(report.location)),
        *([] if has_opencv else [("  opencv", absent)]),
        (f"  {ENVIRONMENT_VARIABLE}", os.environ.get(ENVIRONMENT_VARIABLE) or "not set (auto)"),
    ]


def _describe_devices() -> list[tuple[str, str]]:
    gpus = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        gpus.append("mps")
    threads = f"{torch.get_num_threads()} (of {os.cpu_count()} logical cores)"
    return [("devices", ", ".join(["cpu", *gpus])), ("torch threads", threads)]


def _describe_datasets() -> list[tuple[str, str]]:
    setting = os.environ.get("DETECTRON2_DATASETS")
    root = Path(setting or "datasets").expanduser()
    origin = "DETECTRON2_DATASETS" if setting else "the default; set DETECTRON2_DATASETS to change it"
    if not root.is_dir():
        return [("datasets", f"no folder {real_path(root)} ({origin})")]
    return [
        ("datasets", f"{real_path(root)} ({origin})"),
        ("  found", ", ".join(_dataset_folders(root)) or "no folder"),
    ]
