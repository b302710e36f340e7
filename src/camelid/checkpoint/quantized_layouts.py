"""Checkpoints with fewer bits, read as bf16: FP8 with scales, int4 packed into int32, experts one by one or fused.

compressed-tensors (`…-FP8`, `…w8a8`, `…w4a16`): per expert `experts.J.{gate,up,down}_proj.weight` [out, in] with
`.weight_scale`, or `.weight_packed` (int32 of eight or four values, lowest first, stored as unsigned),
`.weight_scale` [out, groups], `.weight_zero_point` (packed along out) and `.weight_shape`. Fused experts in few bits
have `…_scale` beside them. Everything stays lazy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from camelid.checkpoint.lazy_tensor import LazyTensor, WeightMap
from camelid.core.errors import CheckpointError

__all__ = ["dequantized", "fused_experts"]

FEW_BITS = (torch.float8_e4m3fn, torch.float8_e5m2, torch.int8)
# Scales of activations: they belong to a kernel's arithmetic and change no weight.
ACTIVATION_SCALES = re.compile(r"\.(input_scale|output_scale|k_scale|v_scale|q_scale|input_zero_point)$")
PARTS = ("_packed", "_scale", "_shape", "_zero_point")
EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.weight")
WORD_BITS = 32


def dequantized(tensors: WeightMap, dtype: torch.dtype = torch.bfloat16) -> dict[str, LazyTensor]:
    """The same checkpoint without quantisation: every scaled or packed weight becomes a plain one.

    Raises CheckpointError for a scale whose shape fits no known granularity, and for orders we do not know.
    """
    plain: dict[str, LazyTensor] = {}
    used: set[str] = set()
    for name, tensor in tensors.items():
        if name.endswith("weight_packed"):
            stem = name.removesuffix("_packed")
            used |= {stem + part for part in PARTS}
            plain[stem] = _unpacked(stem, tensors, dtype)
        elif tensor.dtype in FEW_BITS:
            used |= {name, f"{name}_scale"}
            if f"{name}_scale" not in tensors:
                raise CheckpointError(f"{tensor.source} is {tensor.dtype} without {name}_scale")
            if f"{name}_zero_point" in tensors:
                raise CheckpointError(f"{tensor.source}: {tensor.dtype} with a zero point is not known")
            plain[name] = _rescaled(tensor, tensors[f"{name}_scale"], dtype)
    rest = tensors.keys() - used
    return plain | {name: tensors[name] for name in rest if not ACTIVATION_SCALES.search(name)}


def _rescaled(weight: LazyTensor, scale: LazyTensor, dtype: torch.dtype) -> LazyTensor:
    """e4m3 times its scale: one for all, one per output, or one per block of outputs and inputs."""
    fits = len(scale.shape) == len(weight.shape) and all(
        of and not size % of for of, size in zip(scale.shape, weight.shape, strict=True)
    )
    if scale.numel != 1 and not fits and scale.shape != weight.shape[:1]:
        raise CheckpointError(
            f"{scale.source} has shape {scale.shape}, which divides no {weight.shape} of {weight.source}"
        )

    def read(row: int | None) -> Tensor:
        values, scales = weight.read(row).float(), scale.read(None).float()
        if scale.numel == 1:
            return (values * scales.reshape(())).to(dtype)
        if len(scale.shape) < len(weight.shape):
            scales = scales.reshape(-1, *[1] * (len(weight.shape) - 1))
        if row is not None:
            scales = scales[row * scales.shape[0] // weight.shape[0]]
        for dim, size in enumerate(values.shape):
            if scales.shape[dim] not in (1, size):
                scales = scales.repeat_interleave(size // scales.shape[dim], dim)
        return (values * scales).to(dtype)

    return LazyTensor(weight.shape, dtype, read, weight.source)


def _unpacked(stem: str, tensors: WeightMap, dtype: torch.dtype) -> LazyTensor:
    packed = tensors[f"{stem}_packed"]
    if f"{stem}_g_idx" in tensors:
        raise CheckpointError(
            f"{packed.source}: groups in another order than the inputs are not known ({stem}_g_idx)"
        )
    scale, zero_point = tensors.get(f"{stem}_scale"), tensors.get(f"{stem}_zero_point")
    if scale is None or len(packed.shape) != 2 or packed.dtype != torch.int32:
        raise CheckpointError(
            f"{packed.source}: expected int32 [out, words] and {stem}_scale, found {packed.dtype} {packed.shape}"
        )
    outs, words = packed.shape
    columns, bits = words * WORD_BITS // 4, 4
    if f"{stem}_shape" in tensors:
        shape = tuple(int(size) for size in tensors[f"{stem}_shape"].read(None))
        bits = words * WORD_BITS // max(shape[-1], 1)
        if len(shape) != 2 or shape[0] != outs or bits not in (4, 8):
            raise CheckpointError(
                f"{packed.source} has {packed.shape} words; for a weight of {shape} that is neither 4 nor 8 bits"
            )
        columns = shape[1]
    groups = scale.shape[1] if len(scale.shape) == 2 else 0
    if not groups or scale.shape[0] != outs or columns % groups:
        raise CheckpointError(f"{scale.source} has shape {scale.shape}, no groups of {(outs, columns)}")

    def read(row: int | None) -> Tensor:
        values = _unpacked_words(packed.read(None), bits)[:, :columns].float()
        if zero_point is not None:
            points = _unpacked_words(zero_point.read(None).T, bits).T[:outs]
            values -= points.repeat_interleave(columns // groups, 1)
        whole = (values * scale.read(None).float().repeat_interleave(columns // groups, 1)).to(dtype)
        return whole if row is None else whole[row]

    return LazyTensor((outs, columns), dtype, read, packed.source)


def _unpacked_words(words: Tensor, bits: int) -> Tensor:
    """int32 [rows, n] to signed integers [rows, n · 32 / bits], lowest bits first."""
    shifts = torch.arange(0, WORD_BITS, bits, dtype=torch.int32)
    values: Tensor = (((words[..., None] >> shifts) & (2**bits - 1)) - 2 ** (bits - 1)).flatten(-2)
    return values


def fused_experts(tensors: WeightMap) -> dict[str, LazyTensor]:
    """Experts stored one by one, [out, in], as the fused [experts, in, out] of Llama 4's own layout."""
    fused: dict[str, LazyTensor] = {}
    parts: dict[str, dict[tuple[int, str], LazyTensor]] = {}
    for name, tensor in tensors.items():
        if match := EXPERT.fullmatch(name):
            parts.setdefault(match[1], {})[int(match[2]), match[3]] = tensor
        else:
            fused[name] = tensor
    for stem, experts in parts.items():
        count = 1 + max(expert for expert, _ in experts)
        missing = [
            f"{stem}.{expert}.{kind}_proj.weight"
            for expert in range(count)
            for kind in ("gate", "up", "down")
            if (expert, kind) not in experts
        ]
        if missing:
            raise CheckpointError(
                f"{stem}: {len(missing)} of {3 * count} expert weights are missing, first {missing[0]}"
            )
        fused[f"{stem}.gate_up_proj"] = _stacked(
            [[experts[expert, "gate"], experts[expert, "up"]] for expert in range(count)]
        )
        fused[f"{stem}.down_proj"] = _stacked([[experts[expert, "down"]] for expert in range(count)])
    return fused


def _stacked(rows: list[list[LazyTensor]]) -> LazyTensor:
    """Experts from lists of [out, in] whose outputs stand side by side."""
    first = rows[0][0]
    outs = sum(part.shape[0] for part in rows[0])
    for part in _flat(rows):
        if part.shape[1:] != first.shape[1:] or part.dtype != first.dtype:
            raise CheckpointError(
                f"{part.source} is {part.dtype} {part.shape}, its neighbours are {first.dtype} {first.shape}"
            )

    def expert(row: int) -> Tensor:
        return torch.cat([part.read(None) for part in rows[row]]).T

    def read(row: int | None) -> Tensor:
        if row is not None:
            return expert(row).contiguous()
        whole = torch.empty(len(rows), first.shape[1], outs, dtype=first.dtype)
        for index in range(len(rows)):
            whole[index] = expert(index)
        return whole

    return LazyTensor((len(rows), first.shape[1], outs), first.dtype, read, first.source)


def _flat(rows: list[list[LazyTensor]]) -> Iterable[LazyTensor]:
    return (part for row in rows for part in row)
