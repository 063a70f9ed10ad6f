"""Builds the kernels: every `.pyx` of `cython_ext`, with the directives and flags of one place.

`VELOSTREAM_DEBUG=1` gives bounds checks, asserts and the address and undefined-behaviour sanitizers.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("VELOSTREAM_DEBUG") == "1"

# No -march=native and no -ffast-math: a wheel runs on any machine of its kind, and rounds as IEEE 754 says.
FLAGS = ["-O1", "-g", "-fsanitize=address,undefined"] if DEBUG else ["-O3", "-g0"]
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
                extra_link_args=["-fsanitize=address,undefined"] if DEBUG else [],
                include_dirs=["cython_ext"],
                depends=[str(header) for header in sorted(Path("cython_ext").glob("**/*.[h]"))],
            )
            for path in sorted(Path("cython_ext").glob("*.pyx"))
        ],
        compiler_directives=DIRECTIVES,
        annotate=os.environ.get("VELOSTREAM_ANNOTATE") == "1",
        build_dir="build/cython",
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
