"""A phone in careless hands: what cannot work is refused, and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_wire import HERE
from loopback_phones import engine_thread

from voip.config import MediaConfig, NetworkConfig
from voip.errors import CallError, ConfigError, RegistrationError, VoipError
from voip.phone import Softphone


@pytest.mark.parametrize(
    "settings",
    [
        {"uri": ""},
        {"uri": "sip:"},
        {"uri": "sips:alice@pbx.example;transport=udp"},
        {"uri": "tel:+4930123"},
        {"uri": "sip:a%0d%0ab@pbx.example"},
        {"uri": "sip:alice@pbx.example", "display_name": "A\r\nVia: x"},
        {"uri": "sip:alice@pbx.example", "auth_user": "a\r\nb"},
        {"uri": "sip:alice@pbx.example", "proxy": "http://pbx.example"},
        {"uri": "sip:alice@pbx.example", "expires_s": -1},
        {"uri": "sip:alice@pbx.example", "expires_s": 1 << 40},
        {"register": True},
        {"user_agent": "x\r\ny"},
        {"requests": {"bad method": print}},
        {"requests": {"INVITE": print}},
        {"pcap": "/nowhere/at/all.pcap"},
    ],
)
async def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(ConfigError) as caught:
        async with Softphone(network=HERE, **settings):
            pass
    assert caught.value.hint or "all.pcap" in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: NetworkConfig(rtp_ports=(1, 2, 3)),
        lambda: NetworkConfig(rtp_ports=(10001, 10002)),
        lambda: NetworkConfig(rtp_ports=(0, 70000)),
        lambda: NetworkConfig(bind_port=-1),
        lambda: NetworkConfig(transport="sctp"),
        lambda: NetworkConfig(public_address="what is this"),
        lambda: MediaConfig(codecs=()),
        lambda: Softphone(media=MediaConfig(codecs=("evs",))),
        lambda: MediaConfig(ptime_ms=0),
        lambda: MediaConfig(ptime_ms=25),
        lambda: MediaConfig(jitter_min_ms=float("nan")),
        lambda: MediaConfig(jitter_min_ms=100, jitter_max_ms=50),
    ],
)
def test_values_that_cannot_work_are_refused(make: Callable[[], object]):
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize("host", ["pbx.example", "999.1.1.1", "192.0.2.200", "::g"])
async def test_addresses_that_cannot_be_bound_are_refused_and_nothing_is_left(host):
    alice = Softphone(network=NetworkConfig(bind_host=host))
    with pytest.raises(VoipError):
        await alice.start()
    assert not engine_thread(alice)._thread.is_alive()


BAD_DIALS: list[tuple[str, dict[str, Any]]] = [
    ("sip:x@127.0.0.1", {"wait": "forever"}),
    ("sip:x@127.0.0.1", {"headers": {"Via": "SIP/2.0/UDP x"}}),
    ("sip:x@127.0.0.1", {"headers": {"v": "SIP/2.0/UDP x"}}),
    ("sip:x@127.0.0.1", {"headers": {"Content-Length": "0"}}),
    ("sip:x@127.0.0.1", {"headers": {"X-A\r\nVia": "x"}}),
    ("sip:x@127.0.0.1", {"headers": {"X-A": "x\r\nVia: y"}}),
    ("sip:x@127.0.0.1", {"from_": "what is this?"}),
    ("sip:x@127.0.0.1", {"from_": "tel:123"}),
    ("sip:x@127.0.0.1;transport=sctp", {}),
    ("sip:x@127.0.0.1:0", {}),
    ("sip:x@127.0.0.1:99999", {}),
    ("sip:x@[::1", {}),
    ("sip:x@192.0.2.1", {}),  # bound to loopback
    ("tel:+4930123", {}),
    ("tel:110", {}),
    ("x y@127.0.0.1", {}),
    ("sip:x@127.0.0.1?Subject", {}),
]


@pytest.mark.parametrize(("target", "more"), BAD_DIALS)
async def test_what_cannot_be_dialled_is_refused_by_name(target, more):
    async with Softphone(network=HERE) as alice:
        with pytest.raises(VoipError) as caught:
            await alice.dial(target, timeout=0.1, **more)
        assert caught.value.message
        assert alice.calls == []
        assert alice._agent.dialogs == []


async def test_a_timeout_that_is_no_number_leaves_no_call(scene):
    before = scene.alice.calls
    with pytest.raises(TypeError):
        await scene.alice.dial(f"sip:wire@127.0.0.1:{scene.bob.port}", timeout="soon")
    assert scene.alice.calls == before


async def test_a_phone_that_is_not_open_says_so():
    alice = Softphone(network=HERE)
    for use in (lambda: alice.port, lambda: alice.addresses, lambda: alice.driver):
        with pytest.raises(ConfigError, match="not started"):
            use()
    assert (alice.calls, alice.registered) == ([], False)
    with pytest.raises(ConfigError):
        await alice.dial("sip:x@127.0.0.1")
    await alice.close()
    await alice.start()
    with pytest.raises(ConfigError, match="started once"):
        await alice.start()
    await alice.close()
    await alice.close()
    with pytest.raises(CallError, match="closed"):
        await alice.dial("sip:x@127.0.0.1")
    with pytest.raises((ConfigError, RegistrationError)):
        await alice.register()
    assert [event async for event in alice.events()] == []


async def test_every_method_of_a_call_refuses_what_makes_no_sense(scene, tmp_path: Path):
    call = scene.call
    (tmp_path / "folder").mkdir()
    bad: list[Callable[[], Any]] = [
        lambda: call.send_dtmf(""),
        lambda: call.send_dtmf("x"),
        lambda: call.send_dtmf("1\r\n"),
        lambda: call.send_dtmf("1", duration_ms=-1),
        lambda: call.send_dtmf("1", gap_ms=-1),
        lambda: call.send_dtmf("1", duration_ms=10**9),
        lambda: call.collect(0),
        lambda: call.play(""),
        lambda: call.play(tmp_path),
        lambda: call.play(tmp_path / "none.wav"),
        lambda: call.play(np.zeros((2, 2), np.int16)),
        lambda: call.play(np.zeros(3, np.float32)),
        lambda: call.send(np.zeros(3, np.float32)),
        lambda: call.record(tmp_path / "folder").start(),
        lambda: call.record(tmp_path / "no" / "x.wav").start(),
        lambda: call.reject(),
        lambda: call.ring(),
        lambda: call.progress(),
        lambda: call.answer(),
        lambda: call.cancel(),
        lambda: call.bridge(call),
        lambda: call.bridge(scene.theirs),
        lambda: call.audio().read(-1),
        lambda: call.audio().read(float("nan")),
        lambda: call.audio().read(float("inf")),
    ]
    for number, work in enumerate(bad):
        with pytest.raises(VoipError):
            await work()
            raise AssertionError(f"number {number} was taken")
    for frame_ms in (0, -1, float("nan"), float("inf"), 10**9):
        with pytest.raises(ConfigError):
            call.audio(frame_ms)
    for rate in (0, -8000, 7999, 10**6):
        with pytest.raises(ConfigError):
            call.record(tmp_path / "x.wav", rate_hz=rate)
    await call.send(np.zeros(0, np.int16))
    await call.play(np.zeros(0, np.int16))
    await scene.assert_unharmed()
