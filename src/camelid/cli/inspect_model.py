"""`camelid inspect`: what is in a model's folder, from its headers alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from camelid.checkpoint import StoredModel, open_model, weights_digest
from camelid.core.errors import CheckpointError
from camelid.model import Llama4Config, active_parameters, total_parameters
from camelid.model.counting import kv_cache_values

__all__ = ["cost_table", "inspect_model"]

CONTEXTS = (131_072, 1_048_576, 10_485_760)  # those of them that a model has, and its longest
# Bits of a weight, its share of a scale per 128 weights included where the format has one.
WIDTHS = {"bf16": 16.0, "fp8": 8.0, "int8": 8.125, "int4": 4.125}
KV_BYTES = 2  # bf16
GIGA = 1e9


def inspect_model(where: str, console: Console) -> None:
    """Prints what a folder, a GGUF file, or a repository of the Hugging Face Hub such as `org/name`, holds."""
    path = Path(where)
    if path.exists():
        model = open_model(path)
    elif where.count("/") == 1 and not where.startswith("."):
        # The Hub's client takes a tenth of a second to import, for which folders need not wait.
        from camelid.checkpoint.hub_layout import open_hub_model

        model = open_hub_model(where)
    else:
        raise CheckpointError(f"{where}: neither a folder nor a GGUF file nor a repository such as org/name")
    config = model.config
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column()
    for name, value in (
        ("model", model.origin),
        ("parameters", _parameters(config)),
        ("stored as", _stored_as(model)),
        ("attention", _attention_plan(config)),
        ("feed-forward", _ffn_plan(config)),
        ("experts", _experts(config)),
        ("vision", _vision(config)),
        ("context", f"{config.text.max_position_embeddings:,} tokens promised"),
        ("digest", weights_digest(model, path)),
    ):
        facts.add_row(name, value)
    console.print(facts)
    console.print(cost_table(config))


def _parameters(config: Llama4Config) -> str:
    return f"{total_parameters(config):,} in all, {active_parameters(config):,} active per text token"


def _stored_as(model: StoredModel) -> str:
    sizes: Counter[torch.dtype] = Counter()
    for tensor in model.tensors.values():
        sizes[tensor.dtype] += tensor.nbytes
    kinds = ", ".join(
        f"{str(dtype).removeprefix('torch.')} {size / GIGA:,.2f} GB" for dtype, size in sizes.items()
    )
    return f"{len(model.tensors)} tensors: {kinds}"


def _attention_plan(config: Llama4Config) -> Text:
    text = config.text
    plan = Text()
    for kind in text.layer_types:
        plan.append("▂" if kind == "chunked" else "█", style="cyan" if kind == "chunked" else "yellow")
    num_global = text.layer_types.count("global")
    plan.append(
        f"  {text.num_hidden_layers - num_global} chunked by {text.attention_chunk_size:,} with RoPE (▂), "
        f"{num_global} global without positions (█)"
    )
    return plan


def _ffn_plan(config: Llama4Config) -> Text:
    text = config.text
    plan = Text()
    for layer in range(text.num_hidden_layers):
        is_moe = layer in text.moe_layers
        plan.append("●" if is_moe else "○", style="magenta" if is_moe else "dim")
    dense = text.num_hidden_layers - len(text.moe_layers)
    plan.append(f"  {len(text.moe_layers)} with experts (●), {dense} dense (○)")
    return plan


def _experts(config: Llama4Config) -> str:
    text = config.text
    if not text.moe_layers:
        return f"none; dense layers are {text.intermediate_size_mlp:,} wide"
    return (
        f"{text.num_local_experts} routed, {text.num_experts_per_tok} per token, and a shared one, "
        f"{text.intermediate_size:,} wide"
    )


def _vision(config: Llama4Config) -> str:
    vision = config.vision
    if vision is None:
        return "none"
    return (
        f"{vision.num_hidden_layers} layers of {vision.hidden_size:,}; tiles of {vision.image_size} pixels, "
        f"{vision.patch_tokens_per_tile} tokens each, at most {vision.max_tiles} and the global one"
    )


def cost_table(config: Llama4Config) -> Table:
    """Gigabytes: weights by width, and with the cache of each context beside them."""
    table = Table(
        title="memory in GB: weights, and with the bf16 cache of one sequence", title_justify="left"
    )
    longest = config.text.max_position_embeddings
    contexts = [*(tokens for tokens in CONTEXTS if tokens < longest), longest]
    table.add_column("weights as")
    table.add_column("alone", justify="right")
    caches = [kv_cache_values(config, tokens) * KV_BYTES for tokens in contexts]
    for tokens in contexts:
        table.add_column(f"+ {_spoken(tokens)} tokens", justify="right")
    for name, bits in WIDTHS.items():
        weights = total_parameters(config) * bits / 8
        table.add_row(name, _gb(weights), *(_gb(weights + cache) for cache in caches))
    table.add_row("cache", "", *(_gb(cache) for cache in caches), end_section=True)
    table.caption = _growth(config)
    return table


def _growth(config: Llama4Config) -> str:
    """By how much a token lengthens the cache: chunked layers keep no more than a chunk."""
    chunk_size = config.text.attention_chunk_size
    at_first = kv_cache_values(config, 1) * KV_BYTES
    beyond = (kv_cache_values(config, chunk_size + 1) - kv_cache_values(config, chunk_size)) * KV_BYTES
    per_token = f"{at_first:,} bytes of cache per token"
    if chunk_size >= config.text.max_position_embeddings or beyond == at_first:
        return per_token
    return f"{per_token} up to a chunk of {chunk_size:,}, {f'{beyond:,}' if beyond else 'none'} beyond it"


def _spoken(tokens: int) -> str:
    if tokens % 2**20 == 0:
        return f"{tokens >> 20}M"
    return f"{tokens >> 10}K" if tokens % 2**10 == 0 else f"{tokens:,}"


def _gb(size: float) -> str:
    return f"{size / GIGA:,.1f}" if size >= GIGA / 10 else f"{size / GIGA:.3f}"
