#!/usr/bin/env python
"""Runs the tests with the lowest or the newest releases that setup.py allows, in an environment made for it.

The environment is made in a temporary folder, beside ``.venv``, and removed at the end.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from detr_d2.errors import ConfigError, run_command

PROJECT = Path(__file__).resolve().parents[1]
EXAMPLES = """\
examples:
  python tools/try_versions.py lowest --python python3.10
  python tools/try_versions.py newest --python python3.13 -- tests/modeling tests/config/test_config.py
  python tools/try_versions.py lowest --list          # the constraints, for pip install -c

make test-versions runs both. PIP_ARGS in the environment are more arguments for pip, such as another index.
"""
_BOUND = re.compile(r"([A-Za-z0-9._-]+)(\[[\w,]+\])?>=([^,; ]+)")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("which", choices=("lowest", "newest"), help="of the releases that are allowed")
    parser.add_argument("--python", default=sys.executable, metavar="PROGRAM", help="(default: the one that runs this)")
    parser.add_argument("--list", action="store_true", help="write the constraints of the lowest and do nothing")
    parser.add_argument("tests", nargs="*", metavar="TEST", help="arguments of pytest (default: all tests)")
    return parser


def main() -> int:
    args = get_parser().parse_args()
    constraints = "".join(f"{line}\n" for line in lowest_versions(PROJECT / "setup.py"))
    if args.list:
        print(constraints, end="")
        return 0
    with tempfile.TemporaryDirectory(prefix="versions_") as folder:
        python = make_environment(Path(folder), args.python, constraints if args.which == "lowest" else "")
        run(python, "-m", "pip", "list")
        command = [python, "-m", "pytest", *(args.tests or ["tests"])]
        return subprocess.run(command, cwd=PROJECT, env=clean_environment()).returncode


def lowest_versions(setup: Path) -> list[str]:
    """``name==version`` of the lowest release of each requirement that setup.py has, extras included.

    Raises:
        ConfigError: the developers' tools aside, a requirement has no lower bound.
    """
    wanted = required(setup)
    found = {match[1]: match[3] for match in map(_BOUND.match, wanted) if match}
    without = [one for one in wanted if not _BOUND.match(one)]
    if without:
        raise ConfigError(f"{setup} has no lower bound, '>=', of {', '.join(without)}. Give each one.")
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def required(setup: Path) -> list[str]:
    """Every requirement in the text of setup.py but those of the extra ``dev``, which never meet users."""
    tree = ast.parse(setup.read_text(encoding="utf-8"))
    values = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    extras = values["EXTRAS_REQUIRE"]
    if not isinstance(extras, ast.Dict):
        raise ConfigError(f"{setup}: EXTRAS_REQUIRE is no dict; write it as one.")
    own = [
        value for key, value in zip(extras.keys, extras.values) if ast.literal_eval(key or ast.Constant("")) != "dev"
    ]
    lists = [values["INSTALL_REQUIRES"], *(value for name, value in values.items() if name in _names_in(own)), *own]
    texts = [node.value for one in lists for node in ast.walk(one) if isinstance(node, ast.Constant)]
    return [text for text in dict.fromkeys(texts) if isinstance(text, str)]


def _names_in(nodes: list[ast.expr]) -> set[str]:
    return {node.id for one in nodes for node in ast.walk(one) if isinstance(node, ast.Name)}


def make_environment(folder: Path, python: str, constraints: str) -> str:
    """A new environment with the project and what its tests need; the path of its Python."""
    run(python, "-m", "venv", str(folder / "venv"))
    made = str(folder / "venv" / "bin" / "python")
    file = folder / "constraints.txt"
    file.write_text(constraints, encoding="utf-8")
    pip = [made, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pip_arguments()]
    run(*pip, "--constraint", str(file), "--editable", f"{PROJECT}[test]")
    run(*pip, "--no-deps", "panopticapi-lite")
    return made


def pip_arguments() -> list[str]:
    """What PIP_ARGS in the environment adds."""
    return os.environ.get("PIP_ARGS", "").split()


def clean_environment() -> dict[str, str]:
    """The environment without what would lead to packages of others."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def run(*command: str) -> None:
    """Runs a command; raises a ConfigError where it fails."""
    done = subprocess.run(command, env=clean_environment())
    if done.returncode:
        raise ConfigError(f"{' '.join(command)} failed with {done.returncode}; see above.")


if __name__ == "__main__":
    sys.exit(run_command(main))
