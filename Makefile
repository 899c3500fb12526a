# Set-up and the main jobs. `make quickstart` trains and classifies; `make test` runs the tests; `make release` builds and
# tries the packages to publish. Each installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSUMERS := .consumers
TRY := --train
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# pip compiles Python's files on one core. -qq: some packages contain files that no Python 3 can compile.
COMPILE_INSTALLED := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib textclf || true
COMPILE := uv pip compile --quiet --upgrade --universal --python-version 3.10 --no-header --no-annotate

.PHONY: quickstart test coverage test-consumers lint release schema reference docs recording demo-kernels requirements clean

quickstart: $(VENV)/installed
	$(BIN)/textclf train recipes/support_tickets.yaml --force
	$(BIN)/textclf classify runs/support-tickets/model.tflite datasets/support_tickets_test.csv -o runs/support_tickets_classified.csv --force

# Measuring coverage slows the tests down by a third, except from Python 3.12 on, where the interpreter reports lines by itself.
COVERED = $(shell $(BIN)/python -c 'import sys; print("--cov --cov-report term" if sys.version_info >= (3, 12) else "")')

# Runs the tests in parallel. A file's tests share a process: some share a trained model.
test: $(VENV)/installed-dev
	COVERAGE_CORE=sysmon $(BIN)/python -m pytest -n auto --dist loadfile $(COVERED)

# Also shows how much of textclf the tests ran, with any Python.
coverage: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report term

# Runs the tests in which other programs classify with textclf's files: MediaPipe, the Task Library and tflite-runtime (Python up
# to 3.11), MediaPipe and LiteRT.js in a browser, and, with what the other tests need, LiteRT and ONNX Runtime.
test-consumers: $(VENV)/installed-dev $(CONSUMERS)/installed
	TEXTCLF_MEDIAPIPE_PYTHON=$(CURDIR)/$(CONSUMERS)/mediapipe/bin/python \
	TEXTCLF_TASK_LIBRARY_PYTHON=$(CURDIR)/$(CONSUMERS)/task-library/bin/python \
	TEXTCLF_TFLITE_RUNTIME_PYTHON=$(CURDIR)/$(CONSUMERS)/tflite-runtime/bin/python \
	TEXTCLF_TASKS_TEXT=$(CURDIR)/$(CONSUMERS)/node_modules/@mediapipe/tasks-text \
	TEXTCLF_LITERT_JS=$(CURDIR)/$(CONSUMERS)/node_modules \
	$(BIN)/python -m pytest -rs -k consumer

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Writes what the documentation takes from the code: the recipe's keys, their JSON Schema for editors, the commands.
schema reference: $(VENV)/installed
	$(BIN)/python docs/write_reference.py

# Builds the documentation into site/; a broken link is an error.
docs: $(VENV)/installed-dev reference
	$(BIN)/zensical build --strict

# Builds the source archive and the wheel, checks both, and installs the wheel into new environments: first the light core, to
# use a finished model from an empty folder, then the extra `train`, to train one (not with `TRY=`). docs/releasing.md says how to publish them.
release: $(VENV)/installed-dev reference
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist
	$(PYTHON) tests/packaging/clean_install.py dist/*.whl $(TRY)

# Writes the picture of a terminal that README.md shows. It takes some minutes, because it trains the recipe of the quick start.
recording: $(VENV)/installed
	$(BIN)/python -m docs.record_terminal

# Compiles the arithmetic of the demo page for WebAssembly. It needs clang and lld.
demo-kernels:
	clang --target=wasm32 -O3 -fno-vectorize -msimd128 -nostdlib -ffreestanding -Wall -Wextra -Wl,--no-entry \
		-Wl,--import-memory -Wl,--strip-all -Wl,-z,stack-size=4096 \
		-o textclf/runs/demo/page/kernels.wasm textclf/runs/demo/page/kernels.c
	chmod 644 textclf/runs/demo/page/kernels.wasm

$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --no-compile -r requirements.txt
	$(INSTALL) --no-deps --editable .
	$(COMPILE_INSTALLED)
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(INSTALL) --no-compile -r requirements-dev.txt
	$(COMPILE_INSTALLED)
	touch $@

$(CONSUMERS)/installed: Makefile
	$(PYTHON) -m venv $(CONSUMERS)/mediapipe
	$(CONSUMERS)/mediapipe/bin/python -m pip install --quiet --disable-pip-version-check mediapipe==1.2.2
	$(PYTHON) -m venv $(CONSUMERS)/task-library
	$(CONSUMERS)/task-library/bin/python -m pip install --quiet --disable-pip-version-check tflite-support==0.4.4 "numpy<2"
	$(PYTHON) -m venv $(CONSUMERS)/tflite-runtime
	$(CONSUMERS)/tflite-runtime/bin/python -m pip install --quiet --disable-pip-version-check tflite-runtime==2.14.0 "numpy<2"
	npm install --silent --prefix $(CONSUMERS) @mediapipe/tasks-text@1.0.1 @litertjs/core@2.5.3
	touch $@

# Updates the pinned versions. It needs uv.
requirements:
	$(COMPILE) --extra train pyproject.toml -o requirements.txt
	$(COMPILE) --extra train --extra pandas --extra parquet --extra excel --extra dask --extra onnx --extra remote --extra serve --extra tensorboard --group dev --group docs pyproject.toml -o requirements-dev.txt

clean:
	rm -rf $(VENV) $(CONSUMERS) .coverage* build dist site .cache *.egg-info
