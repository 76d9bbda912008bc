"""How loops over pixels are compiled: once per machine, without the GIL, sums in any order that is fast."""

from numba import njit

kernel = njit(cache=True, nogil=True, fastmath=True)
"""Decorator of a loop over pixels."""
kernel_part = njit(cache=True, nogil=True, fastmath=True, forceinline=True)
"""Decorator of what kernels call: it becomes part of each of them.

A part that is compiled by itself, too, may add in another order there, and which of the two a kernel calls depends on
whether it was read from the cache: the first process on a machine would make other pixels than those after it.
"""
