"""What a model talks with: the tokenizer and chat format beside its weights, or inside its GGUF file."""

from __future__ import annotations

from pathlib import Path

from camelid.checkpoint.any_layout import gguf_layout, is_gguf
from camelid.checkpoint.peft_layout import base_of, is_adapter_dir
from camelid.inputs import TEXT_FILES, AnyChatFormat, ChatFormat, TemplateFormat, Tokenizer, read_text_files
from camelid.model import Llama4Config

__all__ = ["chat_files", "load_chat_format"]

LLAMA4_TOKENIZER = "tokenizer.model"


def load_chat_format(path: Path, config: Llama4Config) -> AnyChatFormat:
    """Llama 4's own format; for dense ancestors the tokenizer.json and chat template that came with them."""
    path, vocab_size = _home(path), config.text.vocab_size
    if _has_template(path, config):
        return TemplateFormat.from_files(_text_files(path), vocab_size, str(path))
    tokenizer = Tokenizer.from_file(path / LLAMA4_TOKENIZER, vocab_size=vocab_size)
    return ChatFormat.for_model(tokenizer, config.vision)


def chat_files(path: Path, config: Llama4Config) -> dict[str, str | bytes]:
    """What must stand beside other weights of this model, so that `load_chat_format` works there."""
    path = _home(path)
    if _has_template(path, config):
        return dict(_text_files(path))
    return {LLAMA4_TOKENIZER: (path / LLAMA4_TOKENIZER).read_bytes()}


def _home(path: Path) -> Path:
    """An adapter that came without a tokenizer has its base's."""
    if is_adapter_dir(path) and not (path / LLAMA4_TOKENIZER).is_file():
        return base_of(path)
    return path


def _has_template(path: Path, config: Llama4Config) -> bool:
    return is_gguf(path) or (config.text.is_dense_ancestor and (path / TEXT_FILES[0]).is_file())


def _text_files(path: Path) -> dict[str, str]:
    if is_gguf(path):
        files: dict[str, str] = gguf_layout().read_gguf_text_files(path)
        return files
    return read_text_files(path)
