"""Uploads by OpenAI's client: taken, used, kept from others, limited, and gone in time."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import openai
import pytest
from openai import OpenAI
from PIL import Image

from camelid.serve import Limits
from camelid.serve.api_error import ApiError
from camelid.serve.file_store import FileStore, owner_of
from served import serving

KEYS = ("one", "two")
FORM = "multipart/form-data; boundary=a"
CLIENTS: list[OpenAI] = []  # closed with the server: a forgotten socket warns in some later test
LIMITS = Limits(api_keys=KEYS, max_upload_bytes=50_000, max_stored_bytes=120_000, max_body_bytes=20_000)


def png(angle: int = 0) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((16, 32)).rotate(angle).save(file, "png")
    return file.getvalue()


def mp4() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", 10)
        stream.width = stream.height = 32
        for shade in range(12):
            frame = av.VideoFrame.from_image(Image.new("RGB", (32, 32), (20 * shade, 0, 0)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(limits=LIMITS) as address:
        yield address
        for one in CLIENTS:
            one.close()


def client(address: str, key: str = "one") -> OpenAI:
    CLIENTS.append(OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0))
    return CLIENTS[-1]


def asking(part: dict[str, Any]) -> Any:
    return [{"role": "user", "content": [part, {"type": "text", "text": "What is it?"}]}]


def by_id(file_id: str) -> Any:
    return asking({"type": "file", "file": {"file_id": file_id}})


def answer(one: OpenAI, messages: Any) -> Any:
    return one.chat.completions.create(model="tiny", messages=messages, temperature=0, max_tokens=30)


def test_a_picture_by_its_id_is_the_picture(address: str) -> None:
    one = client(address)
    file = one.files.create(file=("cat.png", png()), purpose="vision")
    assert file.id.startswith("file-") and file.bytes == len(png()) and file.filename == "cat.png"
    assert file.expires_at is not None and file.expires_at - file.created_at == 3600
    assert one.files.retrieve(file.id) == file
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    inline = asking({"type": "image_url", "image_url": {"url": url}})
    said, said_inline = answer(one, by_id(file.id)), answer(one, inline)
    assert said.choices[0].message.content == said_inline.choices[0].message.content
    assert said.usage.prompt_tokens == said_inline.usage.prompt_tokens
    assert one.files.delete(file.id).deleted
    for call in (one.files.retrieve, one.files.delete):
        with pytest.raises(openai.NotFoundError, match="no file"):
            call(file.id)
    with pytest.raises(openai.NotFoundError, match="no file"):
        answer(one, by_id(file.id))


def test_a_clip_by_its_id_is_the_clip(address: str) -> None:
    one = client(address)
    file = one.files.create(file=("clip.mp4", mp4()), purpose="vision")
    url = f"data:video/mp4;base64,{base64.b64encode(mp4()).decode()}"
    inline = asking({"type": "video_url", "video_url": {"url": url}})
    said, said_inline = answer(one, by_id(file.id)), answer(one, inline)
    assert said.choices[0].message.content == said_inline.choices[0].message.content
    one.files.delete(file.id)


def test_another_key_sees_nothing(address: str) -> None:
    one, two = client(address), client(address, "two")
    file = one.files.create(file=("cat.png", png()), purpose="vision")
    for call in (two.files.retrieve, two.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(file.id)
    with pytest.raises(openai.NotFoundError) as refusal:
        answer(two, by_id(file.id))
    assert refusal.value.param == "messages.0.content.0"
    assert httpx.get(f"{address}/v1/files/{file.id}").status_code == 401
    assert one.files.retrieve(file.id) == file
    one.files.delete(file.id)


@pytest.mark.parametrize(
    ("files", "data", "param"),
    [
        ({"file": ("cat.png", b"x")}, {}, "purpose"),
        ({"file": ("cat.png", b"x")}, {"purpose": "fine-tune"}, "purpose"),
        ({"file": ("cat.txt", b"x")}, {"purpose": "vision"}, "file"),
        ({"file": ("cat", b"x", "application/octet-stream")}, {"purpose": "vision"}, "file"),
        ({"picture": ("cat.png", b"x")}, {"purpose": "vision"}, "picture"),
        ({"file": ("cat.png", b"x")}, {"purpose": "vision", "anchor": "x"}, "anchor"),
        ({"other": ("", b"")}, {"purpose": "vision", "file": "text"}, "other"),
    ],
)  # fmt: skip
def test_refused_uploads(address: str, files: Any, data: Any, param: str) -> None:
    headers = {"authorization": "Bearer one"}
    response = httpx.post(f"{address}/v1/files", files=files, data=data, headers=headers)
    assert response.status_code == 400 and response.json()["error"]["param"] == param, response.text


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{}", "application/json"),
        (b"file=a", "application/x-www-form-urlencoded"),
        (b"", "multipart/form-data"),
        (b"x", FORM),
        (b"--a\r\n\r\n--a--", FORM),
        (b"--a\r\nContent-Disposition: form-data\r\n\r\nx\r\n--a--\r\n", FORM),
        (b"--a\r\n" + b"X: y\r\n" * 1000, FORM),
        (b'--a\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\nx', FORM),
        (b'--a\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 20 + b"--a--", FORM),
    ],
)  # fmt: skip
# Of a file that ends too early, Starlette leaves the closing to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_forms_that_are_none(address: str, content: bytes, kind: str) -> None:
    headers = {"authorization": "Bearer one", "content-type": kind}
    response = httpx.post(f"{address}/v1/files", content=content, headers=headers)
    assert response.status_code == 400 and response.json()["error"]["message"], response.text


def test_limits_hold_while_a_file_comes(address: str) -> None:
    """Its length stated or not; and what was refused takes no room."""
    headers = {"authorization": "Bearer one", "content-type": "multipart/form-data; boundary=a"}
    head = b'--a\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    for content in (head + bytes(60_000), iter([head, *[bytes(10_000)] * 6])):
        response = httpx.post(f"{address}/v1/files", content=content, headers=headers)
        assert response.status_code == 413 and response.json()["error"]["code"] == "body_too_large"
    one = client(address)
    large = bytes(40_000)  # more than other bodies may have
    kept = [one.files.create(file=("a.png", large), purpose="vision") for _ in range(2)]
    with pytest.raises(openai.RateLimitError, match="do not fit") as refusal:
        one.files.create(file=("a.png", large), purpose="vision")
    assert 0 < int(refusal.value.response.headers["retry-after"]) <= 3600
    one.files.delete(kept[0].id)
    kept[0] = one.files.create(file=("a.png", large), purpose="vision")
    with pytest.raises(openai.BadRequestError, match="cannot read this image") as unreadable:
        answer(one, by_id(kept[0].id))
    assert "/" not in unreadable.value.message.partition("image of")[2], "no path of ours"
    for file in kept:
        one.files.delete(file.id)


def test_files_go_in_time() -> None:
    now = 1000.0
    store = FileStore(100, 60, clock=lambda: now)
    stored = store.keep("file-1", owner_of("Bearer a"), "a.png", None, io.BytesIO(b"x" * 80))
    assert stored.path.read_bytes() == b"x" * 80 and store.find("file-1", owner_of("Bearer a")) == stored
    with pytest.raises(ApiError) as full:
        store.reserve(21)
    assert full.value.status == 429 and full.value.headers == {"Retry-After": "60"}
    now = 1060.0
    with pytest.raises(ApiError):
        store.find("file-1", owner_of("Bearer a"))
    assert not stored.path.exists()
    store.reserve(100)
    folder = stored.path.parent
    store.close()
    assert not folder.exists()


def test_the_folder_goes_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with serving(limits=LIMITS) as address:
        client(address).files.create(file=("cat.png", png()), purpose="vision")
        assert len(list(tmp_path.glob("camelid-files-*/*"))) == 1
    assert list(tmp_path.iterdir()) == []
