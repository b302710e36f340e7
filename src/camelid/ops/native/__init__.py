"""Kernels in C++, called without copies; without them all still runs, on torch alone.

In: CPU tensors. Out: tensors. Must not know: configs, modules.
"""

from camelid.ops.native.library import missing_because, native_paths
from camelid.ops.native.step import DecoderStep, LayerWeights, ModelShape, Run
from camelid.ops.native.tiles import LANES, PAGE_SIZE, Pages, TiledMatrix, TiledSwiglu, empty_pages, to_tiles

__all__ = [
    "LANES",
    "PAGE_SIZE",
    "DecoderStep",
    "LayerWeights",
    "ModelShape",
    "Pages",
    "Run",
    "TiledMatrix",
    "TiledSwiglu",
    "empty_pages",
    "missing_because",
    "native_paths",
    "to_tiles",
]
