"""Devices that come and go: told as they do, of this machine or of a simulated one."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from voip.devices.device import DeviceInfo
from voip.devices.paced import NullDevice, PacedDevice
from voip.errors import ConfigError, DeviceError

__all__ = ["DeviceAdded", "DeviceRemoved", "Devices", "SimulatedDevices", "watch_devices"]


@dataclass(frozen=True, slots=True)
class DeviceAdded:
    """A device can be opened now that could not be before."""

    device: DeviceInfo


@dataclass(frozen=True, slots=True)
class DeviceRemoved:
    """A device is gone."""

    device: DeviceInfo


class Devices(Protocol):
    """What lists devices: `SystemDevices`, `SimulatedDevices`."""

    def list(self) -> list[DeviceInfo]:
        """Return those that are there; raises `DeviceError`. It may take its time."""
        ...


async def watch_devices(
    devices: Devices, *, every_s: float = 2.0
) -> AsyncIterator[DeviceAdded | DeviceRemoved]:
    """Yield what is plugged in, or unplugged, from now on.

    They are listed every so often, in a thread of its own where that is another machine's work
    (`SystemDevices`). Raises `DeviceError` where devices cannot be listed at the beginning; later
    they are taken to be as they were. Defaults that change are a device removed and another added.
    """
    if not 0.05 <= every_s <= 3600:
        raise ConfigError(f"every_s={every_s}", hint="0.05 to 3600 s")
    here = isinstance(devices, SimulatedDevices)
    known = devices.list() if here else await asyncio.to_thread(devices.list)
    while True:
        await asyncio.sleep(every_s)
        try:
            now = devices.list() if here else await asyncio.to_thread(devices.list)
        except DeviceError:
            continue
        gone, new = (
            [one for one in known if one not in now],
            [one for one in now if one not in known],
        )
        known = now
        for one in gone:
            yield DeviceRemoved(one)
        for one in new:
            yield DeviceAdded(one)


class SimulatedDevices:
    """A machine whose devices a test, or a demonstration, plugs in and pulls out.

    `make` returns what is behind a device each time it is opened; by default a `NullDevice`.
    """

    def __init__(self) -> None:
        self._there: dict[str, tuple[DeviceInfo, Callable[[], PacedDevice]]] = {}
        self._opened: list[weakref.ref[PacedDevice]] = []

    def list(self) -> list[DeviceInfo]:
        """Return what is plugged in, in the order in which it was."""
        return [info for info, _ in self._there.values()]

    def plug(self, info: DeviceInfo, make: Callable[[], PacedDevice] | None = None) -> None:
        """Plug a device in; `ConfigError` where one of that name is."""
        if info.name in self._there:
            raise ConfigError(f"there is a device named {info.name!r} already")
        rate = info.rate_hz
        self._there[info.name] = info, make or (lambda: NullDevice(rate_hz=rate))

    def unplug(self, name: str) -> None:
        """Pull a device out: calls that have it go on without."""
        if name not in self._there:
            raise DeviceError(f"no device is named {name!r}")
        del self._there[name]
        for opened in self._opened:
            device = opened()
            if device is not None and device.name == name:
                device.vanish()

    def open(self, name: str) -> PacedDevice:
        """Return the device whose name contains `name`, whatever the case; raises `DeviceError`."""
        found = [one for one in self._there if name.casefold() in one.casefold()]
        if len(found) != 1:
            names = ", ".join(map(repr, found or self._there)) or "none"
            raise DeviceError(f"not one device is named {name!r}", hint=f"there is {names}")
        device = self._there[found[0]][1]()
        device.name = found[0]
        self._opened = [one for one in self._opened if one() is not None]
        self._opened.append(weakref.ref(device))
        return device
