"""Services, transfers and races of calls through a proxy, in a world that loses nothing or a fifth.

All of it goes by UDP, each flow under several seeds; every one ends where it has to, and nothing is
left of it in any phone, nor in the proxy.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pytest
from callers import transferred, until
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flow_scene import SERVER, Scene, in_all_weathers

from voip.call import Call
from voip.config import CallConfig, MediaConfig
from voip.errors import CallError, RequestError
from voip.events import CallState
from voip.sip.message import Response
from voip.sip.proxy_policy import Target
from voip.sip.server_invite import ServerInvite
from voip.sip.server_request import ServerRequest
from voip.sip.stir import Signer, Verifier
from voip.transfers import TransferRequest

SOUND = MediaConfig()
RATE = 8000


def tone(hertz: int, seconds: float) -> npt.NDArray[np.int16]:
    t = np.arange(int(seconds * RATE)) / RATE
    return (8000 * np.sin(2 * np.pi * hertz * t)).astype(np.int16)


def loudest(pcm: npt.NDArray[np.int16]) -> int:
    """The frequency that is loudest in the last second of it, in Hz."""
    return int(np.argmax(np.abs(np.fft.rfft(pcm[-RATE:].astype(float)))))


def call_id(call: Call) -> str:
    request = call._session.invite_request
    assert request is not None
    return request.call_id


# ---------------------------------------------------------------- services (RFC 5359)


@in_all_weathers
def test_F019_who_is_on_hold_hears_music_and_is_not_heard(loss: float, seed: int) -> None:
    """What is lost of the music is concealed: it is still the note that is played."""
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, calls = await scene.answering(media=SOUND)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            mine, theirs = await scene.up(alice, "bob", calls)
            await mine.hold()
            await until(lambda: theirs.state is CallState.HELD)
            async with theirs.audio() as ear, mine.audio() as other:
                _, _, heard, silence = await asyncio.gather(
                    mine.play(tone(440, 3)), theirs.send(tone(1200, 0.5)),
                    ear.read(2.5), other.read(0.9),
                )  # fmt: skip
            assert loudest(heard) == 440
            assert np.abs(silence).max() == 0
            await mine.resume()
            await until(lambda: theirs.state is CallState.ACTIVE)
            async with mine.audio() as other:
                _, heard = await asyncio.gather(theirs.play(tone(1200, 3)), other.read(2.5))
            assert loudest(heard) == 1200
            await mine.hangup()
            await theirs.wait_ended()
            await scene.settled(alice, bob)
        await bob.close()

    scene.run(main)


async def hear_each_other(one: Call, other: Call) -> None:
    """Both sides of a bridge hear what the other says."""
    async with one.audio() as ear, other.audio() as theirs:
        _, _, here, there = await asyncio.gather(
            one.play(tone(440, 3)), other.play(tone(1200, 3)), ear.read(2.5), theirs.read(2.5)
        )
    assert (loudest(here), loudest(there)) == (1200, 440)


@in_all_weathers
def test_F026_a_third_party_is_added_by_joining_two_calls(loss: float, seed: int) -> None:
    """Bob, who mixes nothing, calls Carol while Alice is on hold, and lets them hear each other."""
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, to_bob = await scene.answering(media=SOUND)
        carol, to_carol = await scene.answering("carol", media=SOUND)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            alices, first = await scene.up(alice, "bob", to_bob)
            await first.hold()
            second, carols = await scene.up(bob, "carol", to_carol)
            await first.resume()
            await until(lambda: alices.state is CallState.ACTIVE)
            await first.bridge(second)
            await hear_each_other(alices, carols)
            await carols.hangup()  # the third leaves, the two stay
            await second.wait_ended()
            assert first.state is alices.state is CallState.ACTIVE
            await first.hangup()
            await scene.settled(alice, bob, carol)
        await bob.close()
        await carol.close()

    scene.run(main)


# ---------------------------------------------------------------- gateways (RFC 5589 section 11)


def trunk(user: str) -> Target | None:
    """Where the proxy sends calls of numbers in the telephone network."""
    return Target(f"sip:{user}@10.0.0.5:5060") if user.startswith("+1") else None


class Gateway:
    """Between us and the telephone network: a number +1... is a telephone there.

    Where both ends of a call turn out to be its own it joins them there, and takes the call out.
    """

    def __init__(self, scene: Scene) -> None:
        self.joined: list[tuple[str, str]] = []
        self._numbers: dict[Call, str] = {}
        self._referred = ""
        self._scene = scene
        host = scene.world.host("10.0.0.5")
        self._host = host
        with host.here():
            self.phone = scene.phone(
                "gateway", host, register=False, calling=CallConfig(strangers="accept")
            )

        self.phone.on_incoming(self._incoming)
        self.phone.on_transfer(self._refer)

    async def start(self) -> None:
        await self._host.run(self.phone.start())

    async def up(self, number: str, user: str, calls: asyncio.Queue[Call]) -> tuple[Call, Call]:
        """The telephone with a number calls somebody of ours."""
        call, other = await self._host.run(self._scene.up(self.phone, user, calls))
        self._numbers[call] = number
        return call, other

    def _refer(self, request: TransferRequest) -> bool:
        assert request.call is not None
        self._referred = self._numbers[request.call]
        return True

    async def _incoming(self, call: Call) -> None:
        out = [one for one in self.phone.calls if one.outgoing and call_id(one) == call_id(call)]
        self._numbers[call] = call.dialled.removeprefix("sip:").partition("@")[0]
        if call.replaces is not None:
            self._numbers[call] = self._numbers[call.replaces]
        await call.answer()
        if out:
            self.joined.append((self._referred, self._numbers[call]))
            await asyncio.sleep(5)  # the telephone network takes its time
            await call.hangup()
        await call.wait_ended()

    async def idle(self) -> None:
        async with asyncio.timeout(60):
            while self.phone.calls:
                await asyncio.sleep(0.1)


@in_all_weathers
def test_F047_a_gateway_finds_that_both_ends_of_a_transferred_call_are_its_own(
    loss: float, seed: int
) -> None:
    """The new call leaves the gateway and comes back to it under one Call-ID."""
    scene = Scene(loss, seed, services=trunk)

    async def main() -> None:
        gateway = Gateway(scene)
        await gateway.start()
        bob, to_bob = await scene.answering()
        outside, call = await gateway.up("+15550001", "bob", to_bob)
        await call.transfer("+15550002")
        new = await transferred(outside)
        await gateway.idle()
        assert gateway.joined == [("+15550001", "+15550002")]
        assert call.state is outside.state is new.state is CallState.ENDED
        await scene.settled(bob, gateway.phone)
        await gateway.phone.close()
        await bob.close()

    scene.run(main)


@in_all_weathers
def test_F047_a_consultation_at_the_same_gateway_is_named_by_replaces(
    loss: float, seed: int
) -> None:
    """An attended transfer names the consultation: the gateway knows whose telephone that is."""
    scene = Scene(loss, seed, services=trunk)

    async def main() -> None:
        gateway = Gateway(scene)
        await gateway.start()
        bob, to_bob = await scene.answering()
        outside, first = await gateway.up("+15550001", "bob", to_bob)
        await first.hold()
        second = await bob.dial("+15550002")
        await first.transfer(second)
        new = await transferred(outside)
        await gateway.idle()
        assert gateway.joined == [("+15550001", "+15550002")]
        assert {one.state for one in (first, second, outside, new)} == {CallState.ENDED}
        await scene.settled(bob, gateway.phone)
        await gateway.phone.close()
        await bob.close()

    scene.run(main)


@in_all_weathers
def test_F048_who_gave_the_target_up_finds_it_busy_and_who_waits_for_it_does_not(
    loss: float, seed: int
) -> None:
    """Carol lifts the handset just after the CANCEL: the blind transfer that follows meets a busy
    telephone. With the recommended way, no CANCEL and Replaces (section 7.6), there is no glare.
    """
    scene = Scene(loss, seed)
    hook = "on"  # then "lifted" after the CANCEL, and "lifts" for who waits

    async def telephone(call: Call) -> None:
        nonlocal hook
        if call.replaces is not None:
            await call.answer()
        elif hook == "lifted":
            await call.reject(486)
        else:
            await call.ring()
            if hook == "lifts":
                await asyncio.sleep(6)
                await call.answer()
        await call.wait_ended()
        hook = "lifted" if hook == "on" else hook

    async def main() -> None:
        nonlocal hook
        bob, to_bob = await scene.answering()
        carol = await scene.taking("carol", telephone)
        reliable = CallConfig(reliable="required")  # the telephone's ringing is heard
        async with scene.phone("alice", scene.alice, calling=reliable) as alice:
            first, bobs = await scene.up(alice, "bob", to_bob)
            await first.hold()
            given_up = await alice.dial("carol", wait="ringing")
            await given_up.cancel()
            while hook != "lifted":
                await asyncio.sleep(0.1)
            with pytest.raises(CallError) as busy:
                await first.transfer("carol")
            assert busy.value.status == 486
            assert first.state is CallState.HELD
            hook = "lifts"
            second = await alice.dial("carol", timeout=80)
            await first.transfer(second)
            new = await transferred(bobs)
            assert new.state is CallState.ACTIVE
            assert first.state is second.state is CallState.ENDED
            await new.hangup()
            await scene.settled(alice, bob, carol)
        await bob.close()
        await carol.close()

    scene.run(main)


# ---------------------------------------------------------------- races and rules


@in_all_weathers
def test_F061_a_refer_that_crosses_a_bye_is_refused_and_nobody_is_called(
    loss: float, seed: int
) -> None:
    """Whichever of them is lost at first: 481, and the call is over on both sides."""
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, to_bob = await scene.answering()
        carol, to_carol = await scene.answering("carol")
        async with scene.phone("alice", scene.alice) as alice:
            mine, theirs = await scene.up(alice, "bob", to_bob)
            refused, _ = await asyncio.gather(
                theirs.transfer("carol"), mine.hangup(), return_exceptions=True
            )
            assert isinstance(refused, CallError)
            assert scene.statuses("REFER") == [481]
            await scene.settled(alice, bob, carol)
            assert mine.state is theirs.state is CallState.ENDED
            assert to_carol.empty()
        await bob.close()
        await carol.close()

    scene.run(main)


def answered(scene: Scene, method: str) -> set[int]:
    """Every status, provisional ones too, that was seen for a method."""
    return {
        one.status for one in scene.seen if isinstance(one, Response) and one.cseq.method == method
    }


@in_all_weathers
def test_F117_a_message_whose_answer_takes_5_s_is_told_100_and_answered_once(
    loss: float, seed: int
) -> None:
    """RFC 4320: a provisional response is a 100, and none before Timer E is at T2 (3.5 s)."""
    scene = Scene(loss, seed)
    waiting: list[ServerRequest] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        bob, _ = await scene.answering(requests={"MESSAGE": waiting.append})
        async with scene.phone("alice", scene.alice) as alice:
            began = loop.time()
            sending = asyncio.ensure_future(alice.message("bob", "are you there?"))
            while loop.time() < began + 3.4:
                assert answered(scene, "MESSAGE") <= {407}
                await asyncio.sleep(0.1)
            await asyncio.sleep(2)
            waiting[0].reply(200, now=bob._transport.now())
            bob._transport.flush()
            await sending
            assert answered(scene, "MESSAGE") <= {100, 200, 407}
            assert 100 in answered(scene, "MESSAGE") or loss
            assert len(waiting) == 1
            await scene.settled(alice, bob)
        await bob.close()

    scene.run(main)


@in_all_weathers
def test_F117_nobody_says_408_for_a_phone_that_is_cut_off(loss: float, seed: int) -> None:
    """RFC 4320: the proxy is silent, the sender gives up by itself after 32 s."""
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, _ = await scene.answering()
        async with scene.phone("alice", scene.alice) as alice:
            scene.world.cut(scene.server, scene.bob)
            with pytest.raises(RequestError) as failure:
                await alice.message("bob", "are you there?")
            assert failure.value.status == 408
            assert answered(scene, "MESSAGE") <= {100, 407}
            scene.world.restore(scene.server, scene.bob)
            await scene.settled(alice)
        await bob.close()

    scene.run(main)


@in_all_weathers
def test_F118_a_fork_that_has_ended_is_forgotten_while_the_other_rings(
    loss: float, seed: int
) -> None:
    """The 199 is no reliable response, and may be lost: then it goes 32 s after the answer."""
    scene = Scene(loss, seed)
    other = scene.world.host("10.0.0.6")

    async def give_up(call: Call) -> None:
        await call.progress()
        await asyncio.sleep(5)
        invite = call._session._invite
        assert isinstance(invite, ServerInvite)
        call._session.respond(invite, 199)
        await asyncio.sleep(0.01)
        await call.reject(480)

    async def take(call: Call) -> None:
        await call.ring()
        await asyncio.sleep(15)
        await call.answer()
        await call.wait_ended()

    async def main() -> None:
        gone = await scene.taking("bob", give_up)
        taken = await scene.taking("bob", take, other)
        async with scene.phone("alice", scene.alice) as alice:
            call = await alice.dial("bob", wait="started")
            before: set[int] = set()
            while call.state is not CallState.ACTIVE:
                before.add(len(alice._agent.dialogs))
                if any(
                    isinstance(one, Response) and one.status == 199
                    for one in scene.arrived["10.0.0.1"]
                ):
                    assert len(alice._agent.dialogs) <= 1
                await asyncio.sleep(0.1)
            assert 2 in before or loss
            agreed = call._session.media.agreed
            assert agreed is not None and agreed.remote_rtp is not None
            assert agreed.remote_rtp.host == "10.0.0.6"
            await asyncio.sleep(40)
            left = [one.remote_target for one in alice._agent.dialogs]
            if call.ended is None:
                assert left == ["sip:bob@10.0.0.6:5060"]
                await call.hangup()
            else:  # every ACK was lost
                assert left == []
                assert loss
            await scene.settled(alice, gone, taken)
        await gone.close()
        await taken.close()

    scene.run(main)


# ---------------------------------------------------------------- identity


@in_all_weathers
def test_F131_a_signed_caller_is_let_in_and_an_unsigned_one_is_not(loss: float, seed: int) -> None:
    scene = Scene(loss, seed)
    clock = scene.bob.platform.clock
    key = ec.generate_private_key(ec.SECP256R1())
    signer = Signer(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "https://cert.example/1",
    )
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "root")])
    now = clock.wall()
    root = (
        x509.CertificateBuilder(
            name,
            name,
            key.public_key(),
            1,
            datetime.fromtimestamp(now - 60, UTC),
            datetime.fromtimestamp(now + 86400, UTC),
        )
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
    verifier = Verifier(root, lambda url: root)

    async def judge(call: Call) -> None:
        judged = verifier.verify(call.headers, clock.wall())
        if not judged.valid:
            await call.reject(judged.status, judged.reason)
            return
        await call.answer()
        await call.wait_ended()

    async def main() -> None:
        bob = await scene.taking("bob", judge)
        async with scene.phone("alice", scene.alice) as alice:
            us, them = f"sip:alice@{SERVER}", f"sip:bob@{SERVER}"
            for orig, wall, status in (
                (None, 0.0, 428),
                (us, clock.wall() - 3600, 403),
                (f"sip:carol@{SERVER}", clock.wall(), 438),
            ):
                signed = (
                    {} if orig is None else {"Identity": signer.identity(orig, them, wall=wall)}
                )
                with pytest.raises(CallError) as refused:
                    await alice.dial("bob", headers=signed)
                assert refused.value.status == status
            signed = {"Identity": signer.identity(us, them, wall=clock.wall())}
            call = await alice.dial("bob", headers=signed)
            assert call.state is CallState.ACTIVE
            await call.hangup()
            await scene.settled(alice, bob)
        await bob.close()

    scene.run(main)
