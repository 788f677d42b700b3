"""What works on this machine: libraries, codecs, sounds, sockets, and the peers of the tests.

Every check tries the thing itself. Nothing leaves the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import shutil
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np

from voip.codecs.core import Codec, CodecFormat, Ways
from voip.codecs.libraries import adapter
from voip.codecs.opus.binding import libopus
from voip.codecs.registry import default_registry
from voip.errors import CodecError, TransportError, VoipError
from voip.harness.audio import fit_tones, snr_db
from voip.media import native, protection, srtp_rows
from voip.media.io import PacketBatch
from voip.media.wav import WavReader
from voip.net.packets import UdpPacketIO
from voip.net.ports import DEFAULT_PORT_RANGE
from voip.net.route import local_address_toward
from voip.sounds import ASSETS, asset_path
from voip.types import SecureRandom

__all__ = ["PEER_CACHE", "Check", "Health", "examine"]

PEER_CACHE: Final = Path("/var/cache/voip-peers")
"""Where `make peers` keeps what is no Debian package, unless VOIP_PEER_CACHE says otherwise."""

_OLDEST_PYTHON: Final = (3, 11)
_LIBRARIES: Final = ("numpy", "scipy", "sdp-transform", "rich", "typer")
_OPTIONAL: Final = {
    "G.722": CodecFormat("g722"),
    "GSM": CodecFormat("gsm"),
    "Speex": CodecFormat("speex"),
    "AMR": CodecFormat("amr"),
    "AMR-WB": CodecFormat("amr-wb", 16000),
    "G.729": CodecFormat("g729"),
}
"""Codecs that are there where a library is."""
_TONE_HZ: Final = 400
_TONE_PACKETS: Final = 10  # half of them until a codec has found the tone
_TONE_LEVEL: Final = 8000
_TONE_SNR_DB: Final = 15.0
_SIP_PORT: Final = 5060
_FILES_PER_CALL: Final = 2  # an RTP and an RTCP socket
_FILES_BESIDES: Final = 64
_FEW_CALLS: Final = 100
_PACKET_S: Final = 1.0
"""How long a packet on loopback may take before it is missed."""
_NEVER: Final = -1.0
_ELSEWHERE: Final = ("192.0.2.1", "2001:db8::1")  # RFC 5737 and RFC 3849: nobody's
_ALL_PROGRAMS: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
"""Where programs of administrators are, too."""
_MAKE_PEERS: Final = "for tests against other software: make peers"


class Health(Enum):
    """How a check went."""

    OK = "ok"
    MISSING = "missing"  # not there, or not to be had
    FAILED = "failed"  # there, and does not do what it should


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `detail`: a version, an address, a reason. `needed`: no calls without it."""

    name: str
    health: Health
    detail: str = ""
    hint: str = ""
    needed: bool = False

    @property
    def is_fatal(self) -> bool:
        """Whether calls are impossible because of this."""
        return self.needed and self.health is not Health.OK


def examine(cache: Path | None = None) -> list[Check]:
    """Check everything, in order. `cache`: where `make peers` keeps what it installed."""
    if cache is None:
        cache = Path(os.environ.get("VOIP_PEER_CACHE", PEER_CACHE))
    checks = [_python(), *map(_library, _LIBRARIES), _codecs(), _libopus()]
    checks += [_optional(name, format_) for name, format_ in _OPTIONAL.items()]
    checks += [_native(), _srtp(), _sounds()]
    checks += [_packets(), _sip_port(), _rtp_ports(), _open_files(), _ipv4(), _ipv6()]
    return checks + _peers(cache)


# ---------------------------------------------------------------- the package


def _python() -> Check:
    health = Health.OK if sys.version_info >= _OLDEST_PYTHON else Health.FAILED
    detail = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    return Check("Python", health, detail, "3.11 or newer is needed", needed=True)


def _library(name: str) -> Check:
    version = _version(name)
    health = Health.OK if version else Health.MISSING
    return Check(name, health, version, f"pip install {name}", needed=True)


def _version(distribution: str) -> str:
    """Return the installed version of a distribution, "" where there is none."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(distribution)
    return ""


def _codecs() -> Check:
    """Encode and decode a tone with every codec that this machine has both ways."""
    registry = default_registry()
    good: dict[str, None] = {}
    bad: dict[str, None] = {}
    for info in registry.offered():
        keeps = _keeps_a_tone(registry.create(info.format))
        (good if keeps else bad)[info.name] = None
    health = Health.FAILED if bad else Health.OK
    return Check("codecs", health, ", ".join(bad or good), "report this, please", needed=True)


def _keeps_a_tone(codec: Codec) -> bool:
    """Whether a tone is what is decoded, about as loud as it was."""
    rate_hz, channels = codec.info.sample_rate, codec.info.pcm_channels
    packet = rate_hz * codec.info.ptime_ms // 1000
    phase = 2 * np.pi * _TONE_HZ / rate_hz * np.arange(packet * _TONE_PACKETS)
    tone = np.rint(_TONE_LEVEL * np.sin(phase)).astype(np.int16).repeat(channels)
    parts = tone.reshape(-1, packet * channels)
    heard = np.concatenate([codec.decode(codec.encode(part)) for part in parts])[::channels]
    signal, rest = fit_tones(heard[None, heard.size // 2 :], rate_hz, (_TONE_HZ,))
    gain_db = snr_db(signal[0], _TONE_LEVEL**2 / 2)
    return abs(gain_db) < 3 and snr_db(signal[0], rest[0]) > _TONE_SNR_DB


def _optional(name: str, format_: CodecFormat) -> Check:
    """Tell what a codec's libraries can do here; without both ways it is not offered."""
    registry = default_registry()
    ways = registry.ways(format_)
    if ways is Ways.BOTH:
        return Check(name, Health.OK, "encoded and decoded")
    if ways is Ways.NONE:
        try:
            registry.create(format_)
        except CodecError as error:
            return Check(name, Health.MISSING, error.message, error.hint)
    only = "decoded" if ways is Ways.DECODE else "encoded"
    return Check(name, Health.OK, f"{only} only, so never offered")


def _libopus() -> Check:
    try:
        library = libopus()
    except CodecError as error:
        return Check("libopus", Health.MISSING, error.message, error.hint)
    return Check("libopus", Health.OK, f"{library.version} ({library.path})")


def _native() -> Check:
    name = "media tick"
    if native.available():
        others = "" if adapter("gsm_hear") else "; GSM, Speex and AMR in Python"
        return Check(name, Health.OK, f"ordinary packets in C, the rest in arrays{others}")
    hint = "for a quarter less CPU a call: install again where there is a C compiler"
    return Check(name, Health.MISSING, "in arrays only", hint)


def _srtp() -> Check:
    name, hint = "SRTP", "to protect calls: pip install 'voip-softphone[srtp]'"
    if not _version("cryptography"):
        return Check(name, Health.MISSING, "cryptography is not installed", hint)
    in_c = ", AES-CM in C" * (protection.available() and srtp_rows.has_counter_mode())
    if not _version("pylibsrtp"):
        return Check(name, Health.MISSING, "by cryptography alone" + (in_c or ", slowly"), hint)
    return Check(name, Health.OK, "by libsrtp" + in_c)


def _sounds() -> Check:
    seconds = 0.0
    try:
        for name in ASSETS:
            with asset_path(name) as path, WavReader(path) as reader:
                seconds += reader.info.duration_s
    except (VoipError, OSError) as error:
        return Check("shipped sounds", Health.MISSING, str(error), "install the package again")
    return Check("shipped sounds", Health.OK, f"{len(ASSETS)} files, {seconds:.0f} s")


# ---------------------------------------------------------------- the network


def _packets() -> Check:
    """Send a packet from one stream to another as calls do, and look at its time of arrival."""
    name, batch = "UDP on loopback", PacketBatch(8)
    io = UdpPacketIO(SecureRandom())
    try:
        one, other = io.open(0, "127.0.0.1"), io.open(1, "127.0.0.1")
        io.connect(0, *other)
        io.connect(1, *one)
        deadline = time.monotonic() + _PACKET_S
        io.send_one(0, b"\x80 packet", rtcp=False)
        while not io.receive(batch, _NEVER) and time.monotonic() < deadline:
            time.sleep(0.001)
        carried = "carried in batches (io_uring)" if io.batched else "carried one by one"
    except (TransportError, OSError) as error:
        return Check(name, Health.FAILED, str(error), "is it forbidden here?", needed=True)
    finally:
        io.close_all()
    if not batch.count:
        return Check(name, Health.FAILED, "a packet was lost", "is there a firewall?", needed=True)
    if batch.arrival[0] == _NEVER:
        hint = "jitter is measured less exactly"
        return Check(name, Health.MISSING, f"no time stamps of the kernel, {carried}", hint)
    return Check(name, Health.OK, f"stamped by the kernel, {carried}", needed=True)


def _sip_port() -> Check:
    name, hint = f"SIP port {_SIP_PORT}", "another one: --bind HOST:PORT"
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind is socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", _SIP_PORT))
            except OSError as error:
                return Check(name, Health.MISSING, error.strerror or str(error), hint)
    return Check(name, Health.OK, "free, UDP and TCP", hint)


def _rtp_ports() -> Check:
    """Count the pairs of the default range of which no port is in use."""
    ports = DEFAULT_PORT_RANGE
    used: set[int] = set()
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        with contextlib.suppress(OSError):
            lines = Path(table).read_text().splitlines()[1:]
            used |= {int(line.split()[1].rpartition(":")[2], 16) for line in lines}
    evens = range(ports.first_even, ports.last, 2)
    free = sum(1 for even in evens if not used & {even, even + 1})
    health = Health.OK if free else Health.MISSING
    detail = f"{free} of {len(evens)} pairs of {ports.first}-{ports.last} are free"
    return Check("RTP ports", health, detail, "other ones: --rtp-ports A-B", needed=True)


def _open_files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Check("open files", Health.OK, "unlimited")
    calls = max(0, soft - _FILES_BESIDES) // _FILES_PER_CALL
    most = "without limit" if hard == resource.RLIM_INFINITY else f"to {hard}"
    health = Health.OK if calls >= _FEW_CALLS else Health.FAILED
    detail = f"{soft}, enough for about {calls} calls; may be raised {most}"
    return Check("open files", health, detail, "ulimit -n 65536")


def _ipv4() -> Check:
    try:
        return Check("address", Health.OK, local_address_toward(_ELSEWHERE[0]))
    except TransportError as error:
        return Check("address", Health.MISSING, error.message, "calls on this machine only")


def _ipv6() -> Check:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        return Check("IPv6", Health.MISSING, error.strerror or str(error), "IPv4 does without")
    try:
        return Check("IPv6", Health.OK, local_address_toward(_ELSEWHERE[1]))
    except TransportError:
        return Check("IPv6", Health.OK, "on this machine only")


# ---------------------------------------------------------------- the peers


def _peers(cache: Path) -> list[Check]:
    """Look for what `make peers` installs; its versions are in `peers.json`."""
    versions = _recorded(cache)
    places: dict[str, Callable[[], str | None]] = {
        "asterisk": lambda: shutil.which(cache / "asterisk/usr/sbin/asterisk"),
        "baresip": lambda: shutil.which("baresip"),
        "kamailio": lambda: shutil.which("kamailio", path=_ALL_PROGRAMS),
        "rtpengine": lambda: shutil.which("rtpengine"),
        "sipp": lambda: shutil.which("sipp"),
        "sipvicious": lambda: shutil.which("svmap"),
        "pjsip": lambda: shutil.which(cache / "pjsua2/bin/python"),
        "tshark": lambda: shutil.which("tshark"),
        "opus-tools": lambda: shutil.which("opusdec"),
        "pulseaudio": lambda: shutil.which("pulseaudio"),
    }
    checks = []
    for name, find in places.items():
        there = find() is not None
        detail = versions.get(name, "of unknown version") if there else ""
        health = Health.OK if there else Health.MISSING
        checks.append(Check(name, health, detail, _MAKE_PEERS))
    for judge in ("pesq", "pystoi"):
        version = _version(judge)
        checks.append(Check(judge, Health.OK if version else Health.MISSING, version, _MAKE_PEERS))
    return checks


def _recorded(cache: Path) -> dict[str, str]:
    record: Any = {}
    with contextlib.suppress(OSError, ValueError):
        record = json.loads((cache / "peers.json").read_text())
    versions = record.get("versions") if isinstance(record, dict) else None
    return {str(k): str(v) for k, v in versions.items()} if isinstance(versions, dict) else {}
