"""Camelid: the whole Llama 4 system in Python.

The public face. Names are looked up on first use, so that `camelid --help` need not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from camelid.core import Frame, ImagePart, Message, SamplingParams, TextPart, VideoPart
    from camelid.infer import LLM, load
    from camelid.model import PRESETS

__all__ = [
    "LLM",
    "PRESETS",
    "Frame",
    "ImagePart",
    "Message",
    "SamplingParams",
    "TextPart",
    "VideoPart",
    "load",
]

_HOME = {"LLM": "camelid.infer", "PRESETS": "camelid.model", "load": "camelid.infer"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'camelid' has no attribute {name!r}")
    return getattr(import_module(_HOME.get(name, "camelid.core")), name)
