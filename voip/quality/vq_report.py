"""Voice quality reports in text: application/vq-rtcpxr (RFC 6035 section 4.6).

What is not known is left out: the syntax has no value for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from voip.types import Address

__all__ = ["CONTENT_TYPE", "Endpoint", "StreamMetrics", "VoiceQualityReport"]

CONTENT_TYPE: Final = "application/vq-rtcpxr"
MAX_16_BITS: Final = 65_535


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One side of the sound: its RTP address, SSRC, and what it is counted with."""

    address: Address
    ssrc: int
    group: str
    mac: str | None = None


@dataclass(frozen=True, slots=True)
class StreamMetrics:
    """What one side measured of what it received, by the names of section 4.6.2.

    `start` and `stop` are seconds since 1970 UTC; durations and delays ms, levels dBm0, losses
    percent. `plc`, `jitter_buffer_adaptive`: numbered as in RFC 3611.
    """

    start: float
    stop: float
    payload_type: int | None = None
    encoding: str | None = None
    sample_rate_hz: int | None = None
    frame_ms: int | None = None
    frame_octets: int | None = None
    frames_per_packet: int | None = None
    packets_per_s: int | None = None
    fmtp: str | None = None
    plc: int | None = None
    silence_suppression: bool | None = None
    jitter_buffer_adaptive: int | None = None
    jitter_buffer_rate: int | None = None
    jitter_buffer_nominal_ms: float | None = None
    jitter_buffer_max_ms: float | None = None
    jitter_buffer_abs_max_ms: float | None = None
    loss_percent: float | None = None
    discard_percent: float | None = None
    burst_loss_percent: float | None = None
    burst_ms: float | None = None
    gap_loss_percent: float | None = None
    gap_ms: float | None = None
    gap_threshold: int | None = None
    round_trip_ms: float | None = None
    end_system_ms: float | None = None
    one_way_ms: float | None = None
    jitter_ms: float | None = None
    mean_jitter_ms: float | None = None
    signal_dbm: float | None = None
    noise_dbm: float | None = None
    echo_return_loss_db: float | None = None
    r_listening: float | None = None
    r_conversation: float | None = None
    r_external: float | None = None
    mos_listening: float | None = None
    mos_conversation: float | None = None
    algorithm: str | None = None

    def lines(self) -> list[str]:
        """Write them."""
        times = f"START={_date(self.start)} STOP={_date(self.stop)}"
        return [f"Timestamps:{times}", *(line for line in map(self._line, _LINES) if line)]

    def _line(self, line: tuple[str, tuple[_Field, ...]]) -> str:
        name, fields = line
        values = ((token, getattr(self, attribute), write) for token, attribute, write in fields)
        written = [f"{token}={write(value)}" for token, value, write in values if value is not None]
        return f"{name}:{' '.join(written)}" if written else ""


@dataclass(frozen=True, slots=True)
class VoiceQualityReport:
    """The report of a call that is over. Identities are SIP addresses (`Alice <sip:...>`).

    `dialog`: Call-ID and tags of the call, `to_tag` that of the callee.
    """

    call_id: str
    local_id: str
    remote_id: str
    orig_id: str
    local: Endpoint
    remote: Endpoint
    local_metrics: StreamMetrics
    remote_metrics: StreamMetrics | None = None
    to_tag: str | None = None
    from_tag: str | None = None

    def to_bytes(self) -> bytes:
        """Write it."""
        lines = [
            "VQSessionReport: CallTerm",
            f"CallID:{self.call_id}",
            f"LocalID:{self.local_id}",
            f"RemoteID:{self.remote_id}",
            f"OrigID:{self.orig_id}",
            f"LocalAddr:{_address(self.local)}",
            f"RemoteAddr:{_address(self.remote)}",
            f"LocalGroup:{self.local.group}",
            f"RemoteGroup:{self.remote.group}",
        ]
        for name, side in (("LocalMAC", self.local), ("RemoteMAC", self.remote)):
            if side.mac is not None:
                lines.append(f"{name}:{side.mac}")
        lines += ["LocalMetrics:", *self.local_metrics.lines()]
        if self.remote_metrics is not None:
            lines += ["RemoteMetrics:", *self.remote_metrics.lines()]
        if self.to_tag and self.from_tag:
            lines.append(f"DialogID:{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}")
        return "".join(f"{line}\r\n" for line in lines).encode()


def _number(value: float) -> str:
    return str(round(min(max(0.0, value), MAX_16_BITS)))


def _duration(value: float) -> str:
    return str(round(min(max(0.0, value), 3_600_000)))


def _percent(value: float) -> str:
    return f"{min(max(0.0, value), 100.0):.1f}"


def _level(value: float) -> str:
    return str(round(min(max(-99.0, value), 99.0)))


def _r_factor(value: float) -> str:
    return str(round(min(max(0.0, value), 120.0)))


def _mos(value: float) -> str:
    return f"{min(max(0.0, value), 4.9):.1f}"


def _switch(value: bool) -> str:
    return "on" if value else "off"


def _quoted(value: str) -> str:
    return f'"{value}"'


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _address(side: Endpoint) -> str:
    return f"IP={side.address.host} PORT={side.address.port} SSRC=0x{side.ssrc:08x}"


_Field = tuple[str, str, Callable[[Any], str]]

_LINES: Final[tuple[tuple[str, tuple[_Field, ...]], ...]] = (
    (
        "SessionDesc",
        (
            ("PT", "payload_type", str),
            ("PD", "encoding", str),
            ("SR", "sample_rate_hz", str),
            ("FD", "frame_ms", str),
            ("FO", "frame_octets", str),
            ("FPP", "frames_per_packet", str),
            ("PPS", "packets_per_s", str),
            ("FMTP", "fmtp", _quoted),
            ("PLC", "plc", str),
            ("SSUP", "silence_suppression", _switch),
        ),
    ),
    (
        "JitterBuffer",
        (
            ("JBA", "jitter_buffer_adaptive", str),
            ("JBR", "jitter_buffer_rate", str),
            ("JBN", "jitter_buffer_nominal_ms", _number),
            ("JBM", "jitter_buffer_max_ms", _number),
            ("JBX", "jitter_buffer_abs_max_ms", _number),
        ),
    ),
    ("PacketLoss", (("NLR", "loss_percent", _percent), ("JDR", "discard_percent", _percent))),
    (
        "BurstGapLoss",
        (
            ("BLD", "burst_loss_percent", _percent),
            ("BD", "burst_ms", _duration),
            ("GLD", "gap_loss_percent", _percent),
            ("GD", "gap_ms", _duration),
            ("GMIN", "gap_threshold", str),
        ),
    ),
    (
        "Delay",
        (
            ("RTD", "round_trip_ms", _number),
            ("ESD", "end_system_ms", _number),
            ("SOWD", "one_way_ms", _number),
            ("IAJ", "jitter_ms", _number),
            ("MAJ", "mean_jitter_ms", _number),
        ),
    ),
    (
        "Signal",
        (
            ("SL", "signal_dbm", _level),
            ("NL", "noise_dbm", _level),
            ("RERL", "echo_return_loss_db", _number),
        ),
    ),
    (
        "QualityEst",
        (
            ("RLQ", "r_listening", _r_factor),
            ("RCQ", "r_conversation", _r_factor),
            ("EXTRI", "r_external", _r_factor),
            ("MOSLQ", "mos_listening", _mos),
            ("MOSCQ", "mos_conversation", _mos),
            ("QoEEstAlg", "algorithm", str),
        ),
    ),
)
