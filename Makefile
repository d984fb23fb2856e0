# Olive Press: `make` lists what there is.

VENV := .venv
INSTALLED := $(VENV)/.installed
# That of .venv, or else the newest that works: what a pyenv shim stands for need not be there, nor ensurepip.
PYTHON ?= $(or $(call works,$(VENV)/bin/python),$(call works,python3.13),$(call works,python3.12),\
    $(call works,python3.11),$(error $(NO_PYTHON)))
works = $(shell $(1) -c "import ensurepip" 2>/dev/null && echo $(1))
NO_PYTHON := no Python 3.11, 3.12 or 3.13 here can make an environment: install one with its venv module \
    (Debian and Ubuntu: apt install python3-venv), or name one with PYTHON=path
REFERENCE := .venv-llmcompressor
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

PRESET ?=
ANYWAY ?=
TARGET ?=
ADAPTER ?=
PROMPT ?=
TESTS ?= tests
WORKERS ?= 2
TIERS ?= unit or integration
BENCH ?=
STAGE ?=
BUILT ?=
UPGRADE ?=
SINCE ?=
DRY_RUN ?=
VERSION ?=
TO ?=
APPLY ?=
PACKAGE ?=
SERVE ?=
ENGINE ?=
JOB ?=
INTO ?=
# Their values are data. No recipe has one in its text, where make and the shell would run $(shell ...) or `...` in it:
# recipes get them as they stand, by the environment, and the programs that take them check them.
GIVEN := PRESET ANYWAY TARGET ADAPTER PROMPT TESTS WORKERS TIERS BENCH STAGE BUILT UPGRADE SINCE DRY_RUN VERSION TO APPLY PACKAGE SERVE \
    ENGINE JOB INTO
$(foreach name,$(GIVEN),$(eval override $(name) := $$(value $(name))))
export $(GIVEN)

.DEFAULT_GOAL := help
.PHONY: help install install-tasks install-serve install-cluster repro logs ask serve look verify push pull release verify-package bom signing-key publish promote deploy undeploy versions fetch-model report doctor check test test-unit test-emulated test-default-model bench bench-arithmetic bench-quantizers search lint lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create .venv with the locked packages

$(INSTALLED): requirements.lock requirements-cuda.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(call locked,pip|setuptools) | $(INSTALL) --quiet --requirement /dev/stdin
# A build of torch for the CPU that lies in a folder (PIP_FIND_LINKS) comes first: of two files whose hashes are locked
# pip prefers the one whose hash it knows beforehand, which an index tells and a folder does not.
	if $(VENV)/bin/python -m pip install --quiet --dry-run --no-deps --no-index $(TORCH) 2> /dev/null; then \
	    $(call locked,torch) | $(INSTALL) --no-index --requirement /dev/stdin; fi
	$(INSTALL) --requirement requirements.lock
# The registry's build for Linux requires gigabytes of CUDA libraries, one for the CPU does not.
	if $(VENV)/bin/python -m pip show torch | grep --quiet "^Requires:.*nvidia"; then \
	    $(INSTALL) --requirement requirements-cuda.lock; fi
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# All that a lock names is installed, and nothing else: no dependency is resolved, no build fetches its own tools.
INSTALL = $(VENV)/bin/python -m pip install --require-hashes --no-deps --no-build-isolation
# Requirements of requirements.lock with their hashes, which stand in the lines that they continue in.
locked = awk '/^($(1))==/,!/\\$$/' requirements.lock
TORCH = $$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements.lock)

install-tasks: $(INSTALLED) ## add lm-eval (500 MB) to .venv, for `evaluate.tasks` in params.yaml
	$(INSTALL) --requirement requirements-tasks.lock

install-serve: $(INSTALLED) ## add the web server (40 MB) to .venv, for `make serve`
	$(INSTALL) --requirement requirements-serve.lock

install-cluster: $(INSTALLED) ## add Ray (200 MB) to .venv, for `make repro ENGINE=ray`
	$(INSTALL) --requirement requirements-cluster.lock

repro: $(INSTALLED) ## run the pipeline and let the model answer; PRESET=name lays presets/name.yaml over params.yaml
# ENGINE=ray|azureml: on a cluster; DRY_RUN=1 only shows what would be run there;
# ANYWAY=1 goes on where PRESET does not fit here
	$(if $(DRY_RUN),$(if $(PRESET),$(error PRESET changes params.yaml, which DRY_RUN must not: leave one of them out)))
	$(if $(DRY_RUN),$(if $(ENGINE),,$(error DRY_RUN goes with ENGINE=ray|azureml: `dvc repro --dry` says what would be run here)))
	$(if $(PRESET),python -m press.params.preset $(if $(ANYWAY),--anyway) "$$PRESET")
# An engine tells the nodes of a training who the others are (press/model/node_checks.py).
	@$(if $(ENGINE),OLIVE_PRESS_CLUSTER=1 )python -m stages.check
	$(if $(ENGINE),python -m press.cluster run $(if $(DRY_RUN),--dry-run) -- "$$ENGINE",python -m press.repro)
	$(if $(DRY_RUN),,@$(MAKE) --no-print-directory ask)

logs: $(INSTALLED) ## show what JOB=finetune@travel said when it last ran on a cluster
	@python -m press.cluster logs -- "$$JOB"

ask: $(INSTALLED) ## let a built model answer PROMPT (or a sample), with ADAPTER (or each), for TARGET
	python -m press.ask --target="$$TARGET" --adapter="$$ADAPTER" -- "$$PROMPT"

serve: $(INSTALLED) ## serve PACKAGE=folder (packages/cpu) by OpenAI's API; SERVE=words are its options
	@python -m press.serve $$SERVE -- "$${PACKAGE:-packages/cpu}"

look: $(INSTALLED) ## show a few examples of ADAPTER as the model reads them, and the lines that do not fit
	@python -m press.look --adapter="$$ADAPTER"

verify: $(INSTALLED) ## rebuild HEAD in a clean clone and compare with dvc.lock; STAGE=names: only these; BUILT=1: what is built here
	python -m press.verify $(if $(BUILT),--built,$$STAGE)

push: $(INSTALLED) ## push all outputs to the DVC remote, and read them back
	python -m press.release.storage push

pull: $(INSTALLED) ## bring back all outputs from the DVC remote
	python -m press.release.storage pull

release: $(INSTALLED) ## put the package, its provenance and its signature into releases/, to be committed
	python -m press.release release

verify-package: $(INSTALLED) ## check files, provenance and signature of PACKAGE=folder
	@python -m press.release check -- "$$PACKAGE"

bom: $(INSTALLED) ## say what a release is made of and under which licences; PACKAGE=folder: of that one
	@python -m press.release bom -- $${PACKAGE:+"$$PACKAGE"}

signing-key: $(INSTALLED) ## make a key pair to sign releases with
	@python -m press.release.signature

publish: $(INSTALLED) ## push, and register the release as params.yaml says; DRY_RUN=1 only shows what would be done
	python -m press.release publish $(if $(DRY_RUN),--dry-run)

promote: $(INSTALLED) ## give STAGE=staging|prod to VERSION=...
	python -m press.release promote --version="$$VERSION" --stage="$$STAGE"

deploy: $(INSTALLED) ## serve the published release on TO=azureml, or put it into INTO=folder for TO=foundry|tarball
	python -m press.release deploy --to="$$TO" --into="$$INTO"

undeploy: $(INSTALLED) ## take away what `make deploy` made; TO and INTO as there
	python -m press.release undeploy --to="$$TO" --into="$$INTO"

versions: $(INSTALLED) ## list the published versions
	@python -m press.release versions

fetch-model: $(INSTALLED) ## put VERSION=... or STAGE=... of the package into the new folder TO=...; ADAPTER alone, where TO has the rest
	python -m press.release fetch $(if $(VERSION),--version="$$VERSION",--stage="$$STAGE") --to="$$TO" --adapter="$$ADAPTER"

report: $(INSTALLED) ## write report/TARGET.html and .md about what is built; SINCE=revision says what reran since then
	python -m press.report $(if $(SINCE),--since="$$SINCE") -- "$$TARGET"

doctor: ## say what is fine here and what is not, and what to do about it
	$(or $(wildcard $(VENV)/bin/python),$(PYTHON)) -m press.doctor

check: $(INSTALLED) ## check params.yaml and the environment without running anything
	python -m stages.check

test: $(INSTALLED) ## run the tests but the default model's; TESTS=path runs a part of them, WORKERS=n side by side
	python -m pytest $(SIDE_BY_SIDE) -m "$$TIERS" --durations 25 $$TESTS

test-unit: $(INSTALLED) ## run the tests that take less than a minute; TESTS and WORKERS as above
	python -m pytest $(SIDE_BY_SIDE) -m unit $$TESTS

test-emulated: $(INSTALLED) ## build a tiny model on emulated processors (Debian's qemu-user), and compare the bytes
	EMULATE_ALL=1 python -m pytest $(SIDE_BY_SIDE) -m emulated --dist load tests/test_portable.py

test-default-model: $(INSTALLED) ## after `make repro`, check the figures and bytes of what it built
	python -m pytest -m default_model --durations 25 tests/test_default_model.py

SIDE_BY_SIDE = --numprocesses "$$WORKERS" --dist loadscope --no-loadscope-reorder

bench: $(INSTALLED) ## time the built package beside llama.cpp and transformers (12 minutes; BENCH=words are its options)
	python -m bench.runtime $$BENCH

bench-arithmetic: $(INSTALLED) ## time the built pipeline's stages in portable and in native arithmetic (25 minutes; BENCH=stages)
	python -m bench.arithmetic $$BENCH

bench-quantizers: $(INSTALLED) $(REFERENCE)/.installed ## compare the quantizers on the built base model (two hours; BENCH=words narrows it)
	python -m bench.quantizers --llm-compressor $(REFERENCE)/bin/python $$BENCH

$(REFERENCE)/.installed: bench/llmcompressor.txt
	$(PYTHON) -m venv $(REFERENCE)
	$(REFERENCE)/bin/python -m pip install --quiet --no-deps pip==26.3
	$(REFERENCE)/bin/python -m pip install -r bench/llmcompressor.txt
	touch $@

search: $(INSTALLED) ## try parameters under the objective and constraints of params.yaml; APPLY=trial puts one in place
# ENGINE=ray: each trial is a job on a cluster
	@python -m press.search $(if $(APPLY),apply -- "$$APPLY",$(if $(ENGINE),run --engine="$$ENGINE"))

lint: $(INSTALLED) ## check style, format, types and the arrows between rooms
	ruff check .
	ruff format --check .
	pyrefly check
	lint-imports

lock: $(INSTALLED) ## resolve requirements*.txt into requirements*.lock; UPGRADE=names (or all) takes newer versions
	$(RESOLVE) $(UPGRADED)
	grep --quiet "$(TORCH_CPU)" requirements.lock || { \
	    awk '{print} /^torch==/ {print "    --hash=$(TORCH_CPU) \\"}' requirements.lock > requirements.lock.new && \
	    mv requirements.lock.new requirements.lock; }
	$(COMPILE) requirements.txt $(BESIDE) --output-file requirements-cuda.lock $(UPGRADED)
	$(COMPILE) requirements-cluster.txt --excludes requirements-cuda.txt $(BESIDE) \
	    --output-file requirements-cluster.lock $(UPGRADED)
	$(COMPILE) requirements-serve.txt --excludes requirements-cuda.txt $(BESIDE) \
	    --output-file requirements-serve.lock $(UPGRADED)
	$(COMPILE) requirements-tasks.txt --excludes requirements-cuda.txt $(BESIDE) \
	    --output-file requirements-tasks.lock $(UPGRADED)

# For all platforms and for Python from 3.11 on. What is locked stays as it is, hashes and all, as long as it fits.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
    --no-emit-index-url --custom-compile-command "make lock"
UPGRADED = $(if $(filter all,$(UPGRADE)),--upgrade,$(if $(UPGRADE),$$(printf -- '--upgrade-package=%s ' $$UPGRADE)))
RESOLVE := $(COMPILE) requirements.txt --excludes requirements-cuda.txt --output-file requirements.lock
# What requirements.lock has is left out of the other locks, in its version.
BESIDE = --constraints requirements.lock $$(sed -n 's/==.*//p' requirements.lock | sed 's/^/--no-emit-package=/')
# The registry has no build of torch for the CPU; this is that of 2.13.0 for CPython 3.11 on Linux x86-64. The hash of
# another one: `python -m pip hash WHEEL`.
TORCH_CPU := sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b

clean: $(INSTALLED) ## remove what the pipeline made, and nothing else (git restore and dvc checkout bring it back)
	python -m press.clean
