"""The report of RFC 6035 section 4.7.3: ours says the same, line by line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from voip.quality.vq_report import Endpoint, StreamMetrics, VoiceQualityReport
from voip.types import Address

pytestmark = pytest.mark.rfc("6035", "4.7")


def example() -> VoiceQualityReport:
    common = {
        "start": 1097432623.0, "stop": 1096655162.0, "payload_type": 18, "encoding": "G729",
        "sample_rate_hz": 8000, "frame_ms": 20, "frame_octets": 20, "frames_per_packet": 2,
        "packets_per_s": 50, "fmtp": "annexb=no", "plc": 3, "silence_suppression": True,
        "jitter_buffer_adaptive": 3, "jitter_buffer_rate": 2, "jitter_buffer_nominal_ms": 40,
        "jitter_buffer_max_ms": 80, "jitter_buffer_abs_max_ms": 120, "loss_percent": 5.0,
        "discard_percent": 2.0, "burst_loss_percent": 0, "burst_ms": 0, "gap_loss_percent": 2.0,
        "gap_ms": 500, "gap_threshold": 16, "round_trip_ms": 200, "end_system_ms": 140,
        "one_way_ms": 200, "jitter_ms": 2, "mean_jitter_ms": 10, "signal_dbm": -21,
        "echo_return_loss_db": 55, "r_listening": 90, "r_conversation": 85, "algorithm": "P.564",
    }  # fmt: skip
    return VoiceQualityReport(
        "6dg37f1890463", "Alice <sip:alice@example.org>", "Bill <sip:bill@example.net>",
        "Alice <sip:alice@example.org>",
        Endpoint(Address("10.10.1.100", 5000), 0x1A3B5C7D, "example-phone-55671",
                 "00:1f:5b:cc:21:0f"),
        Endpoint(Address("11.1.1.150", 5002), 0x2468ABCD, "example-gateway-09871",
                 "00:26:08:8e:95:02"),
        StreamMetrics(**common, noise_dbm=-50, r_external=90, mos_listening=4.2,
                      mos_conversation=4.3),
        StreamMetrics(**common, noise_dbm=-45, mos_listening=4.3, mos_conversation=4.2),
    )  # fmt: skip


def read(text: str) -> list[tuple[str, object]]:
    """The lines of a report: name, and the values by their tokens (or the text)."""
    text = re.sub(r"\n[ \t]+", " ", "\n".join(line.rstrip() for line in text.splitlines()))
    lines: list[tuple[str, object]] = []
    for line in filter(None, text.split("\n")):
        name, _, value = line.partition(":")
        tokens = dict(part.split("=", 1) for part in value.split() if "=" in part)
        for token, said in tokens.items():
            if re.fullmatch(r"[0-9.]+", said) and token not in ("IP", "PD", "MOSLQ", "MOSCQ"):
                tokens[token] = str(float(said))
        if "SSRC" in tokens:  # the example writes some without 0x
            tokens["SSRC"] = tokens["SSRC"].removeprefix("0x")
        lines.append((name, tokens if tokens and name != "DialogID" else value.strip()))
    return lines


@pytest.mark.reference
def test_F106_the_report_rfc_6035_prints(reference_data: Path) -> None:
    printed = (reference_data / "rfc-examples" / "rfc6035_4.7_vq-rtcpxr_messages.txt").read_text()
    section = printed.partition("4.7.3.")[2]
    body = section[section.index("       VQSessionReport") : section.index("4.7.4.")]
    body = "\n".join(line.removeprefix("       ") for line in body.splitlines())
    theirs = [line for line in read(body) if line[0] != "DialogID"]
    ours = read(example().to_bytes().decode())
    # the order of two pairs of lines is that of the grammar, not of the example
    assert len(theirs) == 29
    assert sorted(map(repr, ours)) == sorted(map(repr, theirs))


def test_F106_the_lines_stand_in_the_order_of_the_grammar() -> None:
    names = [name for name, _ in read(example().to_bytes().decode())]
    metrics = ["Timestamps", "SessionDesc", "JitterBuffer", "PacketLoss", "BurstGapLoss", "Delay",
               "Signal", "QualityEst"]  # fmt: skip
    assert names == [
        "VQSessionReport", "CallID", "LocalID", "RemoteID", "OrigID", "LocalAddr", "RemoteAddr",
        "LocalGroup", "RemoteGroup", "LocalMAC", "RemoteMAC", "LocalMetrics", *metrics,
        "RemoteMetrics", *metrics,
    ]  # fmt: skip


def test_F106_what_is_not_known_is_left_out_and_what_is_too_large_is_the_largest() -> None:
    metrics = StreamMetrics(0.0, 60.0, round_trip_ms=1e9, loss_percent=-1.0, mos_conversation=5.2)
    assert metrics.lines() == [
        "Timestamps:START=1970-01-01T00:00:00Z STOP=1970-01-01T00:01:00Z",
        "PacketLoss:NLR=0.0",
        "Delay:RTD=65535",
        "QualityEst:MOSCQ=4.9",
    ]


def test_F106_the_dialog_is_named_with_both_tags() -> None:
    from dataclasses import replace

    report = replace(example(), to_tag="8472761", from_tag="9123dh311").to_bytes().decode()
    assert report.endswith("DialogID:6dg37f1890463;to-tag=8472761;from-tag=9123dh311\r\n")
