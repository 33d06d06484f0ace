# `make` lists what can be done. Everything needs Python 3.11, git and make alone: uv is brought along.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# Prefect and Great Expectations take seconds to import: keep their bytecode.
unexport PYTHONDONTWRITEBYTECODE

UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
PYTHON ?= $(shell command -v python3.11 || command -v python3)
RUN := $(UV) run --frozen
# Seen to work; docs/readers.md says with what.
MINIO_VERSION ?= v0.0.0-20260212201848-7aac2a2c5b7c
PYSPARK_VERSION ?= 3.5.7

SUITES := landing parse silver candles reads gate stream recorder orchestration growth docs scale

.PHONY: help setup demo test test-slow check canary bench $(SUITES:%=bench-%) docs site docs-plots ui-picture notebook notebook-check up clean test-crash test-minio test-spark

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

canary: setup ## Bring the local platform up, deploy everything and see a scheduled run complete
	$(RUN) pytest -n0 -m slow tests/deployments/test_platform.py -k scheduled_run_completes

test-crash: setup ## Kill -9, crowds of writers, a failing store, any order: the long runs (SEED=n repeats one)
	$(RUN) pytest -n0 -s -rs -m '' --thorough --hypothesis-profile thorough $(if $(SEED),--seed $(SEED)) \
	  tests/crash tests/storage/test_store_faults.py tests/storage/test_properties.py tests/storage/test_stream.py

test-minio: setup $(if $(shell command -v go),.cache/minio/minio) ## The storage tests against a real MinIO, built where Go is there
	$(RUN) python tests/stores/minio.py .cache/minio/minio $(RUN) pytest -m '' tests/storage

.cache/minio/minio:
	GOBIN=$(CURDIR)/.cache/minio go install github.com/minio/minio@$(MINIO_VERSION)

test-spark: setup $(if $(and $(shell command -v java),$(shell command -v mvn)),.cache/spark/.ready) ## Read every demo table with Apache Spark, where Java and Maven are there
	MNEMO_TEST_SPARK_PYTHON=.cache/spark/env/bin/python MNEMO_TEST_SPARK_JARS=.cache/spark/jars \
	  $(RUN) pytest -n0 -rs -m '' tests/readers

.cache/spark/.ready: tests/readers/spark-jars.xml
	$(UV) venv --quiet --clear --python 3.11 .cache/spark/env
	$(UV) pip install --quiet --python .cache/spark/env/bin/python pyspark==$(PYSPARK_VERSION)
	mvn -q -B -f $< dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/.cache/spark/jars
	@touch $@

test-slow: setup ## Run the long fault and property tests
	$(RUN) pytest -m slow

check: setup ## Format, lint, types, import contracts
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) lint-imports

bench: $(SUITES:%=bench-%) ## Run the benchmarks beside their peers into docs/performance.md (one alone: bench-<suite>)
	$(RUN) python -m benchmarks.page

$(SUITES:%=bench-%): bench-%: setup
	$(RUN) python -m benchmarks.$*

docs: setup ## Write the generated pages of docs/ and .env.example
	$(RUN) python -m deployments.reference

site: setup docs ## Build the documentation as a static site into build/site; a dead link is an error
	NO_MKDOCS_2_WARNING=1 $(RUN) --group site mkdocs build --strict --quiet
	@echo "build/site: look at it with  python3 -m http.server --bind 127.0.0.1 --directory build/site 8000"

docs-plots: setup ## Draw the plots of docs/gold.md anew, from the demo's lake
	$(RUN) --group notebook python notebooks/gold_plots.py docs/images

ui-picture: setup ## Take the README's picture of `mnemo ui` anew, from the demo's lake; needs a Chromium
	$(RUN) --group browser python -m deployments.ui.picture docs/images/ui.png

notebook: setup ## Look around in the demo's lake, in notebooks
	$(RUN) --group notebook marimo edit notebooks

notebook-check: setup ## Run the notebooks as scripts, on the demo's lake
	for one in first_look point_in_time order_book; do $(RUN) --group notebook python notebooks/$$one.py || exit 1; done

up: setup ## Run S3, a Prefect server and the scheduled flows until Ctrl-C
	$(RUN) mnemo up

clean: ## Remove the environment and all local state
	rm -rf .venv .uv .mnemo build .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
