# Everything runs in an environment of its own: .venv, made from PYTHON with what setup.cfg names.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

.PHONY: demo test test-all test-oldest test-processors lint bench clean

$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11, 4) <= sys.version_info < (3, 14))' || \
	  { echo "slimnets needs Python 3.11.4 to 3.13: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu]'
	touch $@

$(VENV)/.test-installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu,test]'
	touch $@

$(VENV)/.peers-installed: $(VENV)/.test-installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu,test,peers,ray,map,notebook]'
	touch $@

demo: $(STAMP)
	$(BIN)/slimnets demo

test: $(VENV)/.test-installed
	$(BIN)/python -m pytest --numprocesses 2 -m 'not full'

test-all: $(VENV)/.peers-installed
	$(BIN)/python -m pytest --numprocesses 2
	$(MAKE) bench

# The tests of numbers once more, as oneDNN computes on lesser processors than this one, and without oneDNN.
test-processors: $(VENV)/.test-installed
	$(BIN)/python -m tests.helpers.processors --numprocesses 2

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/.peers-installed
	$(BIN)/python -m tools.benchmarks

# The oldest TensorFlow there is support for, which has no wheels for Python 3.13.
OLDEST_PYTHON ?= $(firstword $(foreach v,python3.11 python3.12,$(shell $(v) -c 'print("$(v)")' 2>/dev/null)))
test-oldest:
	@test -n "$(OLDEST_PYTHON)" || \
	  { echo "TensorFlow 2.16 needs python3.11 or python3.12, and neither is on the PATH." >&2; exit 1; }
	test -e .venv-oldest/.installed || { \
	  $(OLDEST_PYTHON) -m venv --clear .venv-oldest && \
	  .venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check \
	    --editable '.[test]' 'tensorflow-cpu==2.16.*' 'numpy==1.26.*' 'pyarrow==15.*' && touch .venv-oldest/.installed; }
	.venv-oldest/bin/python -m pytest --numprocesses 2 -m 'not full'

clean:
	rm -rf .venv .venv-oldest build *.egg-info demo-output
