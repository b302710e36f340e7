"""Hyper-parameters that transfer: muP and CompleteP, standing in for MetaP.

Meta says of MetaP that learning rates and initial scales per layer carry over to other widths, depths, batches and
token counts; its form is unpublished. Here numbers found at a base size are multiplied, parameter by parameter:
muP for width (2203.03466; 2508.09752 for routers and experts), CompleteP for depth (2505.01618), √batch for AdamW's
noise (2205.10287) and tokens^-0.32 for longer runs (2409.19913). The model has no multipliers of its own, so those
of the papers' forward passes are moved into initial scales and rates, which is the same to an optimizer that does
not care for a gradient's size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from camelid.core import Config
from camelid.core.errors import ConfigError
from camelid.model import Llama4, Llama4Config
from camelid.train.muon import num_maps

__all__ = ["MetaPConfig", "Multipliers", "init_scales", "multipliers", "run_multiplier"]

TOKENS_EXPONENT = -0.32
RESIDUAL_WRITER = re.compile(r"layers\.\d+\..*(o_proj|down_proj|fc2)(\.weight)?$")
NO_MULTIPLIER = ("embed_tokens", "norm", "bias")  # as large at every width: inputs, gains, offsets
VECTORS = ("class_embedding", "positional_embedding_vlm")


@dataclass(frozen=True)
class MetaPConfig(Config):
    """Numbers of the optimizer are meant for a model of the shape `base`; `batch` and `tokens` are what a run has
    of them as multiples of what the base's run had. Layer plan, experts and vocabulary may differ from the base's.
    """

    base: Llama4Config
    batch: float = 1.0
    tokens: float = 1.0

    def __post_init__(self) -> None:
        if self.batch <= 0 or self.tokens <= 0:
            raise ConfigError(f"batch {self.batch} and tokens {self.tokens} must be positive multiples")


@dataclass(frozen=True)
class Multipliers:
    """Of one parameter: its initial scale, and its rate under AdamW and under Muon."""

    init: float = 1.0
    adamw: float = 1.0
    muon: float = 1.0


def run_multiplier(config: MetaPConfig) -> float:
    """Of all rates, for a run of another batch and another number of tokens."""
    return float(config.batch**0.5 * config.tokens**TOKENS_EXPONENT)


def init_scales(target: Llama4Config, config: MetaPConfig | None) -> dict[str, float]:
    """What `init_weights` takes: each parameter's initial scale over its own rule; empty without a config."""
    return {} if config is None else {name: m.init for name, m in multipliers(target, config).items()}


def multipliers(target: Llama4Config, config: MetaPConfig) -> dict[str, Multipliers]:
    """Of every parameter, by name; all are 1 at the base's own size.

    With r = fan_in / the base's: a matrix between hidden features has a rate of 1/r (AdamW). Muon's updates are as
    large as AdamW's per number but of full rank, so their norm grows as √max(in, out) only; what it should grow
    as is √(out/in), and the quotient is the rate, 1/√r when all widths grow alike. Head and routers read out to
    a number of outputs that does not grow: rate 1/r, initial scale r^-1/2 below the rule of `init_weights`.
    With d = layers / the base's, what writes into the residual stream has a rate of 1/d, and an initial scale that
    `init_weights` divides by √d already and this by another √d. Attention divides by √head_dim where muP
    divides by head_dim; queries make up for it (QK norm undoes that, so equal head_dims are better).

    ConfigError for a tied embedding, which is an input and a head at once, and for a base without the vision
    encoder that the target has.
    """
    base = config.base
    if target.text.tie_word_embeddings:
        raise ConfigError("a tied embedding is input and head at once: no rate transfers to another width")
    with torch.device("meta"):
        shapes = {name: tuple(p.shape) for name, p in Llama4(target).named_parameters()}
        base_shapes = {
            name: tuple(p.shape) for name, p in Llama4(_as_wide_as(base, target)).named_parameters()
        }
    text_depth = target.text.num_hidden_layers / base.text.num_hidden_layers
    text_head = base.text.head_dim / target.text.head_dim
    vision_depth = vision_head = 1.0
    if target.vision is not None and base.vision is not None:
        vision_depth = target.vision.num_hidden_layers / base.vision.num_hidden_layers
        vision_head = base.vision.head_dim / target.vision.head_dim
    return {
        name: _of_parameter(name, shape, base_shapes[name], vision_depth, vision_head)
        if name.startswith("vision_model")
        else _of_parameter(name, shape, base_shapes[name], text_depth, text_head)
        for name, shape in shapes.items()
    }


def _of_parameter(
    name: str, shape: tuple[int, ...], base_shape: tuple[int, ...], depth: float, head: float
) -> Multipliers:
    queries = head**0.5 if "q_proj" in name else 1.0
    if any(part in name for part in NO_MULTIPLIER):
        return Multipliers(1.0, queries, queries)
    if name.endswith(VECTORS):
        return Multipliers(init=(shape[-1] / base_shape[-1]) ** 0.5)
    ratio = _fans(shape)[0] / _fans(base_shape)[0]
    if name.endswith("lm_head.weight"):
        return Multipliers(ratio**-0.5, 1 / ratio, 1 / ratio)
    if name.endswith("router.weight"):
        # Its initial scale falls with √layer; a layer of the target stands for the one at its share of the depth.
        return Multipliers((depth / ratio) ** 0.5, 1 / ratio, 1 / ratio)
    muon = _muon_norm(name, base_shape) / _muon_norm(name, shape)
    if RESIDUAL_WRITER.search(name):
        return Multipliers(depth**-0.5, 1 / (ratio * depth), muon / depth)
    return Multipliers(queries, queries / ratio, queries * muon)


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Inputs and outputs: experts are stored [experts, in, out], everything else [out, in]."""
    return (shape[-2], shape[-1]) if len(shape) == 3 else (shape[-1], shape[-2])


def _muon_norm(name: str, shape: tuple[int, ...]) -> float:
    """An update's spectral norm over what it should be, but for a constant."""
    fan_in, fan_out = _fans((*shape[:-1], shape[-1] // num_maps(name)))
    return float((max(fan_in, fan_out) * fan_in / fan_out) ** 0.5)


def _as_wide_as(base: Llama4Config, target: Llama4Config) -> Llama4Config:
    """The target with the base's widths: the same parameters by name, in other shapes."""
    text = target.text.replace(
        hidden_size=base.text.hidden_size,
        num_attention_heads=base.text.num_attention_heads,
        num_key_value_heads=base.text.num_key_value_heads,
        head_dim=base.text.head_dim,
        intermediate_size=base.text.intermediate_size,
        intermediate_size_mlp=base.text.intermediate_size_mlp,
    )
    vision = target.vision
    if vision is not None:
        if base.vision is None:
            raise ConfigError("the base has no vision encoder, the model has one: no rate to transfer to it")
        vision = vision.replace(
            hidden_size=base.vision.hidden_size,
            num_attention_heads=base.vision.num_attention_heads,
            projector_dim=base.vision.projector_dim,
        )
    return target.replace(text=text, vision=vision)
