"""The sound devices of this machine, by PortAudio through the `sounddevice` package.

The package is optional (`pip install 'voip-softphone[device]'`), and so is PortAudio, which it
brings along on Windows and macOS (Debian: libportaudio2). PortAudio looks for devices when it is
begun and never again: it is begun anew to look again, which can only be done while none is in use.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from voip.devices.device import DeviceInfo, Lost, Sound
from voip.errors import DeviceError

__all__ = ["SystemDevice", "SystemDevices"]

HINT = "pip install 'voip-softphone[device]'; Debian also: apt install libportaudio2"


class SystemDevices:
    """The devices that are there. One of these serves a whole program."""

    def __init__(self) -> None:
        self._in_use: set[SystemDevice] = set()
        self._lock = threading.Lock()

    def list(self) -> list[DeviceInfo]:
        """Return all devices as they are now; as they were, while one of them is in use.

        Raises `DeviceError` where the package or PortAudio is missing.
        """
        portaudio = _portaudio()
        with self._lock:
            if not self._in_use:
                portaudio._terminate()
                portaudio._initialize()
            try:
                found = list(portaudio.query_devices())
                defaults = tuple(portaudio.default.device)
            except portaudio.PortAudioError as error:
                raise DeviceError(f"PortAudio cannot list devices: {error}") from error
        return [
            DeviceInfo(
                one["name"],
                one["max_input_channels"],
                one["max_output_channels"],
                round(one["default_samplerate"]),
                number == defaults[0],
                number == defaults[1],
            )
            for number, one in enumerate(found)
        ]

    def open(
        self, name: str | None = None, *, microphone: str | None = None, block_ms: float = 10.0
    ) -> SystemDevice:
        """Return the device whose name contains `name`, whatever its case; None: the default one.

        microphone: another one to hear with. Raises `DeviceError` where there is none, or several.
        """
        speaker = self._find(name, output=True)
        heard = self._find(microphone if microphone is not None else name, output=False)
        if speaker is None and heard is None:
            raise DeviceError("this machine has no sound device", hint="voip devices")
        return SystemDevice(self, heard, speaker, block_ms)

    def _find(self, name: str | None, *, output: bool) -> DeviceInfo | None:
        """Return the one meant; None where a default is wanted and there is none."""
        able = [one for one in self.list() if (one.outputs if output else one.inputs)]
        if name is None:
            default = "is_default_output" if output else "is_default_input"
            return next((one for one in able if getattr(one, default)), None)
        found = [one for one in able if one.name == name]
        found = found or [one for one in able if name.casefold() in one.name.casefold()]
        kind = "plays" if output else "captures"
        names = ", ".join(repr(one.name) for one in found or able) or "none"
        if not found:
            raise DeviceError(f"no device that {kind} is named {name!r}", hint=f"there is {names}")
        if len(found) > 1:
            raise DeviceError(f"several devices are named {name!r}", hint=f"one of {names}")
        return found[0]

    def _begin(self, device: SystemDevice) -> None:
        with self._lock:
            self._in_use.add(device)

    def _end(self, device: SystemDevice) -> None:
        with self._lock:
            self._in_use.discard(device)


class SystemDevice:
    """A microphone and a speaker, either of which may be missing; `voip.devices.AudioDevice`."""

    def __init__(
        self,
        devices: SystemDevices,
        microphone: DeviceInfo | None,
        speaker: DeviceInfo | None,
        block_ms: float,
    ) -> None:
        names = dict.fromkeys(one.name for one in (speaker, microphone) if one is not None)
        self.name = ", ".join(names)
        self.capture_hz = (microphone or speaker or _NOBODY).rate_hz
        self.play_hz = (speaker or microphone or _NOBODY).rate_hz
        self._devices, self._microphone, self._speaker = devices, microphone, speaker
        self._block_s = block_ms / 1000
        self._streams: list[Any] = []
        self._sound: Sound | None = None
        self._lost: Lost | None = None

    def start(self, sound: Sound, lost: Lost) -> None:
        """Open it; raises `DeviceError` where it is gone, or busy, or cannot do this."""
        if self._streams:
            raise DeviceError(f"{self.name} is in use", hint="stop it first")
        portaudio = _portaudio()
        self._sound, self._lost = sound, lost
        self._devices._begin(self)
        try:
            # two streams and not one both ways, which PortAudio keeps in step at its own cost,
            # and cannot where microphone and speaker have different clocks
            if self._microphone is not None:
                self._open(portaudio.InputStream, self._microphone, self._captured)
            if self._speaker is not None:
                self._open(portaudio.OutputStream, self._speaker, self._wanted)
            for stream in self._streams:
                stream.start()
        except (portaudio.PortAudioError, ValueError) as error:
            self.stop()
            raise DeviceError(
                f"{self.name} cannot be used: {error}", hint="voip devices lists what is there"
            ) from error

    def _open(self, kind: Any, info: DeviceInfo, callback: Any) -> None:
        self._streams.append(
            kind(
                device=info.name,
                samplerate=info.rate_hz,
                blocksize=max(1, round(info.rate_hz * self._block_s)),
                dtype="int16",
                channels=1,
                latency="low",
                callback=callback,
                finished_callback=self._finished,
            )
        )

    def stop(self) -> None:
        """Close it."""
        self._lost = None
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.close(ignore_errors=True)
        self._sound = None
        self._devices._end(self)

    # called by PortAudio's threads

    def _captured(self, heard: Any, frames: int, when: object, status: object) -> None:
        if (sound := self._sound) is not None:
            sound.capture(heard[:, 0], time.monotonic())

    def _wanted(self, said: Any, frames: int, when: object, status: object) -> None:
        if (sound := self._sound) is not None:
            said[:, 0] = sound.play(frames, time.monotonic())
        else:
            said.fill(0)

    def _finished(self) -> None:
        lost, self._lost = self._lost, None
        if lost is not None:
            lost("it stopped by itself, as one does that is unplugged")


_NOBODY = DeviceInfo("nobody", 0, 0, 48000)


def _portaudio() -> Any:
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # the package, or the library that it opens
        raise DeviceError(f"there are no sound devices: {error}", hint=HINT) from error
    return sounddevice
