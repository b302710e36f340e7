"""Hugging Face's client, which shares no code with OpenAI's, against a real server with a real, tiny engine."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import BadRequestError, HfHubHTTPError
from PIL import Image

from served import serving


@pytest.fixture(scope="module")
def client() -> Iterator[InferenceClient]:
    with serving() as address:
        yield InferenceClient(base_url=f"{address}/v1", api_key="none")


def picture(angle: int) -> str:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((16, 32)).rotate(angle).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def asking(angle: int) -> Any:
    image = {"type": "image_url", "image_url": {"url": picture(angle)}}
    return [{"role": "user", "content": [image, {"type": "text", "text": "What is it?"}]}]


def test_whole_and_streamed_say_the_same(client: InferenceClient) -> None:
    fields: Any = {"messages": asking(0), "model": "tiny", "max_tokens": 30, "seed": 3}
    whole = client.chat_completion(**fields)
    pieces = list(client.chat_completion(**fields, stream=True))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "length" and whole.usage.completion_tokens == 30
    assert pieces[-1].choices[0].finish_reason == "length"


def test_it_sees_the_picture(client: InferenceClient) -> None:
    answers = [
        client.chat_completion(asking(angle), model="tiny", temperature=0, max_tokens=40)
        for angle in (0, 0, 90)
    ]
    texts = [answer.choices[0].message.content for answer in answers]
    assert texts[0] == texts[1] != texts[2]


def test_logprobs(client: InferenceClient) -> None:
    answer = client.chat_completion(asking(0), model="tiny", max_tokens=3, logprobs=True, top_logprobs=2)
    content = answer.choices[0].logprobs.content
    assert len(content) == 3 and all(len(entry.top_logprobs) == 2 for entry in content)


def test_refusals_have_their_reason(client: InferenceClient) -> None:
    with pytest.raises(BadRequestError, match="temperature"):
        client.chat_completion(asking(0), model="tiny", temperature=7)
    with pytest.raises(HfHubHTTPError, match="'other' is not served here"):
        client.chat_completion(asking(0), model="other")
