"""Memory that stays with the process between steps."""

from __future__ import annotations

import ctypes
import platform

__all__ = ["keep_freed_memory"]

# Names and numbers from glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
TOP_PAD_BYTES = 64 * 2**20
LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Tells glibc to keep freed blocks for the next allocation; does nothing where there is no glibc.

    Otherwise every large tensor is mapped anew in every step, and the kernel hands it over page by page: measured
    10 to 17 % of a training step's CPU time. The price is that memory returns to the system only at exit.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, LARGEST_INT)
    mallopt(M_TOP_PAD, TOP_PAD_BYTES)
