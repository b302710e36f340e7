# Each target is the only command needed on a fresh machine (Python 3.11+ and gcc).
# An install runs again only when pyproject.toml or a native kernel changes.
# pip obeys its own settings, such as PIP_INDEX_URL.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest --quiet
SHAPES := --jaxtyping-packages=camelid,shape_checks.check
PATHS := src tests scripts benchmarks

.PHONY: demo test check fmt bench parity
.DELETE_ON_ERROR:

demo: .venv/stamp-run
	@$(BIN)/camelid demo

# One worker for each core, with one thread; and what workers cannot share.
test: .venv/stamp-test .venv/stamp-torchvision .venv/stamp-browser
	@OMP_NUM_THREADS=1 $(PYTEST) $(SHAPES) -n auto --dist loadfile -m "not alone"
	@OMP_NUM_THREADS=1 $(PYTEST) $(SHAPES) -m alone tests/serve/test_schema_attacks.py

check: .venv/stamp-dev
	@$(BIN)/ruff format --check --quiet $(PATHS)
	@$(BIN)/ruff check --quiet $(PATHS)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fmt: .venv/stamp-dev
	@$(BIN)/ruff format --quiet $(PATHS)
	@$(BIN)/ruff check --fix --quiet $(PATHS)

bench: .venv/stamp-bench
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

parity: .venv/stamp-parity
	@$(BIN)/python scripts/parity_table.py
	@$(BIN)/python scripts/parity_llama_cpp.py

.venv/stamp-python:
	@echo "creating .venv with $(PYTHON)"
	@"$(PYTHON)" -c 'import sys; sys.exit(f"Python 3.11 or newer is needed, found {sys.version}" if sys.version_info < (3, 11) else 0)'
	@"$(PYTHON)" -m venv .venv
	@touch $@

.venv/stamp-run: pyproject.toml hatch_build.py $(wildcard src/camelid/ops/native/*.cpp src/camelid/ops/native/*.h) | .venv/stamp-python
	@echo "installing Camelid (torch is large: this takes a minute or two)"
	@$(INSTALL) --editable .
	@touch $@

# The reference image processors need torchvision's Python half. It stands apart, because its only Linux build
# is for CUDA: beside a CPU torch it would keep transformers from importing.
.venv/stamp-torchvision: | .venv/stamp-test
	@$(INSTALL) --no-deps --upgrade --target .venv/torchvision torchvision==0.28.0
	@touch $@

# The web page is tested in the system's own Chromium: playwright's driver comes with its package, a browser does not.
.venv/stamp-browser: scripts/ensure_browser.sh | .venv/stamp-python
	@sh scripts/ensure_browser.sh
	@touch $@

# One group of extras each, so that nobody installs what they do not use.
.venv/stamp-%: pyproject.toml .venv/stamp-run
	@echo "installing the extra '$(@:.venv/stamp-%=%)'"
	@$(INSTALL) --editable '.[$(@:.venv/stamp-%=%)]'
	@touch $@
