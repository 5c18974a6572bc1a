PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# uv where it is installed, else pip; uv does not read where pip's settings tell to look for packages
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(if $(shell command -v uv),UV_FIND_LINKS="$${UV_FIND_LINKS-$$PIP_FIND_LINKS}" uv pip install --python $(BIN)/python,$(PIP) install)

# Where it is set, as images set it, every process of the tests would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo screenshots schema docs test test-slow check format build clean

# The environment: the tested set of versions, and this project in editable mode.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)  ## the embedded study: search, front, plan, full run
	$(BIN)/jointsearch demo

screenshots: $(STAMP)  ## pictures of the dashboard for the README; needs Chromium
	$(BIN)/python studies/screenshots.py

schema: $(STAMP)  ## the JSON Schema of study files, for editors
	$(BIN)/jointsearch schema -o studies/study.schema.json

docs: $(STAMP)  ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/mkdocs build --strict

test: $(STAMP)  ## the tests
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

test-slow: $(STAMP)  ## the slow tests: kills, servers, browsers, families of models, notebooks
	$(BIN)/python -m pytest -m "slow and alone" --timeout 900
	$(BIN)/python -m pytest -m "slow and not alone" --timeout 1500 -n logical --maxprocesses 4

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
	rm -rf $(VENV) build dist site *.egg-info
