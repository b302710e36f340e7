"""What a rank of Meta's checkpoints holds, and how ranks join: one table, read in both directions.

Source: the load hooks of Meta's reference (`llama_models.llama4`, `llama_models.checkpoint`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from camelid.core.errors import CheckpointError
from camelid.model import Llama4, Llama4Config

__all__ = ["ALSO_CALLED", "EXPERT_KEYS", "Part", "local_shape", "meta_table", "parameter_shapes"]

EXPERT_KEYS = {"moe_w_in_eD_F": "w1", "moe_w_swiglu_eD_F": "w3", "moe_w_out_eF_D": "w2"}
# Names of the same tensor in other files of Meta's.
ALSO_CALLED = {
    "attention.wqkv.layer_norm_weight": "attention_norm.weight",
    "feed_forward.norm.weight": "ffn_norm.weight",
    "feed_forward.mlp.layer_norm_weight": "ffn_norm.weight",
}


@dataclass(frozen=True)
class Part:
    """A tensor of ours in a rank's file. Ranks join along `dim` of ours; None: every rank has all of it.

    Dimensions of experts count from the last, so that they fit one expert alone as well.
    """

    name: str
    dim: int | None
    half: int | None = None
    """0 or 1: only the gate or the up half of our last dimension."""
    transposed: bool = False

    def local(self, ours: Tensor, ranks: int, rank: int) -> Tensor:
        """What one rank stores of a tensor, or of one expert; two-dimensional where ours has experts in front."""
        if self.half is not None:
            ours = ours.chunk(2, -1)[self.half]
        if self.dim is not None:
            ours = ours.chunk(ranks, self.dim)[rank]
        ours = ours.T if self.transposed else ours
        return ours.flatten(0, 1) if ours.ndim == 3 else ours


Table = dict[str, tuple[Part, ...]]


def meta_table(config: Llama4Config) -> Table:
    """What stands under each of Meta's names: parts of ours, one below the other."""
    decoder = "language_model.model"
    entries: Table = {}
    entries["tok_embeddings.weight"] = (Part(f"{decoder}.embed_tokens.weight", 0),)
    entries["norm.weight"] = (Part(f"{decoder}.norm.weight", None),)
    entries["output.weight"] = (Part("language_model.lm_head.weight", 0),)
    for layer in range(config.text.num_hidden_layers):
        theirs, ours = f"layers.{layer}", f"{decoder}.layers.{layer}"
        attention, ffn = f"{ours}.self_attn", f"{ours}.feed_forward"
        is_moe = layer in config.text.moe_layers
        norm = "feed_forward.norm.weight" if is_moe else "feed_forward.mlp.layer_norm_weight"
        entries[f"{theirs}.attention.wqkv.layer_norm_weight"] = (
            Part(f"{ours}.input_layernorm.weight", None),
        )
        entries[f"{theirs}.{norm}"] = (Part(f"{ours}.post_attention_layernorm.weight", None),)
        entries[f"{theirs}.attention.wqkv.weight"] = tuple(
            Part(f"{attention}.{n}_proj.weight", 0) for n in "qkv"
        )
        entries[f"{theirs}.attention.wo.weight"] = (Part(f"{attention}.o_proj.weight", 1),)
        theirs += ".feed_forward"
        if is_moe:
            gate_up, shared = f"{ffn}.experts.gate_up_proj", f"{ffn}.shared_expert"
            entries[f"{theirs}.router_DE"] = (Part(f"{ffn}.router.weight", None, transposed=True),)
            entries[f"{theirs}.experts.moe_w_in_eD_F"] = (Part(gate_up, -1, half=0),)
            entries[f"{theirs}.experts.moe_w_swiglu_eD_F"] = (Part(gate_up, -1, half=1),)
            entries[f"{theirs}.experts.moe_w_out_eF_D"] = (Part(f"{ffn}.experts.down_proj", -2),)
            entries[f"{theirs}.w_in_shared_FD.weight"] = (Part(f"{shared}.gate_proj.weight", 0),)
            entries[f"{theirs}.w_swiglu_FD.weight"] = (Part(f"{shared}.up_proj.weight", 0),)
            entries[f"{theirs}.w_out_shared_DF.weight"] = (Part(f"{shared}.down_proj.weight", 1),)
        else:
            entries[f"{theirs}.mlp.fc1_weight"] = tuple(
                Part(f"{ffn}.{n}_proj.weight", 0) for n in ("gate", "up")
            )
            entries[f"{theirs}.mlp.fc2_weight"] = (Part(f"{ffn}.down_proj.weight", 1),)
    return entries | (_vision_table(config.vision.num_hidden_layers) if config.vision is not None else {})


def _vision_table(num_layers: int) -> Table:
    theirs, ours = "vision_embeddings.vision_encoder", "vision_model"
    entries: Table = {f"{theirs}.conv1._linear.weight": (Part(f"{ours}.patch_embedding.linear.weight", 0),)}
    for name in ("class_embedding", "positional_embedding_vlm"):
        entries[f"{theirs}.{name}"] = (Part(f"{ours}.{name}", None),)
    norms = {f"{theirs}.ln_{end}": f"{ours}.layernorm_{end}" for end in ("pre", "post")}
    for layer in range(num_layers):
        block, mine = f"{theirs}.transformer.resblocks.{layer}", f"{ours}.model.layers.{layer}"
        norms |= {
            f"{block}.ln_1": f"{mine}.input_layernorm",
            f"{block}.ln_2": f"{mine}.post_attention_layernorm",
        }
        columns = {f"{block}.attn.w{name}": f"{mine}.self_attn.{name}_proj" for name in "qkv"}
        for a, b in (columns | {f"{block}.mlp.c_fc": f"{mine}.mlp.fc1"}).items():
            entries[f"{a}.weight"], entries[f"{a}.bias"] = (Part(f"{b}.weight", 0),), (Part(f"{b}.bias", 0),)
        rows = {f"{block}.attn.wo": f"{mine}.self_attn.o_proj", f"{block}.mlp.c_proj": f"{mine}.mlp.fc2"}
        for a, b in rows.items():
            entries[f"{a}.weight"], entries[f"{a}.bias"] = (
                (Part(f"{b}.weight", 1),),
                (Part(f"{b}.bias", None),),
            )
    for a, b in norms.items():
        entries |= {f"{a}.{kind}": (Part(f"{b}.{kind}", None),) for kind in ("weight", "bias")}
    adapter = "vision_embeddings.vision_adapter.mlp"
    entries[f"{adapter}.c_fc.weight"] = (Part(f"{ours}.vision_adapter.mlp.fc1.weight", 0),)
    entries[f"{adapter}.c_proj.weight"] = (Part(f"{ours}.vision_adapter.mlp.fc2.weight", 1),)
    entries["vision_projection.weight"] = (Part("multi_modal_projector.linear_1.weight", 0),)
    return entries


def parameter_shapes(config: Llama4Config) -> dict[str, tuple[int, ...]]:
    """Of every parameter, in the model's order."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in Llama4(config).state_dict().items()}


def local_shape(part: Part, shape: tuple[int, ...], ranks: int) -> tuple[int, ...]:
    """What one of `ranks` ranks stores of a tensor of ours; CheckpointError where they cannot share it evenly."""
    if part.dim is not None and shape[part.dim] % ranks:
        raise CheckpointError(
            f"{part.name}: {shape[part.dim]} in dimension {part.dim} do not divide by {ranks} ranks"
        )
    return tuple(part.local(torch.empty(shape, device="meta"), ranks, 0).shape)
