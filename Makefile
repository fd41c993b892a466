# Everything a user or CI types. `make help` lists it.
PYTHON ?= python3
PROFILE ?= tiny
SEED ?= 0
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python -m
STAMP := $(VENV)/.set-up

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test browser check lab

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo "  PROFILE=smoke|tiny|full SEED=0 ARGS='--from 03' go with reproduce; PYTHON=python3.12 chooses the Python"

setup: $(STAMP)  ## create .venv with the pinned packages (the others do it when needed)

reproduce: $(STAMP)  ## run the notebooks and print the results: PROFILE=smoke for a few minutes' worth
	@$(RUN) o3v run --profile $(PROFILE) --seed $(SEED) $(ARGS)

test: $(STAMP)  ## run all tests
	@$(RUN) pytest $(ARGS)

browser: $(STAMP)  ## move sliders and press chips of notebook 04 in headless Chromium
	@$(RUN) pytest tests/test_viewers_browser.py -m browser $(ARGS)

check: $(STAMP)  ## lint, format, layers and notebook hygiene, in seconds
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) pytest tests/test_rules.py tests/test_notebooks.py -m "not smoke"

lab: $(STAMP)  ## open JupyterLab on the notebooks
	@$(RUN) jupyterlab --notebook-dir=notebooks $(ARGS)

# Renewed when the packages change. Where pip finds another build of torch (CPU, CUDA) is pip's own setting.
$(STAMP): pyproject.toml requirements.lock
	@command -v "$(PYTHON)" >/dev/null || { echo "make: $(PYTHON) not found; name one with make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.version_info >= (3, 11) or sys.exit("make: Python 3.11 or newer is needed, found %d.%d; name one with make PYTHON=..." % sys.version_info[:2])'
	@echo "setting up $(VENV), once; this downloads torch and takes minutes"
	@"$(PYTHON)" -m venv $(VENV)
	@$(RUN) pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(RUN) pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
