"""Pictures and clips from other hosts: off, unless whoever runs the server names the hosts.

A server that fetches what it is told can be told to fetch from its own network. So a URL's host must be on the list,
its addresses must be public, and the connection goes to the address that was checked: a name that answers differently
the second time gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from camelid.core.errors import ConfigError
from camelid.serve.api_error import ApiError

__all__ = ["AllowedHost", "RemotePictures"]

MAX_REDIRECTS = 3
AT_ONCE = 8
HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:(?P<port>[0-9]{1,5}))?")
DEFAULT_PORTS = {"https": 443, "http": 80}

# IPv6 that holds an IPv4 address, which a gateway may take anywhere: NAT64, 6to4.
DISGUISES = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16")))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class AllowedHost:
    """A name or an address; the port is the scheme's own if none is given."""

    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> AllowedHost:
        """From `HOST` or `HOST:PORT`; raises ConfigError."""
        if (match := HOST.fullmatch(text)) is None:
            raise ConfigError(f"{text!r} is no HOST or HOST:PORT")
        return cls(match["host"].strip("[]").lower(), int(match["port"]) if match["port"] else None)

    @property
    def is_loopback(self) -> bool:
        """Whether this very machine was named."""
        if self.host == "localhost":
            return True
        return (address := _literal(self.host)) is not None and address.is_loopback

    def may_be(self, address: Address) -> bool:
        """Public addresses; others only where they were named."""
        plain = getattr(address, "ipv4_mapped", None) or address
        if plain == _literal(self.host) or (self.host == "localhost" and plain.is_loopback):
            return True
        is_disguised = any(plain in network for network in DISGUISES)
        return bool(plain.is_global) and not plain.is_multicast and not is_disguised


class RemotePictures:
    """Fetches from the hosts allowed; from none if there are none."""

    def __init__(
        self, hosts: Sequence[AllowedHost] = (), *, max_bytes: int = 32 * 2**20, timeout_seconds: float = 15.0
    ) -> None:
        self._hosts, self._max_bytes, self._timeout_seconds = tuple(hosts), max_bytes, timeout_seconds
        self._tls = ssl.create_default_context()
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def fetch(self, url: str, place: str) -> bytes:
        """The bytes behind a URL. Raises ApiError with the place in the request."""
        try:
            async with asyncio.timeout(self._timeout_seconds), self._slots:
                return await self._follow(_parsed(url))
        except TimeoutError as error:
            raise _refused(place, f"no answer within {self._timeout_seconds:g} seconds") from error
        except (httpx.HTTPError, OSError) as error:
            raise _refused(place, f"cannot be fetched: {type(error).__name__}") from error
        except _NotAllowed as error:
            raise _refused(place, str(error)) from error

    async def _follow(self, url: httpx.URL) -> bytes:
        first = url
        for _ in range(MAX_REDIRECTS + 1):
            if (url.scheme, url.host, url.port) != (first.scheme, first.host, first.port):
                raise _NotAllowed("it leads to another host")
            data, onward = await self._get(url)
            if onward is None:
                return data
            url = url.join(onward)
        raise _NotAllowed(f"it leads on more than {MAX_REDIRECTS} times")

    async def _get(self, url: httpx.URL) -> tuple[bytes, str | None]:
        """One request to a checked address: the body, or where to go instead."""
        address = await self._checked_address(url)
        literal = f"[{address}]" if address.version == 6 else str(address)
        request = httpx.Request(
            "GET",
            url.copy_with(host=literal),
            headers={"Host": url.netloc.decode(), "Accept": "image/*,video/*", "Accept-Encoding": "identity"},
            extensions={"sni_hostname": url.host},  # the certificate must be of the name
        )
        async with httpx.AsyncClient(
            verify=self._tls, trust_env=False, timeout=self._timeout_seconds
        ) as client:
            response = await client.send(request, stream=True)
            try:
                if response.has_redirect_location:
                    return b"", response.headers["location"]
                if response.status_code != 200:
                    raise _NotAllowed(f"its host answers {response.status_code}")
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise _NotAllowed("its host packs what was asked for unpacked")
                return await self._body(response), None
            finally:
                await response.aclose()

    async def _body(self, response: httpx.Response) -> bytes:
        data = bytearray()
        async for piece in response.aiter_raw():
            data += piece
            if len(data) > self._max_bytes:
                raise _NotAllowed(f"it has more than {self._max_bytes:,} bytes")
        return bytes(data)

    async def _checked_address(self, url: httpx.URL) -> Address:
        port = url.port or DEFAULT_PORTS.get(url.scheme, 0)
        entries = [
            entry
            for entry in self._hosts
            if entry.host == url.host.lower() and (entry.port or DEFAULT_PORTS.get(url.scheme)) == port
        ]
        if not entries:
            raise _NotAllowed(
                f"{url.netloc.decode()!r} is not among the hosts that are asked for pictures here"
            )
        if url.scheme != "https" and not (url.scheme == "http" and entries[0].is_loopback):
            raise _NotAllowed("only https is spoken to other hosts")
        addresses = await _addresses(url.host, port)
        if not addresses or not all(entries[0].may_be(address) for address in addresses):
            raise _NotAllowed("its host has an address that is not public")
        return addresses[0]


class _NotAllowed(Exception):
    pass


async def _addresses(host: str, port: int) -> list[Address]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise _NotAllowed("it is no URL") from error
    if parsed.userinfo:
        raise _NotAllowed("it holds a user's name")
    return parsed


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _refused(place: str, why: str) -> ApiError:
    return ApiError(400, f"{place}: {why}", param=place, code="invalid_url")
