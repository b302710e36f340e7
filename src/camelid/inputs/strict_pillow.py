"""Truncated pictures are refused here whatever Pillow was told, and it goes on obeying for everybody else.

`ImageFile.LOAD_TRUNCATED_IMAGES` counts for the whole process, and other libraries set it. Turning it off and on
again around our decoding would be a race with them and with our own threads, so Pillow is made to ask who wants
to know: a thread within `refusing_truncated` always hears no, any other hears what was set last.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from PIL import ImageFile

__all__ = ["refusing_truncated"]

_SWITCH = "LOAD_TRUNCATED_IMAGES"
_here = threading.local()


@contextmanager
def refusing_truncated() -> Iterator[None]:
    """Within, this thread's Pillow raises for files that end too soon or are damaged. Also a decorator."""
    before = getattr(_here, "is_refusing", False)
    _here.is_refusing = True
    try:
        yield
    finally:
        _here.is_refusing = before


class _Answer:
    """What ImageFile's own functions find in the place of the variable."""

    def __init__(self, for_others: bool) -> None:
        self.for_others = for_others

    def __bool__(self) -> bool:
        return bool(self.for_others) and not getattr(_here, "is_refusing", False)


class _ImageFileModule(ModuleType):
    """What everybody else finds: a variable to read and set."""

    @property
    def LOAD_TRUNCATED_IMAGES(self) -> bool:
        return bool(_answer)

    @LOAD_TRUNCATED_IMAGES.setter
    def LOAD_TRUNCATED_IMAGES(self, value: bool) -> None:
        _answer.for_others = value


_answer = _Answer(ImageFile.LOAD_TRUNCATED_IMAGES)
vars(ImageFile)[_SWITCH] = _answer
ImageFile.__class__ = _ImageFileModule
