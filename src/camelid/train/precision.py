"""In how many bits a training step multiplies; weights, gradients and optimizer state are fp32 either way."""

from __future__ import annotations

from typing import Literal

import torch

__all__ = ["Precision", "autocast_dtype"]

Precision = Literal["auto", "bf16", "fp32"]


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The dtype of a step's matrix products, or None for fp32.

    `auto` is bf16 where it is fast: on accelerators, and on processors with instructions for it. Others emulate it,
    and a step takes several times as long as in fp32.
    """
    if precision == "auto":
        known = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        has_bf16 = device.type != "cpu" or any(
            known.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16")
        )
        precision = "bf16" if has_bf16 else "fp32"
    return torch.bfloat16 if precision == "bf16" else None
