"""Pictures and clips of a request, wherever they are: in data URLs, on allowed hosts, among uploaded files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from camelid.core import ImagePart, Part, TextPart, VideoPart
from camelid.serve.api_error import ApiError
from camelid.serve.file_store import FileStore, StoredFile
from camelid.serve.remote_pictures import RemotePictures
from camelid.serve.wire import ContentPart, FileContent, ImageContent, TextContent, WireMessage

__all__ = ["Media", "MediaSources"]


@dataclass(frozen=True)
class Media:
    """What the parts of one request refer to, by URL and by file id."""

    remote: Mapping[str, bytes] = field(default_factory=dict)
    files: Mapping[str, StoredFile] = field(default_factory=dict)

    def part(self, part: ContentPart, place: str) -> Part:
        """Raises ApiError with the place."""
        if isinstance(part, TextContent):
            return TextPart(part.text)
        if isinstance(part, FileContent):
            return _stored(self.files[part.file.file_id], place)
        if isinstance(part, ImageContent):
            return ImagePart(self._data(part.image_url.url, "image/", f"{place}.image_url.url"))
        return VideoPart(self._data(part.video_url.url, "video/", f"{place}.video_url.url"))

    def _data(self, url: str, kind: str, place: str) -> bytes:
        if url in self.remote:
            return self.remote[url]
        header, comma, body = url.partition(",")
        if not header.startswith(f"data:{kind}") or not header.endswith(";base64") or not comma:
            raise ApiError(
                400, f"{place}: only data:{kind}…;base64 URLs are read here", param=place, code="invalid_url"
            )
        try:
            return base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ApiError(
                400, f"{place}: not base64: {error}", param=place, code="invalid_base64"
            ) from error


class MediaSources:
    """Where media come from; what one request needs is collected before it is encoded."""

    def __init__(self, remote: RemotePictures | None, files: FileStore, max_bytes: int) -> None:
        self._remote, self._files, self._max_bytes = remote, files, max_bytes

    async def collect(self, messages: Sequence[WireMessage], owner: str) -> Media:
        """Raises ApiError with the place of what cannot be had. All that is fetched counts like a body."""
        remote: dict[str, bytes] = {}
        files: dict[str, StoredFile] = {}
        for index, message in enumerate(messages):
            parts = message.content if isinstance(message.content, list) else []
            for number, part in enumerate(parts):
                place = f"messages.{index}.content.{number}"
                if isinstance(part, TextContent):
                    continue
                if isinstance(part, FileContent):
                    files[part.file.file_id] = self._files.find(part.file.file_id, owner, place)
                    continue
                name = "image_url" if isinstance(part, ImageContent) else "video_url"
                url = part.image_url.url if isinstance(part, ImageContent) else part.video_url.url
                if self._remote is None or url.startswith("data:") or url in remote:
                    continue
                remote[url] = await self._remote.fetch(url, f"{place}.{name}.url")
                if sum(map(len, remote.values())) > self._max_bytes:
                    message_text = f"{place}: the pictures have more than {self._max_bytes:,} bytes together"
                    raise ApiError(400, message_text, param=place, code="invalid_url")
        return Media(remote, files)


def _stored(file: StoredFile, place: str) -> Part:
    try:
        data = file.path.read_bytes()
    except OSError as error:
        raise ApiError(404, f"no file {file.id!r}", param=place, code="file_not_found") from error
    return ImagePart(data) if file.kind == "image" else VideoPart(data)
