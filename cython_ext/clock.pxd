cdef void enter_kernel() noexcept nogil
cdef void leave_kernel() noexcept nogil
