# The front door: `make help` lists what there is. Everything is set up on first use, into .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
UV_VERSION := 0.13.8
BIN := .venv/bin
READY := .venv/.ready
NODE_CLIENTS := backend/tests/node_clients

.PHONY: help setup run chat test torture lint format bench clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 14

setup: $(READY) ## Install everything into .venv, as the lock file says

$(READY): pyproject.toml uv.lock
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: install it, or say where it is with make PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Say where a newer one is with make PYTHON=…"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "The virtual environment could not be made (on Debian: apt install python3-venv)."; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV= $(BIN)/uv sync --quiet --frozen --inexact
	@touch $(READY)

$(NODE_CLIENTS)/node_modules/.ready: $(NODE_CLIENTS)/package-lock.json
	@if command -v npm >/dev/null; then cd $(NODE_CLIENTS) && npm ci --silent --no-audit --no-fund && touch node_modules/.ready; \
	else echo "Node is missing: the tests with clients in Node are skipped."; fi

run: setup ## Start the service on http://127.0.0.1:8000
	@exec $(BIN)/atelier serve

chat: setup ## Talk to the running service in this terminal
	@exec $(BIN)/atelier chat

test: setup $(NODE_CLIENTS)/node_modules/.ready ## Run all tests
	@$(BIN)/python -m pytest -n auto --dist worksteal

torture: setup ## Kill the service 200 times in the middle of turns, and check what is left
	@TORTURE=200 $(BIN)/python -m pytest backend/tests/e2e/test_crash.py -s

lint: setup ## Check format, style, types and layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

format: setup ## Put the code into its format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## Measure turns, long histories, the start, many connections, the OpenAI door and workflow tools, each against its limits
	@$(BIN)/python -m bench.turn
	@$(BIN)/python -m bench.history
	@$(BIN)/python -m bench.start
	@$(BIN)/python -m bench.connections
	@$(BIN)/python -m bench.gateway
	@$(BIN)/python -m bench.invoke

clean: ## Remove what setup made (not the data)
	@rm -rf .venv .ruff_cache $(NODE_CLIENTS)/node_modules
