# make up    set up and run Seawall          make test  set up and pass all tests
# make loop  the whole loop on simulated traffic         make help  the rest
.DEFAULT_GOAL := help
.PHONY: help setup up down loop test unit coverage lint docs champion bench quality

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
SCENARIO ?= slang
NAME ?= text-multi
# What is measured with nothing but the repository, and what wants corpora, images and clips: the folder DATA holds text/,
# image/ and video/.
BENCHMARKS := serving media_serving video_reading start_up prevalence contrasts attack
BENCHMARKS_OF_DATA := quality pictures written left_out
NAMED = $(or $(DATA),$(error name the folder that holds text/, image/ and video/: make $@ DATA=path/to/corpora))
# Each file's tests in one of two processes, in the order of tests/conftest.py.
SPREAD := --numprocesses 2 --dist loadfile --no-loadscope-reorder
BIN := .venv/bin
IS_311 := import sys; sys.exit(sys.version_info[:2] != (3, 11))

help: ## what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/\1\t\2/' | expand -t 12

setup: .venv/ready ## the virtual environment, with pinned dependencies

# Made again when what is pinned, or needed, has changed; the environment too, where it is broken or not of 3.11.
# 25,000 files are compiled by all cores, where pip takes one; 18,000 of two packages wait for the few imports of theirs. A
# package may hold a file for a later Python, hence `-`.
.venv/ready: constraints.txt pyproject.toml
	@echo "setting up .venv: some minutes the first time"
	@$(BIN)/python -c 'import pip; $(IS_311)' 2>/dev/null || { \
		$(PYTHON) -c '$(IS_311)' 2>/dev/null || \
			{ echo "$(PYTHON) is not Python 3.11: name one, as in make up PYTHON=/usr/bin/python3.11" >&2; exit 1; }; \
		$(PYTHON) -m venv --clear .venv; }
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --no-compile \
		--constraint constraints.txt --editable '.[dev]'
	-@$(BIN)/python -m compileall -q -q -j 0 -x '/tests?/|/py312_|/plotly/|/transformers/models/' .venv/lib
	@touch $@

up: setup ## run Seawall at http://127.0.0.1:8000, until Ctrl-C
	@$(BIN)/seawall up

down: setup ## end what `seawall up --detach` left running
	@$(BIN)/seawall down

loop: setup ## simulated days, from a post to a promotion; SCENARIO=slang|calm|flipped
	@$(BIN)/python -m simulate.scenario --name $(SCENARIO)

lint: setup ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: setup ## docs/configuration.md, from the docstrings of what reads the files
	@$(BIN)/python -m tests.docs.configuration

unit: setup ## fast tests only
	@$(BIN)/python -m pytest $(SPREAD) -m "not slow"

test: setup lint ## style, types, all tests
	@$(BIN)/python -m pytest $(SPREAD) --durations 20

# Measuring takes half as long again. What end-to-end tests test runs in other processes, where nothing is measured.
coverage: setup ## branch coverage by the tests that need no running Seawall
	@$(BIN)/python -m pytest $(SPREAD) --ignore tests/end_to_end --cov --cov-report=term

# A clone has no DATA, so what wants it is then left out, and said last: what could be measured was.
bench: setup ## all benchmarks; without DATA, those that want none. Each ends in a line of JSON
	@for name in $(BENCHMARKS); do $(BIN)/python -m tests.benchmarks.$$name || exit; done
	@$(if $(DATA),for name in $(BENCHMARKS_OF_DATA); do \
		$(BIN)/python -m tests.benchmarks.$$name --data "$(DATA)" || exit; \
	done,echo "left out, for want of DATA=path/to/corpora: $(BENCHMARKS_OF_DATA)" >&2)

quality: setup ## how good the shipped models of texts are, on the corpora in DATA
	@$(BIN)/python -m tests.benchmarks.quality --data "$(NAMED)"

champion: setup ## train a model that ships (NAME), from what is in DATA
	@$(BIN)/python -m train.champion $(NAME) --data "$(NAMED)"
