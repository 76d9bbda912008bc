"""How loops over pixels are compiled: without the GIL, and once per machine where there is a place to keep the code."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function when it is first called, with further options of numba."""

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # neither beside the package nor in a home may files be written
            return njit(nogil=True, **options)(function)

    return decorate


exact_kernel = compiled()
"""Decorator of a loop whose sums keep their order."""
kernel = compiled(fastmath=True)
"""Decorator of a loop whose sums are taken in any order that is fast."""
kernel_part = compiled(fastmath=True, forceinline=True)
"""Decorator of what a kernel calls: it becomes part of it.

A part that is compiled by itself, too, may add in another order there, and which of the two a kernel calls depends on
whether it was read from the cache: the first process on a machine would make other pixels than those after it.
"""
