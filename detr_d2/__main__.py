"""``python -m detr_d2`` and the console command ``detr-d2``."""

import sys

from detr_d2.cli import main as run_cli
from detr_d2.errors import run_command


def main() -> int:
    """Runs the command line; a mistake of the user becomes one message and exit code 2."""
    return run_command(run_cli)


if __name__ == "__main__":
    sys.exit(main())
