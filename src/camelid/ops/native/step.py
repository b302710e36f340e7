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
from camelid.ops.native.pages import LayerPages
from camelid.ops.native.panels import MatrixStruct, PackedMatrix, PackedSwiglu

__all__ = ["DecoderStep", "LayerWeights", "ModelShape", "Run", "StepOutput"]


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
    pages: LayerPages
    is_chunked: bool
    use_qk_norm: bool


@dataclass(frozen=True)
class ModelShape:
    """What is the same in all layers. `turns` are cosine and sine of every pair, at each place in a chunk.

    A temperature is 1 + attn_scale · ln(floor((position + 1) / floor_scale) + 1).
    """

    num_attention_heads: int
    top_k: int
    eps: float
    turns: Float[Tensor, "chunk head_dim"]
    floor_scale: int = 1
    attn_scale: float = 0.0


# In the order of kernels.h. Experts are arrays of matrices.
_FIELDS = "input_norm qkv o post_norm shared_gate_up shared_down router selection_bias gate_up down"
_PAGES = "keys values key_scales value_scales"
_MATRICES = ("qkv", "o", "shared_gate_up", "shared_down", "router")
_SIZES = "shared_ffn ffn num_experts is_chunked use_qk_norm"


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, MatrixStruct if name in _MATRICES else ctypes.c_void_p) for name in _FIELDS.split()),
        *((name, ctypes.c_void_p) for name in _PAGES.split()),
        *((name, ctypes.c_int64) for name in _SIZES.split()),
    ]


_MODEL_SIZES = "num_layers hidden heads kv_heads head_dim vocab top_k chunk_size floor_scale"


class _Model(ctypes.Structure):
    _fields_ = [
        ("layers", ctypes.POINTER(_Layer)),
        ("embeddings", ctypes.c_void_p),
        ("final_norm", ctypes.c_void_p),
        ("head", MatrixStruct),
        ("turns", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in _MODEL_SIZES.split()),
        ("attn_scale", ctypes.c_float),
        ("eps", ctypes.c_float),
    ]


_STEP_POINTERS, _STEP_SIZES = "token_ids x logit_rows logits routed", "num_runs rows num_logits"


class _Run(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("chunked_pages", "global_pages", "embeddings")] + [
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
    inputs: Sequence[int] | BFloat16[Tensor, "rows hidden"]  # token ids, or embeddings
    chunked_pages: Int[Tensor, "pages"]
    global_pages: Int[Tensor, "pages"]


class StepOutput(NamedTuple):
    """What a step computed."""

    logits: Float[Tensor, "wanted vocab"]
    routed: Int[Tensor, "layers rows top_k"]  # the experts chosen, -1 in dense layers
    hidden: Float[Tensor, "rows hidden"]  # before the final norm


class DecoderStep:
    """A decoder's weights and pages, ready to be stepped. Its twin is the model itself with a `KVCache`.

    A row's results are bitwise the same whatever other rows there are.
    """

    def __init__(
        self,
        shape: ModelShape,
        layers: Sequence[LayerWeights],
        embeddings: BFloat16[Tensor, "vocab hidden"] | None = None,
        final_norm: BFloat16[Tensor, "hidden"] | None = None,
        head: PackedMatrix | None = None,
        instructions: str | None = None,
    ) -> None:
        self._library, self._path = native_library(), best_path(instructions)
        self._keep: list[Any] = [shape, layers, embeddings, final_norm, head]
        self._layers = (_Layer * len(layers))(*(self._layer(layer) for layer in layers))
        _, kv_heads, _, pairs, _, _ = layers[0].pages.keys.shape
        self.hidden_size, self.vocab = layers[0].input_norm.shape[0], 0 if head is None else head.height
        self.num_layers, self.top_k = len(layers), shape.top_k
        chunk_size, head_dim = shape.turns.shape
        assert head_dim == 2 * pairs, (shape.turns.shape, pairs)
        self._model = _Model(
            self._layers, _address(embeddings), _address(final_norm), MatrixStruct.of(head), _address(shape.turns),
            len(layers), self.hidden_size, shape.num_attention_heads, kv_heads, head_dim, self.vocab, shape.top_k,
            chunk_size, shape.floor_scale, shape.attn_scale, shape.eps,
        )  # fmt: skip

    def _layer(self, layer: LayerWeights) -> _Layer:
        fields = {name: self._field(getattr(layer, name)) for name in _FIELDS.split()}
        pages = {name: _address(getattr(layer.pages, name)) for name in _PAGES.split()}
        ffn = layer.gate_up[0].height if layer.gate_up else 0
        sizes = (layer.shared_gate_up.height, ffn, len(layer.down), layer.is_chunked, layer.use_qk_norm)
        given = {name: value for name, value in (fields | pages).items() if value is not None}
        return _Layer(**given, **dict(zip(_SIZES.split(), sizes, strict=True)))

    def _field(self, value: Tensor | PackedMatrix | tuple[PackedMatrix, ...] | None) -> Any:
        if isinstance(value, tuple):
            structs = (MatrixStruct * len(value))(*map(MatrixStruct.of, value))
            self._keep.append(structs)
            return ctypes.cast(structs, ctypes.c_void_p)
        return MatrixStruct.of(value) if isinstance(value, PackedMatrix) else _address(value)

    def __call__(self, runs: Sequence[Run], logit_rows: Sequence[int]) -> StepOutput:
        """Logits of the rows wanted, counted over all runs. New keys and values go into the sequences' pages."""
        token_ids: list[int] = []
        structs = (_Run * len(runs))()
        for struct, run in zip(structs, runs, strict=True):
            struct.chunked_pages, struct.global_pages = (
                run.chunked_pages.data_ptr(),
                run.global_pages.data_ptr(),
            )
            struct.position, struct.first_row, struct.rows = run.position, len(token_ids), len(run.inputs)
            if isinstance(run.inputs, Tensor):
                struct.embeddings = _address(run.inputs)
                token_ids += [-1] * len(run.inputs)
            else:
                token_ids += run.inputs
        rows, wanted = len(token_ids), len(logit_rows)
        hidden, logits = torch.empty(rows, self.hidden_size), torch.empty(wanted, self.vocab)
        routed = torch.empty(self.num_layers, rows, self.top_k, dtype=torch.int32)
        ids, places = (ctypes.c_int64 * rows)(*token_ids), (ctypes.c_int64 * wanted)(*logit_rows)
        step = _Step(
            structs, ctypes.addressof(ids), hidden.data_ptr(), ctypes.addressof(places), logits.data_ptr(),
            routed.data_ptr(), len(runs), rows, wanted,
        )  # fmt: skip
        assert self._library is not None
        self._library.camelid_advance(
            self._path, ctypes.byref(self._model), ctypes.byref(step), torch.get_num_threads()
        )
        return StepOutput(logits, routed, hidden)


def _address(tensor: Tensor | None) -> int | None:
    if tensor is None:
        return None
    assert tensor.is_contiguous() and tensor.device.type == "cpu", (tensor.stride(), tensor.device)
    return tensor.data_ptr()
