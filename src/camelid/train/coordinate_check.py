"""The coordinate check: how large activations are after a few steps, at several widths of one model.

If rates and initial scales transfer, no coordinate grows or vanishes with the width (2203.03466, appendix D.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from camelid.core import Batch
from camelid.model import Llama4, Llama4Config, init_weights
from camelid.model.llama4 import DecoderLayer
from camelid.train.balance import BalanceConfig, Balancer
from camelid.train.metap import init_scales
from camelid.train.optimizer import OptimizerConfig, Optimizers
from camelid.train.step import train_step

__all__ = ["activation_sizes", "coordinate_check", "growth"]


@torch.no_grad()
def activation_sizes(model: Llama4, batch: Batch) -> dict[str, Tensor]:
    """Activations of one batch by site: what each layer adds to the stream, router logits, next-token logits."""
    sites: dict[str, Tensor] = {}
    with _recorded(model, sites):
        output = model(batch.token_ids, batch.document_lengths, batch.tiles, batch.patch_positions)
    for layer, routing in output.routers.items():
        sites[f"router {layer}"] = routing.logits
    sites["logits"] = model.logits(output.hidden).float()
    return sites


@contextmanager
def _recorded(model: Llama4, sites: dict[str, Tensor]) -> Iterator[None]:
    def record(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            out: Tensor = output[0] if isinstance(output, tuple) else output
            sites[name] = out.float()

        return hook

    handles = []
    for index, layer in enumerate(model.language_model.model.layers):
        assert isinstance(layer, DecoderLayer)
        handles.append(layer.self_attn.register_forward_hook(record(f"attention {index}")))
        handles.append(layer.feed_forward.register_forward_hook(record(f"feed-forward {index}")))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def coordinate_check(
    configs: Mapping[int, Llama4Config],
    optimizer: OptimizerConfig,
    batches: Sequence[Batch],
    *,
    seed: int = 0,
) -> dict[int, dict[str, float]]:
    """RMS change of every site by width, between fresh weights and one step on each batch, seen on the first batch."""
    changes: dict[int, dict[str, float]] = {}
    for width, config in configs.items():
        model = init_weights(Llama4(config), seed, init_scales(config, optimizer.metap))
        before = activation_sizes(model, batches[0])
        optimizers, balancer = Optimizers(model, optimizer), Balancer(BalanceConfig())
        for step, batch in enumerate(batches, start=1):
            train_step(
                model,
                [batch],
                optimizers,
                balancer,
                step=step,
                progress=0.0,
                lr_multiplier=1.0,
                precision="fp32",
            )
        after = activation_sizes(model, batches[0])
        changes[width] = {site: float((after[site] - x).square().mean().sqrt()) for site, x in before.items()}
    return changes


def growth(changes: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """By site the exponent p of its change ∝ width^p, fitted over all widths: 0 is what transfers."""
    widths = np.log([float(width) for width in changes])
    sites = next(iter(changes.values()))
    return {
        site: float(np.polyfit(widths, np.log([row[site] for row in changes.values()]), 1)[0])
        for site in sites
    }
