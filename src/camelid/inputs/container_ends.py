"""Where a film file ends by its own account, so that one whose tail is missing is noticed without decoding it.

Sources: ISO/IEC 14496-12 (boxes of mp4 and mov), RFC 8794 and RFC 9559 (EBML and Matroska), RIFF (AVI).
"""

from __future__ import annotations

import io

__all__ = ["announced_end"]

# Other names at the top level of an mp4 are rare enough to be taken for whatever somebody appended to the file.
_BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"mfra", b"sidx", b"free", b"skip", b"wide", b"uuid"}
_EBML_ID, _SEGMENT_ID = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def announced_end(file: io.BytesIO | io.BufferedReader) -> int:
    """Bytes that the file must have; 0 where it does not say, as in broadcasts. Moves the file's position."""
    file.seek(0)
    start = file.read(512)
    if start.startswith(_EBML_ID):
        return _matroska_end(start)
    if start[:4] == b"RIFF":
        size = int.from_bytes(start[4:8], "little")
        return 8 + size if 0 < size < 2**32 - 1 else 0
    return _mp4_end(file)


def _matroska_end(start: bytes) -> int:
    """Where the segment ends, the second and last element of the file."""
    header_size, header = _ebml_number(start, 4)
    segment = header + header_size
    if start[segment : segment + 4] != _SEGMENT_ID:
        return 0
    size, first = _ebml_number(start, segment + 4)
    return first + size if size else 0


def _ebml_number(data: bytes, start: int) -> tuple[int, int]:
    """A number with its length in its leading zeros, and where it ends; 0 for all ones, which means unknown."""
    first = data[start] if start < len(data) else 0
    length = 9 - first.bit_length()
    ones = (1 << 7 * length) - 1
    value = int.from_bytes(data[start : start + length], "big") & ones
    return (0 if value == ones else value), start + length


def _mp4_end(file: io.BytesIO | io.BufferedReader) -> int:
    """Where the last box ends; 0 if one runs to the end of the file, wherever that is."""
    end, there = 0, file.seek(0, io.SEEK_END)
    while end < there:
        file.seek(end)
        header = file.read(16)
        if len(header) < 8:
            return end + 8 if end and any(header) else end  # zeros are padding
        if header[4:8] not in _BOXES:
            return end
        size = int.from_bytes(header[:4], "big")
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if size < 8:
            return 0
        end += size
    return end
