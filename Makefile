# Olive Press: `make` lists what there is.

PYTHON ?= python3.11
VENV := .venv
INSTALLED := $(VENV)/.installed
REFERENCE := .venv-llmcompressor
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

PRESET ?=
TARGET ?= $(call first,targets)
ADAPTER ?= $(call first,adapters)
PROMPT ?= what is the best thing to see in chicago
TESTS ?= tests
BENCH ?=
first = $(shell $(VENV)/bin/python -c "import yaml; print(next(iter(yaml.safe_load(open('params.yaml'))['$(1)'])))")

.DEFAULT_GOAL := help
.PHONY: help install repro ask check test bench lint lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create .venv with the locked packages

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --no-deps pip==26.3
	$(VENV)/bin/python -m pip install -r requirements.txt -c requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

repro: $(INSTALLED) ## run the pipeline and let the model answer; PRESET=name lays presets/name.yaml over params.yaml
	$(if $(PRESET),python -m press.preset $(PRESET))
	@python -m stages.check
	dvc repro
	@$(MAKE) --no-print-directory ask

ask: $(INSTALLED) ## let a built model answer PROMPT, with ADAPTER, for TARGET
	python app.py --package packages/$(TARGET) --adapter $(ADAPTER) "$(PROMPT)"

check: $(INSTALLED) ## check params.yaml and the environment without running anything
	python -m stages.check

test: $(INSTALLED) ## run the tests; TESTS=path runs a part of them
	python -m pytest $(TESTS)

bench: $(INSTALLED) $(REFERENCE)/.installed ## compare the quantizers on the built base model (two hours; BENCH=words narrows it)
	python -m bench.quantizers --llm-compressor $(REFERENCE)/bin/python $(BENCH)

$(REFERENCE)/.installed: bench/llmcompressor.txt
	$(PYTHON) -m venv $(REFERENCE)
	$(REFERENCE)/bin/python -m pip install --quiet --no-deps pip==26.3
	$(REFERENCE)/bin/python -m pip install -r bench/llmcompressor.txt
	touch $@

lint: $(INSTALLED) ## check style and format
	ruff check .
	ruff format --check .

lock: $(INSTALLED) ## resolve requirements.txt anew into requirements.lock
	python -m press.lock

clean: $(INSTALLED) ## remove what the pipeline made, and nothing else (git restore and dvc checkout bring it back)
	python -m press.clean
