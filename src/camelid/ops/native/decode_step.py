"""One token of each of several sequences through a whole decoder, in one native call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import BFloat16, Float, Int
from torch import Tensor

from camelid.ops.native.library import best_path, native_library
from camelid.ops.native.tiles import TiledMatrix, TiledSwiglu

__all__ = ["DecodeStep", "LayerWeights", "ModelShape"]


@dataclass(frozen=True)
class LayerWeights:
    """One layer. A dense layer has its feed-forward matrices as the shared ones, and neither router nor experts."""

    input_norm: BFloat16[Tensor, "hidden"]
    qkv: TiledMatrix
    o: TiledMatrix
    post_norm: BFloat16[Tensor, "hidden"]
    shared_gate_up: TiledSwiglu
    shared_down: TiledMatrix
    router: TiledMatrix | None
    selection_bias: Float[Tensor, "experts"] | None
    gate_up: tuple[TiledSwiglu, ...]
    down: tuple[TiledMatrix, ...]
    keys: BFloat16[Tensor, "pages kv_heads tiles pairs 16 2"]
    values: BFloat16[Tensor, "pages kv_heads page_size head_dim"]
    is_chunked: bool
    use_qk_norm: bool


@dataclass(frozen=True)
class ModelShape:
    """What is the same in all layers. Sizes are in values, the chunk in positions."""

    num_attention_heads: int
    chunk_size: int
    top_k: int
    eps: float


_POINTERS = (
    "input_norm qkv o post_norm shared_gate_up shared_down router selection_bias gate_up down keys values"
)
_SIZES = "shared_ffn ffn num_experts is_chunked use_qk_norm"


class _Layer(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in _POINTERS.split()] + [
        (name, ctypes.c_int64) for name in _SIZES.split()
    ]


_MODEL_SIZES = "num_layers hidden heads kv_heads head_dim vocab top_k chunk_size"


class _Model(ctypes.Structure):
    _fields_ = [
        ("layers", ctypes.POINTER(_Layer)),
        ("final_norm", ctypes.c_void_p),
        ("head", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in _MODEL_SIZES.split()),
        ("eps", ctypes.c_float),
    ]


_STEP_POINTERS = "positions turns temperatures chunked_pages global_pages x logits routed"


class _Step(ctypes.Structure):
    _fields_ = [
        ("rows", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in _STEP_POINTERS.split()),
    ]


class DecodeStep:
    """A decoder's weights and caches, ready to be stepped. Its twin is the model itself with a `KVCache`."""

    def __init__(
        self,
        shape: ModelShape,
        layers: Sequence[LayerWeights],
        final_norm: BFloat16[Tensor, "hidden"] | None = None,
        head: TiledMatrix | None = None,
        instructions: str | None = None,
    ) -> None:
        self._library, self._path = native_library(), best_path(instructions)
        self._keep: list[Any] = [layers, final_norm, head]
        self._layers = (_Layer * len(layers))(*(self._layer(layer) for layer in layers))
        _, kv_heads, _, head_dim = layers[0].values.shape
        hidden, self.vocab = layers[0].input_norm.shape[0], 0 if head is None else head.height
        self.num_layers, self.top_k = len(layers), shape.top_k
        self._model = _Model(
            self._layers, _address(final_norm), _address(head), len(layers), hidden, shape.num_attention_heads,
            kv_heads, head_dim, self.vocab, shape.top_k, shape.chunk_size, shape.eps,
        )  # fmt: skip

    def _layer(self, layer: LayerWeights) -> _Layer:
        experts = [_addresses(layer.gate_up), _addresses(layer.down)]
        self._keep.append(experts)
        single = [getattr(layer, name) for name in _POINTERS.split()]
        pointers = [
            ctypes.cast(experts.pop(0), ctypes.c_void_p) if isinstance(value, tuple) else _address(value)
            for value in single
        ]
        ffn = layer.gate_up[0].height if layer.gate_up else 0
        sizes = (layer.shared_gate_up.height, ffn, len(layer.down), layer.is_chunked, layer.use_qk_norm)
        return _Layer(*pointers, *sizes)

    def __call__(
        self,
        x: Float[Tensor, "rows hidden"],
        positions: Int[Tensor, "rows"],
        turns: Float[Tensor, "rows head_dim"],
        temperatures: Float[Tensor, "rows"],
        chunked_pages: Sequence[Int[Tensor, "pages"]],
        global_pages: Sequence[Int[Tensor, "pages"]],
    ) -> tuple[Float[Tensor, "rows vocab"], Int[Tensor, "layers rows top_k"]]:
        """Logits (none without a head) and the experts chosen, -1 in dense layers.

        Turns x (fp32 embeddings) into the last layer's hidden states, in place, and writes each sequence's new key
        and value into its pages: of the current chunk, and of the whole context. `turns` holds cosine and sine of
        every pair.
        """
        rows = x.shape[0]
        logits = torch.empty(rows, self.vocab)
        routed = torch.empty(self.num_layers, rows, self.top_k, dtype=torch.int32)
        assert x.is_contiguous() and positions.dtype == torch.int64, (x.stride(), positions.dtype)
        tables = [_addresses(pages) for pages in (chunked_pages, global_pages)]
        step = _Step(
            rows, *map(_address, (positions, turns, temperatures)),
            *(ctypes.cast(table, ctypes.c_void_p) for table in tables), *map(_address, (x, logits, routed)),
        )  # fmt: skip
        assert self._library is not None
        self._library.camelid_decode(
            self._path, ctypes.byref(self._model), ctypes.byref(step), torch.get_num_threads()
        )
        return logits, routed


def _address(what: Tensor | TiledMatrix | TiledSwiglu | None) -> int | None:
    if what is None:
        return None
    tensor = what if isinstance(what, Tensor) else what.tiles
    assert tensor.is_contiguous() and tensor.device.type == "cpu", (tensor.stride(), tensor.device)
    return tensor.data_ptr()


def _addresses(all_of: Sequence[Tensor | TiledMatrix | TiledSwiglu]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(all_of))(*map(_address, all_of))
