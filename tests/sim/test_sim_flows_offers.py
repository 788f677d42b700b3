"""RFC 4317's exchanges of one audio stream between a phone and an agent that says what is printed.

Adapted: PCMU in the place of iLBC. In a simulated world, with loss and without.
"""

from __future__ import annotations

import asyncio

from callers import until
from flow_scene import SERVER, Scene, Stranger, in_all_weathers

from voip.call import Call
from voip.events import CallState
from voip.sip.dialog import Dialog
from voip.sip.events import (
    Answered,
    IncomingInvite,
    ReinviteDone,
    ReinviteReceived,
    SipEvent,
)
from voip.types import Address

SDP = "application/sdp"


def described(version: int, *lines: str, host: str = "10.0.0.1") -> bytes:
    """What the agent says of itself, by the version of it."""
    head = ("v=0", f"o=alice 2890844526 {version} IN IP4 10.0.0.1", "s=-", f"c=IN IP4 {host}")
    return "".join(f"{line}\r\n" for line in (*head, "t=0 0", *lines)).encode()


def audio(port: int, numbers: str = "0") -> str:
    return f"m=audio {port} RTP/AVP {numbers}"


class Peer(Stranger):
    """The agent: it offers and answers what it is given, and hangs up when it is told to."""

    def __init__(self, scene: Scene, answer: bytes = b"") -> None:
        super().__init__(scene)
        self.answer = answer
        self.dialog: Dialog | None = None
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()

    def _on_event(self, event: SipEvent) -> None:
        now = self._endpoint.now()
        if isinstance(event, IncomingInvite | ReinviteReceived):
            contact = "<sip:peer@10.0.0.1:5070>" if isinstance(event, IncomingInvite) else None
            self._agent.respond(
                event.invite, 200, contact=contact, body=self.answer, content_type=SDP, now=now
            )
            self.dialog = event.invite.dialog
        elif isinstance(event, Answered):
            self.dialog = event.dialog
            self._answers.put_nowait(event.response.body)
        elif isinstance(event, ReinviteDone):
            assert event.status == 200
            self._answers.put_nowait(event.body)

    async def offer(self, offer: bytes) -> bytes:
        """Call Bob with this offer, or offer it in the call; return the answer."""
        if self.dialog is None:
            await self.begin(f"sip:bob@{SERVER}", body=offer, content_type=SDP)
        else:
            now = self._endpoint.now()
            self._agent.reinvite(self.dialog, body=offer, content_type=SDP, now=now)
            self._endpoint.flush()
        return await self._answers.get()

    def hang_up(self) -> None:
        assert self.dialog is not None
        self._agent.bye(self.dialog, now=self._endpoint.now())
        self._endpoint.flush()


def streams(answer: bytes) -> list[str]:
    return [line for line in answer.decode().splitlines() if line.startswith("m=")]


def sends_to(call: Call) -> Address | None:
    """Where the sound of a call goes; None while it goes nowhere."""
    agreed = call._session.media.agreed
    assert agreed is not None
    return agreed.remote_rtp if agreed.active and agreed.can_send else None


@in_all_weathers
def test_F067_of_two_audio_streams_one_is_taken_and_the_other_declined(
    loss: float, seed: int
) -> None:
    """Section 2.6."""
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, calls = await scene.answering()
        async with Peer(scene) as peer:
            ilbc = (audio(49170, "97"), "a=rtpmap:97 iLBC/8000")
            answer = await peer.offer(described(1, *ilbc, audio(51372, "0")))
            declined, taken = streams(answer)
            assert declined.startswith("m=audio 0 ")
            assert taken.endswith(" RTP/AVP 0") and not taken.startswith("m=audio 0 ")
            call = await calls.get()
            assert sends_to(call) == Address("10.0.0.1", 51372)
            peer.hang_up()
            await call.wait_ended()
            await scene.settled(bob)
        await bob.close()

    scene.run(main)


@in_all_weathers
def test_F070_who_is_answered_by_hold_is_taken_off_it(loss: float, seed: int) -> None:
    """Section 3.1: the answer is sendonly, then the callee offers to hear us."""
    scene = Scene(loss, seed)

    async def main() -> None:
        held = described(1, audio(49172), "a=sendonly", host="10.0.0.77")
        async with Peer(scene, held) as peer:
            bob, _ = await scene.answering(register=False)
            call = await bob.dial("sip:peer@10.0.0.1:5070")
            assert call.state is CallState.HELD
            assert sends_to(call) is None
            answer = await peer.offer(described(2, audio(49170)))
            assert b"a=recvonly" not in answer
            assert b"a=inactive" not in answer
            await until(lambda: call.state is CallState.ACTIVE)
            assert sends_to(call) == Address("10.0.0.1", 49170)
            await call.hangup()
            await scene.settled(bob)
        await bob.close()

    scene.run(main)


@in_all_weathers
def test_F076_a_caller_without_an_address_is_heard_when_it_has_one(loss: float, seed: int) -> None:
    """Section 5.2: the first offer leads into a black hole, 0.0.0.0."""
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, calls = await scene.answering()
        async with Peer(scene) as peer:
            first = await peer.offer(described(1, audio(23442), host="0.0.0.0"))
            call = await calls.get()
            assert sends_to(call) is None
            second = await peer.offer(described(2, audio(49170)))
            assert streams(first) == streams(second)
            await until(lambda: call.state is CallState.ACTIVE)
            assert sends_to(call) == Address("10.0.0.1", 49170)
            peer.hang_up()
            await call.wait_ended()
            await scene.settled(bob)
        await bob.close()

    scene.run(main)


@in_all_weathers
def test_F077_a_callee_without_an_address_is_heard_when_it_has_one(loss: float, seed: int) -> None:
    """Section 5.3: the first answer leads into a black hole, 0.0.0.0."""
    scene = Scene(loss, seed)

    async def main() -> None:
        async with Peer(scene, described(1, audio(9322), host="0.0.0.0")) as peer:
            bob, _ = await scene.answering(register=False)
            call = await bob.dial("sip:peer@10.0.0.1:5070")
            assert sends_to(call) is None
            await peer.offer(described(2, audio(49172)))
            await until(lambda: call.state is CallState.ACTIVE)
            assert sends_to(call) == Address("10.0.0.1", 49172)
            peer.hang_up()
            await call.wait_ended()
            await scene.settled(bob)
        await bob.close()

    scene.run(main)


@in_all_weathers
def test_F075_a_call_without_a_stream_has_sound_added(loss: float, seed: int) -> None:
    """Section 5.1: the first offer has no stream, and neither has the answer."""
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, calls = await scene.answering()
        async with Peer(scene) as peer:
            assert streams(await peer.offer(described(1))) == []
            call = await calls.get()
            (stream,) = streams(await peer.offer(described(2, audio(49170))))
            assert not stream.startswith("m=audio 0 ")
            assert sends_to(call) == Address("10.0.0.1", 49170)
            peer.hang_up()
            await call.wait_ended()
            await scene.settled(bob)
        await bob.close()

    scene.run(main)
