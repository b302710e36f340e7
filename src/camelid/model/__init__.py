"""Llama 4 on one device.

In: token ids, tiles, document lengths, a cache. Out: hidden states, logits, routing.
Must not know: ranks, tokenizers, losses, HTTP.
"""

from camelid.model.config import Llama4Config, RopeScaling, TextConfig, VisionConfig
from camelid.model.counting import active_parameters, total_parameters
from camelid.model.init import init_weights
from camelid.model.kv_cache import KVCache
from camelid.model.llama4 import Llama4
from camelid.model.lora import LoraConfig, add_lora, lora_state, merged_state_dict
from camelid.model.output import ModelOutput, RouterOutput
from camelid.model.presets import PRESETS, preset

__all__ = [
    "PRESETS",
    "KVCache",
    "Llama4",
    "Llama4Config",
    "LoraConfig",
    "ModelOutput",
    "RopeScaling",
    "RouterOutput",
    "TextConfig",
    "VisionConfig",
    "active_parameters",
    "add_lora",
    "init_weights",
    "lora_state",
    "merged_state_dict",
    "preset",
    "total_parameters",
]
