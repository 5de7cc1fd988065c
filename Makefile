# make up    set up and run Seawall          make test  set up and pass all tests
# make loop  the whole loop on simulated traffic         make help  the rest
.DEFAULT_GOAL := help
.PHONY: help setup up down loop test unit lint champion bench quality

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
SCENARIO ?= slang
NAME ?= text-multi
# Each file's tests in one of two processes, as tests/conftest.py spreads them.
SPREAD := --numprocesses 2 --dist loadfile --no-loadscope-reorder
BIN := .venv/bin
IS_311 := import sys; sys.exit(sys.version_info[:2] != (3, 11))

help: ## what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/\1\t\2/' | expand -t 12

setup: .venv/ready ## the virtual environment, with pinned dependencies

# Made again when what is pinned, or needed, has changed; the environment too, where it is broken or not of 3.11.
.venv/ready: constraints.txt pyproject.toml
	@echo "setting up .venv: some minutes the first time"
	@$(BIN)/python -c 'import pip; $(IS_311)' 2>/dev/null || { \
		$(PYTHON) -c '$(IS_311)' 2>/dev/null || \
			{ echo "$(PYTHON) is not Python 3.11: name one, as in make up PYTHON=/usr/bin/python3.11" >&2; exit 1; }; \
		$(PYTHON) -m venv --clear .venv; }
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --quiet \
		--constraint constraints.txt --editable '.[dev]'
	@touch $@

up: setup ## run Seawall at http://127.0.0.1:8000, until Ctrl-C
	@$(BIN)/seawall up

down: setup ## end what `seawall up --detach` left running
	@$(BIN)/seawall down

loop: setup ## simulated days, from a post to a promotion; SCENARIO=slang|calm|flipped
	@$(BIN)/python -m tests.end_to_end.scenario --name $(SCENARIO)

lint: setup ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

unit: setup ## fast tests only
	@$(BIN)/python -m pytest $(SPREAD) -m "not slow"

test: setup lint ## style, types, all tests
	@$(BIN)/python -m pytest $(SPREAD) --cov --cov-report=term

bench: setup ## serving, media, start-up, prevalence, and, with the corpora in DATA, quality and left_out; each ends in a line of JSON
	@$(BIN)/python -m tests.benchmarks.serving
	@$(BIN)/python -m tests.benchmarks.media_serving
	@$(BIN)/python -m tests.benchmarks.video_reading
	@$(BIN)/python -m tests.benchmarks.start_up
	@$(BIN)/python -m tests.benchmarks.prevalence
	@$(if $(DATA),$(BIN)/python -m tests.benchmarks.quality --data $(DATA),echo "quality: name the corpora with DATA=" >&2)
	@$(if $(DATA),$(BIN)/python -m tests.benchmarks.left_out --data $(DATA))

quality: setup ## how good the shipped text model is, on the corpora in DATA
	@$(BIN)/python -m tests.benchmarks.quality --data $(DATA)

champion: setup ## train a model that ships (NAME), from the corpora in DATA
	@$(BIN)/python -m train.champion $(NAME) --data $(DATA)
