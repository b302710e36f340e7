"""Names and bytes of weights on disk.

In: models and folders. Out: folders and models. Must not know: training loops.
"""

from camelid.checkpoint.any_layout import (
    is_gguf,
    is_model_dir,
    load_model,
    open_model,
    save_dense_model,
    save_model,
)
from camelid.checkpoint.hf_config import load_config, model_files
from camelid.checkpoint.hf_layout import digested_bytes, verify_digests, weights_digest, write_hf
from camelid.checkpoint.meta_writer import write_meta
from camelid.checkpoint.stored_model import StoredModel
from camelid.checkpoint.streaming import StreamPlan, load_within

__all__ = [
    "StoredModel",
    "StreamPlan",
    "digested_bytes",
    "is_gguf",
    "is_model_dir",
    "load_config",
    "load_model",
    "load_within",
    "model_files",
    "open_model",
    "save_dense_model",
    "save_model",
    "verify_digests",
    "weights_digest",
    "write_hf",
    "write_meta",
]
