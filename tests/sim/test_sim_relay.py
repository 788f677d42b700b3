"""Calls that are bridged: relayed as they are, converted where they must be, and listened to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pytest

from voip import Softphone
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig, TroubleConfig
from voip.errors import ConfigError
from voip.events import CallEvent, CallState, DtmfReceived, OneWayAudio, TroubleOver
from voip.sim import Path, World

RATE = 8000


def sound(seconds: float, seed: int) -> npt.NDArray[np.int16]:
    return np.random.default_rng(seed).normal(0, 3000, int(seconds * RATE)).astype(np.int16)


@dataclass
class Scene:
    """Alice and Bob are called by the bridge; `legs` are its calls, `ends` theirs."""

    world: World
    legs: list[Call] = field(default_factory=list)
    ends: list[Call] = field(default_factory=list)


def play(
    story: Callable[[Scene], Awaitable[None]],
    codecs: tuple[tuple[str, ...], tuple[str, ...]] = (("pcmu",), ("pcmu",)),
    *,
    loss: float = 0.0,
    wait: str = "answered",
    dtx: tuple[bool, bool, bool] = (False, False, False),
    redundancy: int = 0,
) -> None:
    """`dtx`: whether the two ends, and the bridge, send nothing in silence."""
    world = World(4, path=Path(delay_s=0.01, loss=loss))
    hosts = [world.host(f"10.0.0.{n}") for n in (1, 2, 3)]
    scene = Scene(world)

    async def main() -> None:
        phones = []
        for host, offered, silent in zip(hosts[:2], codecs, dtx[:2], strict=True):
            with host.here():
                phone = Softphone(
                    None,
                    register=False,
                    network=NetworkConfig(bind_host=host.addresses[0], bind_port=5060),
                    media=MediaConfig(codecs=offered, dtx=silent, redundancy=redundancy),
                )
                phones.append(phone)
                phone.on_incoming(take)
                await phone.start()
        media = MediaConfig(
            codecs=("pcmu", "pcma", "g722"),
            troubles=TroubleConfig(one_way_s=3),
            redundancy=redundancy,
            dtx=dtx[2],
        )
        async with Softphone(None, register=False, media=media) as bridge:
            for host in hosts[:2]:
                scene.legs.append(await bridge.dial(f"sip:x@{host.addresses[0]}", wait=wait))
            while len(scene.ends) < 2:
                await asyncio.sleep(0.01)
            await story(scene)
            for leg in scene.legs:
                await leg.hangup()
        for phone in phones:
            await phone.close()

    async def take(call: Call) -> None:
        scene.ends.append(call)
        if wait == "started":
            await call.progress()
        else:
            await call.answer()
        await call.wait_ended()

    world.run(hosts[2].run(main()))


async def hear(speaker: Call, listener: Call, seconds: float, seed: int) -> float:
    """Let one speak to the other; return how well it is heard, as `same` has it."""
    said = sound(seconds, seed)
    reader = listener.audio(rate=RATE)
    async with reader:
        playing = asyncio.ensure_future(speaker.play(said))
        heard = await reader.read(seconds + 0.5)
        await playing
    return same(said, heard)


def same(said: npt.NDArray[np.int16], heard: npt.NDArray[np.int16]) -> float:
    """Correlation at the best lag, 0 to 1."""
    n = 1 << (said.size + heard.size).bit_length()
    product = np.fft.rfft(heard.astype(float), n) * np.conj(np.fft.rfft(said.astype(float), n))
    lag = int(np.fft.irfft(product, n)[: heard.size].argmax())
    part = heard[lag : lag + said.size].astype(float)
    whole = said[: part.size].astype(float)
    return float(part @ whole / np.sqrt((part @ part) * (whole @ whole) + 1))


def test_two_calls_of_one_codec_are_relayed_both_ways_and_nothing_is_decoded() -> None:
    async def story(scene: Scene) -> None:
        one, two = scene.legs
        await one.bridge(two)
        there, back = await asyncio.gather(
            hear(scene.ends[0], scene.ends[1], 3, 1), hear(scene.ends[1], scene.ends[0], 3, 2)
        )
        assert min(there, back) > 0.99
        played = [(await leg.measure()).played_ms for leg in scene.legs]
        assert max(played) < 400  # before they were bridged

    play(story)


def test_what_is_lost_before_a_relay_is_repeated_after_it() -> None:
    """Packets lost on the way to the bridge go on from their copies, under numbers of their own."""

    async def story(scene: Scene) -> None:
        one, two = scene.legs
        await one.bridge(two)
        assert await hear(*scene.ends, 4, 1) > 0.97
        relayed, heard = await one.measure(), await scene.ends[1].measure()
        assert relayed.played_ms < 1500  # before they were bridged
        assert relayed.packets_lost > 8
        assert heard.packets_lost > 8
        left = heard.packets_lost - heard.packets_recovered
        assert left < 0.5 * heard.packets_lost

    play(story, loss=0.08, redundancy=1)


@pytest.mark.parametrize("codecs", [("pcmu", "pcma"), ("pcma", "g722")])
def test_two_calls_of_different_codecs_are_converted(codecs: tuple[str, str]) -> None:
    async def story(scene: Scene) -> None:
        one, two = scene.legs
        assert (one.codec, two.codec) == codecs
        await one.bridge(two)
        assert await hear(*scene.ends, 2, 1) > 0.97
        assert (await one.measure()).played_ms > 1500

    play(story, ((codecs[0],), (codecs[1],)))


def test_digits_are_relayed_and_told() -> None:
    async def story(scene: Scene) -> None:
        one, two = scene.legs
        await one.bridge(two)
        await asyncio.sleep(1)
        heard, _ = await asyncio.gather(
            scene.ends[1].collect(3, timeout=5), scene.ends[0].send_dtmf("159")
        )
        assert heard == "159"
        told = [event async for event in _so_far(one) if isinstance(event, DtmfReceived)]
        assert [(event.digit, event.relayed) for event in told] == [
            ("1", True),
            ("5", True),
            ("9", True),
        ]

    play(story)


async def _so_far(call: Call):  # type: ignore[no-untyped-def]
    events = call.events()
    while True:
        try:
            yield await asyncio.wait_for(anext(events), 0.5)
        except TimeoutError:
            return


def test_hold_is_honoured_while_calls_are_bridged() -> None:
    async def story(scene: Scene) -> None:
        one, two = scene.legs
        await one.bridge(two)
        assert await hear(*scene.ends, 1, 1) > 0.99
        await scene.ends[1].hold()
        before = scene.ends[1].stats.packets_received
        talking = asyncio.ensure_future(scene.ends[0].play(sound(3, 2)))
        await asyncio.sleep(3)
        assert two.state is CallState.HELD
        assert scene.ends[1].stats.packets_received <= before + 60
        await talking
        await scene.ends[1].resume()
        assert await hear(*scene.ends, 1, 3) > 0.99
        await two.hold()  # by us: what he says is not to be heard
        saying = asyncio.ensure_future(scene.ends[1].play(sound(1, 4)))
        async with scene.ends[0].audio() as reader:
            heard = await reader.read(1)
        assert np.abs(heard[RATE // 4 :]).max() < 50
        await two.resume()
        await saying
        assert await hear(*scene.ends[::-1], 1, 5) > 0.99

    play(story)


def test_early_sound_is_relayed_before_anybody_answers() -> None:
    async def story(scene: Scene) -> None:
        one, two = scene.legs
        await asyncio.sleep(0.5)
        assert one.state is two.state is CallState.EARLY
        await two.hear(one)
        assert await hear(*scene.ends, 2, 1) > 0.99
        assert (await one.measure()).played_ms < 700

    play(story, wait="started")


def test_a_tap_at_any_rate_hears_what_is_relayed_and_nobody_hears_of_it() -> None:
    async def story(scene: Scene) -> None:
        one, two = scene.legs
        await one.bridge(two)
        await hear(*scene.ends, 1, 9)
        heard: dict[int, npt.NDArray[np.int16]] = {}

        async def tap(rate: int) -> None:
            async with one.audio(rate=rate) as reader:
                assert reader.rate == rate
                heard[rate] = await reader.read(2)

        results = await asyncio.gather(hear(*scene.ends, 2, 1), tap(8000), tap(16000), tap(48000))
        assert results[0] > 0.99
        assert {rate: pcm.size / rate for rate, pcm in heard.items()} == dict.fromkeys(heard, 2)
        assert all(np.abs(pcm.astype(int)).mean() > 300 for pcm in heard.values())
        with pytest.raises(ConfigError):
            one.audio(rate=123)

    play(story)


def test_what_is_played_to_one_side_is_mixed_in_and_relaying_goes_on_after_it() -> None:
    async def story(scene: Scene) -> None:
        one, two = scene.legs
        await one.bridge(two)
        assert await hear(*scene.ends, 1, 1) > 0.99
        assert await hear(two, scene.ends[1], 2, 2) > 0.97
        await asyncio.sleep(1.5)
        before = (await one.measure()).played_ms
        assert await hear(*scene.ends, 2, 3) > 0.99
        assert (await one.measure()).played_ms - before < 50

    play(story)


def test_lost_packets_stay_lost_and_the_rest_is_as_good_as_without_us() -> None:
    async def story(scene: Scene) -> None:
        one, two = scene.legs
        await one.bridge(two)
        assert await hear(*scene.ends, 4, 1) > 0.85

    play(story, loss=0.03)


def test_one_way_sound_is_an_event_of_the_call_and_so_is_its_end() -> None:
    async def story(scene: Scene) -> None:
        one = scene.legs[0]
        told: list[CallEvent] = []
        one.on_event(told.append)
        await scene.ends[0]._session.media.mute(False)
        scene.ends[0]._session.stack.driver.post(_nothing_more(scene.ends[0]))
        await asyncio.sleep(45)
        (trouble,) = [event for event in told if isinstance(event, OneWayAudio)]
        assert (trouble.direction, trouble.seconds) == ("in", 30)
        await scene.ends[0]._session.media.connect()
        await asyncio.sleep(3)
        assert TroubleOver(trouble) in told

    play(story)


def _nothing_more(call: Call):  # type: ignore[no-untyped-def]
    """The call sends no RTP any more, though it goes on to report: its microphone is broken."""
    return replace(call._session.media._connect_command(), send=False)
