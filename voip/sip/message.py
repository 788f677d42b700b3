"""SIP requests and responses (RFC 3261 section 7): from bytes, to bytes, one from the other.

Parsing splits lines and nothing else; a header value is read when somebody asks for it and kept
as long as its line stays. Text that is not UTF-8 goes through unharmed (surrogateescape).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar, overload

from voip.errors import SipError
from voip.sip.grammar import METHODS, is_token, split_list
from voip.sip.headers import ContentType, CSeq, Headers, NameAddr
from voip.sip.limits import MAX_HEADERS, MAX_LINE_CHARS, MAX_MESSAGE_BYTES
from voip.sip.uri import for_people
from voip.sip.via import Via

__all__ = ["REASONS", "Request", "Response", "make_response", "parse_message"]

REASONS: Final[dict[int, str]] = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    199: "Early Dialog Terminated",
    200: "OK",
    202: "Accepted",
    204: "No Notification",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    412: "Conditional Request Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    428: "Use Identity Header",
    429: "Provide Referrer Identity",
    430: "Flow Failed",
    433: "Anonymity Disallowed",
    436: "Bad Identity Info",
    437: "Unsupported Credential",
    438: "Invalid Identity Header",
    439: "First Hop Lacks Outbound Support",
    440: "Max-Breadth Exceeded",
    469: "Bad Info Package",
    470: "Consent Needed",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    493: "Undecipherable",
    494: "Security Agreement Required",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    555: "Push Notification Service Not Supported",
    580: "Precondition Failure",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
    607: "Unwanted",
    608: "Rejected",
}
"""Default reason phrases (RFC 3261 section 21 and the IANA registry of response codes)."""

_END: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(r"[1-6][0-9][0-9]")
_VERSION: Final = re.compile(r"SIP/[0-9]++\.[0-9]++", re.IGNORECASE)
_DIGITS: Final = re.compile(r"[0-9]{1,9}")

_COPIED: Final = ("Via", "From", "To", "Call-ID", "CSeq")
"""What every response takes over from its request."""
_COPIED_WITH: Final = ((*_COPIED, "Record-Route"), (*_COPIED, "Timestamp"))
"""What those below 300 take over: all but a 100, and a 100."""

_T = TypeVar("_T")


class _Field(Generic[_T]):
    """A header read when asked for, and read again only when its line has changed.

    Raises SipError (400) where the header is missing or cannot be read.
    """

    __slots__ = ("_name", "_parse")

    def __init__(self, name: str, parse: Callable[[str], _T]) -> None:
        self._name = name
        self._parse = parse

    @overload
    def __get__(self, message: None, owner: Any) -> _Field[_T]: ...
    @overload
    def __get__(self, message: Request | Response, owner: Any) -> _T: ...
    def __get__(self, message: Request | Response | None, owner: Any) -> _Field[_T] | _T:
        if message is None:
            return self
        key = self._name
        line = message.headers._first.get(key)  # the same object as long as nobody has changed it
        if line is None:
            raise SipError(f"the message has no {key}", status=400)
        cache = message._read
        known = cache.get(key)
        if known is not None and known[0] is line:
            value: _T = known[1]
            return value
        fresh = self._parse(line.partition(":")[2].strip(" \t"))
        cache[key] = (line, fresh)
        return fresh

    def keep(self, message: Request | Response, value: _T) -> None:
        """Take it that the header reads so: it has just been written from this."""
        message._read[self._name] = (message.headers._first[self._name], value)


def _call_id(text: str) -> str:
    if not text or " " in text or "\t" in text:
        raise SipError(f"not a Call-ID: {text[:80]!r}", status=400)
    return text


def _contacts(message: Request | Response) -> list[NameAddr]:
    """Read all Contacts, once as long as there is one line of them and nobody has changed it."""
    headers = message.headers
    line = headers._first.get("Contact")
    if line is None:
        return []
    known = message._read.get("Contact")
    if known is not None and known[0] is line and "Contact" not in headers._more:
        found: list[NameAddr] = known[1]
        return found
    fresh = [NameAddr.parse(value) for value in headers.values("Contact")]
    if "Contact" not in headers._more:
        message._read["Contact"] = (line, fresh)
    return fresh


def _media_type(headers: Headers) -> str | None:
    text = headers.get("Content-Type")
    return None if text is None else ContentType.parse(text).media_type


class Request:
    """What one agent asks of another. `uri` is the text as it came, whatever its scheme."""

    __slots__ = ("_read", "body", "headers", "method", "uri")

    via = _Field("Via", Via.first)
    from_ = _Field("From", NameAddr.parse)
    to = _Field("To", NameAddr.parse)
    cseq = _Field("CSeq", CSeq.parse)
    call_id = _Field("Call-ID", _call_id)

    def __init__(
        self, method: str, uri: str, headers: Headers | None = None, body: bytes = b""
    ) -> None:
        self.method = method
        self.uri = uri
        self.headers = Headers() if headers is None else headers
        self.body = body
        self._read: dict[str, tuple[str, Any]] = {}

    @property
    def contacts(self) -> list[NameAddr]:
        """All Contact values; `Contact: *` is one whose uri is "*"."""
        return _contacts(self)

    @property
    def content_type(self) -> str | None:
        """The body's media type in lower case, without parameters; None when not given."""
        return _media_type(self.headers)

    @property
    def max_forwards(self) -> int | None:
        """Hops left; None when not given. SipError (400) when it is no number up to 255."""
        text = self.headers.get("Max-Forwards")
        if text is None:
            return None
        if not _DIGITS.fullmatch(text) or int(text) > 255:
            raise SipError(f"not a Max-Forwards: {text[:40]!r}", status=400)
        return int(text)

    def replace_via(self, via: Via) -> None:
        """Put another Via in the place of the top one; others in the same line stay."""
        hops = split_list(self.headers.get("Via") or "")
        hops[0] = str(via)
        self.headers.replace("Via", ", ".join(hops))
        Request.via.keep(self, via)

    def to_bytes(self) -> bytes:
        """Write the message, with the Content-Length its body has."""
        if not is_token(self.method):
            raise SipError(f"not a method: {self.method[:40]!r}")
        if not self.uri or " " in self.uri:
            raise SipError(f"not a Request-URI: {for_people(self.uri)!r}")
        return _write(f"{self.method} {self.uri} SIP/2.0", self.headers, self.body)

    def summary(self) -> str:
        """Return one line for people, without secrets."""
        return f"{self.method} {_printable(for_people(self.uri))} {_identity(self.headers)}"

    def __repr__(self) -> str:
        return f"<Request {self.summary()}>"


class Response:
    """What one agent answers another."""

    __slots__ = ("_read", "body", "headers", "reason", "status")

    via = _Field("Via", Via.first)
    from_ = _Field("From", NameAddr.parse)
    to = _Field("To", NameAddr.parse)
    cseq = _Field("CSeq", CSeq.parse)
    call_id = _Field("Call-ID", _call_id)

    def __init__(
        self,
        status: int,
        reason: str | None = None,
        headers: Headers | None = None,
        body: bytes = b"",
    ) -> None:
        self.status = status
        self.reason = REASONS.get(status, "") if reason is None else reason
        self.headers = Headers() if headers is None else headers
        self.body = body
        self._read: dict[str, tuple[str, Any]] = {}

    @property
    def contacts(self) -> list[NameAddr]:
        """All Contact values."""
        return _contacts(self)

    @property
    def content_type(self) -> str | None:
        """The body's media type in lower case, without parameters; None when not given."""
        return _media_type(self.headers)

    def to_bytes(self) -> bytes:
        """Write the message, with the Content-Length its body has."""
        return _write(f"SIP/2.0 {self.status:03d} {self.reason}", self.headers, self.body)

    def summary(self) -> str:
        """Return one line for people, without secrets."""
        return f"{self.status} {_printable(self.reason)} {_identity(self.headers)}"

    def __repr__(self) -> str:
        return f"<Response {self.summary()}>"


def parse_message(data: bytes) -> Request | Response:
    """Read one datagram, or one message framed by a stream.

    Bytes behind the Content-Length are dropped (RFC 3261 section 18.3), blank lines before the
    start line too. SipError says what is wrong; its `status` is what answers it, None where
    nothing may (a response, or no SIP at all). Where enough could be read to answer,
    `error.context["request"]` is the Request.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise SipError(f"a message of {len(data)} bytes", status=513)
    if data[:2] == b"\r\n":
        data = data.lstrip(b"\r\n")
    end = data.find(_END)
    head = data[:end] if end >= 0 else data.removesuffix(b"\r\n")
    start, _, lines = head.decode("utf-8", "surrogateescape").partition("\r\n")
    headers, bad_line = Headers.read(lines)
    method, _, rest = start.partition(" ")
    uri, _, version = rest.partition(" ")
    problem: SipError | None = None
    message: Request | Response
    if version == "SIP/2.0" and method in METHODS and uri and uri[0] != "<":
        message = Request(method, uri, headers)
    else:
        message, problem = _start(start, headers)
    if problem is None:
        if bad_line is not None or len(start) > MAX_LINE_CHARS or "\r" in start or "\n" in start:
            problem = _start_problem(start, bad_line)
        else:
            problem = _take_body(message, data, end)
        if problem is None and len(headers._lines) > MAX_HEADERS:
            problem = _too_many(headers)
        if problem is None:
            return message
    if isinstance(message, Response):
        raise SipError(problem.message)
    problem.context["request"] = message
    raise problem


def _start(line: str, headers: Headers) -> tuple[Request | Response, SipError | None]:
    """Read the start line. A wrong one that can still be answered comes with its error."""
    if line[:4] in ("SIP/", "sip/"):
        version, _, rest = line.partition(" ")
        status, _, reason = rest.partition(" ")
        if version.upper() != "SIP/2.0" or not _STATUS.fullmatch(status):
            raise SipError(f"not a status line: {line[:80]!r}")
        return Response(int(status), reason, headers), None
    method, _, rest = line.partition(" ")
    uri, _, version = rest.partition(" ")
    if version == "SIP/2.0" and uri and uri[0] != "<" and is_token(method):
        return Request(method, uri, headers), None
    return _bad_request_line(line, method, headers)


def _bad_request_line(
    line: str, method: str, headers: Headers
) -> tuple[Request | Response, SipError | None]:
    """Tell a request line in another version (505) from a malformed one (400)."""
    words = line.split()
    version = words[-1] if words else ""
    if len(words) < 3 or not _VERSION.fullmatch(version) or not is_token(method):
        raise SipError(f"not a start line: {for_people(line)!r}", status=400)
    request = Request(method, words[1], headers)
    if line != f"{method} {words[1]} {version}" or words[1].startswith("<"):
        problem = SipError(f"a malformed request line: {for_people(line)!r}", status=400)
        return request, problem
    if version.upper() == "SIP/2.0":
        return request, None
    return request, SipError(f"a request in {version[:20]}, not SIP/2.0", status=505)


def _start_problem(start: str, bad_line: str | None) -> SipError:
    if bad_line is not None:
        return SipError(f"a line that is no header: {for_people(bad_line)!r}", status=400)
    if len(start) > MAX_LINE_CHARS:
        return SipError(f"a start line of {len(start)} characters", status=414)
    return SipError("a start line with a bare line break in it", status=400)


def _too_many(headers: Headers) -> SipError | None:
    lines = len(headers)
    if lines - headers.count("Content-Length") <= MAX_HEADERS:
        return None
    return SipError(f"{lines} header lines, {MAX_HEADERS} are allowed", status=400)


def _take_body(message: Request | Response, data: bytes, end: int) -> SipError | None:
    """Give the message its body, as long as Content-Length says (RFC 3261 section 20.14)."""
    if end < 0:
        return SipError("the message ends inside its headers", status=400)
    rest = data[end + 4 :]
    headers = message.headers
    line = headers._first.get("Content-Length")
    if line is not None:
        text = line.partition(":")[2].strip(" \t")
        if "Content-Length" in headers._more or not (
            len(text) < 10 and text.isascii() and text.isdigit()
        ):
            return SipError("no single Content-Length can be read", status=400)
        length = int(text)
        if length != len(rest):
            if length > len(rest):
                return SipError(f"Content-Length says {length}, {len(rest)} bytes came", status=400)
            rest = rest[:length]
    message.body = rest
    return None


def _write(start: str, headers: Headers, body: bytes) -> bytes:
    if "\r" in start or "\n" in start:
        raise SipError("a start line with a line break in it")
    if "Content-Length" in headers:
        headers = headers.copy()
        headers.remove("Content-Length")
    head = f"{start}\r\n{headers.to_text()}Content-Length: {len(body)}\r\n\r\n"
    try:
        return head.encode("utf-8", "surrogateescape") + body
    except UnicodeEncodeError:
        raise SipError("a header that UTF-8 cannot write") from None


def make_response(
    request: Request,
    status: int,
    reason: str | None = None,
    *,
    to_tag: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str | None = None,
) -> Response:
    """Answer a request as RFC 3261 sections 8.2.6 and 12.1.1 say.

    Via, From, To, Call-ID and CSeq are copied as they stand, so that even a request with parts
    missing can be refused; Record-Route where a dialog may begin (101-299), Timestamp in a 100.
    `to_tag` is added unless To has a tag already or the status is 100.
    """
    copied = request.headers.pick(_COPIED if status >= 300 else _COPIED_WITH[status == 100])
    if to_tag is not None and status > 100 and _lacks_tag(request):
        copied.set("To", f"{request.headers.get('To')};tag={to_tag}")
    for name, value in headers:
        copied.add(name, value)
    if content_type is not None:
        copied.set("Content-Type", content_type)
    return Response(status, reason, copied, body)


def _lacks_tag(request: Request) -> bool:
    """Whether To can be read and has no tag: what cannot be read is answered as it came."""
    try:
        return request.to.tag is None
    except SipError:
        return False


def _identity(headers: Headers) -> str:
    cseq, call_id = headers.get("CSeq") or "?", headers.get("Call-ID") or "?"
    return f"(CSeq {_printable(cseq)}, Call-ID {_printable(call_id)})"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:80])
