"""Builds the kernels: every `.pyx` of `cython_ext`, with the directives and flags of one place.

`VELOSTREAM_BUILD` says for what: `release` when it is not set; `debug` has bounds checks, asserts, the
address and undefined-behaviour sanitizers (an error ends the process) and edges for the fuzzers; `coverage`
counts the lines that run. The last two are for gcc, and the Makefile says how they are used.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

BUILD = os.environ.get("VELOSTREAM_BUILD", "release")
DEBUG = BUILD == "debug"

# No -march=native and no -ffast-math: a wheel runs on any machine of its kind, and rounds as IEEE 754 says.
FLAGS = {
    "release": ["-O3", "-g0"],
    # The sanitizers' runtime is not linked but preloaded: gcc's for tests, that of atheris for fuzzing.
    "debug": [
        *("-O1", "-g", "-fno-omit-frame-pointer", "-UNDEBUG", "-DVELOSTREAM_DEBUG"),
        # Python is built with -fwrapv, under which no overflow is undefined.
        *("-fno-wrapv", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
        *("-fsanitize-coverage=trace-pc,trace-cmp", "-include", "tests/fuzz/edges.h"),
    ],
    "coverage": ["-O0", "-g0", "--coverage"],
}[BUILD]
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
    "freethreading_compatible": False,
}

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"cython_ext.{path.stem}",
                [str(path)],
                extra_compile_args=[*FLAGS, "-fno-strict-aliasing", "-Wno-unused-function"],
                extra_link_args=["--coverage"] if BUILD == "coverage" else [],
                include_dirs=["cython_ext"],
                depends=[str(header) for header in sorted(Path("cython_ext").glob("**/*.[h]"))],
            )
            for path in sorted(Path("cython_ext").glob("*.pyx"))
        ],
        compiler_directives=DIRECTIVES,
        annotate=os.environ.get("VELOSTREAM_ANNOTATE") == "1",
        # Reports name the lines of the sources.
        emit_linenums=BUILD != "release",
        build_dir="build/cython" if BUILD == "release" else f"build/{BUILD}/c",
        nthreads=os.cpu_count() or 1,
    ),
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
    packages=[
        "cython_ext",
        *(".".join(path.parent.parts) for path in sorted(Path("velostream").glob("**/__init__.py"))),
        "velostream.conf",
        *(
            "velostream.conf." + ".".join(path.relative_to("conf").parts)
            for path in sorted(Path("conf").glob("**/"))
            if path != Path("conf")
        ),
    ],
    package_dir={"velostream.conf": "conf"},
    package_data={
        "": ["*.yaml", "*.sql", "*.csv", "*.ndjson", "py.typed"],
        "cython_ext": ["*.pxd", "*.pyi", "*.h"],
    },
)
