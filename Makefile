# From a bare clone:  make demo   runs the main job on the built-in benchmark;   make test   runs every check.
# Both make their own environment in .venv the first time. PYTHON=... picks the interpreter, VENV=... another folder, ARGS=... adds options to the demo.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help env demo lab test prepare check-clean test-nbs test-py wheel-check docs clean
.DEFAULT_GOAL := help

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

env: $(STAMP) ## The environment: the package in editable form with its development tools

$(STAMP): settings.ini setup.py
	@test -n "$(PYTHON)" || { echo 'No Python >= 3.10 with venv and pip was found: install one, or name it: make PYTHON=/path/to/python3'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## The main job on the built-in benchmark: report, video and results.json in runs/demo
	$(BIN)/geomrecon demo --out runs/demo $(ARGS)

lab: $(STAMP) ## The notebooks in JupyterLab, opened on the tutorials
	$(BIN)/python -m ipykernel install --sys-prefix --name python3 >/dev/null
	$(BIN)/jupyter lab --notebook-dir nbs nbs/tutorials/00_benchmark.ipynb

test: check-clean test-nbs test-py ## Every check: export, clean notebooks, notebook tests, tests/

prepare: $(STAMP) ## After editing notebooks: export the library, clean the notebooks, render README.md
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(BIN)/python .ci/rooms.py
	$(BIN)/python .ci/badges.py
	$(BIN)/python .ci/readme.py

check-clean: $(STAMP) ## Is everything generated what the notebooks and settings.ini give?
	bash .ci/check_clean.sh $(BIN)

# One thread per process: two notebooks at a time fill two cores, and every figure is the same on any number of them.
test-nbs: $(STAMP) ## Run every notebook as a test, two at a time
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2 --do_print --timing

test-py: $(STAMP) ## Run tests/, two files at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2 --dist loadfile --durations 60

wheel-check: ## Build a wheel, install it alone into an empty environment with the newest fastai, import everything, train one step
	bash .ci/check_wheel.sh $(PYTHON)

docs: $(STAMP) ## The documentation: all pages in _proc, and with quarto the site in _docs
	@touch README.md  # it is rendered by .ci/readme.py: nbdev leaves it alone while it is newer than index.ipynb
	$(BIN)/python .ci/process_docs.py
	@if command -v quarto >/dev/null; then $(BIN)/nbdev_docs; \
	else echo 'The pages are in _proc. For the site install quarto: https://quarto.org'; fi

clean: ## Remove what can be made again, runs/ excepted
	rm -rf $(VENV) _docs _proc build dist *.egg-info .pytest_cache
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
