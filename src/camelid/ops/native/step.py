"""New tokens of several sequences through a whole decoder, in one native call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import BFloat16, Float, Int
from torch import Tensor

from camelid.ops.native.library import best_path, native_library
from camelid.ops.native.panels import PackedMatrix, PackedSwiglu, Pages

__all__ = ["DecoderStep", "LayerWeights", "ModelShape", "Run"]


@dataclass(frozen=True)
class LayerWeights:
    """One layer. A dense layer has its feed-forward matrices as the shared ones, and neither router nor experts."""

    input_norm: BFloat16[Tensor, "hidden"]
    qkv: PackedMatrix
    o: PackedMatrix
    post_norm: BFloat16[Tensor, "hidden"]
    shared_gate_up: PackedSwiglu
    shared_down: PackedMatrix
    router: PackedMatrix | None
    selection_bias: Float[Tensor, "experts"] | None
    gate_up: tuple[PackedSwiglu, ...]
    down: tuple[PackedMatrix, ...]
    keys: Pages
    values: Pages
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


_STEP_POINTERS, _STEP_SIZES = "turns temperatures x logit_rows logits routed", "num_runs rows num_logits"


class _Run(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("chunked_pages", "global_pages")] + [
        (name, ctypes.c_int64) for name in ("first_row", "rows", "position")
    ]


class _Step(ctypes.Structure):
    _fields_ = [
        ("runs", ctypes.POINTER(_Run)),
        *((name, ctypes.c_void_p) for name in _STEP_POINTERS.split()),
        *((name, ctypes.c_int64) for name in _STEP_SIZES.split()),
    ]


class Run(NamedTuple):
    """Consecutive new tokens of one sequence, all in the same chunk, and its pages: of that chunk, and of all."""

    position: int
    rows: int
    chunked_pages: Int[Tensor, "pages"]
    global_pages: Int[Tensor, "pages"]


class DecoderStep:
    """A decoder's weights and pages, ready to be stepped. Its twin is the model itself with a `KVCache`.

    A row's results are bitwise the same whatever other rows there are.
    """

    def __init__(
        self,
        shape: ModelShape,
        layers: Sequence[LayerWeights],
        final_norm: BFloat16[Tensor, "hidden"] | None = None,
        head: PackedMatrix | None = None,
        instructions: str | None = None,
    ) -> None:
        self._library, self._path = native_library(), best_path(instructions)
        self._keep: list[Any] = [layers, final_norm, head]
        self._layers = (_Layer * len(layers))(*(self._layer(layer) for layer in layers))
        _, kv_heads, _, pairs, _, _ = layers[0].keys.shape
        hidden, self.vocab = layers[0].input_norm.shape[0], 0 if head is None else head.height
        self.num_layers, self.top_k = len(layers), shape.top_k
        self._model = _Model(
            self._layers, _address(final_norm), _address(head), len(layers), hidden, shape.num_attention_heads,
            kv_heads, 2 * pairs, self.vocab, shape.top_k, shape.chunk_size, shape.eps,
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
        runs: Sequence[Run],
        turns: Float[Tensor, "rows head_dim"],
        temperatures: Float[Tensor, "rows"],
        logit_rows: Int[Tensor, "wanted"],
    ) -> tuple[Float[Tensor, "wanted vocab"], Int[Tensor, "layers rows top_k"]]:
        """Logits of the rows wanted, and the experts chosen, -1 in dense layers.

        Turns x (fp32 embeddings, run after run) into the last layer's hidden states, in place, and writes new keys and
        values into the sequences' pages. `turns` holds cosine and sine of every pair.
        """
        rows = x.shape[0]
        logits = torch.empty(len(logit_rows), self.vocab)
        routed = torch.empty(self.num_layers, rows, self.top_k, dtype=torch.int32)
        first, structs = 0, (_Run * len(runs))()
        for struct, run in zip(structs, runs, strict=True):
            struct.chunked_pages, struct.global_pages = (
                run.chunked_pages.data_ptr(),
                run.global_pages.data_ptr(),
            )
            struct.first_row, struct.rows, struct.position = first, run.rows, run.position
            first += run.rows
        assert first == rows and logit_rows.dtype == torch.int64, (first, rows, logit_rows.dtype)
        step = _Step(
            structs, *map(_address, (turns, temperatures, x, logit_rows, logits, routed)),
            len(runs), rows, len(logit_rows),
        )  # fmt: skip
        assert self._library is not None
        self._library.camelid_advance(
            self._path, ctypes.byref(self._model), ctypes.byref(step), torch.get_num_threads()
        )
        return logits, routed


def _address(what: Tensor | PackedMatrix | PackedSwiglu | None) -> int | None:
    if what is None:
        return None
    tensor = what if isinstance(what, Tensor) else what.panels
    assert tensor.is_contiguous() and tensor.device.type == "cpu", (tensor.stride(), tensor.device)
    return tensor.data_ptr()


def _addresses(all_of: Sequence[Tensor | PackedMatrix | PackedSwiglu]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(all_of))(*map(_address, all_of))
