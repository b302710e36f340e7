"""Which model a command means: the one named, else the newest run's, else the one that ships."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from camelid.checkpoint import is_model_dir
from camelid.core import Message, MessageCompleter, SamplingParams
from camelid.core.errors import CheckpointError
from camelid.core.run_dir import RunDir
from camelid.infer import Generator

__all__ = ["RUN_ROOT", "SHIPPED_MODEL", "StreamingCompleter", "choose_model", "load_model"]

RUN_ROOT = Path("runs")
SHIPPED_MODEL = Path(str(files("camelid") / "starter" / "nano-scout"))


class StreamingCompleter(MessageCompleter, Protocol):
    """A completer that can also hand out its answer in pieces."""

    def stream(self, messages: Sequence[Message], sampling: SamplingParams) -> Iterator[str]:
        """Pieces of one answer."""
        ...


def choose_model(named: Path | None, run_root: Path = RUN_ROOT) -> Path:
    """The folder to load weights from: of a run, a checkpoint or a model in Hugging Face form.

    Without a name it is the newest finished checkpoint below `run_root`, else the shipped weights. Raises
    CheckpointError where there is nothing to load.
    """
    if named is not None:
        found = named if is_model_dir(named) else RunDir(named).latest_checkpoint()
        if found is None:
            raise CheckpointError(
                f"{named}: neither a run with a finished checkpoint nor a folder with a model"
            )
        return found
    newest = RunDir.newest(run_root)
    if newest is not None and (found := newest.latest_checkpoint()) is not None:
        return found
    if not is_model_dir(SHIPPED_MODEL):
        raise CheckpointError(
            f"no finished checkpoint below {run_root}/ and no shipped weights: train a model with `camelid demo`"
        )
    return SHIPPED_MODEL


def load_model(named: Path | None) -> StreamingCompleter:
    """Chooses, says on stderr which, and loads."""
    directory = choose_model(named)
    what = "the shipped weights" if directory == SHIPPED_MODEL else str(directory)
    print(f"model: {what}", file=sys.stderr)
    return Generator.load(directory)
