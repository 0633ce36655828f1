# Two commands do everything on a fresh machine: `make quickstart` and `make test`. Both make .venv themselves.

PYTHON ?= python3
VENV ?= .venv
RUN_FOLDER ?= quickstart-run
WORKERS ?= 2
TORCH ?= torch==2.13.0
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: quickstart test test-slow lint types imports check clean help

help:
	@echo "make quickstart   profile this computer, measure a table, search, re-measure, export, report"
	@echo "make test         the default test suite"
	@echo "make check        test, lint, types, imports"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.10 or newer is needed, this is " + sys.version.split()[0] + "\nhint: make PYTHON=python3.11 …" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)

# PyPI's torch for Linux is a CUDA build of several gigabytes: take the CPU build where its index can be reached.
$(VENV)/.torch: $(BIN)/python
	@if $(BIN)/python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)' $(TORCH_CPU_INDEX)/torch/ 2>/dev/null; then \
		echo "$(TORCH): CPU build from $(TORCH_CPU_INDEX)"; \
		$(PIP) install --extra-index-url $(TORCH_CPU_INDEX) '$(TORCH)'; \
	else \
		echo "$(TORCH): $(TORCH_CPU_INDEX) cannot be reached; taking what pip is configured for (may be a large CUDA build)"; \
		$(PIP) install '$(TORCH)'; \
	fi
	@touch $@

# No torch: the accuracies are looked up. `dfmobile quickstart --train` needs the extra train.
$(VENV)/.quickstart: $(BIN)/python pyproject.toml
	$(PIP) install --editable '.[onnx]'
	@touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml
	$(PIP) install --editable '.[train,onnx,quantize,adb,ncnn,fast,baselines,video,dev]'
	@touch $@

quickstart: $(VENV)/.quickstart
	$(BIN)/dfmobile quickstart --output $(RUN_FOLDER)

# Whole files go to two processes: what a file sets up once stays with it. WORKERS=0: all in this process.
test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m slow

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

imports: $(VENV)/.test
	$(BIN)/lint-imports

check: test lint types imports

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
