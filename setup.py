"""Packaging of detr_d2; docs/dependencies.md says what each dependency is for.

Detectron2 isn't among the dependencies, as no registry has it: where it is installed it is used, elsewhere the subset
in ``detr_d2/fallback``, which ships inside the package and never becomes a top-level ``detectron2``.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

PROJECT = Path(__file__).resolve().parent


def read_version() -> str:
    """The version, which stands in ``detr_d2/__init__.py`` and nowhere else."""
    text = (PROJECT / "detr_d2" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if found is None:
        raise RuntimeError("detr_d2/__init__.py has no line '__version__ = \"...\"'")
    return found.group(1)


def read_long_description() -> str:
    readme = PROJECT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.is_file() else ""


class BuildWithConfigs(build_py):
    """Puts ``configs/`` into the built package, as ``detr_d2/configs/``, without touching the checkout."""

    def run(self) -> None:
        """Builds; an editable install reads ``configs/`` of the checkout and needs no copy."""
        if getattr(self, "editable_mode", False):
            super().run()
            return
        package = Path(self.build_lib) / "detr_d2"
        shutil.rmtree(package, ignore_errors=True)  # or files deleted since an earlier build would ship again
        super().run()
        shutil.copytree(PROJECT / "configs", package / "configs")


INSTALL_REQUIRES = [
    "torch>=2.6,<3",
    "torchvision>=0.21,<1",
    "fvcore>=0.1.5.post20221221,<0.1.6",
    "iopath>=0.1.7,<0.1.10",
    "numpy>=1.24,<3",
    "scipy>=1.10,<2",
    "shapely>=2,<3",
    "Pillow>=9.5",
    "safetensors>=0.4.3,<1",
    "pycocotools>=2.0.7,<3",
    "matplotlib>=3.7,<4",
    "PyYAML>=6,<7",
    "tabulate>=0.9,<1",
    "termcolor>=2,<4",
    "tqdm>=4.65,<5",
    "jinja2>=3.1,<4",
    "markupsafe>=2.1,<4",
    "defusedxml>=0.7,<1",
    "ImageHash>=4.3,<5",
    "tensorboard>=2.12,<3",
]

VIDEO = ["av>=14.1"]

TIMM = ["timm>=1.0.17,<2"]

EXPORT = ["onnx>=1.16,<2", "onnxscript>=0.2,<1", "onnxruntime>=1.17,<2"]

CVAT = ['cvat-sdk[masks]>=2.80,<3; python_version >= "3.11"']

APP = ["gradio>=6,<7"]

RAY = ["ray[data]>=2.50,<3"]

EXTRAS_REQUIRE = {
    # panopticapi-lite, too, is needed for the tests; it asks for an old numpy, so 'make test' installs it by --no-deps.
    "test": [
        *("pytest>=7.4", "pytest-xdist>=3.5", "hypothesis>=6.80", "setuptools>=64", "wheel>=0.40"),
        *("transformers>=5,<6", "nbclient>=0.8.0", "ipykernel>=6.20"),
        *TIMM,
        *EXPORT,
        *CVAT,
        *VIDEO,
    ],
    "export": EXPORT,
    "cvat": CVAT,
    "app": APP,
    "timm": TIMM,
    "ray": RAY,
    "video": VIDEO,
    "dev": ["ruff>=0.6", "mypy>=1.8", "import-linter>=2.0", "types-PyYAML", "types-tabulate", "types-tqdm"],
}

setup(
    name="detr_d2",
    version=read_version(),
    description="DETR and its panoptic mask head as a Detectron2 extension: from annotated photos to a trusted number",
    long_description=read_long_description(),
    long_description_content_type="text/markdown",
    author="detr_d2 authors",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["detr_d2", "detr_d2.*"]),
    package_data={"detr_d2": ["fallback/detectron2/**/*.py", "**/templates/*", "**/rules.md", "**/categories.csv"]},
    include_package_data=False,
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points={"console_scripts": ["detr-d2 = detr_d2.__main__:main"]},
    cmdclass={"build_py": BuildWithConfigs},
    zip_safe=False,
)
