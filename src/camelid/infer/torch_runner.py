"""Steps of a model as itself, in any dtype on any device: new tokens of many sequences in as few calls as can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.model import Llama4
from camelid.model.attention import TokenGeometry
from camelid.model.config import LayerType
from camelid.model.kv_cache import LayerCache
from camelid.model.native import Portion
from camelid.model.paged_kv import PagedKV, PageTable
from camelid.ops import SegmentPlan
from camelid.ops.native import PAGE_SIZE

__all__ = ["TorchRunner"]


class TorchRunner:
    """Three kinds of portions: prompts from their first token on are packed end to end, single tokens go side by side
    over gathered pages, and what is left, such as the rest of a long prompt, one by one.

    Twin of all three: `Llama4.forward` with a `KVCache` each.
    """

    def __init__(self, model: Llama4, kv: PagedKV) -> None:
        self._model, self._kv, text = model, kv, model.config.text
        self._num_layers, self._top_k = text.num_hidden_layers, text.num_experts_per_tok
        self._device = model.language_model.head_weight.device
        self._vocab_size, self._chunk = text.vocab_size, text.attention_chunk_size
        self._last_pictures: tuple[Tensor, Tensor, Tensor] | None = None  # tiles, token ids, what they became

    def embed(
        self, token_ids: Tensor, tiles: Tensor | None = None, patch_positions: Tensor | None = None
    ) -> Tensor:
        """As `Llama4.embed`; the same prompt several times in a row is seen once."""
        if tiles is not None and self._last_pictures is not None:
            known_tiles, known_ids, known = self._last_pictures
            if known_tiles is tiles and known_ids is token_ids:
                return known
        pictures = [None if value is None else value.to(self._device) for value in (tiles, patch_positions)]
        embedded = self._model.embed(token_ids.to(self._device), *pictures)
        if tiles is not None:
            self._last_pictures = (tiles, token_ids, embedded)
        return embedded

    def step(self, portions: Sequence[Portion]) -> tuple[Tensor, Tensor]:
        """As `NativeModel`: fp32 logits on the CPU, and the experts chosen, -1 in dense layers."""
        hidden: list[Tensor | None] = [None] * len(portions)
        routed: list[Tensor | None] = [None] * len(portions)
        kinds: dict[str, list[int]] = {"fresh": [], "single": [], "other": []}
        for index, portion in enumerate(portions):
            is_single = len(portion.inputs) == 1 and portion.table.length > 0
            kinds["fresh" if portion.table.length == 0 else "single" if is_single else "other"].append(index)
        for indices in (kinds["fresh"], kinds["single"], *([index] for index in kinds["other"])):
            if not indices:
                continue
            some = [portions[index] for index in indices]
            lengths = [len(portion.inputs) for portion in some]
            out, experts = self._run(some, lengths)
            for index, rows, chosen in zip(
                indices, out.split(lengths), experts.split(lengths, 1), strict=True
            ):
                hidden[index], routed[index] = rows, chosen
        logits = [torch.empty(0, self._vocab_size)]
        for rows, portion in zip(cast("list[Tensor]", hidden), portions, strict=True):
            if portion.logit_rows:
                wanted = rows[torch.tensor(portion.logit_rows, device=self._device)]
                logits.append(wanted)
        if len(logits) > 1:
            logits = [self._model.logits(torch.cat(logits[1:])).float().cpu()]
        return logits[0], torch.cat(cast("list[Tensor]", routed), dim=1)

    def _run(self, portions: Sequence[Portion], lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Hidden states and chosen experts of portions of one kind; their tables grow."""
        tables = [portion.table for portion in portions]
        x = torch.cat([self._embedded(portion) for portion in portions])
        geometry, caches = self._geometry(tables, lengths)
        none = torch.full((len(x), self._top_k), -1)
        routed = []
        for index, layer in enumerate(self._model.language_model.model.layers):
            x, routing = layer(x, geometry, caches[index])
            routed.append(none if routing is None else routing.expert_ids.cpu())
        for table, length in zip(tables, lengths, strict=True):
            table.length += length
        hidden: Tensor = self._model.language_model.model.norm(x)
        return hidden, torch.stack(routed)

    def _embedded(self, portion: Portion) -> Tensor:
        return (
            portion.inputs if isinstance(portion.inputs, Tensor) else self.embed(torch.tensor(portion.inputs))
        )

    def _geometry(
        self, tables: Sequence[PageTable], lengths: Sequence[int]
    ) -> tuple[TokenGeometry, Sequence[LayerCache]]:
        start = tables[0].length
        if start == 0:
            geometry = self._model.geometry(tuple(lengths), None, self._device)
            return geometry, [_Packed(tables, lengths, layer) for layer in range(self._num_layers)]
        if len(tables) == 1:
            geometry = self._model.geometry(tuple(lengths), start, self._device)
            return geometry, tables[0].layers
        places = torch.tensor([table.length for table in tables])
        turns, temperature = self._model.geometry.at(places.to(self._device))
        known: dict[LayerType, Tensor] = {"chunked": places % self._chunk, "global": places}
        segments: dict[LayerType, SegmentPlan | tuple[int, ...]] = {
            kind: tuple((count + 1).tolist()) for kind, count in known.items()
        }
        gathered = {kind: _Gathered(tables, kind, known[kind]) for kind in set(self._kv.config.layer_types)}
        caches = [
            _SideBySide(self._kv, layer, gathered[kind])
            for layer, kind in enumerate(self._kv.config.layer_types)
        ]
        return TokenGeometry(turns, temperature, segments), caches


class _Packed:
    """One layer's cache of several new sequences, packed: everything they attend to is in the call itself."""

    def __init__(self, tables: Sequence[PageTable], lengths: Sequence[int], layer: int) -> None:
        self._layers, self._lengths = [table.layers[layer] for table in tables], list(lengths)

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        parts = zip(self._layers, k.split(self._lengths), v.split(self._lengths), strict=True)
        for layer, keys, values in parts:
            layer.append(keys, values)
        return k, v


class _Gathered:
    """Where sequences' pages of one kind are, side by side; and which of the gathered positions are theirs."""

    def __init__(self, tables: Sequence[PageTable], kind: LayerType, known: Tensor) -> None:
        num_pages = int(known.max()) // PAGE_SIZE + 1
        pages = torch.zeros(len(tables), num_pages, dtype=torch.long)
        for row, table in zip(pages, tables, strict=True):
            count = min(table.count(kind), num_pages)
            row[:count] = table.pages(kind)[:count]
        self.pages, self.slots = pages, known % PAGE_SIZE
        self.newest = pages[torch.arange(len(tables)), known // PAGE_SIZE]
        self.longest = int(known.max()) + 1
        self.is_known = torch.arange(self.longest) <= known[:, None]


class _SideBySide:
    """One layer's cache of several sequences that get one token each."""

    def __init__(self, kv: PagedKV, layer: int, gathered: _Gathered) -> None:
        self._layer, self._gathered = kv.layers[layer], gathered

    def append(
        self, k: Float[Tensor, "rows kv_heads head_dim"], v: Float[Tensor, "rows kv_heads head_dim"]
    ) -> tuple[Float[Tensor, "rows known kv_heads head_dim"], Float[Tensor, "rows known kv_heads head_dim"]]:
        """Stores the new ones; returns all that each row may attend to, and zeros up to the longest row's end."""
        gathered = self._gathered
        self._layer.write(gathered.newest, gathered.slots, k, v)
        count = gathered.pages.numel() * PAGE_SIZE
        keys, values = self._layer.read(gathered.pages.flatten(), count, k.dtype)
        shape = (len(k), -1, *k.shape[1:])
        is_known = gathered.is_known[:, :, None, None]
        # What former owners left may be anything, and 0 x infinity is not 0.
        return (
            keys.view(shape)[:, : gathered.longest].where(is_known, 0.0),
            values.view(shape)[:, : gathered.longest].where(is_known, 0.0),
        )
