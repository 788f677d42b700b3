"""rtpengine alone, as a gateway from SRTP to RTP: told of calls by its ng protocol, without SIP."""

from __future__ import annotations

import base64
import re
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers.ports import HOST, PortBlock, is_taken
from peers.process import end, leashed
from voip.rtp.srtp.keys import SrtpKeys

CONF = Path(__file__).parent / "kamailio_conf" / "rtpengine.conf"
BOOT_S = 20.0
ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class Leg:
    """Where rtpengine hears one party; keys: what it sends to it by."""

    rtp: int
    rtcp: int
    keys: SrtpKeys | None


class RtpEngine:
    """A running rtpengine on free ports of loopback."""

    def __init__(self, program: Path, run: Path) -> None:
        self._program, self._run = program, run
        self._ports: PortBlock | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._cookie = 0

    def __enter__(self) -> RtpEngine:
        self._ports = ports = PortBlock()
        first, last = ports.rtp
        text = CONF.read_text()
        for name, value in {
            "HOST": HOST, "NG": ports.service(1), "RTP_FIRST": first, "RTP_LAST": last,
        }.items():  # fmt: skip
            text = text.replace(f"@{name}@", str(value))
        (self._run / "rtpengine.conf").write_text(text)
        with (self._run / "rtpengine.log").open("wb") as log:
            self._process = subprocess.Popen(
                leashed([str(self._program), f"--config-file={self._run / 'rtpengine.conf'}"]),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + BOOT_S
        while not is_taken(ports.service(1)):
            if self._process.poll() is not None or time.monotonic() > until:
                log_text = (self._run / "rtpengine.log").read_text(errors="replace")
                self.__exit__()
                raise RuntimeError(f"rtpengine does not start: {log_text[-2000:]}")
            time.sleep(0.02)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None:
            end(self._process)
        if self._ports is not None:
            self._ports.close()

    def offer(self, call: str, rtp: int, rtcp: int, keys: SrtpKeys) -> Leg:
        """Say that one party sends by `keys` from these ports; return where the other one sends."""
        sdp = _sdp("RTP/SAVP", rtp, rtcp, f"a=crypto:1 {keys.suite} {inline(keys)}\r\n")
        answer = self._ask(
            {
                "command": "offer", "call-id": call, "from-tag": "a", "sdp": sdp,
                "transport-protocol": "RTP/AVP", "ICE": "remove", "rtcp-mux": ["demux"],
                "DTLS": "off",
            }
        )  # fmt: skip
        return _leg(answer["sdp"])

    def answer(self, call: str, rtp: int, rtcp: int) -> Leg:
        """Say that the other party is in clear, at these ports; return where the first sends."""
        sdp = _sdp("RTP/AVP", rtp, rtcp)
        answer = self._ask(
            {"command": "answer", "call-id": call, "from-tag": "a", "to-tag": "b", "sdp": sdp}
        )
        return _leg(answer["sdp"])

    def delete(self, call: str) -> None:
        """Say that the call is over."""
        self._ask({"command": "delete", "call-id": call, "from-tag": "a", "delete-delay": 0})

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        assert self._ports is not None
        self._cookie += 1
        cookie = f"{id(self)}{self._cookie} ".encode()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(ANSWER_S)
            one.connect((HOST, self._ports.service(1)))
            one.send(cookie + encode(question))
            answer = decode(one.recv(65_536).removeprefix(cookie))
        assert answer.get("result") == "ok", answer
        return answer


def inline(keys: SrtpKeys) -> str:
    """Key parameters (RFC 4568 section 9.2)."""
    text = "inline:" + base64.b64encode(keys.key + keys.salt).decode()
    if keys.mki:
        text += f"|{int.from_bytes(keys.mki, 'big')}:{len(keys.mki)}"
    return text


def _sdp(profile: str, rtp: int, rtcp: int, more: str = "") -> str:
    return (
        f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\n"
        f"m=audio {rtp} {profile} 0\r\na=rtpmap:0 PCMU/8000\r\na=rtcp:{rtcp}\r\n{more}"
    )


def _leg(sdp: str) -> Leg:
    media = re.search(r"^m=audio (\d+) ", sdp, re.M)
    assert media is not None, sdp
    rtcp = re.search(r"^a=rtcp:(\d+)", sdp, re.M)
    crypto = re.search(r"^a=crypto:\d+ (\S+) inline:([^|\s]+)(?:\|(?:2\^)?\d+(?=\||\s))?"
                       r"(?:\|(\d+):(\d+))?", sdp, re.M)  # fmt: skip
    keys = None
    if crypto is not None:
        suite, key, number, length = crypto.groups()
        mki = int(number).to_bytes(int(length), "big") if number else b""
        keys = SrtpKeys.joined(suite, base64.b64decode(key + "=" * (-len(key) % 4)), mki)
    port = int(media[1])
    return Leg(port, int(rtcp[1]) if rtcp else port + 1, keys)


# ---------------------------------------------------------------- bencode (BEP 3)


def encode(value: Any) -> bytes:
    """Encode text, numbers, lists and dictionaries."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        return b"%d:%s" % (len(value.encode()), value.encode())
    if isinstance(value, Mapping):
        parts = (encode(key) + encode(value[key]) for key in sorted(value))
        return b"d" + b"".join(parts) + b"e"
    assert isinstance(value, Sequence)
    return b"l" + b"".join(map(encode, value)) + b"e"


def decode(text: bytes) -> dict[str, Any]:
    """Decode a dictionary."""
    value, end_of_it = _decode(text, 0)
    assert isinstance(value, dict) and end_of_it == len(text), text
    return value


def _decode(text: bytes, at: int) -> tuple[Any, int]:
    kind = text[at : at + 1]
    if kind == b"i":
        last = text.index(b"e", at)
        return int(text[at + 1 : last]), last + 1
    if kind in (b"l", b"d"):
        items, at = [], at + 1
        while text[at : at + 1] != b"e":
            item, at = _decode(text, at)
            items.append(item)
        whole = items if kind == b"l" else dict(zip(items[::2], items[1::2], strict=True))
        return whole, at + 1
    colon = text.index(b":", at)
    last = colon + 1 + int(text[at:colon])
    return text[colon + 1 : last].decode(errors="replace"), last
