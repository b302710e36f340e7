"""Finds the library that the install compiled, and the instruction sets in it that this processor runs."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

__all__ = [
    "SWITCH",
    "best_path",
    "missing_because",
    "native_library",
    "native_paths",
]

SWITCH = "CAMELID_NATIVE"
LIBRARY_PATH = Path(__file__).with_name("libcamelid_native.so")


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get(SWITCH, "1") == "0":
        return None, f"{SWITCH}=0"
    if not LIBRARY_PATH.is_file():
        return None, "not compiled: the install found no working C++ compiler"
    try:  # torch, which this package imports, has loaded the OpenMP that both then share: one pool of threads, not two
        library = ctypes.CDLL(str(LIBRARY_PATH))
    except OSError as error:
        return None, str(error)
    library.camelid_path.restype = ctypes.c_char_p
    return library, ""


def native_library() -> ctypes.CDLL | None:
    """The compiled kernels, or None."""
    return _load()[0]


def missing_because() -> str:
    """Why there are no native kernels; empty if there are."""
    return _load()[1]


@cache
def native_paths() -> dict[str, int]:
    """Instruction sets, best first, with their numbers in the library; empty without one."""
    library, paths, number = native_library(), {}, 0
    while library and (name := library.camelid_path(number)) is not None:
        if name:
            paths[name.decode()] = number
        number += 1
    return paths


def best_path(instructions: str | None = None) -> int:
    """The number of these instructions, the best by default."""
    paths = native_paths()
    return paths[instructions] if instructions else next(iter(paths.values()))
