# The front door: `make help` lists what there is. Everything is set up on first use, into .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
UV_VERSION := 0.13.8
BIN := .venv/bin
READY := .venv/.ready
NODE_CLIENTS := backend/tests/node_clients
PAGE := backend/app/web/index.html
PAGE_SOURCES := $(shell find frontend -path frontend/node_modules -prune -o -type f -print)

.PHONY: help setup page schemas run chat test torture lint format audit bench models-check oracle clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 14

setup: $(READY) $(PAGE) ## Install everything into .venv, as the lock file says, and build the page

$(READY): pyproject.toml uv.lock
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: install it, or say where it is with make PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Say where a newer one is with make PYTHON=…"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "The virtual environment could not be made (on Debian: apt install python3-venv)."; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV= $(BIN)/uv sync --quiet --frozen --inexact --compile-bytecode
	@$(BIN)/python -m compileall -q backend/app
	@touch $(READY)

$(PAGE): $(READY) $(PAGE_SOURCES) scripts/tool_schemas.py backend/app/core/domain/declared_tools.py
	@if ! command -v npm >/dev/null || ! node -e 'process.exit(+(process.versions.node.split(".")[0] < 20))'; then \
		echo "Node 20 or newer is missing: the service runs, but without the page to talk in. Install Node and say this again."; \
	elif $(BIN)/python scripts/tool_schemas.py --check && cd frontend && npm ci --silent --no-audit --no-fund && npm run --silent build; then touch ../$(PAGE); \
	else echo "The page could not be built (see above): the service runs without it."; fi

schemas: $(READY) ## Write the frontend's schemas of the tools, from their declaration
	@$(BIN)/python scripts/tool_schemas.py

page: ## Build the page again
	@rm -f $(PAGE)
	@$(MAKE) --no-print-directory $(PAGE)

$(NODE_CLIENTS)/node_modules/.ready: $(NODE_CLIENTS)/package-lock.json
	@if command -v npm >/dev/null; then cd $(NODE_CLIENTS) && npm ci --silent --no-audit --no-fund && touch node_modules/.ready; \
	else echo "Node is missing: the tests with clients in Node are skipped."; fi

run: setup ## Start the service on http://atelier.localhost:8000
	@exec $(BIN)/atelier serve

chat: setup ## Talk to the running service in this terminal
	@exec $(BIN)/atelier chat

test: setup $(NODE_CLIENTS)/node_modules/.ready ## Run all tests
	@$(BIN)/python -m pytest -n auto --dist worksteal

torture: setup ## Kill each kind of service 200 times in the middle of turns, and check what is left
	@TORTURE=200 $(BIN)/python -m pytest backend/tests/e2e/test_crash.py -s

lint: setup ## Check format, style, types and layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@if test -d frontend/node_modules; then cd frontend && npm run --silent check; fi

format: setup ## Put the code into its format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@if test -d frontend/node_modules; then cd frontend && npm run --silent format; fi

audit: setup ## Look the dependencies up in the databases of known vulnerabilities
	@$(BIN)/python scripts/audit.py

bench: setup ## Measure turns, long histories, searches, the start, many connections, the OpenAI door, workflow tools and the page, each against its limits
	@$(BIN)/python -m bench.turn
	@$(BIN)/python -m bench.history
	@$(BIN)/python -m bench.search
	@$(BIN)/python -m bench.start
	@$(BIN)/python -m bench.connections
	@$(BIN)/python -m bench.memory
	@$(BIN)/python -m bench.gateway
	@$(BIN)/python -m bench.invoke
	@$(BIN)/python -m bench.page

oracle: setup ## Record again what ComfyUI's own frontend makes of its official templates
	@PYTHONPATH=backend $(BIN)/python -m tests.comfyui.oracle

models-check: setup ## Update the model table from the newest LiteLLM release, report the changes, and check the defaults
	@rm -rf .venv/.models && mkdir -p .venv/.models
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest .venv/.models litellm
	@$(BIN)/python scripts/model_facts.py .venv/.models/litellm-*.whl
	@$(BIN)/python -m pytest backend/tests/unit/test_defaults.py

clean: ## Remove what setup made (not the data)
	@rm -rf .venv .ruff_cache $(NODE_CLIENTS)/node_modules frontend/node_modules backend/app/web
