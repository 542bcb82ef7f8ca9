# `make` lists what there is. Everything runs in a virtual environment: the active one, the one
# given as VENV=DIR, or .venv, which `make setup` creates with PYTHON.

PYTHON ?= python3
VENV ?= $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)
GOLDEN ?= tests/golden
PYTEST_ARGS ?=
# Tests at once; 0 runs them in one process, as a debugger wants it.
TEST_PROCESSES ?= logical
TRAIN_ARGS ?=
FUZZ ?= 20000

PARALLEL := -n $(TEST_PROCESSES) --maxprocesses 4 --dist worksteal
BIN := $(abspath $(VENV))/bin
# Installed means: this checkout, with this pyproject.toml.
STAMP := $(abspath $(VENV))/.uniphd-installed
INSTALLED = $(CURDIR) $(shell cksum < pyproject.toml)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup train test test-slow fuzz lint format typecheck wheel check versions parity gpu browser clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install the package and its development tools, once per pyproject.toml
	@test -x "$(BIN)/python" || $(PYTHON) -m venv "$(VENV)"
	@if [ "$$(cat "$(STAMP)" 2>/dev/null)" != "$(INSTALLED)" ]; then \
		"$(BIN)/python" -m pip install -e ".[dev]" && echo "$(INSTALLED)" > "$(STAMP)"; \
	fi

train: setup ## learn to find synthetic people, in 20 to 40 minutes on 2 cores; evaluates, draws
	"$(BIN)/uniphd-train" experiment=synthetic_cpu $(TRAIN_ARGS)

test: setup ## run the fast tests
	"$(BIN)/python" -m pytest -m "not slow and not gpu" $(PARALLEL) $(PYTEST_ARGS)

test-slow: setup ## run the slow tests
	"$(BIN)/python" -m pytest -m "slow and not gpu" $(PARALLEL) $(PYTEST_ARGS)

fuzz: setup ## draw 20,000 cases of bad input, others every time (FUZZ=N for another number)
	UNIPHD_FUZZ=$(FUZZ) "$(BIN)/python" -m pytest tests/fuzz $(PYTEST_ARGS)

lint: setup ## check style and formatting
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .

format: setup ## repair style and formatting where that is safe
	"$(BIN)/ruff" check --fix .
	"$(BIN)/ruff" format .

typecheck: setup ## check types
	"$(BIN)/mypy"

wheel: setup ## build the source distribution and the wheel into dist/
	rm -rf dist
	"$(BIN)/python" -m hatchling build

check: lint typecheck wheel test test-slow ## all of the above that can fail: what CI runs

versions: setup ## print the versions that the checks run with
	@"$(BIN)/python" --version
	@"$(BIN)/python" -m pip list --format=freeze | grep -i -E \
		"^(torch|torchvision|lightning|hydra-core|timm|transformers|pycocotools|numpy|pytest|mypy|ruff|uniphd)="

parity: setup ## compare with the official network's numbers, or with others: GOLDEN=DIR
	"$(BIN)/python" -m parity "$(GOLDEN)"

gpu: ## test and measure on a CUDA device; installs nothing
	PATH="$(BIN):$$PATH" bash benchmarks/gpu.sh

browser: ## install Chromium for the tests of the page, on Debian, where you may
	@if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then \
		echo "chromium and chromedriver are there"; \
	elif [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "make browser needs root and apt-get; without Chromium the tests of the page are skipped"; \
	else \
		(timeout 120 apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20 update && \
		DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq install -y --no-install-recommends \
		chromium chromium-driver) > /dev/null 2>&1 && echo "chromium is installed" || \
		echo "chromium cannot be installed here; the tests of the page are skipped"; \
	fi

clean: ## remove build products and caches; keeps the environment and your runs
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find src tests parity benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
