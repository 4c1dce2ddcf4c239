# Every verb of the project. `make setup` is idempotent; the others call it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: setup setup-dev train test quick faults fix bench gpu metrics proof clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
# uv where it is there, else pip; the ordinary package index alone
INSTALL = $(if $(UV),VIRTUAL_ENV=$(VENV) $(UV) pip install,$(BIN)/python -m pip install) --quiet --constraint constraints.txt

# Most tests wait for processes that they start: one worker more than cores keeps the cores busy. A file stays in one
# worker, in the order of the files.
WORKERS ?= $(shell cores=$$(nproc); echo $$((cores < 8 ? cores + 1 : 8)))
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "dist_gan needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(if $(UV),$(UV) venv --quiet --python $(PYTHON) $(VENV),$(PYTHON) -m venv $(VENV))

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing dist_gan and what it needs into $(VENV) (about 5 GB, once)"
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing dist_gan with its development tools into $(VENV) (about 5 GB, once)"
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

train: setup
	@# Ctrl-C is for the run, which saves and ends: accelerate itself would end at once, with a traceback
	trap '' INT; $(BIN)/accelerate launch --config_file launch/one_process.yaml dist_gan/train.py configs/mnist_mlp.yaml

test: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck --severity=style launch/*.sh slurm/*.sh slurm/*.sbatch slurm/*.example .ci/run
	$(PYTEST)

# Lint, types and the tests that take under two minutes in all: what one runs while working
quick: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -m "not slow"

faults: setup-dev
	$(BIN)/python -m tests.campaigns.faults

fix: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python benchmarks/bench.py

# All that can be measured of a GPU. It goes on where it was cut off
gpu: setup-dev
	$(BIN)/python benchmarks/gpu.py

# Metrics beside torch-fidelity's and torchmetrics', on several numbers of processes, and their speed
metrics: setup-dev
	$(BIN)/python benchmarks/judge.py

proof: setup-dev
	$(BIN)/python -m tests.campaigns.proof

clean:
	rm -rf $(VENV) build *.egg-info
