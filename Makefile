# make help lists the targets.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
PIP_ARGS ?=
TESTBED = careful=0.3 guess=0 width=64 layers=2
LINES = task=countdown lines=3

.DEFAULT_GOAL := help
.PHONY: help setup train test lint fuzz audit wheel tiny ablations tables theory bench soak gpu clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(BIN)/.installed ## make a virtual environment (.venv) and install the project into it

$(BIN)/.installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	touch $@

train: ## the main job: STP trains the tiny LLaDA on Countdown (ARGS="..." adds overrides)
	$(BIN)/python -m stp.train sampler=stp task=countdown $(ARGS)

test: ## run the tests, two at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: ## ruff and mypy
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

fuzz: ## the fuzz tests with FUZZ times as many inputs, new ones each time (FUZZ=20)
	OMP_NUM_THREADS=1 FUZZ=$(or $(FUZZ),20) $(BIN)/python -m pytest tests/fuzz $(ARGS)

audit: ## look the installed packages up among known vulnerabilities (needs a network)
	$(BIN)/pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --local --skip-editable

wheel: ## build the package, into dist/
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .

tiny: ## pretrain the tiny bases again (an hour on one core)
	$(BIN)/python -m stp.pretrain task=countdown
	$(BIN)/python -m stp.pretrain task=gsm8k problems=6000 updates=8000
	$(BIN)/python -m stp.pretrain task=math problems=2000 updates=8000
	$(BIN)/python -m stp.pretrain task=sudoku problems=6000 updates=2200 careful=0.15 guess=0
	$(BIN)/python -m stp.pretrain $(TESTBED) $(LINES) updates=1500 to=outputs/tiny_base/testbed_1500
	$(BIN)/python -m stp.pretrain $(TESTBED) $(LINES) updates=4000 to=outputs/tiny_base/testbed_4000
	$(BIN)/python -m stp.pretrain $(TESTBED) $(LINES) updates=10000 to=outputs/tiny_base/testbed
	$(BIN)/python -m stp.pretrain $(TESTBED) task=gsm8k problems=6000 updates=8000 to=outputs/tiny_base/testbed_gsm8k
	$(BIN)/python -m stp.pretrain $(TESTBED) task=math problems=2000 updates=8000 to=outputs/tiny_base/testbed_math
	$(BIN)/python -m stp.pretrain $(TESTBED) task=sudoku problems=6000 updates=6000 layers=3 to=outputs/tiny_base/testbed_sudoku
	cp -r outputs/tiny_base/testbed* stp/models/tiny_base

ablations: ## every row of the paper's tables (SEEDS=0,1,2 ONLY=table5 SAMPLER=adaptive ARGS="overrides"); finished jobs are skipped
	PYTHON=$(BIN)/python ONLY="$(ONLY)" SEEDS="$(SEEDS)" SAMPLER="$(SAMPLER)" scripts/ablations.sh $(ARGS)

tables: ## the paper's tables and figures from the runs under outputs/ (ARGS="run folders" chooses)
	$(BIN)/python -m stp.report $(ARGS)

soak: ## a run killed and stopped at random for an hour (ARGS="--minutes 60 trainer.updates=40"); it must end as one left alone
	rm -rf outputs/soak
	$(BIN)/python -m stp.soak $(ARGS)

theory: ## Theorems 4.1, 4.3 and 4.4 checked (docs/theory.md)
	$(BIN)/python -m stp.theory $(ARGS)

bench: ## rollouts and updates over their bare forwards and over the published loops, in an hour (ARGS="--shapes tiny": five minutes)
	$(BIN)/python -m stp.bench $(ARGS)

gpu: ## check this machine's GPU, in twelve minutes (docs/gpu.md; ARGS="--parts numbers --to folder")
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) scripts/gpu.py $(ARGS)

clean: ## remove caches (outputs/ and the virtual environment stay)
	rm -rf .pytest_cache .mypy_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -prune -not -path './$(VENV)/*' -exec rm -rf {} +
