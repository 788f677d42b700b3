"""Bodies of several parts, and what is looked for in them: a session description, or a text.

RFC 3261 sections 7.4.1 and 20.11, RFC 5621; how parts are told apart is RFC 2046 section 5.1, how
one is written in letters RFC 2045 section 6.
"""

from __future__ import annotations

import binascii
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from voip.errors import SipError
from voip.sip.grammar import find_param, parse_params
from voip.sip.headers import ContentType, Headers
from voip.sip.limits import MAX_BOUNDARY_CHARS, MAX_DEPTH, MAX_PART_HEADERS, MAX_PARTS
from voip.sip.message import Request, Response

__all__ = [
    "MULTIPART",
    "SDP",
    "BodyPart",
    "Found",
    "find_body",
    "is_readable",
    "session_description",
    "split_parts",
]

SDP: Final = "application/sdp"
MULTIPART: Final = ("multipart/mixed", "multipart/alternative")
"""What we say that we read; any other kind of multipart is read as mixed (RFC 2046 5.1.3)."""

_MORE: Final = frozenset(
    (
        "Content-Disposition",
        "Content-Encoding",
        "content-transfer-encoding",
    )  # as `Headers` has them
)


_AS_IT_IS: Final = ("7bit", "8bit", "binary")


class BodyPart(NamedTuple):
    """One part of a body, as it came."""

    headers: Headers
    body: bytes


class Found(NamedTuple):
    """What was looked for: its media type, and what it says, decoded."""

    media_type: str
    body: bytes


class _Reading(NamedTuple):
    """What a body or a part comes to: whether nothing in it is too much for us, and the find."""

    readable: bool
    found: Found | None


def session_description(message: Request | Response) -> bytes:
    """Return the offer or answer in a message: all of its body, or a part; b"" without one.

    A body without a Content-Type, or with one that nobody can read, is taken for one. One for an
    early session (RFC 3959) is none of the call. Never raises: where the parts cannot be told
    apart, there is none.
    """
    body, headers = message.body, message.headers
    if not body or _is_plain(headers):
        return body
    try:
        _ = message.content_type
    except SipError:
        return body
    try:
        found = _read(headers, body, (SDP,), SDP, MAX_DEPTH).found
    except SipError:
        return b""
    return found.body if found is not None else b""


def find_body(message: Request | Response, accept: Collection[str], usual: str) -> Found | None:
    """Return the first part of one of these media types, or all of the body; None: 415.

    There is none where anything in the body has to be understood and is of no such type. `usual`
    is what a body without a Content-Type is. SipError (400) as for `is_readable`.
    """
    reading = _read(message.headers, message.body, accept, usual, MAX_DEPTH)
    return reading.found if reading.readable else None


def is_readable(message: Request | Response, accept: Collection[str]) -> bool:
    """Whether the body is of these media types, as far as it has to be understood (415).

    What says `handling=optional` may be passed over. SipError (400) where a multipart is none, or
    has more parts, or deeper ones, than anybody needs.
    """
    if not message.body or (SDP in accept and _is_plain(message.headers)):
        return True
    return _read(message.headers, message.body, accept, SDP, MAX_DEPTH).readable


def _is_plain(headers: Headers) -> bool:
    """Whether a body is a session description and nothing else, as it nearly always is."""
    return headers.get("Content-Type") in (None, SDP) and _MORE.isdisjoint(headers._first)


def split_parts(body: bytes, boundary: str) -> list[BodyPart]:
    """Take a multipart apart; what stands before the first part and behind the last is dropped.

    The last part may end with the body. Lines may end in LF alone. SipError (400) where there is
    no part, or a part's headers cannot be read.
    """
    if not boundary or len(boundary) > MAX_BOUNDARY_CHARS or not boundary.isascii():
        raise SipError(f"not a boundary: {boundary[:40]!r}", status=400)
    parts: list[BodyPart] = []
    for start, end in _bounds(body, b"--" + boundary.encode("ascii")):
        if len(parts) == MAX_PARTS:
            raise SipError(f"a body of more than {MAX_PARTS} parts", status=400)
        parts.append(_part(body[start:end]))
    if not parts:
        raise SipError("a multipart body without a part", status=400)
    return parts


def _bounds(body: bytes, mark: bytes) -> Iterator[tuple[int, int]]:
    """Yield where parts begin and end: between lines that are `mark`, to one that is `mark--`."""
    start: int | None = None
    at = 0 if body.startswith(mark) else body.find(b"\n" + mark) + 1 or -1
    while at >= 0:
        line_end = body.find(b"\n", at)
        line_end = len(body) if line_end < 0 else line_end
        rest = body[at + len(mark) : line_end].rstrip(b" \t\r")
        if rest in (b"", b"--"):  # else a line that only begins like it
            if start is not None:
                yield start, max(start, at - (2 if body[at - 2 : at] == b"\r\n" else 1))
            if rest:
                return
            start = min(line_end + 1, len(body))
        at = body.find(b"\n" + mark, line_end) + 1 or -1
    if start is not None:
        yield start, len(body)


def _part(text: bytes) -> BodyPart:
    """Read one part: header lines, if there are any, a blank line, and what it says."""
    if text[:1] == b"\n" or text[:2] == b"\r\n":
        return BodyPart(Headers(), text[text.index(b"\n") + 1 :])
    ends = [(at, len(end)) for end in (b"\r\n\r\n", b"\n\n") if (at := text.find(end)) >= 0]
    at, length = min(ends, default=(len(text), 0))
    head = text[:at].rstrip(b"\r\n").replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    headers, bad = Headers.read(head.decode("utf-8", "surrogateescape"))
    if bad is not None or len(headers) > MAX_PART_HEADERS:
        raise SipError("a part of a body whose headers cannot be read", status=400)
    return BodyPart(headers, text[at + length :])


def _read(
    headers: Headers, body: bytes, accept: Collection[str], usual: str, depth: int
) -> _Reading:
    """Read a body or a part; `usual` is what it is where it does not say."""
    kind = ContentType.parse(headers.get("Content-Type") or usual)
    disposition, optional = _disposition(headers)
    name = kind.media_type
    reading = _Reading(False, None)
    if name.startswith("multipart/"):
        if not _is_compressed(headers) and _transfer(headers) in _AS_IT_IS:  # RFC 2045 section 6.4
            reading = _read_parts(kind, body, accept, depth)
    elif name in accept and not _is_compressed(headers):
        plain = _decode(_transfer(headers), body)
        shown = disposition in ("", "session" if name == SDP else "render")
        if plain is not None and (shown or name != SDP):
            reading = _Reading(True, Found(name, plain) if shown else None)
    return reading._replace(readable=True) if optional else reading


def _read_parts(kind: ContentType, body: bytes, accept: Collection[str], depth: int) -> _Reading:
    if not depth:
        raise SipError(f"a body of more than {MAX_DEPTH} multiparts in each other", status=400)
    parts = [
        _read(part.headers, part.body, accept, "text/plain", depth - 1)
        for part in split_parts(body, kind.param("boundary") or "")
    ]
    if kind.media_type == "multipart/alternative":  # the last is the best that the sender has
        best = sorted(parts, key=lambda part: (part.readable, part.found is not None))
        parts = best[-1:]
    found = next((part.found for part in parts if part.found is not None), None)
    return _Reading(all(part.readable for part in parts), found)


def _disposition(headers: Headers) -> tuple[str, bool]:
    """Return what a body is for, and whether it may be passed over (RFC 3261 section 20.11)."""
    kind, semicolon, params = (headers.get("Content-Disposition") or "").partition(";")
    try:
        handling = find_param(parse_params(semicolon + params), "handling") or ""
    except SipError:
        handling = ""
    return kind.strip(" \t").lower(), handling.lower() == "optional"


def _is_compressed(headers: Headers) -> bool:
    """Whether a body is not what it is, whoever reads it (RFC 3261 section 20.12)."""
    return (headers.get("Content-Encoding") or "identity").strip(" \t").lower() != "identity"


def _transfer(headers: Headers) -> str:
    return (headers.get("Content-Transfer-Encoding") or "binary").strip(" \t").lower()


def _decode(transfer: str, body: bytes) -> bytes | None:
    """Return what was written in letters for its way (RFC 2045 section 6); None: nobody can tell.

    It is never longer than what was written.
    """
    if transfer in _AS_IT_IS:
        return body
    if transfer == "quoted-printable":
        return binascii.a2b_qp(body)
    if transfer != "base64":
        return None
    try:
        return binascii.a2b_base64(body)
    except binascii.Error:
        return None
