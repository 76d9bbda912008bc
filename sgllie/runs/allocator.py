"""The allocator of a process that handles one image after another."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's mallopt(3)."""


def keep_freed_memory() -> None:
    """Let glibc keep the buffers of an image for the next one.

    By default it gives every buffer of more than 128 kB back to the system and gets it again, zeroed, a page fault for
    each 4 kB: measured at 0.3 to 1.8 ms for each 640x480 image, as much as its decoding. Larger ones than 32 MB still
    go back. Other C libraries have no such function, and then nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(M_TRIM_THRESHOLD, 512 * 2**20)
