"""What a config costs: parameters, those that one token meets, and the cache of a context."""

from __future__ import annotations

from camelid.model.config import Llama4Config, TextConfig, VisionConfig

__all__ = ["active_parameters", "expert_parameters", "kv_cache_values", "total_parameters"]


def total_parameters(config: Llama4Config) -> int:
    """Every weight of the model, vision encoder and projector included."""
    text = _text_parameters(config.text, config.text.num_local_experts)
    if config.vision is None:
        return text
    return text + _vision_parameters(config.vision) + config.vision.projector_dim * config.text.hidden_size


def active_parameters(config: Llama4Config) -> int:
    """Weights that a text token meets, with embedding and head in full: so Meta counts "17B active"."""
    return _text_parameters(config.text, config.text.num_experts_per_tok)


def expert_parameters(config: Llama4Config) -> int:
    """Weights of one routed expert in one layer."""
    return 3 * config.text.hidden_size * config.text.intermediate_size


def kv_cache_values(config: Llama4Config, num_tokens: int) -> int:
    """Numbers that the cache holds for a context: all of it in global layers, at most a chunk in chunked ones."""
    text = config.text
    per_token = 2 * text.num_key_value_heads * text.head_dim
    num_global = sum(kind == "global" for kind in text.layer_types)
    in_chunk = min(num_tokens, text.attention_chunk_size)
    return per_token * (num_global * num_tokens + (text.num_hidden_layers - num_global) * in_chunk)


def _text_parameters(config: TextConfig, experts_per_layer: int) -> int:
    width = config.hidden_size
    query_width = config.num_attention_heads * config.head_dim
    kv_width = config.num_key_value_heads * config.head_dim
    attention = 2 * width * (query_width + kv_width)
    norms = 2 * width
    dense = 3 * width * config.intermediate_size_mlp
    experts_and_shared = (experts_per_layer + 1) * 3 * width * config.intermediate_size
    moe = experts_and_shared + config.num_local_experts * width  # the router looks at all experts
    num_moe = len(set(config.moe_layers))
    layers = config.num_hidden_layers * (attention + norms)
    layers += num_moe * moe + (config.num_hidden_layers - num_moe) * dense
    num_vocab_matrices = 1 if config.tie_word_embeddings else 2
    return num_vocab_matrices * config.vocab_size * width + layers + width


def _vision_parameters(config: VisionConfig) -> int:
    width, ffn = config.hidden_size, config.intermediate_size
    attention = 4 * (width * width + width)
    mlp = 2 * width * ffn + ffn + width
    norm = 2 * width
    patch_embedding = 3 * config.patch_size**2 * width
    positions = (config.patches_per_side**2 + 1) * width
    class_token = width
    adapter = config.projector_dim * (4 * width + config.projector_dim)
    layers = config.num_hidden_layers * (attention + mlp + 2 * norm)
    return patch_embedding + class_token + positions + 2 * norm + layers + adapter
