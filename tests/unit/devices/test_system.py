"""This machine's devices, of whom PortAudio tells; here one that is set up by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from voip.devices.system import SystemDevices
from voip.errors import DeviceError

Pcm = npt.NDArray[np.int16]


class PortAudioError(Exception):
    pass


class Stream:
    def __init__(self, portaudio: PortAudio, **settings: Any) -> None:
        if settings["device"] in portaudio.busy:
            raise PortAudioError("Device unavailable")
        self.settings = settings
        self.state = "open"
        portaudio.streams.append(self)

    def start(self) -> None:
        self.state = "started"

    def close(self, ignore_errors: bool = True) -> None:
        self.state = "closed"


class PortAudio:
    """As much of `sounddevice` as is used."""

    PortAudioError = PortAudioError

    def __init__(self, *names: str) -> None:
        self.streams: list[Stream] = []
        self.busy: set[str] = set()
        self.plugged = list(names)
        self.seen: list[str] = []
        self.default = SimpleNamespace(device=[-1, -1])
        self.begun = 0

    def _terminate(self) -> None:
        self.seen = []

    def _initialize(self) -> None:
        self.seen, self.begun = list(self.plugged), self.begun + 1
        self.default.device = [0, len(self.seen) - 1] if self.seen else [-1, -1]

    def query_devices(self) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "max_input_channels": 0 if "Speaker" in name else 1,
                "max_output_channels": 0 if "Mic" in name else 2,
                "default_samplerate": 44100.0 if "Mic" in name else 48000.0,
            }
            for name in self.seen
        ]

    def InputStream(self, **settings: Any) -> Stream:
        return Stream(self, **settings)

    def OutputStream(self, **settings: Any) -> Stream:
        return Stream(self, **settings)


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> PortAudio:
    fake = PortAudio("USB Mic", "Headset", "Big Speaker")
    monkeypatch.setitem(sys.modules, "sounddevice", fake)  # type: ignore[arg-type]
    return fake


class Sound:
    def __init__(self) -> None:
        self.captured: list[Pcm] = []

    def capture(self, pcm: Pcm, now: float) -> None:
        self.captured.append(pcm.copy())

    def play(self, samples: int, now: float) -> Pcm:
        return np.arange(samples, dtype=np.int16)


def test_devices_are_listed_and_found_by_a_part_of_their_name(portaudio: PortAudio) -> None:
    devices = SystemDevices()
    listed = devices.list()
    assert [(one.name, one.inputs, one.outputs, one.rate_hz) for one in listed] == [
        ("USB Mic", 1, 0, 44100),
        ("Headset", 1, 2, 48000),
        ("Big Speaker", 0, 2, 48000),
    ]
    assert [one.is_default_input for one in listed] == [True, False, False]
    assert [one.is_default_output for one in listed] == [False, False, True]
    device = devices.open()
    assert (device.name, device.capture_hz, device.play_hz) == (
        "Big Speaker, USB Mic", 44100, 48000,
    )  # fmt: skip
    assert devices.open("headset").name == "Headset"
    assert devices.open("speak", microphone="mic").name == "Big Speaker, USB Mic"
    with pytest.raises(DeviceError, match="no device that plays is named 'Mic'") as caught:
        devices.open("Mic")
    assert "'Headset', 'Big Speaker'" in caught.value.hint
    portaudio.plugged.append("Headset 2")
    with pytest.raises(DeviceError, match="several devices are named 'head'"):
        devices.open("head")
    assert devices.open("Headset").name == "Headset"


def test_what_is_plugged_in_is_seen_while_nothing_is_in_use(portaudio: PortAudio) -> None:
    devices = SystemDevices()
    headset = devices.open("Headset")
    headset.start(Sound(), str)
    begun = portaudio.begun
    portaudio.plugged.append("Radio")
    assert len(devices.list()) == 3
    assert portaudio.begun == begun, "it would take the headset away"
    headset.stop()
    assert [one.name for one in devices.list()][-1] == "Radio"


def test_blocks_go_both_ways_until_it_is_stopped(portaudio: PortAudio) -> None:
    sound, lost = Sound(), list[str]()
    device = SystemDevices().open("Headset", block_ms=20)
    device.start(sound, lost.append)
    with pytest.raises(DeviceError, match="in use"):
        device.start(sound, lost.append)
    microphone, speaker = portaudio.streams
    assert microphone.settings["blocksize"] == speaker.settings["blocksize"] == 960
    assert (microphone.settings["channels"], speaker.settings["dtype"]) == (1, "int16")
    microphone.settings["callback"](np.full((960, 1), 7, np.int16), 960, None, None)
    assert (np.concatenate(sound.captured) == 7).all()
    out = np.full((960, 1), -1, np.int16)
    speaker.settings["callback"](out, 960, None, None)
    assert (out[:, 0] == np.arange(960)).all()
    device.stop()
    device.stop()
    assert {microphone.state, speaker.state} == {"closed"}
    speaker.settings["callback"](out, 960, None, None)
    assert not out.any()
    speaker.settings["finished_callback"]()
    assert lost == []


def test_one_that_is_unplugged_tells_so_once(portaudio: PortAudio) -> None:
    lost: list[str] = []
    device = SystemDevices().open("Headset")
    device.start(Sound(), lost.append)
    for stream in portaudio.streams:
        stream.settings["finished_callback"]()
    assert lost == ["it stopped by itself, as one does that is unplugged"]


def test_one_that_is_busy_is_let_go_of(portaudio: PortAudio) -> None:
    portaudio.busy.add("Big Speaker")
    devices = SystemDevices()
    device = devices.open("Big Speaker", microphone="USB Mic")
    with pytest.raises(DeviceError, match="Big Speaker, USB Mic cannot be used: Device unavail"):
        device.start(Sound(), str)
    assert {stream.state for stream in portaudio.streams} == {"closed"}
    begun = portaudio.begun
    devices.list()
    assert portaudio.begun == begun + 1


@pytest.mark.parametrize("why", [ImportError("no module"), OSError("PortAudio library not found")])
def test_without_portaudio_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, why: Exception
) -> None:
    def missing(*args: object, **kwargs: object) -> None:
        raise why

    real: Callable[..., Any] = __import__

    def importing(name: str, *args: Any, **kwargs: Any) -> Any:
        return missing() if name == "sounddevice" else real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr("builtins.__import__", importing)
    with pytest.raises(DeviceError, match="there are no sound devices") as caught:
        SystemDevices().list()
    assert "libportaudio2" in caught.value.hint
    assert "voip-softphone[device]" in caught.value.hint
