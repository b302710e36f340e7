"""Which model is meant: the one named, else the newest run's, else the one that ships."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from camelid.checkpoint import is_gguf, is_model_dir
from camelid.core.errors import CheckpointError
from camelid.core.run_dir import RunDir
from camelid.infer.generator import Generator

__all__ = ["RUN_ROOT", "SHIPPED_MODEL", "SHIPPED_MODELS", "choose_model", "load"]

RUN_ROOT = Path("runs")
SHIPPED_MODELS = Path(str(files("camelid") / "weights"))
SHIPPED_MODEL = SHIPPED_MODELS / "nano-scout"


def choose_model(named: str | Path | None, run_root: Path = RUN_ROOT) -> Path:
    """Where to load weights from: a GGUF file, or the folder of a run, a checkpoint, a model or an adapter.

    A model's folder is Llama 4 in Hugging Face's layout or in Meta's, or a dense ancestor as `LlamaForCausalLM`; an
    adapter's is PEFT's, and names its base. The name alone is enough of a model that ships, such as nano-scout-chatty.
    Without a name it is the newest finished checkpoint below `run_root`, else the shipped weights. Raises
    CheckpointError where there is nothing to load.
    """
    if named is not None:
        path = Path(named)
        if not path.exists() and path.name == str(named) and is_model_dir(SHIPPED_MODELS / path):
            return SHIPPED_MODELS / path
        found = path if is_model_dir(path) or is_gguf(path) else RunDir(path).latest_checkpoint()
        if found is None:
            raise CheckpointError(
                f"{path}: neither a run with a finished checkpoint nor a model, as a folder or a GGUF file"
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


def load(named: str | Path | None = None) -> Generator:
    """The model that `choose_model` finds, ready to answer."""
    return Generator.load(choose_model(named))
