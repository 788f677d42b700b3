"""`voip devices`: the list, for people and for machines, and why it cannot be had."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from voip_program import Done

from voip.devices.device import DeviceInfo
from voip.devices.system import SystemDevices
from voip.errors import DeviceError

Voip = Callable[..., Done]

HEADSET = DeviceInfo("USB \x1bHeadset", 1, 2, 48000, is_default_input=True, is_default_output=True)


def listing(monkeypatch: pytest.MonkeyPatch, *found: DeviceInfo) -> None:
    monkeypatch.setattr(SystemDevices, "list", lambda self: list(found))


def test_devices_are_told_with_what_they_can_do(
    voip: Voip, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing(monkeypatch, HEADSET)
    done = voip("devices")
    assert (done.status, done.stderr) == (0, "")
    assert "USB ?Headset: 1 in, 2 out  48000 Hz  default microphone and default speaker" in (
        done.stdout.replace("\\x1b", "?").replace("\ufffd", "?")
    )
    report = json.loads(voip("devices", "--json").stdout)
    assert report["devices"][0]["name"] == "USB \x1bHeadset"
    assert report["devices"][0]["rate_hz"] == 48000


def test_none_is_an_answer_too(voip: Voip, monkeypatch: pytest.MonkeyPatch) -> None:
    listing(monkeypatch)
    assert voip("devices").stdout == "there are no sound devices\n"
    assert json.loads(voip("devices", "--json").stdout) == {"ok": True, "devices": []}


def test_without_portaudio_it_says_what_to_install(
    voip: Voip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(self: SystemDevices) -> list[DeviceInfo]:
        raise DeviceError("there are no sound devices: no PortAudio", hint="apt install it")

    monkeypatch.setattr(SystemDevices, "list", missing)
    done = voip("devices")
    assert done.status == 1
    assert "no PortAudio" in done.stderr and "apt install it" in done.stderr
