"""The one door to the kernels: every other module takes them from here, none imports `cython_ext`."""

from cython_ext import arithmetic as arithmetic
