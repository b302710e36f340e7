"""Pictures from other hosts: from none, from those named, and never from where a request could not go itself."""

from __future__ import annotations

import io
import ipaddress
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from PIL import Image

from camelid.core.errors import ConfigError
from camelid.serve import AllowedHost, Limits
from camelid.testing.scripted_engine import ScriptedEngine
from served import scripted, serving

CHAT = "/v1/chat/completions"
ASKED: list[str] = []  # paths that the other host was asked for


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, "png")
    return file.getvalue()


class OtherHost(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ASKED.append(self.path)
        routes: dict[str, Any] = {
            "/cat.png": self.picture,
            "/page": lambda: self.give(b"<html>no picture</html>"),
            "/gone": lambda: self.send_error(404),
            "/large": lambda: self.give(bytes(5000)),
            "/endless": self.endless,
            "/slow": lambda: time.sleep(3),
            "/packed": lambda: self.give(png(), encoding="gzip"),
            "/moved": lambda: self.lead("/cat.png"),
            "/circle": lambda: self.lead("/circle"),
            "/away": lambda: self.lead("http://example.org/cat.png"),
            "/other-port": lambda: self.lead("http://127.0.0.1:1/cat.png"),
            "/file": lambda: self.lead("file:///etc/passwd"),
            "/bad-length": lambda: self.give(png(), length=10**6),
        }
        routes[self.path]()

    def picture(self) -> None:
        assert self.headers["accept-encoding"] == "identity" and "authorization" not in self.headers
        self.give(png())

    def give(self, data: bytes, encoding: str = "", length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        self.wfile.write(data)

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(1000))
        except OSError:
            pass  # the reader had enough

    def lead(self, where: str) -> None:
        self.send_response(302)
        self.send_header("Location", where)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def other() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), OtherHost)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def fetching(*hosts: str) -> Any:
    limits = Limits(image_hosts=tuple(map(AllowedHost.parse, hosts)), max_body_bytes=4000, fetch_seconds=1.0)
    return serving(scripted(ScriptedEngine("hello")), limits)


def ask(address: str, url: str, kind: str = "image_url") -> httpx.Response:
    content = [{"type": kind, kind: {"url": url}}]
    body = {"model": "tiny", "messages": [{"role": "user", "content": content}]}
    return httpx.post(f"{address}{CHAT}", json=body, timeout=20)


SEES_NOTHING = "has no vision encoder"  # the picture came and was read; the scripted model is blind


def test_off_by_default(other: int) -> None:
    ASKED.clear()
    with fetching() as address:
        response = ask(address, f"http://127.0.0.1:{other}/cat.png")
    assert response.status_code == 400 and response.json()["error"]["code"] == "invalid_url" and not ASKED


@pytest.mark.parametrize("path", ["/cat.png", "/moved"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_host_that_was_named(other: int, host: str, path: str) -> None:
    with fetching(f"{host}:{other}") as address:
        response = ask(address, f"http://{host}:{other}{path}")
    assert SEES_NOTHING in response.json()["error"]["message"], response.text


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/page", "cannot read this image"),
        ("/gone", "answers 404"),
        ("/large", "more than 4,000 bytes"),
        ("/endless", "more than 4,000 bytes"),
        ("/slow", "no answer within 1 seconds"),
        ("/packed", "packs what was asked for unpacked"),
        ("/circle", "leads on more than 3 times"),
        ("/away", "leads to another host"),
        ("/other-port", "leads to another host"),
        ("/file", "leads to another host"),
        ("/bad-length", "cannot be fetched"),
    ],
)
def test_what_a_named_host_must_not_do(other: int, path: str, why: str) -> None:
    with fetching(f"127.0.0.1:{other}") as address:
        began = time.perf_counter()
        response = ask(address, f"http://127.0.0.1:{other}{path}")
        assert response.status_code == 400 and time.perf_counter() - began < 3
        assert why in response.json()["error"]["message"], response.text
        assert httpx.get(f"{address}/health").status_code == 200


def test_one_url_is_fetched_once(other: int) -> None:
    part = {"type": "image_url", "image_url": {"url": f"http://127.0.0.1:{other}/cat.png"}}
    with fetching(f"127.0.0.1:{other}") as address:
        ASKED.clear()
        body = {"model": "tiny", "messages": [{"role": "user", "content": [part] * 10}]}
        assert SEES_NOTHING in httpx.post(f"{address}{CHAT}", json=body, timeout=20).text
    assert ASKED == ["/cat.png"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/cat.png",  # another port
        "http://127.0.0.2:{port}/cat.png",  # another address
        "http://[::1]:{port}/cat.png",
        "http://[::ffff:127.0.0.1]:{port}/cat.png",
        "http://2130706433:{port}/cat.png",  # 127.0.0.1 as a number
        "http://0x7f.1:{port}/cat.png",
        "http://localhost:{port}/cat.png",  # not the name that was named
        "http://127.0.0.1.:{port}/cat.png",
        "http://user@127.0.0.1:{port}/cat.png",
        "http://127.0.0.1:{port}@example.org/cat.png",
        "ftp://127.0.0.1:{port}/cat.png",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
        "//127.0.0.1:{port}/cat.png",
        "http://",
        "http://[",
        "http://\u2025/",
        "",
    ],
)
def test_urls_beside_the_named_host(other: int, url: str) -> None:
    ASKED.clear()
    with fetching(f"127.0.0.1:{other}") as address:
        response = ask(address, url.format(port=other))
    assert response.status_code == 400 and response.json()["error"]["code"] == "invalid_url", response.text
    assert not ASKED


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("127.0.0.1", False), ("10.1.2.3", False), ("192.168.1.1", False), ("172.16.0.1", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False),
        ("255.255.255.255", False), ("::1", False), ("fe80::1", False), ("fc00::1", False), ("ff02::1", False),
        ("::ffff:127.0.0.1", False), ("::ffff:10.0.0.1", False), ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False),
        ("93.184.216.34", True), ("2606:2800:220:1:248:1893:25c8:1946", True),
    ],
)  # fmt: skip
def test_a_name_must_lead_to_the_public(
    other: int, address: str, is_public: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the connection goes to the very address that was looked at: no second question, no second answer."""
    asked: list[str] = []
    connected: list[httpx.URL] = []

    async def resolve(host: str, port: int) -> Any:
        asked.append(host)
        return [ipaddress.ip_address(address)]

    async def send(_: httpx.AsyncClient, request: httpx.Request, **__: Any) -> httpx.Response:
        connected.append(request.url)
        assert request.headers["host"] == "pictures.example" and request.url.scheme == "https"
        assert request.extensions["sni_hostname"] == "pictures.example"
        raise httpx.ConnectError("as far as a test goes")

    monkeypatch.setattr(httpx.AsyncClient, "send", send)
    with fetching("pictures.example") as server:
        monkeypatch.setattr("camelid.serve.remote_pictures._addresses", resolve)
        content = [{"type": "image_url", "image_url": {"url": "https://pictures.example/cat.png"}}]
        body = {"model": "tiny", "messages": [{"role": "user", "content": content}]}
        message = httpx.post(f"{server}{CHAT}", json=body).json()["error"]["message"]
        monkeypatch.undo()
    assert asked == ["pictures.example"]
    if is_public:
        assert [url.host for url in connected] == [address] and "cannot be fetched" in message
    else:
        assert connected == [] and "not public" in message


def test_other_hosts_are_spoken_to_in_https_only() -> None:
    with fetching("pictures.example", "pictures.example:80") as server:
        response = ask(server, "http://pictures.example/cat.png")
    assert "only https" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "text", ["", "a b", "https://a.org", "a.org/path", "a.org:x", "u@a.org", "a.org:1:2"]
)
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST"):
        AllowedHost.parse(text)


def test_hosts() -> None:
    assert AllowedHost.parse("A.org:81") == AllowedHost("a.org", 81)
    assert AllowedHost.parse("[::1]").is_loopback and AllowedHost.parse("localhost").is_loopback
    assert not AllowedHost.parse("a.org").is_loopback
