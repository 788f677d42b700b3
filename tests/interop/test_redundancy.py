"""Packets that repeat others (RFC 2198), as tshark reads them: by the call's own description."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from voip import Softphone
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.sim import World

pytestmark = [pytest.mark.peer, pytest.mark.rfc("2198", "3")]

SPAN = {"pcmu": 160, "opus": 960}
TYPES = {"pcmu": 0, "opus": 96}


def capture(path: Path, codec: str, generations: int) -> None:
    """Keep a call between two phones in `path`, of which one repeats what it says."""
    world = World(3)
    alice, bob = world.host("10.0.0.1"), world.host("10.0.0.2")
    said = MediaConfig(codecs=(codec,), redundancy=generations)

    async def main() -> None:
        ready = asyncio.Event()

        async def answer(call: Call) -> None:
            await call.answer()
            await call.wait_ended()

        async def answers() -> None:
            network = NetworkConfig(bind_port=5060)
            media = MediaConfig(codecs=(codec,))
            async with Softphone(None, register=False, network=network, media=media) as phone:
                phone.on_incoming(answer)
                ready.set()
                await asyncio.Event().wait()

        async def calls() -> None:
            async with (
                Softphone(None, register=False, media=said, pcap=path) as phone,
                await phone.dial("sip:bob@10.0.0.2") as call,
            ):
                await call.play_tone("ringback", seconds=2)

        bob.create_task(answers())
        await ready.wait()
        await alice.run(calls())

    world.run(main())


def dissected(path: Path) -> list[dict[str, list[int]]]:
    """What tshark finds in Alice's packets; several values where several headers are."""
    fields = ["rtp.p_type", "rtp.seq", "rtp.timestamp", "rtp.follow", "rtp.timestamp-offset",
              "rtp.block-length"]  # fmt: skip
    command = ["tshark", "-r", str(path), "-Y", "rtp && ip.src == 10.0.0.1", "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    words = {"True": 1, "False": 0}
    return [
        {
            name: [words[one] if one in words else int(one) for one in value.split(",") if one]
            for name, value in zip(fields, line.split("\t"), strict=True)
        }
        for line in done.stdout.splitlines()
    ]


@pytest.mark.parametrize(("codec", "generations"), [("pcmu", 1), ("pcmu", 3), ("opus", 2)])
def test_tshark_reads_the_blocks_that_we_write(
    tmp_path: Path, missing: Callable[[str], NoReturn], codec: str, generations: int
) -> None:
    if shutil.which("tshark") is None:
        missing("tshark is not installed (make peers)")
    path = tmp_path / "red.pcap"
    capture(path, codec, generations)
    packets = dissected(path)
    assert len(packets) > 80
    counts: dict[int, int] = defaultdict(int)
    for packet in packets:
        *repeated, last = packet["rtp.follow"] or [0]
        assert (set(repeated) <= {1}, last) == (True, 0)
        back = [SPAN[codec] * n for n in range(len(repeated), 0, -1)]
        assert packet["rtp.timestamp-offset"] == back
        assert len(packet["rtp.block-length"]) == len(repeated)
        if codec == "pcmu":
            assert set(packet["rtp.block-length"]) <= {160}
        if repeated:  # the packet's own type, then one for each block
            assert packet["rtp.p_type"][1:] == [TYPES[codec]] * (len(repeated) + 1)
        counts[len(repeated)] += 1
    assert counts[generations] == len(packets) - generations, dict(counts)
