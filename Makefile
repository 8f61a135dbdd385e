# What one does with towline in a clone. CI calls these targets by the same names (.ci/run).
# A bare machine needs make, pip and a Python >= 3.11 (towline is at home on Linux). Everything else goes into .venv.

VENV   ?= .venv
BIN    := $(VENV)/bin
SEEDS  ?= 100000
ROUNDS ?= 100
JOBS   ?= 1000000
ARGS   ?=

# The first interpreter that answers, is new enough and can make an environment. Name another: make PYTHON=/path/to/python demo
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	"$$p" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)

.PHONY: help demo test check lint types format bench sim torture crashes growth requests races files sizes chain authoring real-flow clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed-examples  ## the equation of state of seven metals on local Ray, 2 workers
	$(BIN)/python examples/metals.py --workers 2 $(ARGS)

test: $(VENV)/.installed-test  ## the whole suite, or a part: make test ARGS=tests/engine
	$(BIN)/python -m pytest $(ARGS)

check: lint types  ## ruff and strict mypy

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy does not follow the mapping of pyproject.toml (driver/ is towline, engine/ is towline.engine, ...), so it is shown
# a tree of links that looks like the installed package. It reads the sources themselves. Examples are held
# to the same, but they call libraries without types.
TREE := build/types
MYPY = MYPYPATH=. $(if $(filter /%,$(BIN)),,../../)$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache
types: $(VENV)/.installed-test
	@rm -rf $(TREE) && mkdir -p $(TREE)/towline
	@cd $(TREE)/towline && ln -s ../../../driver/* ../../../engine ../../../stores ../../../actors ../../../benchmarks .
	cd $(TREE) && $(MYPY) -p towline
	cd $(TREE) && $(MYPY) --allow-untyped-calls ../../examples/first.py ../../examples/metals.py

format: $(VENV)/.installed-test  ## let ruff order imports and lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-test  ## durable no-op jobs against bare Ray tasks, side by side
	$(BIN)/python -m towline.benchmarks.harness $(ARGS)

sim: $(VENV)/.installed-test  ## the simulator over many seeds: make sim SEEDS=100000
	$(BIN)/python -m tests.simulation.run --seeds $(SEEDS) $(ARGS)

torture: $(VENV)/.installed-test  ## kill everything at random moments: make torture ROUNDS=100
	$(BIN)/python -m tests.torture.run --rounds $(ROUNDS) $(ARGS)

crashes: $(VENV)/.installed-test  ## a run dies before, inside and after every operation of its store
	CRASH_EVERY=1 $(BIN)/python -m pytest tests/torture/test_every_operation.py $(ARGS)

growth: $(VENV)/.installed-test  ## a run that grows dies before and after every operation of its store
	CRASH_EVERY=1 $(BIN)/python -m pytest tests/torture/test_growth.py $(ARGS)

requests: $(VENV)/.installed-test  ## what a run on a bucket costs in requests: make requests ARGS="--jobs 1000000"
	$(BIN)/python -m towline.benchmarks.requests $(ARGS)

races: $(VENV)/.installed-test  ## two leader processes race for one bucket: make races ARGS="--races 500"
	$(BIN)/python -m tests.stores.journal.racer $(ARGS)

files: $(VENV)/.installed-test  ## files and small objects against aiobotocore and gcsfs used bare, on servers of this machine
	$(BIN)/python -m tests.kit.standing $(BIN)/python -m towline.benchmarks.files $(ARGS)

sizes: $(VENV)/.installed-test  ## files of 0 bytes to 10 GB, 100,000 files, long listings, and the memory that they take
	SIZES_FULL=1 $(BIN)/python -m pytest -s tests/stores/jobstore/test_sizes.py $(ARGS)

chain: $(VENV)/.installed-test  ## a chain of a million jobs: built, run part of the way, killed, restored
	$(BIN)/python -m towline.benchmarks.chain --jobs $(JOBS) $(ARGS)

authoring: $(VENV)/.installed-test  ## run_locally, building, resolving and importing, side by side with jobflow
	$(BIN)/python -m towline.benchmarks.authoring $(ARGS)

# quacc wants other releases of some packages than the tests do, so it has an environment of its own.
REAL_FLOW := build/real-flow
real-flow:  ## a flow of quacc, as its users run it, killed in the middle and resumed
	@$(MAKE) --no-print-directory VENV=$(REAL_FLOW) $(REAL_FLOW)/.installed-real-flow
	$(REAL_FLOW)/bin/python -m tests.driver.adapters.real_flow $(ARGS)

clean:  ## throw away environment and caches; stores of runs stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# ----------------------------------------------------------------------------------------------------- environment

# Distributions that keep ensurepip apart still have `venv --without-pip`, and their pip can install into it.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "towline needs Python 3.11 or newer; install it, or name it: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || \
		{ $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --quiet --python $(BIN)/python install pip; }

# uv installs in seconds what takes pip a minute; where uv is not to be had or does not find the packages, pip does it.
# Editable: the clone's sources are what runs. The stamp is the last thing made, so a broken install is begun again.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo "installing towline[$*] into $(VENV)"
	@$(BIN)/python -m pip install --quiet uv || echo "no uv: pip installs everything"
	@{ test -x $(BIN)/uv && $(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[$*]'; } || \
		$(BIN)/python -m pip install --quiet -e '.[$*]'
	@touch $@
