"""The peer: llama.cpp through llama-cpp-python, given our weights as a GGUF file in the format that is raced.

Only its own work is timed: `llama_decode`, no sampling and no text. `pip install llama-cpp-python==0.3.36` compiles it
for this processor.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import torch
from torch import Tensor

from camelid.model import Llama4

__all__ = ["LlamaCpp"]

BF16, Q8_0, Q4_0 = (gguf.GGMLQuantizationType[name] for name in ("BF16", "Q8_0", "Q4_0"))
TYPES = {"bf16": BF16, "q8_0": Q8_0, "q4_0": Q4_0}
LAYER_NAMES = {
    "input_layernorm.weight": "attn_norm",
    "self_attn.q_proj.weight": "attn_q",
    "self_attn.k_proj.weight": "attn_k",
    "self_attn.v_proj.weight": "attn_v",
    "self_attn.o_proj.weight": "attn_output",
    "post_attention_layernorm.weight": "ffn_norm",
    "feed_forward.router.weight": "ffn_gate_inp",
    "feed_forward.shared_expert.gate_proj.weight": "ffn_gate_shexp",
    "feed_forward.shared_expert.up_proj.weight": "ffn_up_shexp",
    "feed_forward.shared_expert.down_proj.weight": "ffn_down_shexp",
    "feed_forward.gate_proj.weight": "ffn_gate",
    "feed_forward.up_proj.weight": "ffn_up",
    "feed_forward.down_proj.weight": "ffn_down",
}


def tensors(model: Llama4) -> Iterator[tuple[str, Tensor]]:
    """Names of llama.cpp; experts split into gate, up and down, [experts, out, in]."""
    for name, weight in model.state_dict().items():
        if name.endswith("embed_tokens.weight"):
            yield "token_embd.weight", weight
        elif name.endswith("lm_head.weight"):
            yield "output.weight", weight
        elif name.endswith("model.norm.weight"):
            yield "output_norm.weight", weight
        else:
            layer, _, rest = name.partition("layers.")[2].partition(".")
            if rest == "feed_forward.experts.gate_up_proj":
                gate, up = weight.transpose(1, 2).chunk(2, 1)
                yield f"blk.{layer}.ffn_gate_exps.weight", gate
                yield f"blk.{layer}.ffn_up_exps.weight", up
            elif rest == "feed_forward.experts.down_proj":
                yield f"blk.{layer}.ffn_down_exps.weight", weight.transpose(1, 2)
            else:
                yield f"blk.{layer}.{LAYER_NAMES[rest]}.weight", weight


def write_gguf(model: Llama4, path: Path, kind: str) -> None:
    """All matrices in one format; norms and routers in fp32, as llama.cpp keeps them."""
    text = model.config.text
    writer = gguf.GGUFWriter(path, "llama4")
    writer.add_context_length(text.max_position_embeddings)
    writer.add_embedding_length(text.hidden_size)
    writer.add_block_count(text.num_hidden_layers)
    writer.add_feed_forward_length(text.intermediate_size_mlp)
    writer.add_head_count(text.num_attention_heads)
    writer.add_head_count_kv(text.num_key_value_heads)
    writer.add_key_length(text.head_dim)
    writer.add_value_length(text.head_dim)
    writer.add_rope_dimension_count(text.head_dim)
    writer.add_layer_norm_rms_eps(text.rms_norm_eps)
    writer.add_rope_freq_base(text.rope_theta)
    writer.add_vocab_size(text.vocab_size)
    writer.add_expert_count(text.num_local_experts)
    writer.add_expert_used_count(text.num_experts_per_tok)
    writer.add_expert_feed_forward_length(text.intermediate_size)
    writer.add_interleave_moe_layer_step(text.num_hidden_layers // len(text.moe_layers))
    writer.add_tokenizer_model("none")
    for name, weight in tensors(model):
        is_small = weight.dim() == 1 or "gate_inp" in name
        kind_of = gguf.GGMLQuantizationType.F32 if is_small else TYPES[kind]
        data = gguf.quants.quantize(weight.float().contiguous().numpy(), kind_of)
        writer.add_tensor(name, data, raw_dtype=kind_of)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class LlamaCpp:
    """One context with room for several sequences. Token ids come from us; logits are read, nothing is sampled."""

    def __init__(self, model: Llama4, kind: str, *, num_sequences: int = 1, context: int = 4096) -> None:
        self.vocab_size = model.config.text.vocab_size
        llama_cpp.llama_log_set(_SILENCE, None)
        llama_cpp.llama_backend_init()
        with tempfile.TemporaryDirectory() as folder:
            write_gguf(model, path := Path(folder, "model.gguf"), kind)
            params = llama_cpp.llama_model_default_params()
            params.use_mmap = False
            self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        context_params = llama_cpp.llama_context_default_params()
        context_params.n_ctx, context_params.n_batch = context * num_sequences, 2048
        context_params.n_seq_max = num_sequences
        context_params.n_threads = context_params.n_threads_batch = torch.get_num_threads()
        context_params.kv_unified = True
        self._context = llama_cpp.llama_init_from_model(self._model, context_params)
        assert self._context, "llama.cpp refuses the model"
        self._batch = llama_cpp.llama_batch_init(2048, 0, num_sequences)
        self.clear()

    def clear(self) -> None:
        """Forgets all sequences."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)

    def forget(self, sequence: int) -> None:
        """Forgets one."""
        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(self._context), sequence, -1, -1)

    def decode(self, rows: Sequence[tuple[int, int, int, bool]]) -> None:
        """New tokens as (token id, position, sequence, whether its logits are wanted), at most 2,048."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for index, (token_id, position, sequence, is_wanted) in enumerate(rows):
            batch.token[index], batch.pos[index] = token_id, position
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
            batch.logits[index] = is_wanted
        status = llama_cpp.llama_decode(self._context, batch)
        assert status == 0, status

    def logits(self, row: int = -1) -> np.ndarray:
        """[vocab] of a row whose logits were wanted."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, (self.vocab_size,))


@llama_cpp.llama_log_callback
def _SILENCE(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    return None
