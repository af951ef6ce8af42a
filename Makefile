# make run      the dashboard, with the demo runs built on first use
# make test     laws, contracts and pages: five minutes
# make nightly  what is slow by nature: several processes, works killed at any moment, all that is read spoiled at random, long browser flows
# make bench    the measurements of docs/results.md
# Each sets up .venv by itself; a second call installs nothing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8501
export PORT

.PHONY: run setup test nightly lint bench clean
.DEFAULT_GOAL := run

run: $(VENV)/.user
	@$(BIN)/turnover demo
	@$(BIN)/turnover dashboard --measure-demos

setup: $(VENV)/.user

PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.developer lint
	$(PYTEST) tests/laws tests/contracts tests/pages

nightly: $(VENV)/.developer
	$(PYTEST) tests/nightly
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.nightly.soak --rounds 200 --examples 10000

lint: $(VENV)/.developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/types && mkdir -p build/types/turnover
	ln -s $(CURDIR)/core/* $(CURDIR)/dashboard $(CURDIR)/assets build/types/turnover/
	$(BIN)/mypy

bench: $(VENV)/.developer
	$(BIN)/turnover bench masks
	$(BIN)/turnover bench influence
	$(BIN)/turnover bench bert
	$(BIN)/turnover bench demo
	$(if $(SST2),$(BIN)/turnover bench sst2 --path $(SST2),@echo "make bench SST2=folder measures SST-2 as well")
	$(BIN)/python -m turnover.dashboard.bench

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Turnover needs Python 3.11 or newer; name one with: make run PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: requirements.txt pyproject.toml | $(BIN)/python
	@echo "Installing what Turnover needs into $(VENV), once; with PyTorch this takes some minutes."
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt -e .
	@touch $@

$(VENV)/.developer: requirements-dev.txt requirements.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt -e .
	@touch $(VENV)/.user $@
