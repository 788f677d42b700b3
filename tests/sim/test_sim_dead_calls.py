"""Calls whose other side dies: who is told, when, and what the BYE says (rows H04, I03)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

import pytest

from voip import Softphone
from voip.call import Call
from voip.config import CallConfig, MediaConfig, NetworkConfig
from voip.errors import ConfigError
from voip.events import CallEnded, CallEvent, CallState, EndedBy, PeerHeard, PeerSilent
from voip.sim import Host, Path, World
from voip.sip.endpoint.trace import SipTraceRecord
from voip.sip.message import Request, parse_message
from voip.sip.reason import Reason
from voip.types import Address

PATH = Path(delay_s=0.02)
LATE_S = 0.2
"""Virtual time between what the engine has noticed and what the application has been told."""
NO_MEDIA = MediaConfig(elsewhere=Address("192.0.2.200", 40000))
"""Answers for itself, and sends neither RTP nor RTCP to where it says that it does."""


@dataclass
class Scene:
    """Alice calls Bob. `told`: what Alice's call is told, and when; `sent`: her requests."""

    world: World
    alice: Host
    bob: Host
    told: list[tuple[float, CallEvent]] = field(default_factory=list)
    sent: list[Request] = field(default_factory=list)
    bobs: list[Call] = field(default_factory=list)
    bob_phone: Softphone | None = None

    def times(self, kind: type[CallEvent]) -> list[float]:
        return [when for when, event in self.told if isinstance(event, kind)]

    def of(self, kind: type[CallEvent]) -> list[CallEvent]:
        return [event for _, event in self.told if isinstance(event, kind)]

    @property
    def end(self) -> CallEnded:
        (end,) = self.of(CallEnded)
        assert isinstance(end, CallEnded)
        return end

    def requests(self, method: str) -> list[Request]:
        """The different requests of a method that Alice has sent."""
        found = {one.cseq.number: one for one in self.sent if one.method == method}
        return list(found.values())

    def cut(self, seconds: float = float("inf")) -> float:
        """Let nothing pass between them; return when that was."""
        self.world.cut(self.alice, self.bob, seconds)
        return self.world.elapsed

    def why(self) -> Reason:
        """What Alice's BYE gives as its reason."""
        (bye,) = self.requests("BYE")
        (reason,) = Reason.of(bye.headers)
        return reason


Story = Callable[[Scene, Call], Awaitable[None]]


def play(
    story: Story,
    *,
    alices: CallConfig | None = None,
    bobs: CallConfig | None = None,
    bob_media: MediaConfig | None = None,
    alice_media: MediaConfig | None = None,
    bob_answers: Callable[[Call], Awaitable[None]] | None = None,
    pcap: FilePath | None = None,
) -> Scene:
    """Bring a call up, and let `story` happen to it."""
    world = World(3, path=PATH)
    scene = Scene(world, world.host("10.0.0.1"), world.host("10.0.0.2"))

    def trace(record: SipTraceRecord) -> None:
        message = parse_message(record.data)
        if record.sent and isinstance(message, Request):
            scene.sent.append(message)

    async def answer(call: Call) -> None:
        scene.bobs.append(call)
        await (bob_answers or Call.answer)(call)
        await call.wait_ended()

    async def main() -> None:
        with scene.bob.here():
            scene.bob_phone = Softphone(
                "sip:bob@10.0.0.2",
                register=False,
                network=NetworkConfig(bind_port=5060),
                calling=bobs or CallConfig(media_timeout_s=None),
                media=bob_media,
            )
            scene.bob_phone.on_incoming(answer)
            await scene.bob_phone.start()
        await scene.alice.run(talk())
        await scene.bob_phone.close()

    async def talk() -> None:
        async with Softphone(
            "sip:alice@10.0.0.1",
            register=False,
            calling=alices,
            media=alice_media,
            trace=trace,
            pcap=pcap,
        ) as phone:
            call = await phone.dial("sip:bob@10.0.0.2")
            call.on_event(lambda event: scene.told.append((world.elapsed, event)))
            await story(scene, call)
            await call.hangup()

    world.run(main())
    return scene


async def until_over(call: Call, limit_s: float = 300.0) -> None:
    async with asyncio.timeout(limit_s):
        await call.wait_ended()


# ---------------------------------------------------------------- nothing comes


@pytest.mark.parametrize("limit_s", [2.0, 7.0, 18.0])
def test_a_cut_link_is_told_of_in_half_the_time_and_ends_the_call_in_time(limit_s: float) -> None:
    cut_at: list[float] = []

    async def story(scene: Scene, call: Call) -> None:
        await asyncio.sleep(10)
        cut_at.append(scene.cut())
        await until_over(call)

    scene = play(story, alices=CallConfig(media_timeout_s=limit_s))
    told, ended = scene.times(PeerSilent)[0] - cut_at[0], scene.times(CallEnded)[0] - cut_at[0]
    assert told <= limit_s / 2 + LATE_S
    assert limit_s <= ended <= limit_s + LATE_S
    assert (scene.end.by, scene.end.status) == (EndedBy.FAILURE, 408)
    assert scene.end.reason == f"media timeout: neither RTP nor RTCP for {limit_s:g} s"
    assert scene.why() == Reason("SIP", 408, scene.end.reason)


def test_a_call_can_have_a_timeout_of_its_own() -> None:
    async def story(scene: Scene, call: Call) -> None:
        assert call.media_timeout_s == 60.0
        with pytest.raises(ConfigError, match="media_timeout_s=1"):
            call.media_timeout_s = 1
        call.media_timeout_s = 8.0
        await asyncio.sleep(10)
        at = scene.cut()
        await until_over(call)
        assert 8.0 <= scene.world.elapsed - at <= 8.0 + LATE_S

    scene = play(story)
    assert scene.why().cause == 408


def test_a_host_that_vanishes_is_noticed_because_it_does_not_answer() -> None:
    """With what a phone is set to by default: asked after 5 s, given up 32 s later (Timer F)."""

    async def story(scene: Scene, call: Call) -> None:
        await asyncio.sleep(10)
        at = scene.cut()
        await until_over(call)
        assert 36 < scene.world.elapsed - at < 38
        news = [event for event in scene.of(PeerSilent) if isinstance(event, PeerSilent)]
        assert [event.reports_stopped for event in news] == [False, True]
        assert 9 < news[0].seconds < 11

    scene = play(story)
    assert (scene.end.by, scene.end.status) == (EndedBy.FAILURE, 408)
    assert scene.why() == Reason("SIP", 408, "no answer to the OPTIONS")


def test_one_direction_that_is_cut_ends_the_call_for_both(tmp_path: FilePath) -> None:
    """Alice hears nothing, Bob hears her: her BYE tells him why. The capture shows it."""

    async def story(scene: Scene, call: Call) -> None:
        await asyncio.sleep(5)
        scene.world.network.cut(scene.bob, scene.alice, float("inf"))
        await until_over(call)
        await asyncio.sleep(1)
        (bobs,) = scene.bobs
        assert bobs.ended is not None
        assert bobs.ended.by is EndedBy.REMOTE
        (reason,) = bobs.end_reasons
        assert (reason.protocol, reason.cause) == ("SIP", 408)
        assert reason.text.startswith("media timeout")

    capture = tmp_path / "call.pcap"
    play(story, alices=CallConfig(media_timeout_s=12), pcap=capture)
    byes = re.findall(rb"BYE sip:.*?\r\n\r\n", capture.read_bytes(), re.DOTALL)
    assert byes
    assert all(b'\r\nReason: SIP;cause=408;text="media timeout: ' in one for one in byes)


def test_a_peer_that_answers_and_never_sounds_is_hung_up_after_a_minute() -> None:
    async def story(scene: Scene, call: Call) -> None:
        at = scene.world.elapsed
        await until_over(call)
        assert 60 <= scene.world.elapsed - at <= 60 + LATE_S

    scene = play(story, bob_media=NO_MEDIA)
    assert len(scene.requests("OPTIONS")) == 11  # after 5, 10 ... 55 s, and each was answered
    assert len(scene.of(PeerSilent)) == 1
    assert scene.why().cause == 408


def test_without_a_timeout_a_peer_that_answers_may_be_silent_for_ever() -> None:
    async def story(scene: Scene, call: Call) -> None:
        await asyncio.sleep(75)
        assert call.state is CallState.ACTIVE

    scene = play(story, alices=CallConfig(media_timeout_s=None), bob_media=NO_MEDIA)
    assert scene.end.by is EndedBy.LOCAL
    assert len(scene.of(PeerSilent)) == 1


def test_sound_that_comes_back_in_time_is_told_and_the_call_goes_on() -> None:
    async def story(scene: Scene, call: Call) -> None:
        await asyncio.sleep(5)
        for _ in range(2):
            scene.cut(15)
            await asyncio.sleep(25)
        assert call.state is CallState.ACTIVE

    scene = play(story, alices=CallConfig(media_timeout_s=20))
    kinds = [type(event) for _, event in scene.told if isinstance(event, PeerSilent | PeerHeard)]
    assert kinds == [PeerSilent, PeerHeard] * 2


# ---------------------------------------------------------------- what is silence, and what is not


async def say_nothing(call: Call) -> None:
    """Answer, and then send reports alone, as who suppresses silence does."""
    await call.answer()
    media = call._session.media
    media._stack.driver.post(replace(media._connect_command(), send=False))


def test_a_peer_that_suppresses_silence_is_there_as_long_as_it_reports() -> None:
    async def story(scene: Scene, call: Call) -> None:
        await asyncio.sleep(60)
        assert call.state is CallState.ACTIVE
        assert call.stats.packets_received < 10
        at = scene.cut()
        await until_over(call)
        assert 12 - 6.2 <= scene.world.elapsed - at <= 12 + LATE_S  # from its last report on

    scene = play(story, alices=CallConfig(media_timeout_s=12), bob_answers=say_nothing)
    assert [event.seconds > 5 for event in scene.of(PeerSilent)] == [True]  # type: ignore[union-attr]


def test_on_hold_nobody_is_missed_until_the_reports_stop() -> None:
    """Alice holds Bob: he is not to be heard, and reports what he hears of her music."""

    async def story(scene: Scene, call: Call) -> None:
        await call.hold()
        await asyncio.sleep(45)
        assert call.state is CallState.HELD
        assert scene.of(PeerSilent) == []
        at = scene.cut()
        await asyncio.sleep(32)
        (silent,) = scene.of(PeerSilent)
        assert isinstance(silent, PeerSilent)
        assert silent.reports_stopped  # five intervals of 5 s, RFC 3550 section 6.3.5
        assert scene.times(PeerSilent)[0] - at + 6.2 >= 25
        assert scene.times(PeerSilent)[0] - at <= 25 + 5 + LATE_S
        await until_over(call)
        assert scene.world.elapsed - at <= 60 + LATE_S

    scene = play(story)
    assert scene.end.by is EndedBy.FAILURE
    assert scene.why().cause == 408


def test_on_hold_what_ends_a_call_by_itself_is_that_reports_have_stopped() -> None:
    """Bob answers for himself and is held; his reports stop, and nothing else."""

    async def story(scene: Scene, call: Call) -> None:
        await call.hold()
        await asyncio.sleep(20)
        media = scene.bobs[0]._session.media
        with scene.bob.here():
            media.fall_silent()
        at = scene.world.elapsed
        await until_over(call)
        assert scene.world.elapsed - at <= 30 + LATE_S

    scene = play(story, alices=CallConfig(media_timeout_s=30))
    assert scene.end.reason == "media timeout: no RTCP for 30 s"
    assert scene.why().text == scene.end.reason


def test_who_is_on_hold_on_both_sides_owes_nothing() -> None:
    async def story(scene: Scene, call: Call) -> None:
        await call.hold()
        with scene.bob.here():
            await scene.bobs[0].hold()
        await asyncio.sleep(1)
        assert call._session.media.agreed is not None
        assert not call._session.media.agreed.can_send
        await asyncio.sleep(40)
        assert call.state is CallState.HELD

    scene = play(story, alices=CallConfig(media_timeout_s=10))
    assert scene.of(PeerSilent) == []


def test_who_is_held_by_the_peer_misses_its_music_once_the_reports_have_stopped() -> None:
    async def story(scene: Scene, call: Call) -> None:
        await asyncio.sleep(1)
        with scene.bob.here():
            await scene.bobs[0].hold()
        await asyncio.sleep(30)
        assert call.state is CallState.HELD
        at = scene.cut()
        await until_over(call)
        assert 25 - 6.2 <= scene.world.elapsed - at <= 25 + 2.5 + LATE_S

    scene = play(story, alices=CallConfig(media_timeout_s=10))
    assert scene.why().text.startswith("media timeout")


def test_a_peer_that_holds_us_and_sends_nothing_at_all_may_do_so() -> None:
    """Without music, and with RTCP stopped too; it answers for itself when it is asked."""

    async def story(scene: Scene, call: Call) -> None:
        await asyncio.sleep(1)
        with scene.bob.here():
            await scene.bobs[0].hold()
            scene.bobs[0]._session.media.fall_silent()
        await asyncio.sleep(45)
        assert call.state is CallState.HELD
        assert len(scene.requests("OPTIONS")) > 10
        at = scene.world.elapsed
        with scene.bob.here():
            await scene.bobs[0].resume()
            scene.bobs[0]._session.media.fall_silent()
        await until_over(call)  # it is to be heard now
        assert scene.world.elapsed - at <= 10 + 2 * LATE_S

    scene = play(story, alices=CallConfig(media_timeout_s=10))
    assert scene.why().cause == 408


def test_silence_before_the_answer_does_not_count() -> None:
    async def late(call: Call) -> None:
        await call.progress()
        call._session.media.fall_silent()  # described itself, and sounds only when it answers
        await asyncio.sleep(20)
        await call._session.media.connect()
        await call.answer()

    async def story(scene: Scene, call: Call) -> None:
        await asyncio.sleep(30)
        assert call.state is CallState.ACTIVE

    scene = play(story, alices=CallConfig(media_timeout_s=4), bob_answers=late)
    assert scene.of(PeerSilent) == []


# ---------------------------------------------------------------- asked again and again


PING = CallConfig(ping_s=10, session_timer="off")


def test_a_ping_ends_a_call_whose_other_side_has_vanished() -> None:
    """Sound goes elsewhere: nothing but the answers shows that somebody is there."""

    async def story(scene: Scene, call: Call) -> None:
        await asyncio.sleep(95)
        assert call.state is CallState.ACTIVE
        at = scene.cut()
        await until_over(call)
        assert scene.world.elapsed - at <= 2 * 10 + LATE_S

    scene = play(story, alices=PING, alice_media=NO_MEDIA, bob_media=NO_MEDIA)
    assert len(scene.requests("OPTIONS")) == 10
    assert (scene.end.by, scene.end.status) == (EndedBy.FAILURE, 408)
    assert scene.why() == Reason("SIP", 408, "no answer to the OPTIONS")


def test_a_ping_ends_a_call_that_the_other_side_does_not_know_any_more() -> None:
    async def story(scene: Scene, call: Call) -> None:
        await asyncio.sleep(5)
        assert scene.bob_phone is not None
        scene.bob_phone._agent._core.usages.clear()  # it has been started anew
        await until_over(call, 11)

    scene = play(story, alices=PING)
    assert (scene.end.by, scene.end.status) == (EndedBy.REMOTE, 481)
    assert scene.why().cause == 481


def test_nobody_is_pinged_unless_that_is_wanted_and_a_call_may_have_its_own() -> None:
    async def story(scene: Scene, call: Call) -> None:
        await asyncio.sleep(15)
        assert scene.requests("OPTIONS") == []
        with pytest.raises(ConfigError, match="ping_s=1"):
            call.ping_s = 1
        call.ping_s = 5
        await asyncio.sleep(26)
        assert len(scene.requests("OPTIONS")) == 5
        call.ping_s = None
        await asyncio.sleep(15)
        assert len(scene.requests("OPTIONS")) == 5

    assert play(story).end.by is EndedBy.LOCAL


@pytest.mark.parametrize(
    "setting", [{"media_timeout_s": 0}, {"media_timeout_s": float("nan")}, {"ping_s": 4.9}]
)
def test_what_cannot_be_kept_is_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        CallConfig(**setting)  # type: ignore[arg-type]


def test_a_question_that_was_asked_a_moment_ago_is_given_its_time() -> None:
    """It was asked because the peer is silent; the ping that is due then does not give it up."""

    async def story(scene: Scene, call: Call) -> None:
        await asyncio.sleep(3)
        call.ping_s = 10.0
        await asyncio.sleep(9.9)
        scene.world.link(scene.alice, scene.bob, Path(delay_s=0.15))
        call._session.presence.ask()
        await asyncio.sleep(30)
        assert call.state is CallState.ACTIVE
        assert len(scene.requests("OPTIONS")) >= 3
        at = scene.cut()
        await until_over(call)
        assert scene.world.elapsed - at <= 2 * 10 + LATE_S

    play(story, alices=CallConfig(media_timeout_s=None))
