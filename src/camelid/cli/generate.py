"""`camelid generate`: one answer, from arguments or from JSON messages."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from camelid.cli.model_choice import StreamingCompleter
from camelid.core import ImagePart, Message, Part, SamplingParams, VideoPart
from camelid.core.errors import InputError
from camelid.inputs import parse_messages

__all__ = ["attachments_in_order", "generate", "read_messages"]


def attachments_in_order(
    arguments: Sequence[str], image_paths: Sequence[Path], video_paths: Sequence[Path]
) -> list[Part]:
    """Pictures and clips in the order in which `--image` and `--video` stand on the command line."""
    images, videos = iter(image_paths), iter(video_paths)
    parts: list[Part] = []
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag == "--image":
            parts.append(ImagePart(next(images)))
        elif flag == "--video":
            parts.append(VideoPart(next(videos)))
    return parts


def read_messages(text: str) -> list[Message]:
    """JSON messages as `inputs.message_json` describes them; paths are relative to the working directory."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"these are no JSON messages: {error}") from error
    return parse_messages(value, Path())


def generate(
    completer: StreamingCompleter, messages: Sequence[Message], sampling: SamplingParams, *, is_json: bool
) -> None:
    """Streams the answer to stdout, or prints it with its token counts as one JSON object."""
    if is_json:
        completion = completer.complete(messages, sampling)
        usage = completion.usage
        report = {
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "usage": {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens},
        }
        print(json.dumps(report, ensure_ascii=False))
        return
    for piece in completer.stream(messages, sampling):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
