"""Messages, pictures and clips become token ids and tiles; ids become text.

In: core messages. Out: core model input. Must not know: models, data sets.
"""

from camelid.inputs.chat_format import ChatFormat, TileShape
from camelid.inputs.chat_style import StyleName
from camelid.inputs.hf_tokenizer_files import hf_tokenizer_files
from camelid.inputs.image_tiling import ImageTiles, choose_canvas, cut_tiles, load_image
from camelid.inputs.json_tokenizer import JsonTokenizer
from camelid.inputs.message_json import parse_messages
from camelid.inputs.protocols import AnyChatFormat, AnyTokenizer
from camelid.inputs.template_format import TEXT_FILES, TemplateFormat, read_text_files
from camelid.inputs.tokenizer import StreamDecoder, Tokenizer
from camelid.inputs.tool_call_parser import ParsedReply, ToolCallParser, parse_reply
from camelid.inputs.tool_calls import CallForm, render_calls
from camelid.inputs.tool_grammar import call_constraint
from camelid.inputs.tool_prompt import ToolsPlace
from camelid.inputs.video_frames import load_frames

__all__ = [
    "TEXT_FILES",
    "AnyChatFormat",
    "AnyTokenizer",
    "CallForm",
    "ChatFormat",
    "ImageTiles",
    "JsonTokenizer",
    "ParsedReply",
    "StreamDecoder",
    "StyleName",
    "TemplateFormat",
    "TileShape",
    "Tokenizer",
    "ToolCallParser",
    "ToolsPlace",
    "call_constraint",
    "choose_canvas",
    "cut_tiles",
    "hf_tokenizer_files",
    "load_frames",
    "load_image",
    "parse_messages",
    "parse_reply",
    "read_text_files",
    "render_calls",
]
