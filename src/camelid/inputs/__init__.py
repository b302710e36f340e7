"""Messages, pictures and clips become token ids and tiles; ids become text.

In: core messages. Out: core model input. Must not know: models, data sets.
"""

from camelid.inputs.chat_format import ChatFormat, TileShape
from camelid.inputs.image_tiling import ImageTiles, choose_canvas, cut_tiles, load_image
from camelid.inputs.json_tokenizer import JsonTokenizer
from camelid.inputs.message_json import parse_messages
from camelid.inputs.protocols import AnyChatFormat, AnyTokenizer
from camelid.inputs.template_format import TEXT_FILES, TemplateFormat, read_text_files
from camelid.inputs.tokenizer import StreamDecoder, Tokenizer
from camelid.inputs.video_frames import load_frames

__all__ = [
    "TEXT_FILES",
    "AnyChatFormat",
    "AnyTokenizer",
    "ChatFormat",
    "ImageTiles",
    "JsonTokenizer",
    "StreamDecoder",
    "TemplateFormat",
    "TileShape",
    "Tokenizer",
    "choose_canvas",
    "cut_tiles",
    "load_frames",
    "load_image",
    "parse_messages",
    "read_text_files",
]
