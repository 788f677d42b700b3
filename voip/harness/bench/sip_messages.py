"""What the SIP benchmark reads: an INVITE as it comes from a trunk, and what attackers send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from voip.sip.digest import AuthenticationInfo, Challenge
from voip.sip.event_headers import EventType, SubscriptionState
from voip.sip.grammar import split_list
from voip.sip.headers import ContentType, CSeq, NameAddr
from voip.sip.identity import Privacy
from voip.sip.message import Request, parse_message
from voip.sip.reason import Reason
from voip.sip.reliable import RAck
from voip.sip.replaces import Replaces
from voip.sip.retargeting import Diversion, HistoryEntry
from voip.sip.stream import StreamFramer
from voip.sip.tel import TelUri
from voip.sip.uri import SipUri
from voip.sip.via import Via

__all__ = ["ATTACKS", "INVITE_BYTES", "invite", "route"]

INVITE_BYTES: Final = 1360
"""Length of the INVITE, its session description included."""

_SDP: Final = "\r\n".join(
    (
        "v=0",
        "o=trunk 2890844526 2890844526 IN IP4 192.0.2.10",
        "s=-",
        "c=IN IP4 192.0.2.10",
        "t=0 0",
        "m=audio 49170 RTP/AVP 0 8 9 18 96 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:18 G729/8000",
        "a=fmtp:18 annexb=no",
        "a=rtpmap:96 opus/48000/2",
        "a=fmtp:96 useinbandfec=1;maxaveragebitrate=24000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-16",
        "a=ptime:20",
        "a=maxptime:60",
        "a=rtcp:49171",
        "a=sendrecv",
        "",
    )
)
_HEADERS: Final = (
    "Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{number:08x}74bf9;rport",
    "Via: SIP/2.0/UDP 198.51.100.4:5060;branch=z9hG4bK4b43c2ff8.1;received=198.51.100.4",
    "Record-Route: <sip:192.0.2.10;lr>",
    "Max-Forwards: 69",
    'From: "Alice Liddell" <sip:+15551230001@trunk.example.com>;tag=9f{number:08x}sl',
    "To: <sip:+15551230002@pbx.example.com>",
    "Call-ID: {number:08x}3848276298220188511@198.51.100.4",
    "CSeq: 102 INVITE",
    "Contact: <sip:+15551230001@198.51.100.4:5060;transport=udp>",
    "Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, UPDATE, PRACK",
    "Supported: replaces, timer, 100rel",
    "Session-Expires: 1800",
    "P-Asserted-Identity: <sip:+15551230001@trunk.example.com>",
    "User-Agent: trunk",
    "Content-Type: application/sdp",
    f"Content-Length: {len(_SDP)}",
)


def invite(number: int) -> bytes:
    """Return an INVITE with SDP, INVITE_BYTES long; branch, tag and Call-ID are of that number."""
    lines = ["INVITE sip:+15551230002@pbx.example.com SIP/2.0", *_HEADERS]
    text = "\r\n".join(lines).format(number=number) + "\r\n\r\n" + _SDP
    missing = INVITE_BYTES - len(text)
    return text.replace("User-Agent: trunk", f"User-Agent: trunk{'/':9<{missing}}").encode()


def route(data: bytes) -> tuple[str, str | None, str | None, str | None, str, int]:
    """Read what decides where a request goes: method, branch, both tags, Call-ID and CSeq."""
    request = parse_message(data)
    if not isinstance(request, Request):
        raise TypeError("the benchmark's message is no request")
    return (
        request.method,
        request.via.branch,
        request.from_.tag,
        request.to.tag,
        request.call_id,
        request.cseq.number,
    )


# ---------------------------------------------------------------- attacks

_START: Final = "INVITE sip:a@b SIP/2.0\r\n"


def _message(line: str, size: int) -> bytes:
    """Return a message of `size` bytes whose headers are `line`, again and again."""
    repeated = line * ((size - len(_START) - 2) // len(line))
    return (_START + repeated + "\r\n").encode()


def _headers(data: bytes) -> None:
    """Do to a message all that may be done to one."""
    message = parse_message(data)
    for name in ("Via", "Contact", "Route", "Accept", "Subject"):
        message.headers.values(name)
    _ = message.via, message.contacts
    message.headers.set("Via", "SIP/2.0/UDP a")
    message.to_bytes()


def _fold(size: int) -> bytes:
    return (_START + "Subject: x" + "\r\n x" * ((size - 40) // 4) + "\r\n\r\n").encode()


def _stream(data: bytes) -> None:
    """Let a stream bring it byte by byte, or nearly so."""
    framer = StreamFramer()
    for start in range(0, len(data), 16):
        framer.feed(data[start : start + 16])


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data.decode())


def _fill(head: str, unit: str, tail: str = "") -> Callable[[int], bytes]:
    """Return what makes `head`, as many of `unit` as there is room for, and `tail`."""

    def make(size: int) -> bytes:
        return (head + unit * ((size - len(head) - len(tail)) // len(unit)) + tail).encode()

    return make


_FILLINGS: Final = {
    "blanks": ("", " ", ""),
    "blanks inside": ("a", " \t", "b"),
    "quotes": ("", '"', ""),
    "an open quote": ('"', "a", ""),
    "escapes in an open quote": ('"', "\\\\", ""),
    "escaped quotes": ('"', '\\"', '" <sip:a@b>'),
    "brackets": ("", "<", ""),
    "nested brackets": ("", "<>", ""),
    "quotes in brackets": ("", '<"', ""),
    "commas": ("a", ",", "a"),
    "semicolons": ("<sip:a@b>", ";", ""),
    "parameters": ("<sip:a@b>", ";a=b", ""),
    "quoted parameters": ("<sip:a@b>", ';a="\\""', ""),
    "an open quote in parameters": ("<sip:a@b>", ';a="', ""),
    "colons": ("sip:", ":", ""),
    "at signs": ("sip:", "a@", ""),
    "percent signs": ("sip:", "%", "@b"),
    "escapes of a URI": ("sip:", "%41", "@b"),
    "headers of a URI": ("sip:a@b?", "a=b&", ""),
    "dots": ("sip:a@", "a.", "-"),
    "hyphens": ("sip:a@a", "-", ""),
    "digits": ("", "9", " INVITE"),
    "slashes": ("SIP", "/", ""),
    "a Via of blanks": ("SIP/2.0/UDP", " ", ";"),
    "a Via of parameters": ("SIP/2.0/UDP a", ";b=c", ""),
    "equals signs": ("Digest ", "=", ""),
    "digest parameters": ("Digest ", 'a="b",', ""),
    "an open quote in digest": ('Digest realm="', "\\", ""),
    "commas in digest": ("Digest ", " ,", ""),
    "words in digest": ("Digest ", "a ", ""),
}
_READERS: Final[dict[str, Callable[[str], object]]] = {
    "address": NameAddr.parse,
    "Via": Via.parse,
    "CSeq": CSeq.parse,
    "Content-Type": ContentType.parse,
    "URI": SipUri.parse,
    "list": split_list,
    "challenge": Challenge.parse,
    "Authentication-Info": AuthenticationInfo.parse,
    "Event": EventType.parse,
    "Subscription-State": SubscriptionState.parse,
    "Privacy": Privacy.parse,
    "Reason": Reason.parse,
    "RAck": RAck.parse,
    "Replaces": Replaces.parse,
    "Diversion": Diversion.parse,
    "History-Info": HistoryEntry.parse,
    "tel URI": TelUri.parse,
}

Attack = tuple[Callable[[int], bytes], Callable[[bytes], object]]

ATTACKS: Final[dict[str, Attack]] = {
    "message: many headers": (lambda size: _message("X: y\r\n", size), _headers),
    "message: many unusual headers": (lambda size: _message("X-y.z: \r\n", size), _headers),
    "message: many Via": (lambda size: _message("Via: a\r\n", size), _headers),
    "message: many Contact": (lambda size: _message("m:a,a\r\n", size), _headers),
    "message: no headers": (lambda size: _message("x\r\n", size), _headers),
    "message: bare line breaks": (lambda size: _message("a:\n\r\n", size), _headers),
    "message: blank lines first": (lambda size: b"\r\n" * (size // 2), _headers),
    "message: folded lines": (_fold, _headers),
    "message: continued by blanks": (lambda size: _message(" \t\r\n", size), _headers),
    "message: one name": (_fill(_START, "a"), _headers),
    "message: a long start line": (_fill("INVITE ", "a", " SIP/2.0\r\n\r\n"), _headers),
    "message: blanks in the start line": (_fill("INVITE", " ", "SIP/2.0\r\n\r\n"), _headers),
    "message: a giant Content-Length": (
        _fill(f"{_START}Content-Length: ", "9", "\r\n\r\n"),
        _headers,
    ),
    "stream: slowly": (lambda size: _message("X: y\r\n", size), _stream),
    "stream: blank lines": (lambda size: b"\r\n" * (size // 2), _stream),
    "stream: no end": (_fill(_START, "a"), _stream),
    "stream: versions in the start line": (_fill("a ", "SIP/2.0 ", "\r\n\r\n"), _stream),
    "stream: small messages": (lambda size: (_START + "\r\n").encode() * (size // 26), _stream),
    "stream: many Content-Length": (lambda size: _message("l: 1\r\n", size), _stream),
    "stream: folded Content-Length": (_fill(_START + "l:", "\r\n ", "1\r\n\r\n"), _stream),
    **{
        f"{reader}: {filling}": (_fill(*parts), _text(read))
        for reader, read in _READERS.items()
        for filling, parts in _FILLINGS.items()
    },
}
"""By name: what makes an attack of so many bytes, and what has to bear it."""
