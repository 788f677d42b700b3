"""Devices without hardware: what they hear and play, by their own clocks, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from voip.devices.paced import CallbackDevice, FileDevice, NullDevice, PacedDevice, ToneDevice
from voip.errors import AudioFileError, ConfigError, DeviceError
from voip.media.wav import WavWriter, read
from voip.sim import World

Pcm = npt.NDArray[np.int16]


def virtually(story: Callable[[], Awaitable[None]]) -> None:
    world = World()

    async def main() -> None:
        await story()

    world.run(main(), on=world.host("192.0.2.1"))


class Ear:
    """What a device hears; what it is to play is one more than that."""

    def __init__(self) -> None:
        self.blocks: list[Pcm] = []
        self.times: list[float] = []
        self.lost: list[str] = []

    def capture(self, pcm: Pcm, now: float) -> None:
        self.blocks.append(pcm.copy())
        self.times.append(now)

    def play(self, samples: int, now: float) -> Pcm:
        return np.full(samples, len(self.blocks), np.int16)

    @property
    def sound(self) -> Pcm:
        return np.concatenate(self.blocks)


async def heard(device: PacedDevice, seconds: float) -> Ear:
    ear = Ear()
    device.start(ear, ear.lost.append)
    await asyncio.sleep(seconds)
    device.stop()
    await asyncio.sleep(1)
    return ear


def test_each_block_comes_when_it_is_due_by_the_devices_own_clock() -> None:
    async def story() -> None:
        for drift_ppm, blocks in ((0.0, 1000), (5000.0, 1005), (-5000.0, 995)):
            ear = await heard(NullDevice(rate_hz=48000, drift_ppm=drift_ppm), 10.0001)
            assert len(ear.blocks) == blocks
            assert {block.size for block in ear.blocks} == {480}
            gaps = np.diff(ear.times)
            assert gaps == pytest.approx(0.01 / (1 + drift_ppm * 1e-6), abs=1e-6)
            assert not ear.sound.any() and not ear.lost

    virtually(story)


def test_a_tone_is_one_sine_of_its_level() -> None:
    async def story() -> None:
        ear = await heard(ToneDevice(1000, -20), 1.0001)
        spectrum = np.abs(np.fft.rfft(ear.sound / 32768)) / ear.sound.size
        assert np.argmax(spectrum) == 1000
        power = 2 * (spectrum**2).sum()
        assert 10 * np.log10(power) == pytest.approx(-20, abs=0.01)
        assert 2 * spectrum[1000] ** 2 / power > 0.9999

    virtually(story)


def test_a_file_is_heard_once_or_again_and_again_and_another_one_is_written(tmp_path: Path) -> None:
    sound = np.arange(1, 2401, dtype=np.int16)
    with WavWriter(tmp_path / "in.wav", 16000) as writer:
        writer.write(sound)

    async def story() -> None:
        device = FileDevice(tmp_path / "in.wav", tmp_path / "out.wav", block_ms=20)
        ear = await heard(device, 0.2001)
        assert (ear.sound[:2400] == sound).all()
        assert not ear.sound[2400:].any()
        written = read(tmp_path / "out.wav")
        assert (written == np.repeat(np.arange(1, 11), 320)).all()
        ear = await heard(FileDevice(tmp_path / "in.wav", loop=True), 0.4001)
        assert (ear.sound == np.resize(sound, ear.sound.size)).all()
        with pytest.raises(AudioFileError, match="none"):
            FileDevice(tmp_path / "none.wav").start(Ear(), str)

    virtually(story)


def test_callbacks_are_asked_and_told_and_what_is_short_is_silence() -> None:
    async def story() -> None:
        played: list[Pcm] = []
        device = CallbackDevice(lambda count: np.ones(count // 2, np.int16), played.append)
        ear = await heard(device, 0.0501)
        assert [int(block.sum()) for block in ear.blocks] == [80] * 5
        assert [int(block[0]) for block in played] == [1, 2, 3, 4, 5]

    virtually(story)


def test_a_callback_that_raises_is_a_device_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    def broken(samples: int) -> Pcm:
        raise ValueError("no microphone")

    async def story() -> None:
        ear = await heard(CallbackDevice(broken), 0.5)
        assert (ear.blocks, ear.lost) == ([], ["no microphone"])

    virtually(story)
    assert "the device callbacks failed" in caplog.text


def test_a_device_that_is_unplugged_tells_so_once() -> None:
    async def story() -> None:
        device, ear = NullDevice(), Ear()
        device.start(ear, ear.lost.append)
        with pytest.raises(DeviceError, match="null is in use"):
            device.start(ear, ear.lost.append)
        await asyncio.sleep(0.1001)
        device.vanish("somebody pulled the plug")
        device.vanish()
        await asyncio.sleep(0.1)
        assert (len(ear.blocks), ear.lost) == (10, ["somebody pulled the plug"])

    virtually(story)


async def test_a_loop_that_was_busy_is_caught_up_with_and_what_is_long_past_is_left_out() -> None:
    """In real time, but of a clock that is set by hand."""
    loop = asyncio.get_running_loop()
    device, ear = NullDevice(block_ms=100), Ear()
    device.start(ear, ear.lost.append)
    for busy_s, blocks in ((0.35, 3), (60.0, 10)):
        device._begun -= busy_s
        before = len(ear.blocks)
        assert device._timer is not None
        device._timer.cancel()
        device._due()
        assert len(ear.blocks) - before == blocks
        assert loop.time() - device._begun == pytest.approx(
            (device._blocks + 0.5) * device.block_s, abs=0.1
        )
    device.stop()


def test_what_no_device_can_be_is_refused() -> None:
    for wrong in ({"rate_hz": 0}, {"block_ms": 0.0}, {"drift_ppm": float("nan")}):
        with pytest.raises(ConfigError):
            NullDevice(**wrong)
