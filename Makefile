# make help | demo | test | check | fuzz | bench | docs
# The first use makes .venv and installs into it; later uses do so again only when
# pyproject.toml, constraints.txt or scripts/install.py have changed.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
ARGS   ?=
FUZZ_SECONDS ?= 60

# Tests side by side; ARGS='-n 0' runs them one after the other, as a debugger needs it.
WORKERS := -n auto --maxprocesses 4 --dist worksteal

PINS := pyproject.toml constraints.txt scripts/install.py

.DEFAULT_GOAL := help
.PHONY: help venv demo test torture check format fuzz bench docs clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16
	@echo "  ARGS='...' is handed on, as in: make test ARGS='tests/test_disk.py -x'"

demo: $(VENV)/.installed-demo ## fine-tune a small real model and watch what its versions cost
	sh demo/demo.sh $(ARGS)

test: $(VENV)/.installed-dev ## run the tests
	$(PY) -m pytest $(WORKERS) $(ARGS)

torture: $(VENV)/.installed-dev ## kill, starve and unplug it at every call: half an hour; as root with real power cuts
	MSTORE_TORTURE=1 $(PY) -m pytest tests/torture -s --timeout 3600 $(ARGS)
	@if [ "$$(id -u)" = 0 ]; then $(PY) tests/torture/power_cuts.py; \
	else echo "no power was cut: only root may mount"; fi

check: $(VENV)/.installed-dev ## formatting, lint, types, and whether docs/cli.md is up to date
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(PY) scripts/write_cli_reference.py --check

format: $(VENV)/.installed-dev ## rewrite the sources as `make check` wants them
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

fuzz: $(VENV)/.installed-fuzz ## fuzz every parser, each for FUZZ_SECONDS (60)
	$(PY) -m fuzz.run --seconds $(FUZZ_SECONDS) $(ARGS)

bench: $(VENV)/.installed-dev ## measure, beside other stores; rewrites the tables of docs/benchmarks.md
	$(PY) benchmarks/run.py --write $(ARGS)

docs: $(VENV)/.installed-dev ## write docs/cli.md anew from the commands' own help
	$(PY) scripts/write_cli_reference.py

venv: $(VENV)/.installed-dev ## only make .venv and install into it

clean: ## remove build/ and the caches, but not .venv
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# bin/pip and not bin/python: a venv whose ensurepip failed has the latter.
$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-dev: $(PINS) | $(VENV)/bin/pip
	$(PY) scripts/install.py train dev
	@touch $@

$(VENV)/.installed-demo: $(PINS) | $(VENV)/bin/pip
	$(PY) scripts/install.py train --demo-model
	@touch $@

$(VENV)/.installed-fuzz: $(PINS) | $(VENV)/bin/pip
	$(PY) scripts/install.py dev fuzz
	@touch $@
