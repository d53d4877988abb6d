# Every target works in a fresh clone: it sets up .venv first.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help venv embed deploy token test test-slow test-browser bench mutate fuzz fuzz-http check check-images format lock clean

bin := .venv/bin

# What `make embed` embeds, where to, and how. Without INPUT it is the sample corpus.
INPUT  ?= sample
OUTPUT ?= $(if $(filter sample,$(INPUT)),out,out-$(basename $(notdir $(INPUT:/=))))
CONFIG ?= configs/local.toml
DIM    ?=
BACKEND ?= local
FUZZ_S ?= 600
AREA   ?=
given = $(if $(filter file,$(origin $(1))),,--$(2) '$($(1))')
engine = $(shell test -x $(bin)/vllm || echo --set engine.kind=sentence-transformers)

help: ## show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

venv: ## set up .venv from the lock; nothing to do when it is current
	@scripts/setup

ifeq ($(filter local modal,$(BACKEND)),)
embed:
	@echo 'embed: expected BACKEND=local or BACKEND=modal, found $(BACKEND)' >&2; exit 2
else ifeq ($(BACKEND),modal)
embed: venv token
	@test '$(INPUT)' != sample || { echo 'embed: expected INPUT=, a path on the volume embedding-corpus' >&2; exit 2; }
	$(bin)/modal run jobs/embed_corpus.py --input '$(INPUT)' $(if $(DIM),--dim $(DIM)) \
	    $(call given,OUTPUT,output) $(call given,CONFIG,config)
else
embed: venv ## embed INPUT into OUTPUT (CONFIG, DIM), verify it; BACKEND=modal: on Modal, for money
ifeq ($(INPUT),sample)
	$(bin)/python scripts/sample_corpus.py sample
endif
	$(bin)/embed-corpus run --input '$(INPUT)' --output '$(OUTPUT)' --config '$(CONFIG)' \
	    $(if $(DIM),--dim $(DIM)) $(engine)
	$(bin)/embed-corpus verify '$(OUTPUT)'
ifeq ($(INPUT),sample)
	$(bin)/embed-corpus search '$(OUTPUT)' "parse a JSON document" -k 5 --config '$(CONFIG)'
endif
endif

deploy: venv token ## put the embedding service, the driver and the schedule of configs/cron.toml on Modal
	$(bin)/modal deploy jobs/embedding_service.py
	$(bin)/modal deploy jobs/embed_corpus.py
	$(bin)/modal deploy jobs/reembed.py

token: venv
	@$(bin)/python -c 'import sys; from modal.config import config; sys.exit(0 if config.get("token_id") else \
	    "expected a Modal token, found none: make one with `$(bin)/modal token new`; nothing was started")'

# In the order of their names: by the number of their tests, files of few long ones would come last and alone.
# Compiled once: where PYTHONDONTWRITEBYTECODE is set, each of the commands that the tests start would compile all of it.
test: venv ## run the tests
	$(bin)/python -m compileall -q pipeline jobs tests
	$(bin)/pytest -m 'not slow and not browser' -n 3 --dist loadfile --no-loadscope-reorder

test-slow: venv ## run the tests that take longer than a change can wait for
	$(bin)/pytest -m slow

test-browser: venv ## run the tests that look at a report in a Chromium of PATH
	$(bin)/pytest -m browser

bench: venv ## measure ours beside the bare engine, raw files and other tools (25 minutes); build/bench has the table
	$(bin)/python -m tests.benchmarks

mutate: venv ## make each small wrong change of tests/mutants/AREA.toml, all without AREA; a test has to notice
	$(bin)/python -m tests.mutants $(AREA)

fuzz_targets := lines json delimited documents parquet ipc manifest footer

fuzz: venv ## throw changed bytes at the readers, the manifest and the footers for FUZZ_S seconds in all (Linux on x86-64)
	$(bin)/uv pip install --quiet --python $(bin)/python atheris==3.0.0
	for target in $(fuzz_targets); do $(bin)/python -m tests.fuzz $$target build/fuzz \
	    -max_total_time=$$(($(FUZZ_S) / $(words $(fuzz_targets)))) -timeout=30 -rss_limit_mb=0 -keep_seed=1 -print_final_stats=1 || exit 1; done

fuzz-http: venv ## ask `embed-corpus serve` for FUZZ_S seconds what its OpenAPI allows and what it does not
	$(bin)/python -m tests.serve.openapi build/fuzz-http $(FUZZ_S)

check: venv ## format, lint, types
	$(bin)/ruff format --check
	$(bin)/ruff check
	$(bin)/mypy

# As a deploy installs them, less the downloads: whether all that the locks name can still be had for the images' Python.
check-images: venv ## ask the package index whether the locks of the Modal images still install
	for image in service driver; do env -u UV_FIND_LINKS -u UV_TORCH_BACKEND $(bin)/uv pip install --dry-run \
	    --require-hashes --no-build --python-version 3.12 --python-platform x86_64-manylinux_2_36 \
	    --target build/$$image --requirements jobs/images/$$image.txt --quiet || exit 1; done

format: venv ## put the code into the form that check wants
	$(bin)/ruff format
	$(bin)/ruff check --fix

lock: ## renew requirements.lock and the locks of the Modal images after a change of dependencies
	scripts/lock

clean: ## remove what the other targets made, but no dataset
	rm -rf .venv sample build *.egg-info .mypy_cache .ruff_cache .pytest_cache
