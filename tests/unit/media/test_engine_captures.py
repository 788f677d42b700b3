"""Calls that others recorded: we count loss and jitter as tshark's RTP statistics do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dissector import Counted, fields, streams
from engine_desk import Desk, describe

from voip.media.commands import OpenStream, PayloadFormat

NAMES = ("sipp_g711a", "dtmf_2833_1", "dtmf_2833_5", "dtmf_2833_9", "dtmf_2833_star")


def dissected(capture: Path) -> tuple[list[tuple[float, bytes]], Counted]:
    """Return arrivals and packets, and what tshark says of the only stream."""
    everywhere = ("-d", "udp.port==0-65535,rtp")
    rows = fields(capture, "frame.time_relative", "udp.payload", options=everywhere)
    packets = [(float(at), bytes.fromhex(octets.replace(":", ""))) for at, octets in rows if octets]
    (stream,) = streams(capture, *everywhere)
    return packets, stream


@pytest.mark.peer
@pytest.mark.usefixtures("dissector")
@pytest.mark.reference
@pytest.mark.parametrize("name", NAMES)
def test_tshark_counts_the_same_in_a_capture(name: str, reference_data: Path) -> None:
    packets, stream = dissected(reference_data / "pcap" / f"{name}.pcap")
    assert stream.packets == len(packets) >= 10

    desk = Desk()
    desk.do(OpenStream(1, "127.0.0.1", "x"))
    events = PayloadFormat(packets[0][1][1] & 0x7F, "telephone-event")
    sound = name == "sipp_g711a"
    desk.do(describe(receive_dtmf=() if sound else (events,)))
    begin, jitters = desk.now + 0.1, []
    for at, packet in packets:
        desk.put(packet, at=begin + at)
        desk.now = begin + at
        desk.tick()
        jitters.append(desk.stats().jitter_ms)
    stats = desk.stats()
    assert stats.ssrc_received == stream.ssrc
    assert (stats.packets_received, stats.packets_lost) == (stream.packets, stream.lost)
    if sound:  # tshark measures none of telephone-event, and neither do we; nor of the first
        assert len(jitters) > 200
        assert np.max(jitters) == pytest.approx(stream.max_jitter_ms, abs=0.0011)
        assert np.mean(jitters[1:]) == pytest.approx(stream.mean_jitter_ms, abs=0.0011)
    else:
        assert stats.jitter_ms == stream.mean_jitter_ms == stream.max_jitter_ms == 0
