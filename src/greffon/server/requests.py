"""A request's body becomes encoded images: multipart, one image as it is, or JSON with base64. Addresses are never fetched."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from greffon.server.limits import ServerLimits
from greffon.server.problems import Problem

__all__ = ["FIELDS", "Base64Image", "Base64Images", "Encoded", "Room", "read_body", "read_images"]

#: The names that a part of a form may have.
FIELDS = ("image", "images", "file", "files")

_ACCEPTED = "multipart/form-data, image/*, application/octet-stream, application/json"
_TAKEN = "multipart/form-data with parts named image, one image as image/* or application/octet-stream, or application/json"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One image as it came: its name, or "", and its bytes."""

    name: str
    data: bytes


class Base64Image(BaseModel):
    """One image in JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    data: Annotated[str, Field(description="The bytes of an image file in base64 (RFC 4648); may begin with data:…;base64,")]
    name: Annotated[str, Field(description="Comes back in the answer", max_length=1000)] = ""


class Base64Images(BaseModel):
    """Images in JSON. There is no field for an address: the server fetches nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    images: Annotated[list[str | Base64Image], Field(description="Base64, or objects with data and name", min_length=1)]


@final
class Room:
    """How many bytes of bodies are held at one time, by all requests together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    def take(self, count: int) -> None:
        """Hold so many more. Raises Problem ``busy`` where there is no room."""
        if self.held + count > self._most:
            raise Problem("busy", "too many bytes are being received at this moment; try again in a second", headers={"Retry-After": "1"})
        self.held += count

    def give(self, count: int) -> None:
        """Hold so many less."""
        self.held -= count


async def read_body(request: Request, limits: ServerLimits, room: Room) -> bytes:
    """The whole body. What it takes of ``room`` is the caller's to give back: as much as is returned.

    Raises
    ------
    Problem
        ``too-large``, ``too-slow`` or ``busy``.
    starlette.requests.ClientDisconnect
        The client has gone.
    """
    told = request.headers.get("content-length", "")
    if told.isascii() and told.isdigit() and int(told) > limits.max_bytes:
        raise Problem("too-large", f"{int(told):,} bytes, over the limit of {limits.max_bytes:,}")
    chunks: list[bytes] = []
    held = 0
    try:
        async with asyncio.timeout(limits.receive):
            async for chunk in request.stream():
                room.take(len(chunk))
                held += len(chunk)
                if held > limits.max_bytes:
                    raise Problem("too-large", f"more than {limits.max_bytes:,} bytes, the limit")
                chunks.append(chunk)
    except TimeoutError as error:
        room.give(held)
        raise Problem("too-slow", f"only {held:,} bytes came within {limits.receive:g} s", headers={"Connection": "close"}) from error
    except BaseException:
        room.give(held)
        raise
    return b"".join(chunks)


async def read_images(request: Request, body: bytes, limits: ServerLimits) -> list[Encoded]:
    """The images of a body, one at least.

    Raises
    ------
    Problem
        ``no-image``, ``bad-request``, ``wrong-type`` or ``too-many-images``.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        found = await _of_form(request, body, limits)
    elif kind == "application/json":
        found = await asyncio.to_thread(_of_json, body, limits)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        found = [Encoded("", body)] if body else []
    else:
        raise Problem("wrong-type", f"the Content-Type is {kind[:80]!r}; send {_TAKEN}", headers={"Accept-Post": _ACCEPTED})
    if not found:
        raise Problem("no-image", f"no image came; send {_TAKEN}")
    return found


def _too_many(limits: ServerLimits) -> Problem:
    return Problem("too-many-images", f"more than {limits.max_images} images; send at most that many at a time")


async def _of_form(request: Request, body: bytes, limits: ServerLimits) -> list[Encoded]:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, once(), max_files=limits.max_images, max_fields=16)
    parser.spool_max_size = limits.max_bytes + 1  # photos stay in memory, never on a disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise _too_many(limits) from error
        raise Problem("bad-request", f"the form is damaged: {error.message[:200]}") from error
    found = []
    try:
        for name, part in form.multi_items():
            if name not in FIELDS:
                raise Problem("bad-request", f"the form has a field {name[:80]!r}; photos are parts named image, with a file name")
            if not isinstance(part, UploadFile):
                raise Problem("bad-request", f"the field {name} holds text; a photo is a part with a file name")
            found.append(Encoded((part.filename or "")[:1000], await part.read()))
    finally:
        await form.close()
    return found


def _of_json(body: bytes, limits: ServerLimits) -> list[Encoded]:
    try:
        told = Base64Images.model_validate_json(body)
    except ValidationError as error:
        raise Problem("bad-request", f"the JSON is not what is taken: {_first_fault(error)}") from error
    if len(told.images) > limits.max_images:
        raise _too_many(limits)
    return [_decoded(one, number) for number, one in enumerate(told.images)]


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part)[:40] for part in fault["loc"])
    return f"{place}: {fault['msg'][:200]}" if place else fault["msg"][:200]


def _decoded(one: str | Base64Image, number: int) -> Encoded:
    name, text = ("", one) if isinstance(one, str) else (one.name, one.data)
    if text[:5].lower() == "data:":
        head, _, text = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise Problem("bad-request", f"images.{number}: a data: address must be base64")
    elif text[:8].lower().startswith(("http://", "https://", "file://", "ftp://")):
        raise Problem("bad-request", f"images.{number}: is an address, and addresses are not fetched; send the image's bytes in base64")
    try:
        return Encoded(name, base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, ValueError) as error:
        raise Problem("bad-request", f"images.{number}: is not base64 ({str(error)[:100]})") from error
