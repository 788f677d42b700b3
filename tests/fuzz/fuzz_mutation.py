"""Makes inputs that are nearly right: seeds, damaged as the grammar would have it.

Everything comes from a `random.Random`, so that a number names an input for ever.
"""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

from fuzz_red import PAYLOADS as RED_PAYLOADS
from fuzz_silence import SEEDS
from fuzz_srtp import protected_packets

_SDP = (
    b"v=0\r\no=- 7 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n"
    b"a=ptime:20\r\na=rtcp:4001 IN IP4 192.0.2.2\r\na=sendrecv\r\nm=video 0 RTP/AVP 96\r\n"
)
_MESSAGES = (
    b"INVITE sip:bob;x=%%41@pbx.example:5060;user=phone SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP [2001:db8::1]:5061;branch=z9hG4bK1;rport, SIP/2.0/TCP a.example\r\n"
    b"v: SIP / 2.0 / TLS b.example ; branch=z9hG4bK2;received=192.0.2.1\r\n"
    b'f: "A \\"b\\" \\\\ c" <sip:a:pw@b.example;lr?Subject=x>;tag=1;q="a;b"\r\n'
    b"To: sip:bob@pbx.example;tag=2\r\nCall-ID: 1@a\r\nCSeq: 007 INVITE\r\nMax-Forwards: 70\r\n"
    b'Contact: <sip:a@b>;expires=60, "C, D" <sips:c@d:1>\r\n ;q=0.5\r\n'
    b"Record-Route: <sip:p1;lr>,<sip:p2>\r\nContent-Type: application/sdp ; a=b\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_SDP), _SDP),
    b"SIP/2.0 401 Nope\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"
    b"To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\nContact: *\r\n"
    b'WWW-Authenticate: Digest realm="a, b", nonce="\\"", qop="auth,auth-int", '
    b'algorithm=SHA-256, stale=FALSE, opaque=""\r\nl: 0\r\n\r\n',
    b"REGISTER sip:d SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a@d>\r\nTo: <sip:a@d>\r\n"
    b'Call-ID: y\r\nCSeq: 2 REGISTER\r\nAuthorization: Digest username="alice", realm="voip", '
    b'nonce="0.a.b", uri="sip:d", response="00", qop=auth, nc=00000001, cnonce="z"\r\n\r\n',
    b"BYE tel:+1-555 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9\r\nRequire: a, b\r\nAccept: */*\r\n"
    b"From: x <sip:a@b>;tag=a\r\nTo: y<sip:a@b>;tag=b\r\nCall-ID: z\r\nCSeq: 3 BYE\r\n\r\n",
)
_MULTIPART = (
    b"before\r\n--b\r\nContent-Type: application/sdp\r\n\r\n%b\r\n--b \t\r\n"
    b"c: application/isup\r\nContent-Disposition: signal;handling=optional\r\n\r\n\1\0\r\n\0\r\n"
    b"--b--\r\nafter" % _SDP,
    b"--b\nContent-Type: multipart/alternative;boundary=b2\n\n--b2\n\ntext\n--b2\n"
    b"Content-Type: application/sdp\nContent-Transfer-Encoding: 8bit\n\n%b\n--b2--\n--b--" % _SDP,
    b"--b\r\nContent-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\ndj0w\r\n"
    b"--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=3Db=\r\n=C3=A9\r\n--b--",
)
_VALUES = (
    b'"A" <sip:a@b;lr>;tag=1;x="y;z"',
    b"SIP/2.0/UDP [::1]:5060;branch=z9hG4bK;rport;maddr=224.0.0.1;ttl=16",
    b"SIP/2.0/UDP host.example:5060;branch=z9hG4bKa;received=192.0.2.1",
    b"4711 INVITE",
    b'multipart/mixed;boundary="a b"',
    b"sips:us%40er:pa%3As@[2001:db8::9]:5061;transport=tls;lr?a=b&c=%20d",
    b"sip:+1555;ext=2@host.example;user=phone;method=INVITE",
    b'Digest realm="r", nonce="n", qop="auth", algorithm=MD5-sess, opaque="o", stale=true',
    b"dialog;id=7;shared",
    b"active;expires=600;reason=probation;retry-after=4",
    b"id;critical;header",
    b'Q.850;cause=16;text="Normal call clearing"',
    b"776656 1 INVITE",
    b"425928@bobster.example.org;to-tag=7743;from-tag=6472;early-only",
    b'<sip:+1555@h.example>;reason=unconditional;counter=1;limit="2";privacy=off;screen=no',
    b"<sip:a@b?Reason=SIP%3Bcause%3D302>;index=1.1;rc=1",
    b"tel:+1-201-555-0123;phone-context=example.com;ext=12",
    b'nextnonce="n", qop=auth, rspauth="ff", cnonce="z", nc=00000001',
    b'Digest username="a", realm="voip", nonce="1.2.3", uri="sip:d", response="f", nc=1',
)
_SR = struct.pack(">BBHIIIIII", 0x80, 200, 6, 1, 2, 3, 4, 5, 6)
_RTCP = (
    _SR,
    _SR + struct.pack(">BBHI4sBBBB", 0x81, 202, 2, 1, b"\x01\x02ab", 0, 0, 0, 0)[:12],
    struct.pack(">BBHIIIIIII", 0x81, 201, 7, 1, 2, 3, 4, 5, 6, 7),
    struct.pack(">BBHI", 0x81, 203, 1, 9),
    struct.pack(">BBHI4s4s", 0x85, 204, 3, 1, b"test", b"okay"),
    struct.pack(">BBHI", 0x80, 207, 29, 1)
    + struct.pack(">BBHIHHHH", 1, 2, 3, 9, 100, 124, 0x4014, 4)  # loss runs
    + struct.pack(">BBHIHHII", 3, 0, 4, 9, 5, 7, 160, 320)  # receipt times
    + struct.pack(">BBHQ", 4, 0, 2, 0xB44DB70520000000)  # reference time
    + struct.pack(">BBHIII", 5, 0, 3, 9, 1, 2)  # DLRR
    + struct.pack(">BBHIHH", 6, 0xE8, 9, 9, 1, 500)
    + bytes(28)  # statistics
    + struct.pack(">BBHHH", 9, 1, 1, 1, 2),  # of no type
    struct.pack(">BBHIBBHI", 0x80, 207, 10, 1, 7, 0, 8, 9) + bytes(range(28)),  # VoIP metrics
    struct.pack(">BBHII", 0x80, 0, 1, 2, 3) + bytes(20),
    struct.pack(">BBHII", 0x90, 0, 1, 2, 3) + b"\xbe\xde\x00\x01" + bytes(24),
    struct.pack(">BBHII", 0x90, 0, 1, 2, 3)
    + b"\xbe\xde\0\x03\x10\xaa\x21\xbb\xcc\0\0\x33abcd"  # elements, one-byte headers
    + bytes(20),
    struct.pack(">BBHII", 0x90, 0, 1, 2, 3)
    + b"\x10\0\0\x03\x01\0\x02\x01b\0\x03\x04abcd"
    + bytes(20),
    struct.pack(">BBHII", 0xA0, 96, 1, 2, 3) + bytes(19) + b"\x04",
)
_OPUS = (
    *(bytes([config << 3, *range(60, 0, -1)]) for config in range(32)),
    *(bytes([config << 3 | 7, 0xC3, 4, 5, 6]) + bytes(range(40)) for config in (1, 9, 19, 31)),
    b"\x79" + bytes(range(40)),
    b"\x0a\x09" + bytes(range(30)),
    b"maxplaybackrate=16000; stereo=1; useinbandfec=1; maxaveragebitrate=20000; cbr=0",
)
_PAYLOADS = (
    *(bytes(range(size)) for size in (1, 11, 33, 38, 50, 160)),
    bytes([0xD0]) + bytes(range(32)),  # GSM
    b"\xf0\x3c" + bytes(range(31)),  # AMR, octet-aligned
    b"\xf3\xc6" + bytes(range(30)),
    b"\xf4\x7c" + bytes(range(59)),
    bytes.fromhex("1d8e") + bytes(range(36)),  # Speex
    b"\x80\x02\x80\x0a\x00" + bytes(range(170)),  # RED
    b"\x28" + bytes(range(100, 110)),  # comfort noise
)
_PARAMETERS = (
    b"opus/48000/2 maxplaybackrate=16000; stereo=1; useinbandfec=1; cbr=0",
    b"iLBC/8000 mode=20",
    b"AMR/8000 octet-align=1; mode-set=0,2,5; mode-change-period=2; max-red=0",
    b"AMR-WB/16000 mode-set=0,8;crc=1;interleaving=20;robust-sorting=1",
    b"speex/16000 vbr=vad;cng=on;mode=any",
    b"G729/8000 annexb=no",
    b"telephone-event/8000 0-15,66,70",
)
_WORDS = (
    *(b"\r\n", b"\r\n ", b"\r\n\t", b"\n", b"\r", b"\0", b" ", b"\t", b"\xff", b"\xc2\x80"),
    *(b"\xe2\x80\xa8", b'"', b'\\"', b"\\", b"<", b">", b",", b";", b":", b"=", b"@", b"?"),
    *(b"&", b"%", b"%00", b"%4", b"*", b"/", b"[", b"]", b"(", b"SIP/2.0", b"sip:", b"sips:"),
    *(b"tel:", b"Digest ", b"Basic ", b";tag=", b";branch=z9hG4bK", b";rport", b";lr", b"l: "),
    *(b"Via: ", b"v:", b"Content-Length: ", b"m: ", b"Contact: *", b"\r\n\r\n", b"INVITE "),
    *(b"ACK", b"a=", b"m=audio 1 RTP/AVP 0\r\n", b"IN IP4 ", b"c=IN IP6 ::\r\n", b"auth"),
    *(b"0", b"-1", b"65536", b"2147483648", b"4294967296", b"99999999999999999999", b"1e9"),
    *("٣".encode(), "\u2028".encode(), "İ".encode(), "ſ".encode(), b"\x85", b"\x1c", b"\x0b"),
)


def seeds(target: str, reference: Path | None = None) -> list[bytes]:
    """Return what a target's inputs are made from."""
    if target in ("rtcp", "rtp", "extension"):
        return list(_RTCP)
    if target == "srtp":
        return list(protected_packets())
    if target == "silence":
        return list(SEEDS)
    if target == "opus":
        return list(_OPUS)
    if target == "red":
        return list(RED_PAYLOADS)
    if target == "payloads":
        return [*_OPUS, *_PAYLOADS]
    if target == "parameters":
        return list(_PARAMETERS)
    if target == "sdp":
        return [_SDP]
    if target == "multipart":
        return list(_MULTIPART)
    printed = [path.read_bytes() for path in _files(reference)]
    messages = [*_MESSAGES, *printed]
    if target in ("message", "stream", "agent"):
        return messages
    values = list(_VALUES)
    for one in messages:
        for line in one.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
            value = line.partition(b":")[2].strip()
            if value and value not in values:
                values.append(value)
                if b"<" in value:
                    values.append(value.partition(b"<")[2].partition(b">")[0])
    return values


def reference_folder() -> Path | None:
    """Return the folder of reference data, None where there is none."""
    folder = os.environ.get("VOIP_REFERENCE_DATA")
    return Path(folder) if folder and Path(folder).is_dir() else None


def _files(reference: Path | None) -> list[Path]:
    if reference is None:
        return []
    return [
        *sorted((reference / "sip-torture-rfc4475").glob("*/*.dat")),
        *sorted(
            path for path in (reference / "sip-flows" / "rfc3665").glob("*/*") if path.is_file()
        ),
    ]


def mutated(corpus: list[bytes], chance: random.Random) -> bytes:
    """Return a seed with one to eight things done to it."""
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        chance.choice(_ACTIONS)(data, corpus, chance)
    return bytes(data[:70_000])


def _at(data: bytearray, chance: random.Random) -> int:
    return chance.randrange(len(data) + 1)


def _flip(data: bytearray, corpus: list[bytes], chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.randrange(256)


def _word(data: bytearray, corpus: list[bytes], chance: random.Random) -> None:
    at = _at(data, chance)
    data[at:at] = chance.choice(_WORDS) * chance.choice((1, 1, 1, 1, 2, 3, 300))


def _overwrite(data: bytearray, corpus: list[bytes], chance: random.Random) -> None:
    at = _at(data, chance)
    word = chance.choice(_WORDS)
    data[at : at + len(word)] = word


def _cut(data: bytearray, corpus: list[bytes], chance: random.Random) -> None:
    at = _at(data, chance)
    del data[at : at + chance.choice((1, 1, 2, 4, 16, 100))]


def _end(data: bytearray, corpus: list[bytes], chance: random.Random) -> None:
    del data[_at(data, chance) :]


def _again(data: bytearray, corpus: list[bytes], chance: random.Random) -> None:
    at = _at(data, chance)
    piece = bytes(data[at : at + chance.choice((1, 4, 20, 80))])
    data[at:at] = piece * chance.choice((1, 2, 50))


def _splice(data: bytearray, corpus: list[bytes], chance: random.Random) -> None:
    other = chance.choice(corpus)
    begin = chance.randrange(len(other) + 1)
    at = _at(data, chance)
    data[at : at + chance.choice((0, 10, 10_000))] = other[begin : begin + chance.choice((8, 80))]


def _lines(data: bytearray, corpus: list[bytes], chance: random.Random) -> None:
    """Move, double, drop, fold or borrow a line."""
    lines = bytes(data).split(b"\r\n")
    number = chance.randrange(len(lines))
    match chance.randrange(6):
        case 0:
            lines.insert(chance.randrange(len(lines)), lines[number])
        case 1:
            del lines[number]
        case 2:
            lines[number] = lines[number].replace(b" ", b"\r\n ")
        case 3:
            lines[number] = lines[number].swapcase()
        case 4:
            lines.insert(number, chance.choice(chance.choice(corpus).split(b"\r\n")))
        case 5:
            lines[number] = lines[number].replace(b":", b" \t:\t ")
    data[:] = b"\r\n".join(lines)


def _value(data: bytearray, corpus: list[bytes], chance: random.Random) -> None:
    """Put something between two separators, or take it away."""
    separators = [i for i, byte in enumerate(data) if byte in b';,:=<>"@ \r\n']
    if len(separators) > 1:
        number = chance.randrange(len(separators) - 1)
        begin, end = separators[number] + 1, separators[number + 1]
        data[begin:end] = chance.choice((b"", *_WORDS))


_ACTIONS = (_flip, _word, _word, _overwrite, _cut, _end, _again, _splice, _lines, _lines, _value)
