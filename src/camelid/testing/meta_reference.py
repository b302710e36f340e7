"""Meta's own Llama 4 code (package llama-models), run on a CPU beside ours: a second opinion on every logit.

It needs the packages llama-models and fairscale. Its limits: a global layer every n-th, MoE every n-th, one
sequence, CUDA taken for granted (hence the stand-in below), vision in bf16 unless told otherwise, and no
gradients through the experts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal
from unittest import mock

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore

from camelid.checkpoint.meta_params import params_from_config
from camelid.checkpoint.meta_writer import meta_shard
from camelid.checkpoint.stored_model import stored
from camelid.core import ModelInput
from camelid.model import Llama4, RopeScaling
from camelid.model.config import irope_layer_types
from camelid.testing.tiny import tiny_model

__all__ = ["MetaReference", "tiny_model_for_meta"]


def tiny_model_for_meta(kind: Literal["scout", "maverick"], **text: Any) -> Llama4:
    """A seeing model in miniature within the limits of Meta's code: eight layers, a regular plan, its RoPE scaling."""
    limits: dict[str, Any] = {
        "head_dim": 12,
        "layer_types": irope_layer_types(8),
        "moe_layers": tuple(range(8)) if kind == "scout" else (1, 3, 5, 7),
        "rope_scaling": RopeScaling() if kind == "scout" else None,
    }
    return tiny_model(kind, vision=True, **limits | text)


class MetaReference:
    """Meta's `Transformer` with the weights of one of our models, fp32, on the CPU."""

    def __init__(self, model: Llama4, max_tokens: int = 256) -> None:
        with _on_cpu():
            from llama_models.llama4.args import ModelArgs
            from llama_models.llama4.model import Transformer

            args = ModelArgs(**params_from_config(model.config), max_batch_size=1, max_seq_len=max_tokens)
            self.model: nn.Module = Transformer(args).float().eval()
        loaded = self.model.load_state_dict(meta_shard(stored(model)), strict=True)
        assert not loaded.missing_keys and not loaded.unexpected_keys

    @torch.no_grad()
    def logits(self, item: ModelInput) -> Float[Tensor, "tokens vocab"]:
        """Of one whole sequence."""
        from llama_models.llama4.datatypes import MaskedEmbedding, TransformerInput

        embedding = None
        if item.tiles.shape[0]:
            mask = torch.zeros(1, len(item), 1, dtype=torch.bool)
            mask[0, item.patch_positions] = True
            embed = self.model.get_submodule("vision_embeddings")
            pixels = (item.tiles / 255 - 0.5) / 0.5
            reference = torch.zeros(1, len(item), 1)
            embedding = MaskedEmbedding(embed([[pixels]], mask, reference), mask)
        out = self.model(TransformerInput(item.token_ids[None], 0, embedding))
        logits: Tensor = out.logits[0]
        return logits


@contextlib.contextmanager
def _on_cpu() -> Iterator[None]:
    """One process as its own group, and `.cuda()` stays where it is."""
    from fairscale.nn.model_parallel import initialize as groups

    if not dist.is_initialized():
        dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    if not groups.model_parallel_is_initialized():
        groups.initialize_model_parallel(1)
    with mock.patch.object(Tensor, "cuda", lambda self: self):
        yield
