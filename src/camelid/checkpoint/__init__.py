"""Names and bytes of weights on disk.

In: models and folders. Out: folders and models. Must not know: training loops.
"""

from camelid.checkpoint.any_model import chat_files, is_gguf, load_any, load_chat_format
from camelid.checkpoint.hf_layout import (
    is_model_dir,
    load_config,
    load_model,
    model_files,
    save_dense_model,
    save_model,
)

__all__ = [
    "chat_files",
    "is_gguf",
    "is_model_dir",
    "load_any",
    "load_chat_format",
    "load_config",
    "load_model",
    "model_files",
    "save_dense_model",
    "save_model",
]
