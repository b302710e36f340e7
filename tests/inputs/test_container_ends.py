"""Where films say that they end, byte by byte."""

from __future__ import annotations

import io
import struct

import pytest

from camelid.inputs.container_ends import announced_end


def box(name: bytes, size: int) -> bytes:
    return struct.pack(">I", size) + name + bytes(max(0, size - 8))


LARGE = struct.pack(">I", 1) + b"mdat" + struct.pack(">Q", 2**33)
EBML = b"\x1a\x45\xdf\xa3\x84head" + b"\x18\x53\x80\x67"


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (box(b"ftyp", 16) + box(b"moov", 20), 36),
        (box(b"ftyp", 16) + box(b"mdat", 20)[:-5], 36),
        (box(b"ftyp", 16) + LARGE, 16 + 2**33),
        (box(b"ftyp", 16) + box(b"mdat", 0) + b"to the end", 0),
        (box(b"ftyp", 16) + b"\xff\xff\xff\xffjunk", 16),  # appended by somebody
        (box(b"ftyp", 16) + bytes(7), 16),  # padding
        (box(b"ftyp", 16) + b"\0\0\3", 24),
        (b"RIFF" + struct.pack("<I", 1000) + b"AVI ", 1008),
        (b"RIFF" + struct.pack("<I", 0) + b"AVI ", 0),  # a recording that never ended
        (EBML + b"\x81", 15),  # one byte after the fourteen that came before
        (EBML + b"\x01" + (70_000).to_bytes(7, "big"), 21 + 70_000),
        (EBML + b"\x01" + b"\xff" * 7, 0),  # a broadcast
        (EBML[:-1], 0),
        (EBML[:5], 0),
        (b"", 0),
        (b"#EXTM3U", 0),
    ],
)
def test_the_announced_end(data: bytes, end: int) -> None:
    assert announced_end(io.BytesIO(data)) == end
