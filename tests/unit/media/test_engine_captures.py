"""Calls that others recorded: we count loss and jitter as tshark's RTP statistics do."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from engine_desk import Desk, describe

from voip.media.commands import OpenStream, PayloadFormat

NAMES = ("sipp_g711a", "dtmf_2833_1", "dtmf_2833_5", "dtmf_2833_9", "dtmf_2833_star")


def dissected(capture: Path) -> tuple[list[tuple[float, bytes]], list[str]]:
    """Return arrivals and packets, and tshark's line of the only stream."""
    command = ["tshark", "-r", str(capture), "-d", "udp.port==0-65535,rtp", "-z", "rtp,streams",
               "-T", "fields", "-E", "separator=|", "-e", "frame.time_relative",
               "-e", "udp.payload"]  # fmt: skip
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [
        line.split("|") for line in text.splitlines() if re.match(r"[\d.]+\|[0-9a-f:]+$", line)
    ]
    packets = [(float(at), bytes.fromhex(octets.replace(":", ""))) for at, octets in lines]
    (stream,) = [line.split() for line in text.splitlines() if re.search(r"0x[0-9A-F]{8}", line)]
    return packets, stream


@pytest.mark.reference
@pytest.mark.parametrize("name", NAMES)
def test_tshark_counts_the_same_in_a_capture(
    name: str, reference_data: Path, missing: Callable[[str], None]
) -> None:
    if shutil.which("tshark") is None:
        missing("tshark is not installed")
    packets, line = dissected(reference_data / "pcap" / f"{name}.pcap")
    share = next(n for n, word in enumerate(line) if word.endswith("%)"))
    count, lost = int(line[share - 2]), int(line[share - 1])
    mean_jitter, max_jitter = map(float, line[share + 5 : share + 7])
    assert count == len(packets) >= 10

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
    assert stats.ssrc_received == int(line[6], 16)
    assert (stats.packets_received, stats.packets_lost) == (count, lost)
    if sound:  # tshark measures none of telephone-event, and neither do we; nor of the first
        assert len(jitters) > 200
        assert np.max(jitters) == pytest.approx(max_jitter, abs=0.0011)
        assert np.mean(jitters[1:]) == pytest.approx(mean_jitter, abs=0.0011)
    else:
        assert stats.jitter_ms == mean_jitter == max_jitter == 0
