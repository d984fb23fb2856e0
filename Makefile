# Olive Press: `make` lists what there is.

PYTHON ?= python3.11
VENV := .venv
INSTALLED := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

PRESET ?=
TARGET ?= cpu
ADAPTER ?= travel
PROMPT ?= what is the best thing to see in chicago
TESTS ?= tests

.DEFAULT_GOAL := help
.PHONY: help install repro ask check test lint lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create .venv with the locked packages

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --no-deps pip==26.3
	$(VENV)/bin/python -m pip install --no-deps -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

repro: $(INSTALLED) ## run the pipeline and let the model answer; PRESET=name lays presets/name.yaml over params.yaml
	$(if $(PRESET),python -m press.preset $(PRESET))
	dvc repro
	@$(MAKE) --no-print-directory ask

ask: $(INSTALLED) ## let a built model answer PROMPT, with ADAPTER, for TARGET
	python app.py --package packages/$(TARGET) --adapter $(ADAPTER) "$(PROMPT)"

check: $(INSTALLED) ## check params.yaml and the environment without running anything
	python -m stages.check

test: $(INSTALLED) ## run the tests; TESTS=path runs a part of them
	python -m pytest $(TESTS)

lint: $(INSTALLED) ## check style and format
	ruff check .
	ruff format --check .

lock: $(INSTALLED) ## resolve requirements.txt anew into requirements.lock
	python -m press.lock

clean: $(INSTALLED) ## remove what the pipeline made, and nothing else (dvc checkout brings it back)
	python -m press.clean
