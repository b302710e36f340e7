"""Pure functions on tensors, each fast one with a slow twin.

In: tensors and plain numbers. Out: tensors. Must not know: configs, modules.
"""

from camelid.ops.attention import (
    SegmentPlan,
    attention_temperature,
    continued_attention,
    dense_segment_attention,
    full_attention,
    plan_segments,
    segment_attention,
    side_by_side_attention,
    split_lengths,
)
from camelid.ops.moe import LowRank, dense_experts, looped_experts, routed_experts, swiglu
from camelid.ops.norm import compute_dtype, layer_norm, rms_norm
from camelid.ops.rope import apply_rope, patch_rotations, rope_frequencies, rotations

__all__ = [
    "LowRank",
    "SegmentPlan",
    "apply_rope",
    "attention_temperature",
    "compute_dtype",
    "continued_attention",
    "dense_experts",
    "dense_segment_attention",
    "full_attention",
    "layer_norm",
    "looped_experts",
    "patch_rotations",
    "plan_segments",
    "rms_norm",
    "rope_frequencies",
    "rotations",
    "routed_experts",
    "segment_attention",
    "side_by_side_attention",
    "split_lengths",
    "swiglu",
]
