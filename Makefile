# Commands for users and CI. `make help` lists them.
PYTHON ?= python3
PROFILE ?= tiny
SEED ?= 0
RUN ?= runs/$(PROFILE)-$(SEED)
ARGS ?=
SEEDS ?= 3
VLLM ?= gpu

VENV := .venv
MODULE := $(VENV)/bin/python -m
STAMP := $(VENV)/.set-up

.DEFAULT_GOAL := help
.PHONY: help setup reproduce ablations test browser check lab publish mirror links drift oldest vllm resolve

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo "  reproduce takes PROFILE=smoke|tiny|full SEED=0 ARGS='--from 03'; setup takes PYTHON=python3.12"

setup: $(STAMP)  ## create .venv with the pinned packages (other targets do this when needed)

reproduce: $(STAMP)  ## run the notebooks and print the results (PROFILE=smoke takes a few minutes)
	@$(MODULE) o3v run --profile $(PROFILE) --seed $(SEED) $(ARGS)

# The data and the cold start of each seed, then all cells; SEEDS=1 is the short form. Repeat it to continue.
ablations: $(STAMP)  ## compute the paper's ablations over SEEDS=3 seeds, some hours (runs/ablations/ablations.json)
	@for seed in $$(seq 0 $$(($(SEEDS) - 1))); do \
	  for notebook in 01 02; do \
	    $(MODULE) o3v run --profile $(PROFILE) --seed $$seed --only $$notebook || exit 1; \
	  done; \
	done
	@$(MODULE) o3v ablate --profile $(PROFILE) --seeds $$(seq 0 $$(($(SEEDS) - 1))) $(ARGS)

publish: $(STAMP)  ## write docs/tour/ and the shipped models and rows of data/ from a finished run (RUN=runs/tiny-0)
	@$(MODULE) o3v publish $(RUN)
	@$(MODULE) o3v ship $(RUN)

mirror: $(STAMP)  ## write the notebooks as texts, for diffs (notebooks/text)
	@$(MODULE) o3v mirror

links: $(STAMP)  ## check all links, those of the web too (needs the network)
	@$(VENV)/bin/python .ci/links.py --external

drift:  ## run smoke with the newest libraries in an environment of its own; names the first API that drifted
	@.ci/drift

oldest:  ## the same with the oldest allowed Python and libraries
	@.ci/oldest

# One process per core, each with one thread. The tests of a file share their runs and stay together; in this order the
# longest file does not come last.
test: $(STAMP)  ## run all tests
	@OMP_NUM_THREADS=1 $(MODULE) pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

browser: $(STAMP)  ## test viewers and pages in headless Chromium
	@$(MODULE) pytest tests/test_*_browser.py -m browser $(ARGS)

check: $(STAMP)  ## lint, check format, imports and notebook rules, in seconds
	@$(MODULE) ruff check .
	@$(MODULE) ruff format --check .
	@$(MODULE) pytest tests/test_rules.py tests/test_notebooks.py -m "not smoke"

lab: $(STAMP)  ## open JupyterLab on the notebooks
	@$(MODULE) jupyterlab --notebook-dir=notebooks $(ARGS)

vllm: .venv-vllm/.set-up-$(VLLM)  ## create .venv-vllm, an environment of vLLM's own (VLLM=cpu without a GPU)

resolve: $(STAMP)  ## ask a resolver whether the extra gpu and the environment of vLLM can be installed (network)
	@$(MODULE) pytest tests/test_resolver.py -m network $(ARGS)

# The CPU build runs without torchaudio and torchcodec, whose CUDA libraries are not there, and needs two operators.
.venv-vllm/.set-up-$(VLLM): envs/vllm-$(VLLM).txt
	@echo "creating .venv-vllm with $<; this downloads gigabytes"
	@"$(PYTHON)" -m venv --clear .venv-vllm
	@.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@test "$(VLLM)" != cpu || .venv-vllm/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	@test "$(VLLM)" != cpu || .venv-vllm/bin/python envs/torchvision_operators.py
	@.venv-vllm/bin/python -c "import torchvision, vllm; print('vllm', vllm.__version__)"
	@touch $@

# Runs again when the pinned packages change. To install another build of torch (CPU, CUDA), configure pip.
$(STAMP): pyproject.toml requirements.lock
	@command -v "$(PYTHON)" >/dev/null || { echo "make: $(PYTHON) not found; name one with make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.version_info >= (3, 11) or sys.exit("make: Python 3.11 or newer is needed, found %d.%d; name one with make PYTHON=..." % sys.version_info[:2])'
	@echo "creating $(VENV); this downloads torch and takes minutes"
	@"$(PYTHON)" -m venv $(VENV)
	@$(MODULE) pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(MODULE) pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
