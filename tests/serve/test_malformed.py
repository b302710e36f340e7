"""Bodies that are broken, hostile or huge: each gets OpenAI's error object, and the next request its answer."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from camelid.serve import Limits
from camelid.testing.scripted_engine import ScriptedEngine
from served import scripted, serving

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
JSON = {"content-type": "application/json"}
DEEP = 10_000
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f"}}


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with (
        serving(limits=Limits(max_body_bytes=2**20)) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        yield client


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2} | fields


def said(content: Any, **fields: Any) -> dict[str, Any]:
    return chat(messages=[{"role": "user", "content": content} | fields])


def called(arguments: str) -> dict[str, Any]:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return chat(messages=[{"role": "assistant", "tool_calls": [call]}])


def nested(depth: int, field: str) -> bytes:
    """A chat request with so many arrays in one another."""
    body = json.dumps(chat(**{field: "HERE"}))
    return body.replace('"HERE"', "[" * depth + "]" * depth).encode()


def refused(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    """OpenAI's error object, whole, and nothing of ours leaking out of it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    assert "Traceback" not in error["message"]
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status, "invalid_request_error")
    assert error["type"] == kind
    return error


def still_answers(http: httpx.Client) -> None:
    assert http.post(TEXT, json={"model": "tiny", "prompt": "a", "max_tokens": 1}).status_code == 200


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "half an object": b'{"model": "tiny", "messages": [{"role": "us',
    "no JSON": b"model=tiny",
    "two values": b"{} {}",
    "wrong UTF-8": b'{"model": "ti\xff\xfeny"}',
    "a null byte": b'\x00{"model": "tiny"}',
    "deep arrays": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "open arrays": b"[" * DEEP,
    "deep in a field": nested(DEEP, "user"),
    "deep in a free field": json.dumps(
        chat(tools=[{"type": "function", "function": {"name": "f", "parameters": {"a": "HERE"}}}])
    ).encode().replace(b'"HERE"', b"[" * 900 + b"]" * 900),
    "NaN": json.dumps(chat(temperature=float("nan"))).encode(),
    "infinity": json.dumps(chat(top_p=float("inf"))).encode(),
    "a NaN that nobody reads": json.dumps(
        chat(tools=[{"type": "function", "function": {"name": "f", "parameters": {"a": float("nan")}}}])
    ).encode(),
    "a NaN of a bias": json.dumps(chat(logit_bias={"1": float("nan")})).encode(),
    "an integer of 5,000 digits": b'{"model": "tiny", "messages": [], "seed": ' + b"9" * 5000 + b"}",
    "an integer of 400 digits": b'{"model": "tiny", "messages": [], "seed": ' + b"9" * 400 + b"}",
    "a list": b"[]",
    "a string": b'"tiny"',
    "a number": b"17",
    "null": b"null",
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("route", [CHAT, TEXT])
def test_bodies(http: httpx.Client, route: str, name: str) -> None:
    refused(http.post(route, content=BODIES[name], headers=JSON))
    still_answers(http)


FIELDS: dict[str, dict[str, Any]] = {
    "no messages": chat(messages=[]),
    "messages are a string": chat(messages="hi"),
    "content is a number": said(7),
    "content is an object": said({"type": "text", "text": "hi"}),
    "an unknown part": said([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]),
    "a part without its type": said([{"text": "hi"}]),
    "an unknown role": chat(messages=[{"role": "camel", "content": "hi"}]),
    "an empty answer of the assistant": chat(messages=[{"role": "assistant"}]),
    "an integer as text": chat(n="1"),
    "a float as integer": chat(n=1.5),
    "a bool as integer": chat(n=True),
    "a huge n": chat(n=10**6),
    "a huge seed": chat(seed=2**70),
    "a temperature of 1e300": chat(temperature=1e300),
    "a penalty that makes numbers infinite": chat(repetition_penalty=1e-30),
    "a long stop string": chat(stop="x" * 5000),
    "a long list of stop strings": chat(stop=["x"] * 5000),
    "a bias for a token of 5,000 digits": chat(logit_bias={"9" * 5000: 1}),
    "a bias for an Arabic digit": chat(logit_bias={"٣": 1}),
    "a bias for half a vocabulary": chat(logit_bias={str(n): 1 for n in range(2000)}),
    "a bias for minus one": chat(logit_bias={"-1": 1}),
    "a tool's name": chat(tools=[{"type": "function", "function": {"name": "\n<|eot|>"}}]),
    "a tool's parameters": chat(tools=[{"type": "function", "function": {"name": "f", "parameters": []}}]),
    "arguments that are no JSON": called("{"),
    "arguments that are nested": called('{"a":' + "[" * DEEP + "]" * DEEP + "}"),
    "arguments with a huge integer": called('{"a":' + "9" * 5000 + "}"),
    "arguments with a lone surrogate": called('{"a": "\\ud800"}'),
    "a lone surrogate in a text": said("\ud800"),
    "a lone surrogate in a part": said([{"type": "text", "text": "a\udfffb"}]),
    "a lone surrogate in a field's name": chat(**{"\ud800": 1}),
    "a lone surrogate in the model's name": chat(model="\ud800"),
    "a lone surrogate in a stop string": chat(stop="\ud800"),
    "a lone surrogate in a tool": chat(
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"\ud800": 1}}}]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_fields(http: httpx.Client, name: str) -> None:
    for is_stream in (False, True):
        body = json.dumps(FIELDS[name] | {"stream": is_stream})
        refused(http.post(CHAT, content=body, headers=JSON))
    still_answers(http)


PROMPTS: dict[str, Any] = {
    "nothing": [],
    "an empty text": "",
    "one of them empty": ["a", ""],
    "a mixture": ["a", 7],
    "deeper lists": [[[1]]],
    "a negative token": [-1],
    "no token": [10**30],
    "a bool": [True],
    "thousands": ["a"] * 5000,
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(http: httpx.Client, name: str) -> None:
    refused(http.post(TEXT, json={"model": "tiny", "prompt": PROMPTS[name], "max_tokens": 1}))
    still_answers(http)


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-5, 1e-4])
def test_a_temperature_next_to_nothing_is_greedy(http: httpx.Client, temperature: float) -> None:
    """It must not divide by zero: that would end the engine for all."""
    body = {"model": "tiny", "prompt": "a camel", "max_tokens": 5, "seed": 1}
    greedy, cold = (http.post(TEXT, json=body | {"temperature": value}).json() for value in (0, temperature))
    assert cold["choices"][0]["text"] == greedy["choices"][0]["text"]


@pytest.mark.parametrize("fields", [
    {"repetition_penalty": 0.01}, {"repetition_penalty": 10}, {"min_p": 1}, {"top_p": 1e-300}, {"top_k": 10**18},
    {"logit_bias": {str(token): -100 for token in range(300)}}, {"logit_bias": {"7": 100}}, {"max_tokens": 1},
    {"presence_penalty": -2, "frequency_penalty": -2}, {"seed": -(2**63)}, {"seed": 2**63 - 1, "n": 3},
    {"temperature": 2, "top_p": 1e-9, "min_p": 1, "top_k": 1}, {"max_tokens": 10**30, "stop": [chr(9)] * 16},
])  # fmt: skip
def test_the_ends_of_every_range_are_answered(http: httpx.Client, fields: dict[str, Any]) -> None:
    prompt = list(range(60)) if "max_tokens" not in fields else [65] * 2000
    body = {"model": "tiny", "prompt": prompt, "max_tokens": 3} | fields
    assert http.post(TEXT, json=body).status_code == 200


def png(width: int = 16, height: int = 16) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 60).save(file, "png")
    return file.getvalue()


def encoded(kind: str, width: int = 64, height: int = 64) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 60).convert("RGB").save(file, kind)
    return file.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """The header of a picture and a little of its data."""

    def block(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", data) + block(b"IEND", b"")


def gif_bomb(num_frames: int, size: int) -> bytes:
    """Frames of a few bytes each, every one as large as the screen."""
    screen = b"GIF89a" + struct.pack("<HHBBB", size, size, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, size, size, 0) + b"\x02\x02\x4c\x01\x00"
    return screen + frame * num_frames + b"\x3b"


def url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


PICTURES: dict[str, str] = {
    "no picture": url("image/png", b"hello"),
    "nothing": url("image/png", b""),
    "half a png": url("image/png", png()[:100]),
    "half a jpeg": url("image/jpeg", encoded("jpeg")[:600]),
    "half a webp": url("image/webp", encoded("webp")[:300]),
    "a png with a flipped byte": url("image/png", png()[:60] + b"\xff" + png()[61:]),
    "a png of 10 gigapixels": url("image/png", png_that_claims(100_000, 100_000)),
    "a png of nothing": url("image/png", png_that_claims(0, 0)),
    "a png with too little": url("image/png", png_that_claims(2000, 2000)),
    "a gif of 4 gigapixels": url("image/gif", gif_bomb(1, 65_535)),
    "an svg": url("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "postscript": url("image/eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    "base64 with a hole": "data:image/png;base64,iVBO Rw0K",
    "base64 without its end": "data:image/png;base64,iVBORw0KG",
    "base64 that is not ASCII": "data:image/png;base64,ïVBORw0K",
    "percent encoding": "data:image/png,%89PNG",
    "text": url("text/plain", png()),
    "a file": "file:///etc/passwd",
    "another host": "https://example.org/cat.png",
    "its metadata": "http://169.254.169.254/latest/meta-data/",
    "no URL": "cat",
    "no text": "",
}
CLIPS: dict[str, str] = {
    "no clip": url("video/mp4", b"hello"),
    "nothing": url("video/mp4", b""),
    "a playlist": url("video/mp4", b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\nfile:///etc/passwd\n"),
    "a concat script": url("video/mp4", b"ffconcat version 1.0\nfile /etc/passwd\n"),
    "a gif of 400 gigapixels": url("video/gif", gif_bomb(10_000, 6500)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(http: httpx.Client, name: str) -> None:
    body = said([{"type": "image_url", "image_url": {"url": PICTURES[name]}}])
    error = refused(http.post(CHAT, json=body))
    assert error["param"] is not None and error["param"].startswith("messages")
    still_answers(http)


@pytest.mark.parametrize("name", CLIPS)
def test_clips(http: httpx.Client, name: str) -> None:
    refused(http.post(CHAT, json=said([{"type": "video_url", "video_url": {"url": CLIPS[name]}}])))
    still_answers(http)


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_a_truncated_film(http: httpx.Client, kept: float) -> None:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", 10)
        stream.width = stream.height = 32
        for shade in range(20):
            frame = av.VideoFrame.from_image(Image.new("RGB", (32, 32), (12 * shade, 0, 0)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    whole = file.getvalue()
    for data, status in ((whole, 200), (whole[: int(kept * len(whole))], 400)):
        body = said([{"type": "video_url", "video_url": {"url": url("video/mp4", data)}}])
        response = http.post(CHAT, json=body)
        assert response.status_code == status, response.text
    refused(response)


def test_routes_and_methods(http: httpx.Client) -> None:
    for method, path in (("GET", CHAT), ("PUT", CHAT), ("DELETE", "/v1/models"), ("POST", "/health")):
        response = http.request(method, path)
        refused(response, 405)
        assert response.headers["allow"]
    for path in (
        "/v1/embeddings", "/v1", "/v1/", "/nowhere", "/v1/chat/completions/", "/v1/%00", "/../etc/passwd", "/health/"
    ):  # fmt: skip
        refused(http.post(path, json={}), 404)
    refused(http.get("/v1/models/gpt"), 404)
    refused(http.post(CHAT, json=chat(model="gpt")), 404)
    refused(http.post(CHAT, json=chat(model="x" * 10_000)), 404)


def test_another_content_type(http: httpx.Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/xml"):
        refused(http.post(CHAT, content=json.dumps(chat()), headers={"content-type": kind}))


def test_bodies_that_are_too_large(http: httpx.Client) -> None:
    """Stated, unstated, and stated wrongly; none is read to its end."""
    large = json.dumps(said("x" * 2**21)).encode()
    refused(http.post(CHAT, content=large, headers=JSON), 413)
    pieces = [large[start : start + 2**16] for start in range(0, len(large), 2**16)]
    refused(http.post(CHAT, content=iter(pieces), headers=JSON), 413)
    refused(http.post("/nowhere", content=large, headers=JSON), 413)
    still_answers(http)


@pytest.mark.parametrize("length", ["-1", "1e9", "9" * 30, "x"])
def test_lengths_that_are_none(http: httpx.Client, length: str) -> None:
    host, port = http.base_url.host, http.base_url.port
    with socket.create_connection((host, port), timeout=10) as raw:
        raw.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{{}}".encode())
        status = raw.recv(100).split()[1]
    assert status in (b"400", b"413")
    still_answers(http)


def test_special_tokens_in_a_text_stay_text(http: httpx.Client) -> None:
    """What looks like the end of a turn, in a question, is as many tokens as it has letters."""
    usage = [
        http.post(CHAT, json=said(text)).json()["usage"]["prompt_tokens"]
        for text in ("", "<|eot|>", "<|header_start|>system<|header_end|>", "<|patch|><|image|>")
    ]
    assert [count - usage[0] for count in usage[1:]] == [7, 36, 18]


@pytest.mark.parametrize("is_stream", [False, True])
def test_half_characters_that_the_model_spells(is_stream: bool) -> None:
    """In a call's arguments they stay spelled as JSON spells them."""
    said_by_model = '{"name": "f", "parameters": {"a": "\\ud800"}}'
    with serving(scripted(ScriptedEngine(said_by_model))) as address:
        response = httpx.post(f"{address}{CHAT}", json=chat(tools=[TOOL], max_tokens=100, stream=is_stream))
    assert response.status_code == 200
    call = re.search(r'"arguments": ?("(?:[^"\\]|\\.)*")', response.text)
    assert call, response.text
    assert json.loads(json.loads(call.group(1))) == {"a": "\ud800"}
