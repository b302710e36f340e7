"""Kernels in C++, called without copies; without them all still runs, on torch alone.

In: CPU tensors. Out: tensors. Must not know: configs, modules.
"""

from camelid.ops.native.library import missing_because, native_paths
from camelid.ops.native.pages import PAGE_SIZE, LayerPages, bytes_per_position
from camelid.ops.native.panels import FORMATS, PackedMatrix, PackedSwiglu, integer_panels, to_panels
from camelid.ops.native.step import DecoderStep, LayerWeights, ModelShape, Run, StepOutput

__all__ = [
    "FORMATS",
    "PAGE_SIZE",
    "DecoderStep",
    "LayerPages",
    "LayerWeights",
    "ModelShape",
    "PackedMatrix",
    "PackedSwiglu",
    "Run",
    "StepOutput",
    "bytes_per_position",
    "integer_panels",
    "missing_because",
    "native_paths",
    "to_panels",
]
