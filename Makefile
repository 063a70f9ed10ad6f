# make run | build | check | fix | test | test-all | test-interpreters | bench | bench-table | clean
#      kafka | test-kafka (Java 17 and Maven)
#      build-debug | test-debug | fuzz | fuzz-planted | fuzz-coverage (Linux, gcc)
# Needs Python 3.11 to 3.13 with venv, a C compiler and make; everything else is installed into .venv.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
ARGS   ?=
# make bench: scenarios, separated by commas (all); runs of each contender; records in place of each scenario's own.
ONLY    ?=
RUNS    ?= 5
RECORDS ?=
# make kafka: the port of the broker on 127.0.0.1.
PORT    ?= 9092
# make fuzz: seconds for each target, or seconds of CPU time without a new edge, and targets, separated by blanks
# (all).
SECONDS ?= 60
QUIET   ?= 0
TARGETS ?=

SOURCES := $(wildcard cython_ext/*.pyx cython_ext/*.pxd cython_ext/*.h cython_ext/simd/*.h)

.PHONY: run build check fix test test-all test-kafka kafka test-interpreters bench bench-table clean \
    build-debug test-debug fuzz fuzz-planted fuzz-coverage
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
	$(PY) -m pytest -q -m "not kafka" $(ARGS)

test-all: build
	$(PY) -m pytest -q -m "not kafka" --all-modes $(ARGS)

# The tests that need a Kafka broker: one of their own, or that of VELOSTREAM_TEST_KAFKA=host:port.
test-kafka: build
	$(PY) -m pytest -q tests/kafka $(ARGS)

# A broker on loopback until Ctrl-C. The first time, Maven fetches it.
kafka: build
	$(PY) -m tests.kafka.broker --port $(PORT)

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

# The kernels with the address and undefined-behaviour sanitizers, beside those of the release.
build/debug/.built: $(VENV)/.installed setup.py $(SOURCES) tests/fuzz/edges.h
	@command -v gcc >/dev/null || { echo "the debug build needs gcc: apt-get install gcc"; exit 1; }
	CC=gcc VELOSTREAM_BUILD=debug $(PY) setup.py -q build_ext --build-lib build/debug --build-temp build/debug/objects
	cp cython_ext/__init__.py build/debug/cython_ext/
	touch $@

build-debug: build/debug/.built

# Tests of what reads raw bytes, on the debug build. The default allocator of Python would hide over-reads, and a
# captured stderr the reports.
test-debug: build-debug
	PYTHONSAFEPATH=1 PYTHONPATH=build/debug:. PYTHONMALLOC=malloc ARROW_DEFAULT_MEMORY_POOL=system \
	ASAN_OPTIONS=detect_leaks=0:halt_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so) $$(gcc -print-file-name=libstdc++.so.6)" \
	$(PY) -m pytest -q --capture=sys -p no:cacheprovider --timeout 600 tests/fuzz tests/unit/kernels \
	    tests/unit/formats tests/unit/operators \
	    tests/properties/test_scan.py tests/properties/test_json_decoder.py tests/properties/test_csv_decoder.py \
	    tests/properties/test_text_encoder.py tests/properties/test_aggregate_twin.py \
	    tests/properties/test_doubles.py tests/properties/test_record_batches.py $(ARGS)

$(VENV)/.fuzz: $(VENV)/.installed
	@$(PY) -m pip install -q --disable-pip-version-check --only-binary :all: 'atheris>=3,<4' || \
	    { echo "no wheel of atheris: fuzzing needs Linux on x86-64, Python 3.11 to 3.13 and PyPI"; exit 1; }
	touch $@

fuzz: build-debug $(VENV)/.fuzz
	$(PY) -m tests.fuzz.campaign --seconds $(SECONDS) --quiet $(QUIET) $(TARGETS)

# Proves that each target finds an over-read that is planted in the debug build.
fuzz-planted: build-debug $(VENV)/.fuzz
	$(PY) -m tests.fuzz.campaign --planted --seconds $(SECONDS) $(TARGETS)

# The lines of the kernels' sources that the corpora and the tests of the decoders run.
fuzz-coverage: $(VENV)/.installed
	CC=gcc VELOSTREAM_BUILD=coverage $(PY) setup.py -q build_ext --build-lib build/coverage --build-temp build/coverage/objects
	cp cython_ext/__init__.py build/coverage/cython_ext/
	find build/coverage -name '*.gcda' -delete
	PYTHONSAFEPATH=1 PYTHONPATH=build/coverage:. $(PY) -m pytest -q -p no:cacheprovider tests/fuzz tests/unit/kernels \
	    tests/unit/formats tests/properties/test_json_decoder.py tests/properties/test_csv_decoder.py \
	    tests/properties/test_record_batches.py
	$(PY) -m tests.fuzz.coverage build/coverage/objects

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
