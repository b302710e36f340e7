"""What can be typed after `camelid`, as dataclasses. Importing this costs nothing: each `run` imports what it needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, UseAppendAction, arg

from camelid.cli.sampling_flags import SamplingFlags

__all__ = [
    "Chat",
    "Convert",
    "Data",
    "Demo",
    "Distill",
    "Eval",
    "Experts",
    "Export",
    "Generate",
    "Inspect",
    "Pretrain",
    "Serve",
    "Sft",
]

RUN_ROOT = Path("runs")
Model = Annotated[Path | None, arg(metavar="MODEL")]
Files = UseAppendAction[tuple[Path, ...]]


@dataclass(frozen=True)
class Pretrain:
    """Train a model from random weights, by a recipe whose every number is a flag."""

    recipe: Positional[str] = ""
    """Its name; without one, what recipes there are. `camelid pretrain RECIPE --help` shows its flags."""

    resume: Annotated[Path | None, arg(metavar="RUN")] = None
    """Go on with this run after its last checkpoint, as it was configured."""

    def run(self) -> int:
        """Goes on with a run, or lists the recipes; with a recipe, `main` has taken another way."""
        from camelid.cli.pretrain import list_recipes, resume_run

        if self.resume is not None:
            return resume_run(self.resume)
        list_recipes()
        return 0


@dataclass(frozen=True)
class Distill:
    """Pretrain a student under a teacher, or a teacher and its students together."""

    recipe: Positional[str] = ""
    """Its name; without one, what recipes there are. `camelid distill RECIPE --help` shows its flags."""

    resume: Annotated[Path | None, arg(metavar="RUN")] = None
    """Go on with this run after its last checkpoint, as it was configured."""

    def run(self) -> int:
        """Goes on with a run, or lists the recipes; with a recipe, `main` has taken another way."""
        from camelid.cli.distill import list_recipes, resume_run

        if self.resume is not None:
            return resume_run(self.resume)
        list_recipes()
        return 0


@dataclass(frozen=True)
class Sft:
    """Fine-tune a model on your own conversations: through low-rank adapters (LoRA), or whole."""

    model: Positional[Model] = None
    """A run, a checkpoint or a model folder. Default: the newest run, else the shipped weights."""
    data: Files = ()
    """A .jsonl file of messages, a .parquet file or a folder of texts; may be given several times."""
    task: UseAppendAction[tuple[str, ...]] = ()
    """A verifiable task to learn with its answers, as in `camelid rl`; may be given several times."""
    keep: float = 1.0
    """Share of the examples that is learnt from: the hardest, by the model's own loss."""
    drop_solved: FlagCreatePairsOff[bool] = False
    """Leave out before what the model would answer just so."""
    steps: int = 300
    """How many."""
    lr: float = 1e-3
    """Highest learning rate."""
    batch_tokens: int = 2048
    """Tokens per step."""
    rank: int = 8
    """Rank of the adapters."""
    alpha: float = 16.0
    """Their strength: what they add is multiplied by alpha / rank."""
    experts: bool = True
    """Adapt the routed experts as well."""
    full: FlagCreatePairsOff[bool] = False
    """Train every parameter instead of adapters."""
    run_root: Path = RUN_ROOT
    """Where the run's folder is made."""
    resume: Annotated[Path | None, arg(metavar="RUN")] = None
    """Go on with this run after its last checkpoint, as it was configured."""

    def run(self) -> int:
        """A new run, or the rest of one."""
        from camelid.cli.sft import resume_sft, start_sft

        return resume_sft(self.resume) if self.resume is not None else start_sft(self)


@dataclass(frozen=True)
class Generate:
    """Print one answer. Without TEXT, JSON messages are read from standard input."""

    text: Positional[str] = ""
    """What to ask. Pictures and clips come before it, in the order in which they are given."""
    model: Model = None
    """A run, a checkpoint, a model folder or a GGUF file. Default: the newest run, else the shipped weights."""
    image: Files = ()
    """A picture; may be given several times."""
    video: Files = ()
    """A clip; may be given several times."""
    json: FlagCreatePairsOff[bool] = False
    """Print the answer with token counts as one JSON object."""
    memory_gb: float | None = None
    """Most memory for weights; what is beyond stays on disk until it is needed. Default: what is free."""
    sampling: OmitArgPrefixes[SamplingFlags] = field(default_factory=SamplingFlags)

    def run(self, words: Sequence[str]) -> int:
        """`words` is the command line: it alone knows how pictures and clips alternate."""
        from camelid.cli import model_choice
        from camelid.cli.generate import attachments_in_order, generate, read_messages
        from camelid.core import Message
        from camelid.core.errors import InputError

        parts = attachments_in_order(words, self.image, self.video)
        if self.text:
            messages = [Message.of("user", *parts, self.text)]
        elif parts:
            raise InputError("pictures and clips need a question: camelid generate TEXT --image PATH")
        else:
            messages = read_messages(sys.stdin.read())
        sampling = self.sampling.params()
        generate(model_choice.load_model(self.model, self.memory_gb), messages, sampling, is_json=self.json)
        return 0


@dataclass(frozen=True)
class Serve:
    """Serve a model over HTTP, in OpenAI's format: /v1/chat/completions, /v1/completions, /v1/models."""

    model: Positional[Model] = None
    """A run, a checkpoint, a model folder or a GGUF file. Default: the newest run, else the shipped weights."""
    host: str = "127.0.0.1"
    """Where to listen; 0.0.0.0 is everywhere."""
    port: int = 8000
    """0: any that is free."""
    name: str | None = None
    """What clients call the model. Default: its folder's name."""
    api_key: UseAppendAction[tuple[str, ...]] = ()
    """Only who has one of these keys may ask; may be given several times. Default: everybody may."""
    weights: Literal["bf16", "fp32", "int8", "int4"] = "bf16"
    """What weights are kept in; all but fp32 run in native code."""
    kv: Literal["int8"] | None = None
    """What keys and values are kept in. Default: as the weights, or bf16."""
    draft: Path | None = None
    """A smaller model with the same tokens and chunks: its guesses make answers come faster, and change none."""
    draft_tokens: int = 4
    """Guesses that one step judges."""
    max_context: int | None = None
    """Tokens of a prompt and its answer. Default: what the model promises, or less where memory ends."""
    cache_gb: float | None = None
    """Memory for keys and values. Default: a quarter of what is free."""
    max_running: int = 64
    """Requests answered at once."""
    max_waiting: int = 256
    """Requests that may wait; more are told to come again later (429)."""
    max_body_mb: float = 32.0
    """Largest request."""
    max_upload_mb: float = 128.0
    """Largest picture or clip that is uploaded by itself; all together may have a GB, for an hour."""
    allow_image_host: UseAppendAction[tuple[str, ...]] = ()
    """HOST or HOST:PORT whose pictures are fetched when a request has their URL; may be given several times.
    Default: none is."""
    stall_seconds: float = 60.0
    """For which a client may read nothing of its answer before it is cut off."""

    def run(self) -> int:
        """Until it is told to stop; answers that have begun are finished."""
        from camelid.cli.serve import serve

        return serve(self)


@dataclass(frozen=True)
class Chat:
    """Talk with a model; /image and /video show it something."""

    model: Positional[Model] = None
    """A run, a checkpoint, a model folder or a GGUF file. Default: the newest run, else the shipped weights."""
    memory_gb: float | None = None
    """Most memory for weights; what is beyond stays on disk until it is needed. Default: what is free."""
    sampling: OmitArgPrefixes[SamplingFlags] = field(default_factory=SamplingFlags)

    def run(self) -> int:
        """Talks until the person leaves."""
        from rich.console import Console

        from camelid.cli import chat, model_choice

        console = Console()
        chat.prepare_line_editing()
        sampling = self.sampling.params()
        model = model_choice.load_model(self.model, self.memory_gb)
        chat.converse(chat.Chat(model, sampling, console), console)
        return 0


@dataclass(frozen=True)
class Demo:
    """Watch the smallest herd: a teacher and two students learn, are tuned, and asked about what they never saw."""

    run_root: Path = RUN_ROOT
    """Where the herd's folder is made."""
    report: Path = Path("report.html")
    """Where the report goes; the herd's folder keeps a copy, to which the pages of single runs are linked."""

    def run(self) -> int:
        """Goes the road, reports."""
        from camelid.cli.herd_run import herd_config, start_herd

        return start_herd(herd_config("demo"), self.run_root, self.report)


@dataclass(frozen=True)
class Data:
    """Bring the larger data set: packages fetched by name, checked and resumable."""

    action: Positional[Literal["fetch"]]
    parts: Positional[tuple[str, ...]] = ()
    """Which parts; all by default."""
    dir: Path = Path("data")
    """Where to."""
    copyleft: FlagCreatePairsOff[bool] = False
    """Also parts under share-alike licences."""

    def run(self) -> int:
        """Fetches."""
        from camelid.data.fetch import fetch_larger_set

        manifest = fetch_larger_set(self.dir, self.parts or None, include_copyleft=self.copyleft)
        for part in manifest.parts:
            print(f"{part.file}: {part.rows:,} rows, {part.licence}")
        return 0


@dataclass(frozen=True)
class Eval:
    """Judge a model on what was held out, beside its blind twin: the same questions about other pictures."""

    model: Positional[Model] = None
    """A run, a checkpoint or a model folder. Default: the newest run, else the shipped weights."""
    num_problems: int = 200
    """How many problems of each kind."""
    kinds: tuple[str, ...] = ()
    """Which kinds; all by default."""
    concept_share: float = 1.0
    """Ask only about this share of the concepts, for a model that was trained on no more."""
    json: Path | None = None
    """Also write the scores to this file."""

    def run(self) -> int:
        """Asks, counts, prints a table."""
        from camelid.cli.evaluate import evaluate

        evaluate(self.model, self.num_problems, self.kinds, self.json, self.concept_share)
        return 0


@dataclass(frozen=True)
class Experts:
    """See what each expert does: load, dead experts, and what it tells of source, modality, token and position."""

    model: Positional[Model] = None
    """A run, a checkpoint or a model folder. Default: the newest run, else the shipped weights."""
    out: Path = Path("experts")
    """A folder for the figure, the numbers as JSON and the raw counts as parquet."""
    num_examples: int = 200
    """How many held-out examples of each source."""
    earlier: Path | None = None
    """An earlier checkpoint of the same run: how many choices have stayed since."""

    def run(self) -> int:
        """Reads, counts, prints, writes."""
        from camelid.cli.experts import show_experts

        show_experts(self.model, self.out, self.num_examples, self.earlier)
        return 0


@dataclass(frozen=True)
class Inspect:
    """Say what a model is: parameters, layers, experts, memory that it needs. Only headers are read."""

    model: Positional[str]
    """A folder, in Hugging Face's layout (Llama 4, or a dense LlamaForCausalLM) or in Meta's; a GGUF file; or a
    repository of the Hugging Face Hub: org/name."""

    def run(self) -> int:
        """Prints."""
        from rich.console import Console

        from camelid.cli.inspect_model import inspect_model

        inspect_model(self.model, Console())
        return 0


@dataclass(frozen=True)
class Convert:
    """Turn a model from one layout into another, tensor by tensor: no more than one is held in memory."""

    source: Positional[Path]
    """A folder: Hugging Face's safetensors (Llama 4 in bf16, FP8 or int4, or a dense LlamaForCausalLM), or Meta's
    consolidated files of any number of ranks. Or a GGUF file, which holds a dense model."""
    destination: Positional[Path]
    """A folder that is not there yet."""
    to: Literal["hf", "meta"] = "hf"
    """The layout to write; Meta's has no place for dense models."""
    dtype: Literal["keep", "bf16", "fp16", "fp32"] = "keep"
    """Of the weights; quantised ones become bf16."""
    max_shard_gb: float = 5.0
    """Largest file of Hugging Face's layout."""
    model_parallel: int = 1
    """Number of files in Meta's layout."""

    def run(self) -> int:
        """Converts."""
        from camelid.cli.convert import convert

        shard_bytes = int(self.max_shard_gb * 1e9)
        convert(self.source, self.destination, self.to, self.dtype, shard_bytes, self.model_parallel)
        return 0


@dataclass(frozen=True)
class Quantize:
    """Write a model in fewer bits, as transformers and vLLM read it, and say what that costs."""

    source: Positional[Path]
    """A folder in any layout, or a GGUF file."""
    destination: Positional[Path]
    """A folder that is not there yet."""
    weights: Literal["int8", "int4"] = "int4"
    """Bits of a weight in the decoder's matrices; groups of 32 inputs have a scale."""
    measure_tokens: int = 2048
    """Held-out tokens on which next-token probabilities are compared with the source's; 0: none."""

    def run(self) -> int:
        """Quantises, measures."""
        from camelid.cli.quantize import quantize

        quantize(self.source, self.destination, 8 if self.weights == "int8" else 4, self.measure_tokens)
        return 0


@dataclass(frozen=True)
class Export:
    """Write a model as a folder that transformers loads and llama.cpp's converter reads, tokenizer and all."""

    destination: Positional[Path]
    """A folder that is not there yet."""
    model: Model = None
    """A run, a checkpoint or a model folder. Default: the newest run, else the shipped weights."""
    dtype: Literal["keep", "bf16", "fp16", "fp32"] = "keep"
    """Of the weights."""

    def run(self) -> int:
        """Exports."""
        from camelid.cli.export import export

        export(self.model, self.destination, self.dtype)
        return 0
