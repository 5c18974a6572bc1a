PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo screenshots test test-slow check format build clean

# The environment: the tested set of versions, and this project in editable mode.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)  ## the embedded study: search, front, plan, full run
	$(BIN)/jointsearch demo

screenshots: $(STAMP)  ## pictures of the dashboard for the README; needs Chromium
	$(BIN)/python studies/screenshots.py

test: $(STAMP)  ## the tests
	$(BIN)/python -m pytest

test-slow: $(STAMP)  ## the slow tests: kills, servers, browsers, families of models, notebooks
	$(BIN)/python -m pytest -m slow --timeout 900

check: $(STAMP)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build: $(STAMP)  ## a wheel and a source distribution in dist/
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) build dist *.egg-info
