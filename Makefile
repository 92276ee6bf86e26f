# Everything runs in .venv, which is made and filled on first use. 'make help' lists the targets.

# The interpreter that makes .venv; by default the first of these that is 3.10 or later.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.10 python3; do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)

# More arguments for pip, e.g. PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu' for a smaller torch.
PIP_ARGS ?=
# --short: a quickstart of a minute or two that shows that everything works, not that it is good.
QUICKSTART_ARGS ?=
# More arguments for pytest, e.g. PYTEST_ARGS='-k matcher'.
PYTEST_ARGS ?=
# More arguments for the fuzz, e.g. FUZZ_ARGS='--cases 500 --target weights'.
FUZZ_ARGS ?=
# In how many processes the tests run, each with one thread; 0: in this one, in the order of the files.
TEST_PROCESSES ?= 2

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check $(PIP_ARGS)
INSTALLED := .venv/installed.stamp
INSTALLED_TEST := .venv/installed-test.stamp
INSTALLED_DEV := .venv/installed-dev.stamp

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-versions fuzz lint bench clean
.DELETE_ON_ERROR:
.NOTPARALLEL:  # two pips in one .venv don't go together

help:  ## list the targets
	@echo "make TARGET, where TARGET is one of:"
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## (.*)$$/  \1@\2/' \
		| while IFS=@ read -r target text; do printf '%-17s%s\n' "$$target" "$$text"; done
	@echo "Variables: PYTHON, PIP_ARGS, QUICKSTART_ARGS, PYTEST_ARGS, FUZZ_ARGS, TEST_PROCESSES; the Makefile explains them."

install: $(INSTALLED)  ## make .venv and install detr_d2 and what it needs

quickstart: $(INSTALLED)  ## make data, train boxes, then masks, evaluate, draw pictures (about ten minutes)
	@$(BIN)/python tools/quickstart.py --output runs/quickstart $(QUICKSTART_ARGS)

test: $(INSTALLED_TEST)  ## run all tests
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist worksteal $(PYTEST_ARGS)

test-versions: $(INSTALLED)  ## run the tests with the lowest and the newest dependencies, in environments of their own
	@for which in lowest newest; do \
		PIP_ARGS="$(PIP_ARGS)" $(BIN)/python tools/try_versions.py $$which --python "$(or $(PYTHON),$(BIN)/python)" \
			-- --numprocesses $(TEST_PROCESSES) --dist worksteal $(PYTEST_ARGS) || exit 1; done

fuzz: $(INSTALLED_TEST)  ## give every command 10,000 damaged files (about an hour of processor time)
	@$(BIN)/python tools/fuzz.py $(FUZZ_ARGS)

lint: $(INSTALLED_DEV)  ## check style (ruff), types (mypy) and which room imports which (import-linter)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: $(INSTALLED_TEST)  ## run the benchmarks, tools/benchmark_*.py, one after another
	@set -e; for script in tools/benchmark_*.py; do \
		[ -e "$$script" ] || { echo "there is no tools/benchmark_*.py yet"; break; }; \
		echo "== $$script"; $(BIN)/python "$$script"; done

clean:  ## remove .venv, caches and what builds leave; runs/ and datasets/ stay
	@rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +

# A stamp says that an install went through; it is done again when setup.py has changed.
$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "No Python 3.10 or later with its venv module was found (on Debian and Ubuntu:" \
		"apt install python3-venv). Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or later is needed, %s is %d.%d: set PYTHON" \
		% (sys.executable, *sys.version_info[:2]) if sys.version_info < (3, 10) else 0)'
	@echo "making .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

$(INSTALLED): setup.py | $(BIN)/python
	@echo "installing detr_d2 and its dependencies into .venv; the first time this takes some minutes, mostly for torch"
	@$(PIP) --editable .
	@touch $@

$(INSTALLED_TEST): $(INSTALLED)
	@echo "installing what the tests need into .venv"
	@$(PIP) --editable '.[test]'
	@$(PIP) --no-deps panopticapi-lite
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	@echo "installing ruff, mypy and import-linter into .venv"
	@$(PIP) --editable '.[dev]'
	@touch $@
