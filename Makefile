# `make run` trains the spiking network on the embedded data set; `make test` runs every test.
PYTHON ?= python3.11
VENV ?= .venv
INSTALLED = $(VENV)/installed

.PHONY: run test lint docs audit

run: $(INSTALLED)
	$(VENV)/bin/eqspike run mini --backend spiking

test: $(INSTALLED) lint docs
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n auto

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet

audit: # looks the locked versions up among known vulnerabilities, over the network
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet pip-audit
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --no-deps --requirement requirements.lock \
		--requirement requirements-torch.lock

# The lock has the SHA-256 of every archive and all that is needed but torch, whose builds differ by platform. It is
# installed as it stands (--no-deps): what neurobench and spikingjelly ask for would change torch.
$(INSTALLED): requirements.lock requirements-torch.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --no-deps --require-hashes --requirement requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-warn-conflicts --requirement requirements-torch.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)
