"""Descriptions that others wrote, read by us and by sdp-transform as a whole."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sdp_transform

from voip.errors import SdpError
from voip.sdp import SessionDescription, parse
from voip.sdp.format import STATIC_FORMATS, spelled

pytestmark = pytest.mark.reference

_BLOCK = re.compile(r"^([ \t]*)v=0[ \t]*\r?\n(?:\1[a-z]=.*\r?\n?)+", re.MULTILINE)
_PLACEHOLDERS = [  # of SIPp
    (re.compile(r"\[(?:local|media|remote)_ip\]"), "192.0.2.1"),
    (re.compile(r"\[(?:local|media|remote)_ip_type\]"), "4"),
    (re.compile(r"\[[a-z_]*port[^\]\n]*\]"), "6000"),
]

GARBAGE = {
    # file: how many of its descriptions have no numbers or addresses in the places for them
    "reply488.xml": 1,  # o=TEST IN IP4 ...
    "rfc6314.txt": 7,  # c=IN IP4 $NAT-PUB-1.address
    "rfc8839.txt": 2,  # c=IN IP6 $NAT-PUB-1.IP
    "rfc8859.txt": 2,  # m=video 96 97
}


def descriptions(path: Path) -> Iterator[str]:
    """Yield what looks like a session description in a file, its indentation taken away."""
    text = path.read_bytes().decode("utf-8", "replace")
    for placeholder, value in _PLACEHOLDERS:
        text = placeholder.sub(value, text)
    for match in _BLOCK.finditer(text):
        yield "".join(f"{line.strip()}\r\n" for line in match[0].splitlines())


def corpus(reference_data: Path, folder: str, pattern: str) -> list[tuple[str, str]]:
    return [
        (path.name, text)
        for path in sorted((reference_data / folder).rglob(pattern))
        for text in descriptions(path)
    ]


def compare(name: str, session: SessionDescription, other: dict[str, Any]) -> int:
    """Compare with what sdp-transform reads, and return how many fields were."""
    compared = 0

    def same(what: str, ours: object, theirs: object) -> None:
        nonlocal compared
        compared += 1
        assert ours == theirs, f"{name}: {what}"

    origin = other["origin"]
    same("session id", session.origin.session_id, origin["sessionId"])
    same("version", session.origin.version, origin["sessionVersion"])
    same("origin", session.origin.connection.address, str(origin["address"]))
    same("times", session.timing.start, other.get("timing", {}).get("start") or 0)
    if session.connection is not None or "connection" in other:
        assert session.connection is not None
        same("connection", session.connection.address, str(other["connection"]["ip"]))
    same("m= lines", len(session.media), len(other["media"]))
    for ours, theirs in zip(session.media, other["media"], strict=True):
        if "type" in theirs:  # a count of ports is beyond it
            same("kind", ours.kind, theirs["type"])
            same("port", ours.port, theirs["port"])
            same("protocol", ours.protocol, theirs["protocol"])
            same("formats", list(ours.formats), str(theirs["payloads"]).split())
        direction = ours.direction.value if ours.direction else None
        same("direction", direction, theirs.get("direction"))
        same("ptime", ours.ptime_ms, theirs.get("ptime"))
        rtcp = theirs.get("rtcp", {}).get("port") or None
        same("rtcp", ours.rtcp.port if ours.rtcp else None, rtcp)
        host = ours.connection.address if ours.connection else None
        same("own connection", host, theirs.get("connection", {}).get("ip"))
        mapped = {
            (e["payload"], str(e["codec"]).lower(), e["rate"], int(e.get("encoding", 1)))
            for e in theirs["rtp"]
            if "rate" in e and str(e["payload"]) in ours.formats
        }
        static = {
            (n, *STATIC_FORMATS[n]) for n in STATIC_FORMATS.keys() - {entry[0] for entry in mapped}
        }
        read = {(f.payload_type, *f.encoding) for f in ours.encodings}
        same("encodings", read - static, mapped)
        fmtp = {f.payload_type: f.fmtp for f in ours.encodings if f.fmtp}
        given = {e["payload"]: str(e["config"]).strip() for e in reversed(theirs["fmtp"])}
        same("fmtp", fmtp, {n: text for n, text in given.items() if n in {f[0] for f in read}})
    return compared


@pytest.mark.parametrize(
    ("folder", "pattern", "at_least"),
    [
        ("rfc-examples", "*.txt", 62),
        ("rfc-text", "rfc*.txt", 400),
        ("sip-flows", "*.sip", 52),
        ("sip-torture-rfc4475", "*.dat", 20),
        ("sipp-official", "*.xml", 150),
        ("sipp-pjproject", "*.xml", 90),
    ],
)
def test_descriptions_of_others_are_read_as_sdp_transform_reads_them(
    reference_data: Path, folder: str, pattern: str, at_least: int
) -> None:
    found = corpus(reference_data, folder, pattern)
    compared = 0
    refused: Counter[str] = Counter()
    for name, text in found:
        try:
            session = parse(text)
        except SdpError as error:
            assert error.status == 400
            refused[name] += 1
        else:
            compared += compare(name, session, sdp_transform.parse(text))
            assert parse(session.to_bytes()) == session, name
    here = {name for name, _ in found}
    assert refused == {name: count for name, count in GARBAGE.items() if name in here}
    assert len(found) >= at_least, f"only {len(found)} descriptions in {folder}"
    assert compared >= 10 * at_least, f"only {compared} fields were compared"


@pytest.mark.parametrize("name", sorted({spelled(e[0]) for e in STATIC_FORMATS.values()}))
def test_spelling_of_static_names_is_that_of_rfc_3551(reference_data: Path, name: str) -> None:
    text = (reference_data / "rfc-text" / "rfc3551.txt").read_text()
    assert re.search(rf"^ +\d+ +{name} +A ", text, re.MULTILINE)
