# `make` lists what can be done. Everything needs Python 3.11, git and make alone: uv is brought along.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# Prefect and Great Expectations take seconds to import: keep their bytecode.
unexport PYTHONDONTWRITEBYTECODE

UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
PYTHON ?= $(shell command -v python3.11 || command -v python3)
RUN := $(UV) run --frozen

.PHONY: help setup demo test check bench docs up down clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: .venv/.ready ## Make the environment, exactly as uv.lock says

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet uv

.venv/.ready: pyproject.toml uv.lock $(if $(filter .uv/bin/uv,$(UV)),.uv/bin/uv)
	$(UV) sync --frozen --quiet --python '>=3.11,<3.13'
	@touch $@

demo: setup ## Run the main job on recorded provider data, from bytes to gold
	$(RUN) mnemo demo

test: setup ## Run all tests
	$(RUN) pytest

check: setup ## Format, lint, types, import contracts
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) lint-imports

bench: setup ## Run the benchmarks; results go to benchmarks/results/
	$(RUN) python -m benchmarks.growth

docs: setup ## Write the generated pages of docs/
	$(RUN) python -m deployments.reference

clean: ## Remove the environment and all local state
	rm -rf .venv .uv .mnemo .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
