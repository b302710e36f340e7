"""A model of the Hugging Face Hub, known by its headers: no weight is downloaded."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError
from torch import Tensor

from camelid.checkpoint.hf_config import CONFIG, PREPROCESSOR
from camelid.checkpoint.hf_layout import stored_hf
from camelid.checkpoint.lazy_tensor import LazyTensor
from camelid.checkpoint.safetensors_file import DTYPES
from camelid.checkpoint.stored_model import StoredModel
from camelid.core.errors import CheckpointError

__all__ = ["open_hub_model"]


def open_hub_model(repository: str, api: HfApi | None = None) -> StoredModel:
    """Fetches config.json and the safetensors headers of `org/name`; reading a tensor of it is refused.

    CheckpointError for what does not exist, is gated, holds no safetensors, or cannot be reached.
    """
    api = api or HfApi()
    try:
        metadata = api.get_safetensors_metadata(repository)
        directory = Path(api.hf_hub_download(repository, CONFIG)).parent
        with suppress(EntryNotFoundError):
            api.hf_hub_download(repository, PREPROCESSOR)
    except Exception as error:  # its HTTP library changes with versions, and so do the errors
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{repository}: {reason or type(error).__name__}") from error
    tensors = {}
    for file, headers in metadata.files_metadata.items():
        for name, info in headers.tensors.items():
            source = f"{repository}/{file}: {name}"
            tensors[name] = LazyTensor(
                tuple(info.shape), DTYPES[info.dtype], partial(_refuse, source), source
            )
    return stored_hf(directory, tensors, repository).checked()


def _refuse(source: str, row: int | None) -> Tensor:
    raise CheckpointError(f"{source} was not downloaded; only headers were")
