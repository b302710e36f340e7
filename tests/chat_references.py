"""What others make of a conversation: Meta's ChatFormat, and transformers' template and processor for Llama 4.

Neither imports here without torchvision, which is left out: Meta's code gets a stand-in for the five names it uses,
the processor an image processor that runs transformers' own functions for the sizes and leaves the pixels black.
"""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile

from camelid.core import ImagePart, Message, Part, TextPart, ToolDefinition
from camelid.inputs.special_tokens import SPECIAL_TOKEN_NAMES
from camelid.inputs.tokenizer import SPLIT_PATTERN
from camelid.inputs.tool_calls import CallForm

__all__ = ["MetaChat", "TransformersChat", "their_message", "their_tool"]

TILE_SIZE, MAX_TILES = 336, 16
# The published tokenizer has the basic, the text and the vision tokens, and a pad token of its own making.
NUM_PUBLISHED_SPECIALS = SPECIAL_TOKEN_NAMES.index("reasoning_reserved_special_token_0")
PAD_TOKEN = "<|finetune_right_pad_id|>"


class MetaChat:
    """`llama_models.llama4.chat_format.ChatFormat` with Llama 4's vision sizes."""

    def __init__(self, tokenizer_path: Path) -> None:
        stand_in = {} if importlib.util.find_spec("torchvision") else _torchvision()
        sys.modules.update(stand_in)
        loads_truncated = ImageFile.LOAD_TRUNCATED_IMAGES
        try:
            from llama_models import datatypes
            from llama_models.llama4 import args, chat_format, tokenizer
        finally:
            # Its import tells Pillow to fill damaged pictures up with grey, for the whole process.
            ImageFile.LOAD_TRUNCATED_IMAGES = loads_truncated
            for name in stand_in:
                del sys.modules[name]
        self.types = datatypes
        square = args.Size(height=TILE_SIZE, width=TILE_SIZE)
        vision = args.VisionArgs(
            image_size=square,
            patch_size=args.Size(height=14, width=14),
            dim=8,
            n_layers=1,
            n_heads=1,
            mlp_ratio=4.0,
            output_dim=8,
            pixel_shuffle_ratio=0.5,
        )
        self.format = chat_format.ChatFormat(tokenizer.Tokenizer(tokenizer_path), vision, MAX_TILES)

    def ids(self, messages: Sequence[Message], form: CallForm = "json") -> list[int]:
        """A prompt that ends in an open assistant message."""
        names = {"json": "json", "pythonic": "python_list", "function_tag": "function_tag"}
        tool_format = self.types.ToolPromptFormat(names[form])
        raw = [self._raw(message) for message in messages]
        tokens: list[int] = self.format.encode_dialog_prompt(raw, tool_format).tokens
        return tokens

    def _raw(self, message: Message) -> Any:
        calls = [
            self.types.ToolCall(call_id="", tool_name=call.name, arguments=dict(call.arguments))
            for call in message.tool_calls
        ]
        content = [self._raw_item(part) for part in message.parts]
        role = "tool" if message.role == "ipython" else message.role
        return self.types.RawMessage(role=role, content=content, tool_calls=calls)

    def _raw_item(self, part: Part) -> Any:
        if isinstance(part, TextPart):
            return self.types.RawTextItem(text=part.text)
        assert isinstance(part, ImagePart) and isinstance(part.source, bytes)
        return self.types.RawMediaItem(data=part.source)


def _torchvision() -> dict[str, ModuleType]:
    """As torchvision does it for Pillow images: bilinear, CHW, 0..1."""

    def resize(image: Image.Image, size: tuple[int, int], interpolation: object = None) -> Image.Image:
        return image.resize((size[1], size[0]), Image.Resampling.BILINEAR)

    def to_tensor(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1) / 255

    def compose(steps: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
        def run(value: Any) -> Any:
            for step in steps:
                value = step(value)
            return value

        return run

    transforms = ModuleType("torchvision.transforms")
    transforms.functional = ModuleType("torchvision.transforms.functional")  # type: ignore[attr-defined]
    transforms.functional.resize = resize
    names = {
        "Compose": compose,
        "Resize": lambda size: lambda image: resize(image, size),
        "ToTensor": lambda: to_tensor,
        "Normalize": lambda mean, std, inplace: lambda pixels: (pixels - mean[0]) / std[0],
        "InterpolationMode": SimpleNamespace(BILINEAR="bilinear"),
    }
    for name, value in names.items():
        setattr(transforms, name, value)
    package = ModuleType("torchvision")
    package.transforms = transforms  # type: ignore[attr-defined]
    return {module.__name__: module for module in (package, transforms, transforms.functional)}


class TransformersChat:
    """`Llama4Processor` with a tokenizer made from Meta's file as transformers' conversion script makes it."""

    def __init__(self, tokenizer_path: Path, size_functions: dict[str, Any]) -> None:
        """`size_functions`: `get_best_fit` and `find_supported_resolutions` of its image processor's file."""
        from transformers import PreTrainedTokenizerFast
        from transformers.convert_slow_tokenizer import TikTokenConverter
        from transformers.image_processing_base import ImageProcessingMixin
        from transformers.models.llama4.processing_llama4 import Llama4Processor, chat_template
        from transformers.processing_utils import ImagesKwargs

        square = SimpleNamespace(height=TILE_SIZE, width=TILE_SIZE)
        canvases = torch.tensor(size_functions["find_supported_resolutions"](MAX_TILES, square))

        class Sizes(ImageProcessingMixin):  # type: ignore[misc]
            """Grids (rows, cols) of tiles; the pixels stay black."""

            valid_kwargs = ImagesKwargs

            def fetch_images(self, images: Any) -> Any:
                return images

            def __call__(self, images: Any, **_: Any) -> dict[str, Any]:
                flat = [
                    image for group in images for image in (group if isinstance(group, list) else [group])
                ]
                sizes = [(image.height, image.width) for image in flat]
                fits = [size_functions["get_best_fit"](size, canvases).tolist() for size in sizes]
                grids = [[side // TILE_SIZE for side in fit] for fit in fits]
                return {"pixel_values": [torch.zeros(3, TILE_SIZE, TILE_SIZE)], "aspect_ratios": grids}

        specials = [f"<|{name}|>" for name in SPECIAL_TOKEN_NAMES[:NUM_PUBLISHED_SPECIALS]]
        converter = TikTokenConverter(
            str(tokenizer_path), pattern=SPLIT_PATTERN, extra_special_tokens=specials
        )
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=converter.converted(),
            bos_token="<|begin_of_text|>",
            eos_token="<|eot|>",
            pad_token=PAD_TOKEN,
            chat_template=chat_template,
        )
        self.processor = Llama4Processor(image_processor=Sizes(), tokenizer=self.tokenizer)

    def ids(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolDefinition] = (),
        *,
        in_user: bool = True,
        sanitize: bool = False,
    ) -> list[int]:
        """A prompt that ends in an open assistant message.

        The processor makes an empty list of an empty string, which the template then writes out or stumbles over.
        So a conversation with an empty string in it goes to the tokenizer, which leaves it alone.
        """
        theirs = [their_message(message) for message in messages]
        applies = self.tokenizer if any(message["content"] == "" for message in theirs) else self.processor
        ids = applies.apply_chat_template(
            theirs,
            tools=[their_tool(tool) for tool in tools] or None,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            sanitize_control_tokens=sanitize,
            tools_in_user_message=in_user,
        )
        return list(ids[0] if isinstance(ids[0], list) else ids)


def their_tool(tool: ToolDefinition) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def their_message(message: Message) -> dict[str, Any]:
    content: Any = [_their_item(part) for part in message.parts]
    if len(content) == 1 and isinstance(message.parts[0], TextPart):
        content = message.text
    elif not content:
        content = ""
    theirs = {"role": message.role, "content": content}
    if message.tool_calls:
        functions = [{"name": call.name, "arguments": dict(call.arguments)} for call in message.tool_calls]
        theirs["tool_calls"] = [{"type": "function", "function": function} for function in functions]
    return theirs


def _their_item(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    assert isinstance(part, ImagePart) and isinstance(part.source, bytes)
    return {"type": "image", "image": Image.open(io.BytesIO(part.source))}
