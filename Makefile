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
WORKERS ?= 2
BENCH ?=
STAGE ?=
SINCE ?=
DRY_RUN ?=
VERSION ?=
TO ?=
APPLY ?=
PACKAGE ?= releases/$(TARGET)
first = $(shell $(VENV)/bin/python -c "import yaml; print(next(iter(yaml.safe_load(open('params.yaml'))['$(1)'])))")

.DEFAULT_GOAL := help
.PHONY: help install install-tasks repro ask verify push pull release verify-package signing-key publish promote versions fetch-model report doctor check test test-unit test-default-model bench bench-quantizers search lint lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create .venv with the locked packages

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --no-deps pip==26.3
	$(VENV)/bin/python -m pip install -r requirements.txt -c requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

install-tasks: $(INSTALLED) ## add lm-eval (500 MB) to .venv, for `evaluate.tasks` in params.yaml
	python -m pip install -r requirements-tasks.txt -c requirements.lock

repro: $(INSTALLED) ## run the pipeline and let the model answer; PRESET=name lays presets/name.yaml over params.yaml
	$(if $(PRESET),python -m press.params.preset $(PRESET))
	@python -m stages.check
	dvc repro
	@$(MAKE) --no-print-directory ask

ask: $(INSTALLED) ## let a built model answer PROMPT, with ADAPTER, for TARGET
	python app.py --package packages/$(TARGET) --adapter $(ADAPTER) "$(PROMPT)"

verify: $(INSTALLED) ## rebuild HEAD in a clean clone and compare every output with dvc.lock; STAGE=names rebuilds only these
	python -m press.verify $(STAGE)

push: $(INSTALLED) ## push all outputs to the DVC remote, and read them back
	python -m press.release.storage push

pull: $(INSTALLED) ## bring back all outputs from the DVC remote
	python -m press.release.storage pull

release: $(INSTALLED) ## put the package, its provenance and its signature into releases/, to be committed
	python -m press.release release

verify-package: $(INSTALLED) ## check files, provenance and signature of PACKAGE=folder
	@python -m press.release check "$(PACKAGE)"

signing-key: $(INSTALLED) ## make a key pair to sign releases with
	@python -m press.release.signature

publish: $(INSTALLED) ## push, and register the release as params.yaml says; DRY_RUN=1 only shows what would be done
	python -m press.release publish $(if $(DRY_RUN),--dry-run)

promote: $(INSTALLED) ## give STAGE=staging|prod to VERSION=...
	python -m press.release promote --version "$(VERSION)" --stage "$(STAGE)"

versions: $(INSTALLED) ## list the published versions
	@python -m press.release versions

fetch-model: $(INSTALLED) ## put VERSION=... or STAGE=... of the package into the new folder TO=...
	python -m press.release fetch $(if $(VERSION),--version "$(VERSION)",--stage "$(STAGE)") --to "$(TO)"

report: $(INSTALLED) ## write report/TARGET.html and .md about what is built; SINCE=revision says what reran since then
	python -m press.report $(TARGET) $(if $(SINCE),--since "$(SINCE)")

doctor: ## say what is fine here and what is not, and what to do about it
	$(or $(wildcard $(VENV)/bin/python),$(PYTHON)) -m press.doctor

check: $(INSTALLED) ## check params.yaml and the environment without running anything
	python -m stages.check

test: $(INSTALLED) ## run the tests but the default model's; TESTS=path runs a part of them, WORKERS=n side by side
	python -m pytest $(SIDE_BY_SIDE) -m "not default_model" --durations 25 $(TESTS)

test-unit: $(INSTALLED) ## run the tests that take less than a minute; TESTS and WORKERS as above
	python -m pytest $(SIDE_BY_SIDE) -m unit $(TESTS)

test-default-model: $(INSTALLED) ## after `make repro`, check the figures and bytes of what it built
	python -m pytest -m default_model --durations 25 $(TESTS)

SIDE_BY_SIDE = --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder

bench: $(INSTALLED) ## time the built package beside llama.cpp and transformers (12 minutes; BENCH=words are its options)
	python -m bench.runtime $(BENCH)

bench-quantizers: $(INSTALLED) $(REFERENCE)/.installed ## compare the quantizers on the built base model (two hours; BENCH=words narrows it)
	python -m bench.quantizers --llm-compressor $(REFERENCE)/bin/python $(BENCH)

$(REFERENCE)/.installed: bench/llmcompressor.txt
	$(PYTHON) -m venv $(REFERENCE)
	$(REFERENCE)/bin/python -m pip install --quiet --no-deps pip==26.3
	$(REFERENCE)/bin/python -m pip install -r bench/llmcompressor.txt
	touch $@

search: $(INSTALLED) ## try parameters under the objective and constraints of params.yaml; APPLY=trial puts one in place
	@python -m press.search $(if $(APPLY),apply "$(APPLY)")

lint: $(INSTALLED) ## check style and format
	ruff check .
	ruff format --check .

lock: $(INSTALLED) ## resolve requirements.txt anew into requirements.lock
	python -m press.core.packages

clean: $(INSTALLED) ## remove what the pipeline made, and nothing else (git restore and dvc checkout bring it back)
	python -m press.clean
