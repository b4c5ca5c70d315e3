# Each target makes its own environment and needs no other step: Python 3.10+, make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml README.md $(shell find src -type f -not -name '*.pyc')

.PHONY: help demo test test-live test-browser collector test-collector test-processes faults matrix screenshots lint types lock clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/'

$(VENV)/.installed: requirements/dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

# The tests and the demo run what a user installs: the wheel.
$(VENV)/.wheel: $(VENV)/.installed $(SOURCES)
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall dist/*.whl
	@touch $@

demo: $(VENV)/.wheel ## three real pipelines, and their traces as an OTLP receiver got them
	$(BIN)/runnable-otel demo

test: $(VENV)/.wheel ## all quick tests, a slice of the heavy ones; what a missing tool leaves out is said at the end
	$(BIN)/python -m pytest $(ARGS)

# The heavy suites: a test belongs to one by its marker, which `make test` deselects.
test-live: $(VENV)/.wheel ## events, sinks and streams, the whole matrix of them
	$(BIN)/python -m pytest -m live $(ARGS)

test-browser: $(VENV)/.wheel ## the page and EventSource, in chromium
	$(BIN)/python -m pytest -m browser $(ARGS)

screenshots: $(VENV)/.wheel ## pictures of the page, in build/screenshots; the README's two in examples/screenshots
	$(BIN)/python tests/screenshots.py $(ARGS)

collector: ## the Collector that collector-config/ needs (Go 1.25 or later, minutes the first time)
	./collector-config/build

test-collector: $(VENV)/.wheel ## through real Collectors, after `make collector`
	$(BIN)/python -m pytest -m collector $(ARGS)

faults: $(VENV)/.wheel ## the fault matrix: dead endpoints, kills, full disks
	$(BIN)/python -m pytest -m faults $(ARGS)

test-processes: $(VENV)/.wheel ## pools, containers, Kubernetes, Argo: every executor, twenty times, and what is killed
	$(BIN)/python -m pytest -m processes $(ARGS)

matrix: $(VENV)/.wheel ## the table: ways in x logfire x endpoint, with real interpreters
	RUNNABLE_OTEL_MATRIX=full $(BIN)/python -m pytest tests/test_matrix.py -q -s $(ARGS)

lint: $(VENV)/.installed ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.wheel ## pyright, strict, and the completeness of the public types
	$(BIN)/pyright --pythonpath $(BIN)/python
	. $(BIN)/activate && pyright --ignoreexternal --verifytypes runnable_otel --outputjson | python tests/support/public_types.py

lock: ## write requirements/*.txt anew (needs uv)
	./requirements/lock

clean: ## remove what the other targets made
	rm -rf $(VENV) .venvs dist build .pytest_cache .hypothesis .ruff_cache
