# Every target works in a fresh clone: it sets up .venv first.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help venv embed test test-slow check format lock clean

bin := .venv/bin

# What `make embed` embeds, where to, and how. Without INPUT it is the sample corpus.
INPUT  ?= sample
OUTPUT ?= out
CONFIG ?= configs/local.toml
DIM    ?=
options = $(if $(DIM),--dim $(DIM)) $(shell test -x $(bin)/vllm || echo --set engine.kind=sentence-transformers)

help: ## show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

venv: ## set up .venv from the lock; nothing to do when it is current
	@scripts/setup

embed: venv ## embed INPUT into OUTPUT (CONFIG, DIM), verify it, and search the sample
ifeq ($(INPUT),sample)
	$(bin)/python -m pipeline.sample sample
endif
	$(bin)/embed-corpus run --input '$(INPUT)' --output '$(OUTPUT)' --config '$(CONFIG)' $(options)
	$(bin)/embed-corpus verify '$(OUTPUT)'
ifeq ($(INPUT),sample)
	$(bin)/embed-corpus search '$(OUTPUT)' "parse a JSON document" -k 5
endif

test: venv ## run the tests
	$(bin)/pytest -m 'not slow'

test-slow: venv ## run the tests that take longer than a change can wait for
	$(bin)/pytest -m slow

check: venv ## format, lint, types
	$(bin)/ruff format --check
	$(bin)/ruff check
	$(bin)/mypy

format: venv ## put the code into the form that check wants
	$(bin)/ruff format
	$(bin)/ruff check --fix

lock: ## renew requirements.lock after a change of dependencies
	scripts/lock

clean: ## remove what the other targets made, but no dataset
	rm -rf .venv sample build *.egg-info .mypy_cache .ruff_cache .pytest_cache
