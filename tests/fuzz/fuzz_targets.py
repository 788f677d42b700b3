"""What is fuzzed: each target takes bytes and raises only where something is wrong with us.

Errors of ours (`SipError`, `SdpError`, `RtpError`, `CodecError`) are the right answer to rubbish.
Where something was understood it must be written and understood again as the same.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from fuzz_red import red
from fuzz_silence import silence
from fuzz_srtp import srtp

from voip.codecs.comfort_noise import ComfortNoise, NoiseSource
from voip.codecs.core import Codec, CodecFormat, FecCodec
from voip.codecs.opus.codec import OpusCodec
from voip.codecs.opus.fmtp import OpusParameters
from voip.codecs.opus.toc import read_packet
from voip.codecs.red import RedCodec, pack, unpack
from voip.codecs.registry import default_registry
from voip.errors import CodecError, RtpError, SdpError, SipError
from voip.fmtp import read as read_parameters
from voip.fmtp import write as write_parameters
from voip.media.extensions import ToldLevels
from voip.rtp.extensions import AudioLevel, build_extension, parse_extension, read_extension
from voip.rtp.packet import parse_headers
from voip.rtp.rtcp import build_compound, parse_compound
from voip.sdp.capability import AudioCapability
from voip.sdp.format import RtpFormat
from voip.sdp.parser import parse as parse_sdp
from voip.sip.agent import SipAgent
from voip.sip.check import validate
from voip.sip.config import AgentConfig
from voip.sip.digest import AuthenticationInfo, Challenge, Credentials, DigestClient
from voip.sip.digest_server import DigestServer
from voip.sip.event_headers import EventType, SubscriptionState
from voip.sip.flow import Flow
from voip.sip.grammar import parse_params, split_list
from voip.sip.headers import ContentType, CSeq, Headers, NameAddr, parse_seconds
from voip.sip.identity import Privacy
from voip.sip.join import Join
from voip.sip.limits import MAX_PARTS
from voip.sip.message import Request, Response, make_response, parse_message
from voip.sip.multipart import SDP, find_body, is_readable, session_description, split_parts
from voip.sip.reason import Reason
from voip.sip.refer import read_sipfrag
from voip.sip.reliable import RAck
from voip.sip.replaces import Replaces
from voip.sip.retargeting import Diversion, HistoryEntry
from voip.sip.stream import StreamFramer
from voip.sip.tel import TelUri
from voip.sip.uri import SipUri, uri_scheme
from voip.sip.via import Via
from voip.types import Address, SeededRandom

FLOW = Flow("udp", Address("192.0.2.1", 5060), Address("192.0.2.99", 5060))
METHODS = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER", "MESSAGE", "INFO")
MAX_ECHO = 64_000


def message(data: bytes) -> None:
    """A message: read, asked for everything, answered, written and read again."""
    try:
        found = parse_message(data)
    except SipError as error:
        refused = error.context.get("request")
        if isinstance(refused, Request):
            _answerable(refused)
        return
    assert found.summary().isprintable()
    for ask in _QUESTIONS:
        _only_sip_errors(ask, found)
    if isinstance(found, Request):
        _answerable(found)
    _same_again(found)


def _same_again(found: Request | Response) -> None:
    try:
        written = found.to_bytes()
    except SipError:
        return
    if len(written) > MAX_ECHO:  # a Content-Length more, and it may be too long to be read
        return
    again = parse_message(written)
    assert type(again) is type(found)
    found.headers.set("Content-Length", str(len(found.body)))
    assert again.headers == found.headers
    assert list(again.headers)[:-1] == [
        line for line in found.headers if line[0].lower() not in ("content-length", "l")
    ]
    assert again.body == found.body
    assert again.summary() == found.summary()
    assert again.to_bytes() == written


def _answerable(request: Request) -> None:
    for status in (100, 180, 200, 400):
        response = make_response(request, status, to_tag="fuzz")
        try:
            written = response.to_bytes()
        except SipError:
            continue
        if len(written) <= MAX_ECHO and len(response.headers) < 250:
            again = parse_message(written)
            assert isinstance(again, Response)
            assert again.status == status


def _only_sip_errors(ask: Callable[[Any], object], of: Any) -> object:
    try:
        return ask(of)
    except SipError:
        return None


_QUESTIONS: tuple[Callable[[Any], object], ...] = (
    validate,
    lambda m: m.via,
    lambda m: (m.via.branch, m.via.received, m.via.rport, m.via.wants_rport),
    lambda m: (m.from_.tag, m.from_.sip_uri),
    lambda m: (m.to.tag, m.to.sip_uri),
    lambda m: m.cseq,
    lambda m: m.call_id,
    lambda m: [contact.sip_uri for contact in m.contacts],
    lambda m: m.content_type,
    lambda m: m.max_forwards if isinstance(m, Request) else None,
    lambda m: [m.headers.values(name) for name, _ in m.headers],
    lambda m: parse_seconds(m.headers.get("Expires")),
)


def header(data: bytes) -> None:
    """One value, as each of the typed headers; what was understood is written and read alike."""
    text = data.decode("utf-8", "surrogateescape")
    readers: tuple[Callable[[str], Any], ...] = (
        NameAddr.parse,
        Via.parse,
        CSeq.parse,
        ContentType.parse,
        EventType.parse,
        SubscriptionState.parse,
        Privacy.parse,
        Reason.parse,
        RAck.parse,
        Replaces.parse,
        Join.parse,
        Diversion.parse,
        HistoryEntry.parse,
    )
    for read in readers:
        try:
            value = read(text)
        except SipError as error:
            assert error.status in (400, 416, 489)
        else:
            assert read(str(value)) == value, (value, str(value))
    _only_sip_errors(AuthenticationInfo.parse, text)
    _only_sip_errors(read_sipfrag, data)
    _only_sip_errors(split_list, text)
    _only_sip_errors(parse_params, text)
    seconds = parse_seconds(text)
    assert seconds is None or 0 <= seconds < 2**32


def uri(data: bytes) -> None:
    """A URI, written and read alike, and equivalent to itself."""
    text = data.decode("utf-8", "surrogateescape")
    uri_scheme(text)
    number = _only_sip_errors(TelUri.parse, text)
    assert number is None or TelUri.parse(str(number)) == number
    try:
        found = SipUri.parse(text)
    except SipError as error:
        assert error.status in (400, 416)
        return
    again = SipUri.parse(str(found))
    assert again == found, (found, str(found))
    assert again.equivalent(found)
    assert repr(replace(found, password="hush")) == repr(found)


def multipart(data: bytes) -> None:
    """A body, as each kind of multipart: judged; what is found in it is not longer than it is."""
    for kind in ("mixed", "alternative"):
        headers = Headers([("Content-Type", f"multipart/{kind};boundary=b")])
        request = Request("INVITE", "sip:a@b", headers, data)
        description = session_description(request)
        assert description in data or (b"transfer" in data.lower() and len(description) < len(data))
        with suppress(SipError):
            text = find_body(request, ("text/plain", "text/html"), "text/plain")
            assert text is None or len(text.body) <= len(data)
        if _only_sip_errors(lambda m: is_readable(m, (SDP,)), request) is None:
            assert not data or not description
    try:
        parts = split_parts(data, "b")
    except SipError as error:
        assert error.status == 400
        return
    assert 0 < len(parts) <= MAX_PARTS
    assert sum(len(part.body) for part in parts) < len(data)


def stream(data: bytes) -> None:
    """A stream: the same messages however it is sliced."""
    size = 1 + (data[0] if data else 0) % 97
    whole, slices = (
        _framed([data]),
        _framed([data[start : start + size] for start in range(0, len(data), size)]),
    )
    assert whole == slices, (whole, slices, size)


def _framed(pieces: list[bytes]) -> tuple[list[bytes], str]:
    framer = StreamFramer()
    found: list[bytes] = []
    for piece in pieces:
        try:
            found += framer.feed(piece)
        except SipError:
            break
    for one in found:
        _only_sip_errors(parse_message, one)
    return found, "" if framer.broken is None else framer.broken.message[:12]


def digest(data: bytes) -> None:
    """A challenge to a client, or credentials to a server."""
    text = data.decode("utf-8", "surrogateescape")
    challenge = _only_sip_errors(Challenge.parse, text)
    random = SeededRandom(1)
    value = DigestClient().authorize(
        "INVITE", "sip:a@b", b"", [text, text], Credentials("alice", "hush"), random
    )
    assert value is None or challenge is not None
    assert value is None or "hush" not in value
    server = DigestServer("voip", {"alice": "hush"}, random)
    server.verify("INVITE", text, 0.0)


def sdp(data: bytes) -> None:
    """A session description, written and read alike."""
    try:
        found = parse_sdp(data)
    except SdpError as error:
        assert error.status == 400
        return
    again = parse_sdp(found.to_bytes())
    assert parse_sdp(again.to_bytes()) == again
    # what stands twice and may not, is kept and written where the grammar wants it
    assert replace(again, lines=()) == replace(found, lines=())
    assert sorted(again.lines) == sorted(found.lines)


def rtcp(data: bytes) -> None:
    """A compound packet, built and read alike."""
    try:
        found = parse_compound(data, reduced_size=True)
    except RtpError:
        return
    try:
        built = build_compound(found, reduced_size=True)
    except RtpError:
        return
    assert parse_compound(built, reduced_size=True) == found


def rtp(data: bytes) -> None:
    """RTP headers of a batch: what is valid lies within its packet, and tells a level or none."""
    rows = np.zeros((3, 256), np.uint8)
    lengths = np.zeros(3, np.int32)
    for row in range(3):
        part = np.frombuffer(data[row:256], np.uint8)
        rows[row, : part.size] = part
        lengths[row] = part.size
    found = parse_headers(rows, lengths, np.arange(3))
    ends = found.offset + found.size
    assert bool(np.all(ends[found.valid] <= lengths[found.valid]))
    assert bool(np.all(found.size[found.valid] >= 0))
    assert bool(np.all(found.offset[found.valid] >= 12))
    levels, valid = ToldLevels(3), np.flatnonzero(found.valid)
    for row in range(3):
        levels.agree(row, 1 + row, voice=True)
    told = levels.read(valid, rows, valid)
    assert bool(np.all((told >= -1) & (told <= 255)))


def extension(data: bytes) -> None:
    """Header extensions of a packet: what is read can be built, and is read again."""
    try:
        found = read_extension(data)
    except RtpError:
        return
    assert sum(map(len, found.values())) <= len(data)
    found.pop(0, None)
    again = build_extension(found)
    if found:
        profile = int.from_bytes(again[:2], "big")
        assert parse_extension(profile, again[4:]) == found
    for value in found.values():
        with suppress(RtpError):
            assert AudioLevel.read(value).to_bytes() == value[:1]


def opus(data: bytes) -> None:
    """Packets of Opus, one after the other, and redundancy of each: sound of the stated length."""
    codec = OpusCodec(8000)
    for begin in range(0, len(data), 90):
        payload = data[begin : begin + 90]
        try:
            length = read_packet(payload).units * 20
        except CodecError:
            length = 0
        for decode in (codec.decode_fec, codec.decode):
            with suppress(CodecError):
                assert decode(payload).size == length > 0
    said = OpusParameters.read(data.decode("latin-1"))
    assert OpusParameters.read(said.fmtp) == said


def payloads(data: bytes) -> None:
    """A payload of every codec there is, and of the formats around them."""
    for codec in _codecs():
        with suppress(CodecError):
            sound = codec.decode(data)
            assert sound.size % codec.info.pcm_channels == 0
        if isinstance(codec, FecCodec):
            with suppress(CodecError):
                assert codec.decode_fec(data, 160).size == 160
    with suppress(CodecError):
        blocks = unpack(data)
        assert pack(blocks) == data
    with suppress(CodecError):
        noise = ComfortNoise.read(data)
        assert ComfortNoise.read(noise.payload) == noise
        assert np.isfinite(NoiseSource(np.random.default_rng(1)).generate(noise, 160)).all()


@cache
def _codecs() -> tuple[Codec, ...]:
    """Codecs of this machine, which go on with what they remember; RED last."""
    registry = default_registry()
    found = [registry.create(info.format) for info in registry if registry.ways(info.format)]
    found += [registry.create(CodecFormat("ilbc", fmtp="mode=20"))]
    with suppress(CodecError):
        found += [registry.create(CodecFormat("amr", fmtp="octet-align=1"))]
    return (*found, RedCodec(registry.create(CodecFormat("pcmu")), 0))


def parameters(data: bytes) -> None:
    """A format and its parameters, as a=rtpmap and a=fmtp have them, and an answer to them."""
    rtpmap, _, fmtp = data.decode("latin-1").partition(" ")
    with suppress(CodecError):
        found = CodecFormat.read(rtpmap, fmtp)
        assert str(CodecFormat.read(str(found))) == str(found)
        with suppress(CodecError):
            default_registry().create(found)
    for name, encoding in ENCODINGS.items():
        said = read_parameters(name, fmtp)
        assert read_parameters(name, write_parameters(name, said)) == said
        AudioCapability(*encoding).answering(RtpFormat(100, *encoding, fmtp))


ENCODINGS = {info.name: info.format.key for info in default_registry()}


def agent(data: bytes) -> None:
    """A user agent that has to bear it: it does not raise, and what it says can be read."""
    found = SipAgent(AgentConfig(allow=METHODS), SeededRandom(1))
    found.receive(data, FLOW, 0.0)
    found.receive(data, FLOW, 0.1)
    found.handle_timer(1.0)
    for sent, _ in found.outgoing():
        if sent.count(b"\r\n") > 250:  # our own headers may be too many for ourselves
            continue
        assert isinstance(parse_message(sent), Response)
    found.handle_timer(1000.0)
    assert found.transactions <= 1


TARGETS: dict[str, Callable[[bytes], None]] = {
    "message": message,
    "header": header,
    "uri": uri,
    "multipart": multipart,
    "stream": stream,
    "digest": digest,
    "sdp": sdp,
    "rtcp": rtcp,
    "rtp": rtp,
    "srtp": srtp,
    "silence": silence,
    "extension": extension,
    "opus": opus,
    "red": red,
    "payloads": payloads,
    "parameters": parameters,
    "agent": agent,
}
