# make run | build | check | fix | test | test-all | test-interpreters | bench | bench-table | clean
# Needs Python 3.11 to 3.13 with venv, a C compiler and make; everything else is installed into .venv.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
ARGS   ?=
# make bench: scenarios, separated by commas (all); runs of each contender; records in place of each scenario's own.
ONLY    ?=
RUNS    ?= 5
RECORDS ?=

SOURCES := $(wildcard cython_ext/*.pyx cython_ext/*.pxd cython_ext/*.h cython_ext/simd/*.h)

.PHONY: run build check fix test test-all test-interpreters bench bench-table clean
.DELETE_ON_ERROR:

$(VENV)/.installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check -r requirements.lock
	touch $@

$(VENV)/.built: $(VENV)/.installed setup.py $(SOURCES)
	$(PY) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

build: $(VENV)/.built

run: build
	$(PY) run.py $(ARGS)

test: build
	$(PY) -m pytest -q $(ARGS)

test-all: build
	$(PY) -m pytest -q --all-modes $(ARGS)

# The tests on every interpreter that is present, each in an environment of its own.
test-interpreters:
	@for python in python3.11 python3.12 python3.13; do \
	    if $$python -c "" 2>/dev/null; then \
	        $(MAKE) test PYTHON=$$python VENV=.venv-$$python || exit 1; \
	    else \
	        echo "$$python is not present: not run"; \
	    fi; \
	done

# The peers go into the same environment; no job and no test needs them. Not by `-e '.[bench]'`, which would
# compile the kernels again.
BENCH_EXTRA := import tomllib; \
    print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"], sep="\n")

$(VENV)/.bench: $(VENV)/.installed
	$(PY) -c '$(BENCH_EXTRA)' > $@.txt
	$(PY) -m pip install -q --disable-pip-version-check -c requirements.lock -r $@.txt
	touch $@

bench: build $(VENV)/.bench
	$(PY) -m benchmarks --only "$(ONLY)" --runs $(RUNS) $(if $(RECORDS),--records $(RECORDS))

# Puts the last table of `make bench` into benchmarks/README.md.
bench-table: build
	$(PY) -m benchmarks --readme

check: build
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/lint-imports
	$(PY) -m mypy

fix: build
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf build dist .venv .venv-* velostream.egg-info cython_ext/*.so
