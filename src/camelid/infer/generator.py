"""One conversation at a time: prefill, then a token per step, streamed as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from camelid.checkpoint import StreamPlan, load_within
from camelid.checkpoint.chat_files import load_chat_format
from camelid.core import Completion, FinishReason, Message, ModelInput, SamplingParams, TextPart, Usage
from camelid.core.errors import InputError
from camelid.infer.sampler import Sampler
from camelid.inputs import AnyChatFormat, AnyTokenizer, StreamDecoder
from camelid.model import KVCache, Llama4

__all__ = ["Generator"]

NATS_PIECE = 2048  # tokens whose logits are held at once


class Generator:
    """A model that answers messages. Implements core's MessageCompleter, DocumentScorer and TokenScorer."""

    def __init__(self, model: Llama4, chat_format: AnyChatFormat) -> None:
        self.model = model
        self.chat_format = chat_format
        self.tokenizer: AnyTokenizer = chat_format.tokenizer

    @classmethod
    def load(
        cls,
        path: Path,
        dtype: torch.dtype = torch.float32,
        memory_bytes: int | None = None,
        announce: Callable[[StreamPlan], None] = lambda _: None,
    ) -> Generator:
        """From a GGUF file, or a folder with weights and tokenizer; larger than memory, its experts stay on disk."""
        model = load_within(path, memory_bytes, dtype, announce)
        return cls(model, load_chat_format(path, model.config))

    def stream(self, messages: Sequence[Message], sampling: SamplingParams) -> Iterator[str]:
        """Pieces of the answer as they come; never half a character."""
        decoder = StreamDecoder(self.tokenizer)
        for token_id in self._token_ids(self.chat_format.encode(messages, for_generation=True), sampling):
            if token_id in self.tokenizer.stop_ids:
                break
            if piece := decoder.feed(token_id):
                yield piece
        if rest := decoder.flush():
            yield rest

    def complete(self, messages: Sequence[Message], sampling: SamplingParams) -> Completion:
        """The whole answer at once."""
        prompt = self.chat_format.encode(messages, for_generation=True)
        token_ids = list(self._token_ids(prompt, sampling))
        finish_reason: FinishReason = "length"
        if token_ids[-1] in self.tokenizer.stop_ids:
            finish_reason = "stop"
        content = tuple(token_id for token_id in token_ids if token_id not in self.tokenizer.stop_ids)
        usage = Usage(len(prompt), len(token_ids))
        return Completion(self.tokenizer.decode(content), content, finish_reason, usage)

    @torch.inference_mode()
    def document_nats(self, text: str) -> float:
        """Sum of -ln p over the document's tokens and its end."""
        token_ids = self.chat_format.encode_document([TextPart(text)]).token_ids.to(self._device)
        logits = self.model.logits(self.model(token_ids).hidden[:-1])
        return float(F.cross_entropy(logits.float(), token_ids[1:], reduction="sum"))

    @torch.inference_mode()
    def token_nats(self, text: str) -> list[float]:
        """-ln p of every token after the first, the end included; read in pieces, so memory follows the cache."""
        token_ids = self.chat_format.encode_document([TextPart(text)]).token_ids.to(self._device)
        cache = KVCache(self.model.config.text)
        nats: list[float] = []
        for piece, targets in zip(
            token_ids[:-1].split(NATS_PIECE), token_ids[1:].split(NATS_PIECE), strict=True
        ):
            logits = self.model.logits(self.model(piece, cache=cache).hidden).float()
            nats += F.cross_entropy(logits, targets, reduction="none").tolist()
        return nats

    def _token_ids(self, prompt: ModelInput, sampling: SamplingParams) -> Iterator[int]:
        """Generated ids, the stop token included."""
        limit = self.model.config.text.max_position_embeddings
        if len(prompt) >= limit:
            raise InputError(f"the prompt has {len(prompt)} tokens, the context is {limit}")
        sampler = Sampler(sampling, prompt.token_ids.tolist(), self.model.config.text.vocab_size)
        cache = KVCache(self.model.config.text)
        unseen = [prompt.token_ids, prompt.tiles, prompt.patch_positions]
        for _ in range(min(sampling.max_tokens, limit - len(prompt))):
            token_id = sampler(self._next_logits(cache, *unseen)).token_id
            yield token_id
            if token_id in self.tokenizer.stop_ids:
                return
            unseen = [torch.tensor([token_id])]

    @torch.inference_mode()
    def _next_logits(
        self,
        cache: KVCache,
        token_ids: Int[Tensor, "new"],
        tiles: UInt8[Tensor, "tiles 3 size size"] | None = None,
        patch_positions: Int[Tensor, "patches"] | None = None,
    ) -> Float[Tensor, "vocab"]:
        """Reads the new tokens; the logits of what follows, on the CPU, where the random draws are made."""
        inputs = [token_ids, None, tiles, patch_positions]
        on_device = [None if value is None else value.to(self._device) for value in inputs]
        return self.model.logits(self.model(*on_device, cache).hidden[-1]).float().cpu()

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device
