"""What a client is told when something is not right: problem details for HTTP (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, final

from starlette.responses import Response

__all__ = ["KINDS", "MEDIA_TYPE", "Problem", "problem_response"]

MEDIA_TYPE = "application/problem+json"

#: The kinds of problems: their status and their title. The title never changes; what differs is told in the detail.
KINDS: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request cannot be understood"),
    "no-image": (400, "The request has no image"),
    "no-key": (401, "An API key is needed"),
    "no-such-page": (404, "There is nothing at this address"),
    "no-such-model": (404, "There is no such model"),
    "wrong-method": (405, "This address does not take this method"),
    "too-slow": (408, "The request took too long to arrive"),
    "too-large": (413, "The request is too large"),
    "too-many-images": (413, "The request has too many images"),
    "too-many-pixels": (413, "The image has too many pixels"),
    "wrong-type": (415, "The request is of a type that is not taken"),
    "wrong-parameter": (422, "A parameter cannot be used"),
    "unreadable-image": (422, "The image cannot be read"),
    "busy": (429, "The server has as much to do as it can"),
    "out-of-time": (429, "The answer would have come too late"),
    "fault": (500, "The server has a fault"),
    "stopping": (503, "The server is not ready"),
}


@final
class Problem(Exception):  # noqa: N818  # the RFC's word, and not all of them are errors of somebody's
    """One problem, on its way to the client.

    Parameters
    ----------
    kind
        One of ``KINDS``.
    detail
        What is wrong with this request, where, and what was expected.
    headers
        That the answer carries.
    more
        Members of the answer beyond those of the RFC, as JSON values.
    """

    def __init__(
        self, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, more: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = dict(more or {})

    @property
    def status(self) -> int:
        """The HTTP status."""
        return KINDS[self.kind][0]

    def to_dict(self) -> dict[str, Any]:
        """The members of the answer."""
        status, title = KINDS[self.kind]
        return {"type": f"urn:greffon:problem:{self.kind}", "title": title, "status": status, "detail": self.detail, **self.more}


def problem_response(problem: Problem) -> Response:
    """The answer that tells a problem."""
    # A file's name may hold half of a surrogate pair, which UTF-8 has no bytes for: ASCII with JSON's escapes has.
    content = json.dumps(problem.to_dict(), ensure_ascii=True).encode("ascii")
    return Response(content, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)
