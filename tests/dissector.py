"""tshark, which reads what we write and did not learn it from us.

A test that asks it is marked `peer`, and has the fixture `dissector`.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Counted:
    """A stream of RTP: from whom, its codec as tshark has it, what of it came, and how evenly."""

    host: str
    port: int
    ssrc: int
    codec: str
    packets: int
    lost: int
    mean_jitter_ms: float
    max_jitter_ms: float


def tshark(capture: Path, *options: str) -> str:
    """What it prints of a capture."""
    command = ["tshark", "-n", "-r", str(capture), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def fields(capture: Path, *names: str, options: tuple[str, ...] = ()) -> list[list[str]]:
    """The fields of these names, a row for each packet; several values of one with commas between.

    What is true or false is 1 or 0, as tshark had it before 4.2.
    """
    wanted = [word for name in names for word in ("-e", name)]
    text = tshark(capture, *options, "-T", "fields", "-E", "separator=|", *wanted)
    text = re.sub(r"\b(True|False)\b", lambda word: str(int(word[0] == "True")), text)
    return [line.split("|") for line in text.splitlines()]


def streams(capture: Path, *options: str) -> list[Counted]:
    """Its table of all streams."""
    rows = [
        line.split()
        for line in tshark(capture, *options, "-q", "-z", "rtp,streams").splitlines()
        if re.search(r" 0x[0-9A-F]{8} ", line)
    ]
    found = []
    for row in rows:
        share = next(n for n, word in enumerate(row) if word.endswith("%)"))
        packets, lost, jitters = row[share - 2], row[share - 1], row[share + 5 : share + 7]
        mean_ms, max_ms = map(float, jitters)
        source = row[2], int(row[3]), int(row[6], 16), " ".join(row[7 : share - 2])
        found.append(Counted(*source, int(packets), int(lost), mean_ms, max_ms))
    return found


def as_protocol(protocol: str, *ports: int) -> tuple[str, ...]:
    """The options that let it take what goes by these ports for a protocol."""
    return tuple(word for port in ports for word in ("-d", f"udp.port=={port},{protocol}"))
