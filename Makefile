# Every target installs its dependencies into .venv and needs only python3. Later runs
# reuse .venv. The stamp files are remade when pyproject.toml changes.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-slow lint format docs site-test bench dist clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(VENV)/.demo  ## compare two learned rules with Adam; report in demo/
	$(BIN)/python examples/demo.py

# The tests spend most of their time compiling XLA programs that run once, so `make test`
# disables most optimizations and the fusion emitters, with which a compilation takes
# twice as long. The slow tests, a direct pytest call and the tests that need the last
# digits keep them. Newer versions of XLA exit on the flag, so it is tried first.
# The workers share a compilation cache, which later runs reuse. With worksteal,
# neighboring tests, which share fixtures and compiled programs, run in one worker.
test: lint $(VENV)/.test  ## run lint, type checks, tests and doctests
	$(BIN)/pytest -q -m "exact and not slow" $$(grep -rl mark.exact tests)
	flags="$$XLA_FLAGS --xla_cpu_use_fusion_emitters=false"; \
	XLA_FLAGS="$$flags" $(BIN)/python -c 'import jax; jax.devices()' 2>/dev/null \
	  || flags="$$XLA_FLAGS"; \
	JAX_DISABLE_MOST_OPTIMIZATIONS=1 XLA_FLAGS="$$flags" \
	  JAX_COMPILATION_CACHE_DIR=.pytest_cache/jax \
	  JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.1 \
	  $(BIN)/pytest -n $(WORKERS) --dist worksteal

test-slow: $(VENV)/.test-slow  ## run only the slow tests
	$(BIN)/pytest -n $(WORKERS) -m slow tests

lint: $(VENV)/.test  ## run ruff, import-linter and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=.ci $(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.test  ## format the sources with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs  ## build docs/_build/html; warnings are errors
	rm -rf docs/_build/html
	$(BIN)/sphinx-build -q -W -n --keep-going -b html -d docs/_build/doctrees \
	  docs docs/_build/html

site-test: $(VENV)/.site docs  ## build the documentation and walk it in Chromium
	$(BIN)/pytest -q tests/docs

bench: $(VENV)/.demo  ## measure the overhead of learned optimizers relative to Adam
	$(BIN)/python -m bench.overhead

dist: $(VENV)/.test  ## build sdist and wheel in dist/
	rm -rf dist
	$(BIN)/python -m build --quiet

clean:  ## remove everything that the targets created
	rm -rf $(VENV) dist docs/_build docs/_generated .import_linter_cache .pytest_cache \
	  .ruff_cache

# pip compiles bytecode during installation even if PYTHONDONTWRITEBYTECODE is set.
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is missing or older than Python 3.11;" \
	    "choose another interpreter with: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: $(PYTHON) lacks the venv module;" \
	    "on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.demo: EXTRAS = eval,train
$(VENV)/.test: EXTRAS = lint,test
$(VENV)/.test-slow: EXTRAS = brax,craftax,lint,test
$(VENV)/.docs: EXTRAS = docs
$(VENV)/.site: EXTRAS = site
$(addprefix $(VENV)/.,demo test test-slow docs site): $(VENV)/.venv pyproject.toml learned_opt_rl/_version.py
	$(PIP_INSTALL) --editable '.[$(EXTRAS)]'
	@touch $@
