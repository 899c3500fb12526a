# Set-up and the two main jobs. `make quickstart` trains and classifies, `make test` passes the tests; each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test lint requirements clean

quickstart: $(VENV)/installed
	$(BIN)/textclf train recipes/support_tickets.yaml --force
	$(BIN)/textclf classify runs/support-tickets/model.tflite datasets/support_tickets_test.csv -o runs/support_tickets_classified.csv --force

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# Renews the pinned versions; needs uv.
requirements:
	uv pip compile --quiet --upgrade --universal --python-version 3.10 --no-header --no-annotate pyproject.toml -o requirements.txt
	uv pip compile --quiet --upgrade --universal --python-version 3.10 --no-header --no-annotate --extra dev pyproject.toml -o requirements-dev.txt

clean:
	rm -rf $(VENV) build dist *.egg-info
