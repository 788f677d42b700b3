"""Calls between sound devices whose clocks drift: what one captures, the other one plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import numpy.typing as npt
import pytest
from sound_scene import call_up

from voip.call import Call
from voip.config import MediaConfig
from voip.devices.device import DeviceInfo
from voip.devices.hotplug import DeviceAdded, DeviceRemoved, SimulatedDevices, watch_devices
from voip.devices.paced import CallbackDevice, FileDevice, NullDevice, ToneDevice
from voip.devices.pipes import LoopbackDevice
from voip.errors import CallStateError, ConfigError, DeviceError, VoipError
from voip.events import DeviceLost
from voip.harness.audio import fit_tones
from voip.sim import Path, World

Pcm = npt.NDArray[np.int16]
Story = Callable[[Call, Call], Awaitable[None]]

RATE_HZ = 16000


class Ear(CallbackDevice):
    """Plays into an array."""

    def __init__(self, drift_ppm: float = 0.0) -> None:
        self.blocks: list[Pcm] = []
        super().__init__(play=self.blocks.append, rate_hz=RATE_HZ, drift_ppm=drift_ppm)

    def last(self, seconds: float) -> Pcm:
        return np.concatenate(self.blocks)[-round(seconds * RATE_HZ) :]


def tone_and_rest(pcm: Pcm, frequency_hz: float) -> tuple[float, float]:
    """Return the level of a tone, and of the worst 50 ms of all that is not this tone, in dBFS."""
    window = RATE_HZ // 20
    windows = pcm[: pcm.size // window * window].reshape(-1, window) / 32768
    tone, rest = fit_tones(windows, RATE_HZ, (frequency_hz,))
    return 10 * np.log10(tone.mean()), 10 * np.log10(rest.max())


def talk(story: Story, media: MediaConfig | None = None) -> None:
    """Let Alice call Bob in a simulated world and tell what happens in it."""
    world = World(5, path=Path(delay_s=0.02, jitter_s=0.005))
    call_up(story, media=media or MediaConfig(), world=world)


@pytest.mark.long
@pytest.mark.parametrize(("codec", "seconds"), [("pcmu", 40), ("g722", 15)])
def test_a_tone_goes_from_device_to_device_without_a_click(codec: str, seconds: float) -> None:
    async def story(mine: Call, theirs: Call) -> None:
        ear = Ear(drift_ppm=-200)
        tone = ToneDevice(440, -20, rate_hz=48000, drift_ppm=300)
        async with mine.attach(tone) as microphone, theirs.attach(ear) as speaker:
            await asyncio.sleep(seconds)
            # by Bob's clock, which is 500 ppm slower than Alice's, the tone is higher
            level, rest = tone_and_rest(ear.last(seconds / 3), 440 * 1.0005)
            assert level == pytest.approx(-20, abs=1)
            assert rest < -50
            assert microphone.drift_ppm[0] > 0 > speaker.drift_ppm[1]
            assert microphone.microphone.rms_dbfs == pytest.approx(-20, abs=0.5)
            assert speaker.speaker.rms_dbfs == pytest.approx(-20, abs=1)

    talk(story, MediaConfig(codecs=(codec,)))


@pytest.mark.parametrize("latency_ms", [20, pytest.param(80, marks=pytest.mark.long)])
def test_the_way_from_device_to_device_takes_what_was_asked_for(latency_ms: float) -> None:
    """A chirp that is captured at a known time is found again by correlation."""
    chirp_s = 0.1
    at = np.arange(round(chirp_s * RATE_HZ)) / RATE_HZ
    chirp = np.rint(9000 * np.sin(2 * np.pi * (500 * at + 12500 * at**2))).astype(np.int16)
    began_s = 5.0

    async def story(mine: Call, theirs: Call) -> None:
        said = 0

        def capture(samples: int) -> Pcm:
            nonlocal said
            sound = np.zeros(round(10 * RATE_HZ), np.int16)
            sound[round(began_s * RATE_HZ) :][: chirp.size] = chirp
            said += samples
            return sound[said - samples : said]

        ear = Ear()
        mouth = CallbackDevice(capture, rate_hz=RATE_HZ)
        async with theirs.attach(ear, latency_ms=latency_ms):
            async with mine.attach(mouth, latency_ms=latency_ms):
                before = sum(block.size for block in ear.blocks)
                await asyncio.sleep(8)
            heard = np.concatenate(ear.blocks)[before:].astype(float)
        found = int(np.argmax(np.abs(np.correlate(heard, chirp.astype(float))))) / RATE_HZ
        way_ms = 1000 * (found - began_s)
        print(f"from device to device: {way_ms:.0f} ms")
        network_ms, buffer_ms, filters_ms, steps_ms = 20, 40, 4 * 5.6, 40
        least = 2 * latency_ms + network_ms + buffer_ms / 2 + filters_ms / 2
        assert least < way_ms < 2 * latency_ms + network_ms + buffer_ms + filters_ms + steps_ms

    talk(story)


def test_a_device_that_vanishes_leaves_silence_and_an_event_and_another_may_come() -> None:
    async def story(mine: Call, theirs: Call) -> None:
        lost: list[DeviceLost] = []
        mine.on_event(lambda event: lost.append(event) if isinstance(event, DeviceLost) else None)
        ear, tone = Ear(), ToneDevice()
        async with theirs.attach(ear), mine.attach(tone) as link:
            await asyncio.sleep(2)
            assert np.abs(ear.last(0.5)).max() > 3000
            tone.vanish("unplugged")
            await asyncio.sleep(2)
            assert lost == [DeviceLost("tone of 440 Hz", "unplugged")]
            assert isinstance(link.device, NullDevice)
            assert np.abs(ear.last(0.5)).max() < 20
            with pytest.raises(DeviceError):
                await link.use(ear)  # which is Bob's
            await link.use(ToneDevice(700))
            await asyncio.sleep(2)
            level, rest = tone_and_rest(ear.last(0.5), 700)
            assert level - rest > 25
        with pytest.raises(CallStateError):
            await link.use(tone)

    talk(story)


def test_what_is_played_comes_before_the_device_which_then_goes_on() -> None:
    async def story(mine: Call, theirs: Call) -> None:
        ear = Ear()
        async with theirs.attach(ear), mine.attach(ToneDevice(440)):
            with pytest.raises(CallStateError, match="another device speaks"):
                await mine.attach(NullDevice()).start()
            with pytest.raises(CallStateError, match="a device speaks"):
                await mine.send(np.zeros(160, np.int16))
            await mine.play(np.zeros(8000, np.int16))
            await asyncio.sleep(0.2)
            assert np.abs(ear.last(0.5)).min() < 20
            await asyncio.sleep(2)
            assert np.abs(ear.last(0.5)).max() > 3000
        await mine.send(np.zeros(160, np.int16))
        with pytest.raises(ConfigError, match="latency"):
            mine.attach(NullDevice(), latency_ms=1)

    talk(story)


def test_the_call_s_end_is_the_link_s_end() -> None:
    async def story(mine: Call, theirs: Call) -> None:
        link = mine.attach(ToneDevice())
        await link.start()
        await asyncio.sleep(1)
        await theirs.hangup()
        await asyncio.sleep(1)
        with pytest.raises(CallStateError):
            await link.use(NullDevice())
        await link.stop()

    talk(story)


def test_E07_a_device_that_is_pulled_out_is_told_of_and_the_call_goes_on_without() -> None:
    machine = SimulatedDevices()
    headset = DeviceInfo("USB Headset", 1, 1, RATE_HZ)
    told: list[object] = []

    async def watch() -> None:
        async for change in watch_devices(machine, every_s=0.5):
            told.append(change)

    async def story(mine: Call, theirs: Call) -> None:
        watching = asyncio.ensure_future(watch())
        await asyncio.sleep(1)
        machine.plug(headset, lambda: ToneDevice(700, rate_hz=RATE_HZ))
        ear = Ear()
        async with theirs.attach(ear), mine.attach(machine.open("headset")) as link:
            await asyncio.sleep(2)
            assert tone_and_rest(ear.last(0.5), 700)[0] > -30
            machine.unplug("USB Headset")
            await asyncio.sleep(2)
            assert link.device.name == "null"
            assert not np.abs(ear.last(0.5)).max() > 10
            machine.plug(headset, lambda: ToneDevice(900, rate_hz=RATE_HZ))
            await link.use(machine.open("headset"))
            await asyncio.sleep(2)
            assert tone_and_rest(ear.last(0.5), 900)[0] > -30
        watching.cancel()
        lost = [event async for event in events_so_far(mine) if isinstance(event, DeviceLost)]
        assert [event.device for event in lost] == ["USB Headset"]
        with pytest.raises(DeviceError, match="no device"):
            machine.unplug("Speaker")
        with pytest.raises(DeviceError, match="'USB Headset'"):
            machine.open("speaker")

    talk(story)
    assert told == [DeviceAdded(headset), DeviceRemoved(headset), DeviceAdded(headset)]


async def events_so_far(call: Call) -> AsyncIterator[object]:
    for event in call._events:
        yield event


def test_a_device_that_cannot_be_had_leaves_the_one_before_in_its_place() -> None:
    async def story(mine: Call, theirs: Call) -> None:
        ear = Ear()
        async with theirs.attach(ear), mine.attach(ToneDevice(700, rate_hz=RATE_HZ)) as link:
            with pytest.raises(VoipError, match=r"nowhere\.wav"):
                await link.use(FileDevice("/nowhere.wav"))
            await asyncio.sleep(2)
            assert tone_and_rest(ear.last(0.5), 700)[0] > -30

    talk(story)


def test_a_loopback_device_sends_back_what_it_plays() -> None:
    async def story(mine: Call, theirs: Call) -> None:
        ear = Ear()
        speaker = ToneDevice(600, rate_hz=RATE_HZ)
        both = CallbackDevice(speaker.capture, ear.play, rate_hz=RATE_HZ)
        async with theirs.attach(both), mine.attach(LoopbackDevice(20)):
            await asyncio.sleep(4)
        assert tone_and_rest(ear.last(1.0), 600)[0] > -30

    talk(story)
