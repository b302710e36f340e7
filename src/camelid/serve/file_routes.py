"""/v1/files: what of OpenAI's upload a picture needs."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from camelid.serve.answers import documented
from camelid.serve.api_error import ApiError
from camelid.serve.choices import new_id
from camelid.serve.file_store import FileStore, StoredFile, owner_of

__all__ = ["file_routes"]

MAX_NAME_CHARS = 255
FORM = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary"}, "purpose": {"enum": ["vision"]}},
    "required": ["file", "purpose"],
    "additionalProperties": False,
}
UPLOAD = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}}}


class FileEntry(BaseModel):
    """An uploaded file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Literal["vision"]
    status: Literal["processed"]


class DeletedFile(BaseModel):
    """What is left of it."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


def file_routes(files: FileStore, max_bytes: int) -> APIRouter:
    """The routes. Files are their owner's alone: another key's are not there."""
    router = APIRouter()

    @router.post(
        "/v1/files",
        response_model=FileEntry,
        responses=documented(400, 401, 408, 413, 429),
        openapi_extra=UPLOAD,
    )
    async def upload(http: Request) -> dict[str, Any]:
        """A picture or clip for later requests; it goes by itself after a while."""
        if not http.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise ApiError(400, "an upload comes as multipart/form-data", code="invalid_value")
        stated = http.headers.get("content-length", "")
        num_bytes = int(stated) if stated.isdecimal() and len(stated) < 16 else max_bytes
        files.reserve(num_bytes)
        try:
            return (await _receive(http)).json()
        finally:
            files.unreserve(num_bytes)

    async def _receive(http: Request) -> StoredFile:
        async with http.form(max_files=1, max_fields=8) as form:
            if unknown := sorted(set(form) - {"file", "purpose"}):
                raise ApiError(
                    400, f"{unknown[0]} is not supported here", param=unknown[0], code="unknown_parameter"
                )
            if form.get("purpose") != "vision":
                raise ApiError(400, "purpose: must be vision", param="purpose", code="invalid_value")
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise ApiError(400, "file: required, with a name", param="file", code="invalid_value")
            owner, name = owner_of(http.headers.get("authorization")), (file.filename or "")[:MAX_NAME_CHARS]
            return await run_in_threadpool(
                files.keep, new_id("file"), owner, name, file.content_type, file.file
            )

    @router.get("/v1/files/{file_id}", response_model=FileEntry, responses=documented(400, 401, 404, 429))
    async def show(file_id: str, http: Request) -> dict[str, Any]:
        """What is known of it; its bytes are not given back."""
        return files.find(file_id, owner_of(http.headers.get("authorization"))).json()

    @router.delete(
        "/v1/files/{file_id}", response_model=DeletedFile, responses=documented(400, 401, 404, 429)
    )
    async def delete(file_id: str, http: Request) -> dict[str, Any]:
        """At once."""
        files.delete(file_id, owner_of(http.headers.get("authorization")))
        return {"id": file_id, "object": "file", "deleted": True}

    return router
