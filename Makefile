# Every target works from a fresh clone, alone: what it needs goes into .venv, once, and again when pyproject.toml changes.
PYTHON ?= python3
ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo test check lint bench netlab sanitize cross clean

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile
	@echo 'PYTHON=python3.12 chooses the interpreter (3.11 or newer), ARGS=... goes to the demo, pytest or the benchmark.'

demo: $(VENV)/.run ## Two voices talk through a server on this machine; ARGS=--live: microphone to speakers, --web: two tabs
	@$(RUN) -m earshot demo $(ARGS)

test: $(VENV)/.test ## Installs what the tests need and runs them all, in up to three processes; ARGS=-n0: in one
	@$(RUN) -m pytest -n auto $(ARGS)

check: lint ## Lint, formatting, types, import rules, then the same tests (warnings are errors in both)
	@$(RUN) -m pytest -n auto $(ARGS)

lint: $(VENV)/.test ## The part of check without the tests
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@names=$$(scripts/names) && MYPYPATH=$$names $(RUN) -m mypy && cd $$names && ../bin/lint-imports --no-cache ../../pyproject.toml
	@$(RUN) -m pytest tests/test_documents.py

bench: $(VENV)/.test ## The engines beside others and the floor of this machine, in one run; ARGS=--quick: a minute
	@$(RUN) -m earshot bench $(ARGS)

netlab: $(VENV)/.test ## Calls over bad networks, beside WebRTC where aiortc is installed; as root, on Linux
	@$(RUN) -m earshot.lab.netlab $(ARGS)

sanitize: $(VENV)/.test ## The native engine under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer
	@PYTHON=$(RUN) tests/bench/sanitize.sh $(ARGS)

cross: ## The native engine compiled for 64-bit ARM, run under qemu, beside this processor's results
	@tests/bench/cross.sh

clean: ## Removes .venv, caches and the demo's output
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find earshot codec protocol recording server client lab tests -name __pycache__ -type d -prune -exec rm -rf {} +

NATIVE := setup.py $(wildcard codec/engine/native/*.cpp codec/engine/native/*.h codec/engine/native/*.txt)

$(VENV)/.run: pyproject.toml scripts/install $(NATIVE)
	@PYTHON='$(PYTHON)' scripts/install run

$(VENV)/.test: pyproject.toml scripts/install $(NATIVE)
	@PYTHON='$(PYTHON)' scripts/install test
