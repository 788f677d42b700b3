"""A device that listens to a call and speaks in it, and what becomes of that when it vanishes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from voip.devices.bridge import ClockBridge, Meter
from voip.devices.device import AudioDevice
from voip.devices.paced import NullDevice
from voip.errors import CallStateError, DeviceError, MediaError, VoipError
from voip.media.rings import AudioRing

__all__ = ["DeviceLink", "SoundPort"]

RING_S = 1.0


class _Listener(Protocol):
    async def release(self) -> None: ...


class SoundPort(Protocol):
    """The sound of a call: what rings a device is linked to."""

    async def listen(self, listener: _Listener, seconds: float) -> tuple[int, AudioRing]:
        """Write what is heard to a new ring, until the call ends and `listener` is released."""
        ...

    async def unlisten(self, listener: _Listener, number: int) -> None:
        """Stop that."""
        ...

    async def speak(self, seconds: float) -> tuple[int, AudioRing]:
        """Send what is in a new ring while nothing is played."""
        ...

    async def hush(self, number: int) -> None:
        """Stop that."""
        ...


class DeviceLink:
    """Links a device with a call: `async with call.attach(device) as link:`.

    It ends with the block, or with the call. A device that vanishes is replaced by silence, and
    `lost(name, reason)` is told; the call goes on, and `use` puts another device in its place.
    latency_s: of sound that is held back each way, beside the device's own blocks.
    """

    def __init__(
        self,
        port: SoundPort,
        device: AudioDevice,
        latency_s: float,
        lost: Callable[[str, str], None],
    ) -> None:
        self.device = device
        """What is linked now."""
        self._port = port
        self._latency_s = latency_s
        self._told = lost
        self._rings: tuple[tuple[int, AudioRing], tuple[int, AudioRing]] | None = None
        self._bridge: ClockBridge | None = None
        self._turn = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def microphone(self) -> Meter:
        """How loud it is what the device captures."""
        return self._bridged.said_meter

    @property
    def speaker(self) -> Meter:
        """How loud it is what the device plays."""
        return self._bridged.heard_meter

    @property
    def drift_ppm(self) -> tuple[float, float]:
        """How much faster than ours microphone's and speaker's clocks run, as far as is known."""
        return self._bridged.captured.ppm, self._bridged.played.ppm

    @property
    def _bridged(self) -> ClockBridge:
        if self._bridge is None:
            raise DeviceError(f"{self.device.name} is linked to no call", hint="async with")
        return self._bridge

    async def start(self) -> None:
        """Link them. Raises `DeviceError` where the device cannot be had."""
        async with self._turn:
            if self._loop is not None:
                raise DeviceError("a link is started once", hint="attach anew")
            self._loop = asyncio.get_running_loop()
            heard = await self._port.listen(self, RING_S)
            try:
                said = await self._port.speak(RING_S)
                self._rings = heard, said
                self._begin(self.device)
            except BaseException:
                await self._end(heard[0])
                raise

    async def use(self, device: AudioDevice) -> None:
        """Let another device take its place; where it cannot be had, all stays as it is."""
        async with self._turn:
            if self._rings is None:
                raise CallStateError("the device is linked to no call any more")
            before = self.device
            before.stop()
            try:
                self._begin(device)
            except VoipError:
                self._begin(before)
                raise

    async def stop(self) -> None:
        """Let them go their own ways; twice does nothing."""
        async with self._turn:
            if self._rings is not None:
                await self._end(self._rings[0][0])

    async def release(self) -> None:
        """The call is over."""
        await self.stop()

    async def __aenter__(self) -> DeviceLink:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def _begin(self, device: AudioDevice) -> None:
        if self._rings is None:
            raise DeviceError("there is no call to link to")
        (_, heard), (_, said) = self._rings
        bridge = ClockBridge(device.capture_hz, device.play_hz, heard, said, self._latency_s)
        device.start(bridge, lambda reason: self._vanished(device, reason))
        self.device, self._bridge = device, bridge

    def _vanished(self, device: AudioDevice, reason: str) -> None:
        """The device is gone. Called from any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed, and nobody listens
                self._loop.call_soon_threadsafe(self._fall_silent, device, reason)

    def _fall_silent(self, device: AudioDevice, reason: str) -> None:
        if self._rings is None or self.device is not device:
            return
        device.stop()
        self._begin(NullDevice())
        self._told(device.name, reason)

    async def _end(self, listening: int) -> None:
        rings, self._rings = self._rings, None
        self.device.stop()
        with suppress(CallStateError, MediaError):
            await self._port.unlisten(self, listening)
        if rings is not None:
            with suppress(CallStateError, MediaError):
                await self._port.hush(rings[1][0])
