"""How long each thread works without the GIL: what is left of a lane's busy time is Python's share.

Kernels call `enter_kernel` and `leave_kernel` first and last in their `nogil` block; calls may be nested, the
outermost counts. Waiting to get the GIL back comes after `leave_kernel`: it counts as Python's.
"""

cimport cython
from libc.stdint cimport uint64_t


cdef extern from "thread_clock.h" nogil:
    void clock_enter()
    void clock_leave()
    uint64_t clock_read()


cdef void enter_kernel() noexcept nogil:
    clock_enter()


cdef void leave_kernel() noexcept nogil:
    clock_leave()


def kernel_seconds():
    """Seconds that the calling thread has spent in kernels and in `Native` blocks, since it began."""
    return clock_read() / 1e9


@cython.final
cdef class Native:
    """`with native:` around a call that works without the GIL and is no kernel: reading, writing, inflating."""

    def __enter__(self):
        clock_enter()
        return self

    def __exit__(self, *exc):
        clock_leave()
        return False


native = Native()
