# `make run` trains the spiking network on the embedded data set; `make test` runs every test.
PYTHON ?= python3.11
VENV ?= .venv
INSTALLED = $(VENV)/installed

.PHONY: run test lint docs

run: $(INSTALLED)
	$(VENV)/bin/eqspike run mini --backend spiking

test: $(INSTALLED) lint docs
	$(VENV)/bin/python -m pytest -q

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet

$(INSTALLED): requirements.lock requirements-peers.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --requirement requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps --requirement requirements-peers.lock  # their dependencies would change torch
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)
