"""`camelid convert`: a model from one layout to another, a tensor at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from camelid.checkpoint import digested_bytes, is_gguf, open_model, verify_digests, write_hf, write_meta
from camelid.checkpoint.chat_files import chat_files
from camelid.checkpoint.train_state import refuse_selection_bias
from camelid.core.errors import CheckpointError
from camelid.core.files import write_bytes_atomically
from camelid.ops.quantization import Bits

__all__ = ["Dtype", "Layout", "convert"]

Layout = Literal["hf", "meta"]
Dtype = Literal["keep", "bf16", "fp16", "fp32"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# What stands beside weights and belongs to the model in any layout.
SIDE_FILES = (
    "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
    "chat_template.json", "generation_config.json", "processor_config.json", "LICENSE", "LICENSE.txt", "USE_POLICY.md",
)  # fmt: skip


def convert(
    source: Path,
    destination: Path,
    layout: Layout,
    dtype: Dtype = "keep",
    max_shard_bytes: int = 5_000_000_000,
    model_parallel: int = 1,
    bits: Bits | None = None,
) -> None:
    """Reads and checks the source, a folder or a GGUF file, writes the destination and says how large it is.

    CheckpointError as `open_model`, for a destination that holds files, for a dense model in Meta's layout, and for
    a checkpoint whose routers still need a bias.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise CheckpointError(f"{destination} is there already and not empty: nothing is overwritten")
    refuse_selection_bias(source)
    console = Console(stderr=True)
    model = open_model(source)
    if dtype != "keep":
        model = model.to(DTYPES[dtype])
    is_dense = model.config.vision is None and model.config.text.is_dense_ancestor
    if is_dense and layout == "meta":
        raise CheckpointError(f"{source} is a dense ancestor: Meta's layout of Llama 4 has no place for it")
    inside = chat_files(source, model.config) if is_gguf(source) else {}
    columns = (
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        checking = progress.add_task("checking digests", total=digested_bytes(source))
        num_checked = verify_digests(source, lambda count: progress.advance(checking, count))
        progress.update(checking, visible=bool(num_checked))
        writing = progress.add_task("writing", total=model.nbytes)

        def advance(count: int) -> None:
            progress.advance(writing, count)

        if layout == "hf":
            write_hf(
                model,
                destination,
                max_shard_bytes=max_shard_bytes,
                progress=advance,
                dense=is_dense,
                bits=bits,
            )
        else:
            write_meta(model, destination, ranks=model_parallel, progress=advance)
    for name, content in inside.items():
        write_bytes_atomically(destination / name, content.encode() if isinstance(content, str) else content)
    for name in SIDE_FILES:
        if (source / name).is_file():
            write_bytes_atomically(destination / name, (source / name).read_bytes())
    files = [path for path in destination.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    was = f" ({size / model.nbytes:.0%} of what it was)" if bits else ""
    console.print(f"{destination}: {len(model.tensors)} tensors in {len(files)} files, {size:,} bytes{was}")
