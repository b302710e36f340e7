"""Kernels in C++, called without copies; without them all still runs, on torch alone.

In: CPU tensors. Out: tensors. Must not know: configs, modules.
"""

from camelid.ops.native.library import missing_because, native_paths
from camelid.ops.native.panels import (
    LANES,
    PAGE_SIZE,
    PackedMatrix,
    PackedSwiglu,
    Pages,
    empty_pages,
    to_panels,
)
from camelid.ops.native.step import DecoderStep, LayerWeights, ModelShape, Run

__all__ = [
    "LANES",
    "PAGE_SIZE",
    "DecoderStep",
    "LayerWeights",
    "ModelShape",
    "PackedMatrix",
    "PackedSwiglu",
    "Pages",
    "Run",
    "empty_pages",
    "missing_because",
    "native_paths",
    "to_panels",
]
