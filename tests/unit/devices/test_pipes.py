"""Pipes and a loop of wire as devices, block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest

from voip.devices.pipes import LoopbackDevice, PipeDevice
from voip.errors import ConfigError

BLOCK = 160


def ramp(first: int, samples: int = BLOCK) -> np.ndarray:
    return np.arange(first, first + samples, dtype=np.int16)


@pytest.fixture
def pipe() -> Iterator[list[int]]:
    ends = list(os.pipe())
    yield ends
    for end in ends:
        with suppress(OSError):  # a test has closed it
            os.close(end)


def test_what_is_written_to_a_pipe_is_heard_and_what_is_late_is_silence(pipe: list[int]) -> None:
    device = PipeDevice(pipe[0], rate_hz=16000)
    device.open()
    data = ramp(1, 2 * BLOCK).tobytes()
    os.write(pipe[1], data[: 2 * BLOCK + 1])  # half a sample more than a block
    assert device.capture(BLOCK).tolist() == ramp(1).tolist()
    os.write(pipe[1], data[2 * BLOCK + 1 : 3 * BLOCK])
    half = device.capture(BLOCK)
    assert half[: BLOCK // 2].tolist() == ramp(1 + BLOCK, BLOCK // 2).tolist()
    assert not half[BLOCK // 2 :].any()
    assert device.underruns == 1
    os.write(pipe[1], data[3 * BLOCK :])
    os.close(pipe[1])
    assert device.capture(BLOCK)[: BLOCK // 2].tolist() == ramp(241, BLOCK // 2).tolist()
    assert not device.capture(BLOCK).any()  # after the end
    assert device.underruns <= 2


def test_who_does_not_read_loses_whole_blocks_and_who_is_gone_is_an_error(pipe: list[int]) -> None:
    device = PipeDevice(None, pipe[1], rate_hz=16000)
    device.open()
    for n in range(1000):  # ten seconds: more than a pipe and what waits for it hold
        device.play(ramp(n * 7))
    assert device.overruns > 300
    os.set_blocking(pipe[0], False)
    read = bytearray()
    for _ in range(100):
        try:
            read += os.read(pipe[0], 1 << 20)
        except BlockingIOError:
            device.play(ramp(0))
    blocks = np.frombuffer(bytes(read[: len(read) // 320 * 320]), np.int16).reshape(-1, BLOCK)
    assert (np.diff(blocks.astype(int), axis=1) == 1).all()
    os.close(pipe[0])
    with pytest.raises(OSError, match="Broken pipe"):
        device.play(ramp(0))
    assert not PipeDevice().capture(BLOCK).any()


def test_a_loop_gives_back_what_was_played_so_long_ago() -> None:
    device = LoopbackDevice(30, rate_hz=16000)
    heard = []
    for n in range(6):
        heard.append(device.capture(BLOCK))
        device.play(ramp(n * BLOCK))
    assert not np.concatenate(heard[:3]).any()
    assert np.concatenate(heard[3:]).tolist() == ramp(0, 3 * BLOCK).tolist()
    with pytest.raises(ConfigError):
        LoopbackDevice(-1)
