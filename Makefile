.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-slow up lint format benchmark constraints clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# torch comes first and by the version of the constraints, so that no other package can draw in another build.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED) ## train real jobs over HTTP, print a table, save a plot (about two minutes)
	$(BIN)/reinmax demo

# Two processes at a time, but for the tests of whole stacks, which have the machine to themselves.
test: $(INSTALLED) ## run the test suite, without the long tests
	$(BIN)/pytest -n 2 --ignore tests/acceptance
	$(BIN)/pytest tests/acceptance

test-slow: $(INSTALLED) ## the long tests
	$(BIN)/pytest -m slow

up: $(INSTALLED) ## the whole service on this machine, until Ctrl-C
	$(BIN)/reinmax up

lint: $(INSTALLED) ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED) ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(INSTALLED) ## time the trainer and the service beside their references
	$(BIN)/python -m tests.benchmarks

constraints: $(INSTALLED) ## pin what is installed now
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' | LC_ALL=C sort -f > constraints.txt

clean: ## remove what the commands above have made
	rm -rf .venv build demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
