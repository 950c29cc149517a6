# make demo    the whole way of a small model, on this machine
# make check   format, lint, types, import layers
# make test    the tests (ARGS="-m slow" for those that take minutes)
# make clean   removes what these made; results of runs stay
#
# Each sets up .venv first; that is repeated only after pyproject.toml or setup.py changed.

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))

.PHONY: demo check test clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/edgeport quickstart $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p edgeport -p benchmarks
	$(BIN)/lint-imports --no-logo

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(if $(PYTHON),$(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "Edgeport needs Python 3.11 or newer, and found: $$($(or $(PYTHON),python3) --version 2>&1 || true)."; \
	echo "Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# TensorRT-RTX has wheels for some Pythons and systems only; without it the demo shows those rows as not installed.
$(VENV)/.demo: $(VENV)/.made pyproject.toml setup.py
	@echo "installing Edgeport with PyTorch, ONNX Runtime and OpenVINO into $(VENV): a few minutes"
	$(BIN)/python -m pip install --quiet --editable '.[quickstart]'
	$(BIN)/python -m pip install --quiet --editable '.[tensorrt-rtx]' || echo "TensorRT-RTX does not install here; going on without it."
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml setup.py
	@echo "installing Edgeport and what its tests need into $(VENV): a few minutes"
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
