"""Messages and documents become model input: the one way in, for training and for serving.

Meta's, token for token: the header, the separate encoding of header, blank line and content, and the layout
of an image block. Transformers': tools, their calls and results. `style` gives either one whole. Ours: loss
weights, documents, and the layout of a video, for which Meta released no code (its blog speaks of video as frame
stills; about one single-tile still per second explains its numbers). docs/chat-format.md has the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from camelid.core.batch import Modality, ModelInput
from camelid.core.errors import InputError
from camelid.core.messages import ImagePart, Message, Part, Role, ToolDefinition, VideoPart
from camelid.inputs import special_tokens as names
from camelid.inputs.chat_style import STYLES, StyleName
from camelid.inputs.image_tiling import cut_tiles, load_image
from camelid.inputs.tokenizer import Tokenizer
from camelid.inputs.tool_calls import CallForm
from camelid.inputs.tool_prompt import ToolsPlace, offer_tools
from camelid.inputs.turn import Piece, Special, join_text, part_pieces, trim_system, turn_pieces
from camelid.inputs.video_frames import load_frames

__all__ = ["ChatFormat", "TileShape"]


@runtime_checkable
class TileShape(Protocol):
    """What this room must be told about a vision encoder."""

    @property
    def image_size(self) -> int: ...
    @property
    def patch_tokens_per_tile(self) -> int: ...
    @property
    def max_tiles(self) -> int: ...


class ChatFormat:
    """Encodes for one tokenizer and one tile size. `tile_size` None means: this model sees no pictures."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        tile_size: int | None = None,
        patch_tokens_per_tile: int = 0,
        max_tiles: int = 16,
        max_frames: int = 8,
        frames_per_second: float = 1.0,
        *,
        style: StyleName = "camelid",
        call_form: CallForm = "json",
        tools_place: ToolsPlace | None = None,
    ) -> None:
        """`call_form` is how calls are asked for and written; JSON's tools stand with the user unless told."""
        assert tile_size is None or (tile_size > 0 and patch_tokens_per_tile > 0)
        self.tokenizer = tokenizer
        self.tile_size = tile_size
        self.patch_tokens_per_tile = patch_tokens_per_tile
        self.max_tiles = max_tiles
        self.max_frames = max_frames
        self.frames_per_second = frames_per_second
        self.style = STYLES[style]
        self.call_form = call_form
        self.tools_place: ToolsPlace = tools_place or ("user" if call_form == "json" else "system")
        special = tokenizer.special
        self._begin_of_text = special("begin_of_text")
        self._end_of_text = special("end_of_text")
        self._blank_line = tokenizer.encode("\n\n")
        self._headers: dict[Role, list[int]] = {
            role: [special("header_start"), *tokenizer.encode(role), special("header_end")]
            for role in ("system", "user", "assistant", "ipython")
        }
        self._image_start, self._image_end = special("image_start"), special("image_end")
        self._image, self._patch = special("image"), special("patch")
        self._tile_x_separator = special("tile_x_separator")
        self._tile_y_separator = special("tile_y_separator")
        self._video_start, self._video_end = special(names.VIDEO_START), special(names.VIDEO_END)
        self._video, self._frame_separator = special(names.VIDEO), special(names.VIDEO_FRAME_SEPARATOR)

    @classmethod
    def for_model(
        cls,
        tokenizer: Tokenizer,
        vision: TileShape | None,
        *,
        max_frames: int = 8,
        frames_per_second: float = 1.0,
        style: StyleName = "camelid",
        call_form: CallForm = "json",
        tools_place: ToolsPlace | None = None,
    ) -> ChatFormat:
        """The format that fits a model's vision config, or its absence."""
        return cls(
            tokenizer,
            vision.image_size if vision else None,
            vision.patch_tokens_per_tile if vision else 0,
            vision.max_tiles if vision else 16,
            max_frames=max_frames,
            frames_per_second=frames_per_second,
            style=style,
            call_form=call_form,
            tools_place=tools_place,
        )

    def encode(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolDefinition] = (),
        for_generation: bool = False,
    ) -> ModelInput:
        """A conversation: begin_of_text, then per message its header, a blank line, its content and eot or eom.

        The loss is on what the assistant says and on the end of it. `for_generation` opens an assistant message
        at the end. Text never becomes special tokens. Raises InputError for no messages, for calls and tools
        that the form of calls cannot write, and for pictures or clips that this model cannot see or nobody can
        read.
        """
        if not messages:
            raise InputError("a conversation needs at least one message, got none")
        sequence = _Sequence(self.tile_size or 1)
        sequence.add([self._begin_of_text], 0.0)
        turns = trim_system(messages) if self.style.trims_system else messages
        for message in offer_tools(turns, tools, self.call_form, self.tools_place) if tools else turns:
            self._add_turn(sequence, message)
        if for_generation:
            sequence.add(self._headers["assistant"] + self._blank_line, 0.0)
        return sequence.finish()

    def encode_document(self, parts: Sequence[Part]) -> ModelInput:
        """A pre-training document: begin_of_text, parts, end_of_text. The loss is on all text and the end.

        Raises InputError as `encode` does.
        """
        if not parts:
            raise InputError("a document needs at least one part, got none")
        sequence = _Sequence(self.tile_size or 1)
        sequence.add([self._begin_of_text], 0.0)
        self._add_pieces(sequence, part_pieces(parts), 1.0)
        sequence.add([self._end_of_text], 1.0)
        return sequence.finish()

    def _add_turn(self, sequence: _Sequence, message: Message) -> None:
        weight = 1.0 if message.role == "assistant" else 0.0
        sequence.add(self._headers[message.role], 0.0)
        pieces, blank_line = turn_pieces(message, self.style, self.call_form), self._blank_line
        if self.style.joins_text:
            pieces = join_text(["\n\n", *pieces])
            first = self.tokenizer.encode(str(pieces.pop(0)))
            # A token that is half blank line and half content counts in the loss.
            blank_line = first[: len(blank_line)] if first[: len(blank_line)] == blank_line else []
            sequence.add(blank_line, 0.0)
            sequence.add(first[len(blank_line) :], weight)
        else:
            sequence.add(blank_line, 0.0)
        self._add_pieces(sequence, pieces, weight)

    def _add_pieces(self, sequence: _Sequence, pieces: Sequence[Piece], weight: float) -> None:
        for piece in pieces:
            if isinstance(piece, str):
                sequence.add(self.tokenizer.encode(piece), weight)
            elif isinstance(piece, Special):
                sequence.add([self.tokenizer.special(piece.name)], weight)
            elif isinstance(piece, ImagePart):
                self._add_image(sequence, piece)
            else:
                self._add_video(sequence, piece)

    def _add_image(self, sequence: _Sequence, part: ImagePart) -> None:
        """image_start, the tiles row by row if more than one, image, the (global) tile, image_end."""
        cut = cut_tiles(load_image(part.source), self._require_tile_size("an image"), self.max_tiles)
        sequence.has_image = True
        sequence.tiles.append(cut.tiles)
        sequence.add([self._image_start], 0.0)
        if cut.rows * cut.cols > 1:
            for _ in range(cut.rows):
                for col in range(cut.cols):
                    if col:
                        sequence.add([self._tile_x_separator], 0.0)
                    sequence.add_patches(self._patch, self.patch_tokens_per_tile)
                sequence.add([self._tile_y_separator], 0.0)
        sequence.add([self._image], 0.0)
        sequence.add_patches(self._patch, self.patch_tokens_per_tile)
        sequence.add([self._image_end], 0.0)

    def _add_video(self, sequence: _Sequence, part: VideoPart) -> None:
        """vid_start; per frame its time such as `0.4s`, video, one tile, vid_frame_separator; vid_end."""
        tile_size = self._require_tile_size("a video")
        sequence.has_video = True
        sequence.add([self._video_start], 0.0)
        for frame in load_frames(part.source, self.frames_per_second, self.max_frames):
            sequence.add(self.tokenizer.encode(f"{frame.time_seconds:.1f}s"), 0.0)
            sequence.add([self._video], 0.0)
            sequence.tiles.append(cut_tiles(load_image(frame.image), tile_size, max_tiles=1).tiles)
            sequence.add_patches(self._patch, self.patch_tokens_per_tile)
            sequence.add([self._frame_separator], 0.0)
        sequence.add([self._video_end], 0.0)

    def _require_tile_size(self, what: str) -> int:
        if self.tile_size is None:
            raise InputError(f"this model has no vision encoder and cannot see {what}")
        return self.tile_size


class _Sequence:
    """A model input in the making: plain lists until the end, because small tensors are slow."""

    def __init__(self, tile_size: int) -> None:
        self.tile_size = tile_size
        self.ids: list[int] = []
        self.weights: list[float] = []
        self.patch_positions: list[int] = []
        self.tiles: list[Tensor] = []
        self.has_image = False
        self.has_video = False

    def add(self, ids: list[int], weight: float) -> None:
        self.ids += ids
        self.weights += [weight] * len(ids)

    def add_patches(self, patch: int, count: int) -> None:
        self.patch_positions += range(len(self.ids), len(self.ids) + count)
        self.add([patch] * count, 0.0)

    def finish(self) -> ModelInput:
        modality: Modality = "video" if self.has_video else "image" if self.has_image else "text"
        empty = torch.empty((0, 3, self.tile_size, self.tile_size), dtype=torch.uint8)
        return ModelInput(
            token_ids=torch.tensor(self.ids),
            loss_weights=torch.tensor(self.weights),
            tiles=torch.cat(self.tiles) if self.tiles else empty,
            patch_positions=torch.tensor(self.patch_positions, dtype=torch.long),
            modality=modality,
        )
