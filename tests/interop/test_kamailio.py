"""Two phones and a proxy that neither of them wrote: Kamailio, with rtpengine between their RTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from callers import answering
from direct import Ladder
from peers.kamailio import Kamailio
from phones import (
    JITTER_MS,
    TAIL_S,
    ended,
    require_speech,
    shipped,
    softphone,
    until,
)
from stalls import repeated_after_stalls

from voip.call import Call
from voip.config import MediaConfig, NetworkConfig, TlsConfig
from voip.errors import AuthenticationError, CallError, TransportError
from voip.events import CallState, EndedBy
from voip.harness.audio import Sound
from voip.phone import Softphone

CALLS = 500
AT_A_TIME = 10


@asynccontextmanager
async def pair(
    kamailio: Kamailio, artifacts: Path, transport: str = "udp"
) -> AsyncIterator[tuple[Softphone, Softphone]]:
    """2001 and 2002, registered."""
    async with (
        softphone(kamailio, "2001", artifacts, register=True, transport=transport) as alice,
        softphone(kamailio, "2002", artifacts, register=True, transport=transport) as bob,
    ):
        yield alice, bob


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_F001_F004_kamailio_knows_us_while_we_are_registered(
    kamailio: Kamailio, artifacts: Path, transport: str
) -> None:
    async with softphone(
        kamailio, "2001", artifacts, register=True, transport=transport, expires_s=60
    ) as phone:
        (contact,) = kamailio.contacts("2001")
        assert re.match(rf"sip:2001@127\.0\.0\.1:{phone.port}", contact)
        assert ("transport=tcp" in contact) == (transport == "tcp")
        assert (await phone.register()).expires_s == pytest.approx(60, abs=1)
    assert kamailio.contacts("2001") == []


async def test_F005_a_wrong_password_is_refused_at_the_registrar_and_at_the_proxy(
    kamailio: Kamailio, artifacts: Path
) -> None:
    phone = softphone(kamailio, "2001", artifacts, register=True, password="wrong")
    with pytest.raises(AuthenticationError) as refused:
        await phone.start()
    assert refused.value.status == 401
    async with softphone(kamailio, "2001", artifacts, password="wrong") as phone:
        with pytest.raises(AuthenticationError) as refused:
            await phone.dial("2002")
        assert refused.value.status == 407


@repeated_after_stalls
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_F010_F017_two_phones_hear_each_other_through_proxy_and_relay(
    kamailio: Kamailio, artifacts: Path, transport: str
) -> None:
    speech, prompt = shipped("speech-8k.wav"), shipped("prompt-8k.wav")
    async with pair(kamailio, artifacts, transport) as (alice, bob):
        answered = answering(bob)
        outgoing = await alice.dial("2002")
        incoming = await answered.get()
        assert re.match("sip:2001@", incoming.remote)
        async with (
            outgoing.record(artifacts / "alice.wav"),
            incoming.record(artifacts / "bob.wav"),
        ):
            await asyncio.gather(outgoing.play(speech.samples), incoming.play(prompt.samples))
            await asyncio.sleep(TAIL_S)
        await asyncio.gather(outgoing.send_dtmf("19*"), incoming.send_dtmf("#0"))
        assert await incoming.collect(3, timeout=3, terminator=None) == "19*"
        assert await outgoing.collect(2, timeout=3, terminator=None) == "#0"
        await incoming.hold()
        assert outgoing.state is CallState.HELD
        await incoming.resume()
        assert outgoing.state is CallState.ACTIVE
        await incoming.hangup()
        assert (await ended(outgoing)).by is EndedBy.REMOTE
    require_speech(speech, Sound.read(artifacts / "bob.wav"), what="Bob hears")
    require_speech(prompt, Sound.read(artifacts / "alice.wav"), what="Alice hears")


async def test_F013_F014_a_caller_gives_up_and_a_callee_refuses(
    kamailio: Kamailio, artifacts: Path
) -> None:
    async with pair(kamailio, artifacts) as (alice, bob):
        rung: asyncio.Queue[Call] = asyncio.Queue()

        @bob.on_incoming
        async def ring(call: Call) -> None:
            await call.ring()
            rung.put_nowait(call)
            await call.wait_ended()

        call = await alice.dial("2002", wait="ringing")
        await call.cancel()
        end = await ended(await rung.get())
        assert (end.by, end.status) == (EndedBy.REMOTE, 487)

        bob.on_incoming(lambda call: call.reject(486))
        with pytest.raises(CallError, match="busy here") as busy:
            await alice.dial("2002")
        assert busy.value.status == 486
        with pytest.raises(CallError) as nobody:
            await alice.dial("2003")
        assert nobody.value.status == 480


async def test_F015_a_phone_that_is_dead_is_given_up_by_kamailio(
    kamailio: Kamailio, artifacts: Path
) -> None:
    """It has registered, and vanished without a word."""
    dead = softphone(kamailio, "2004", artifacts, register=True)
    dead.unregister_on_close = False
    await dead.start()
    await dead.close()
    assert len(kamailio.contacts("2004")) == 1
    async with softphone(kamailio, "2001", artifacts) as alice:
        with pytest.raises(CallError) as nobody:
            await alice.dial("2004")
        assert nobody.value.status == 408
        assert alice.calls == []


async def test_F028_three_phones_of_a_user_ring_and_one_answers(
    kamailio: Kamailio, artifacts: Path
) -> None:
    async with AsyncExitStack() as open_phones:
        alice = await open_phones.enter_async_context(softphone(kamailio, "2001", artifacts))
        ringing: list[Call] = []
        for name in ("desk", "mobile", "kitchen"):
            phone = softphone(kamailio, "2002", artifacts / name, register=True)
            await open_phones.enter_async_context(phone)

            @phone.on_incoming
            async def ring(call: Call) -> None:
                await call.ring()
                ringing.append(call)
                await call.wait_ended()

        assert len(kamailio.contacts("2002")) == 3
        call = await alice.dial("2002", wait="ringing")
        await until(lambda: len(ringing) == 3, "all three to ring")
        await ringing[1].answer()
        await call.wait_answered(5)
        others = [await ended(other) for other in (ringing[0], ringing[2])]
        assert [(end.by, end.status) for end in others] == [(EndedBy.REMOTE, 487)] * 2
        assert ringing[1].state is CallState.ACTIVE
        await call.hangup()
        assert (await ended(ringing[1])).by is EndedBy.REMOTE


def phone_by(
    kamailio: Kamailio, user: str, transport: str, artifacts: Path, ladder: Ladder
) -> Softphone:
    """A registered phone that reaches Kamailio by `transport`, and knows it by its certificate."""
    port = {"tls": kamailio.tls_port, "ws": kamailio.ws_port}.get(transport, kamailio.port)
    return Softphone(
        f"sip:{user}@{kamailio.host}:{port}",
        password=kamailio.password(user),
        network=NetworkConfig(
            transport=transport, tls=TlsConfig(ca_file=str(kamailio.certificate)), ws_path="/"
        ),
        media=MediaConfig(jitter_min_ms=JITTER_MS, jitter_policy="fixed"),
        pcap=artifacts / f"{user}.pcap",
        trace=ladder,
    )


@repeated_after_stalls
@pytest.mark.parametrize(
    ("ours", "theirs"), [("tls", "ws"), ("ws", "tls"), ("tls", "udp"), ("tcp", "ws")]
)
async def test_F134_F135_phones_of_different_transports_call_each_other(
    kamailio: Kamailio, artifacts: Path, ours: str, theirs: str
) -> None:
    ladders = {name: Ladder(artifacts / f"{name}.sip") for name in ("alice", "bob")}
    async with (
        phone_by(kamailio, "2001", ours, artifacts, ladders["alice"]) as alice,
        phone_by(kamailio, "2002", theirs, artifacts, ladders["bob"]) as bob,
    ):
        assert len(kamailio.contacts("2001")) == len(kamailio.contacts("2002")) == 1
        answered = answering(bob)
        outgoing = await alice.dial("2002")
        incoming = await answered.get()
        await asyncio.gather(outgoing.send_dtmf("19*"), incoming.send_dtmf("#0"))
        assert await incoming.collect(3, timeout=3, terminator=None) == "19*"
        assert await outgoing.collect(2, timeout=3, terminator=None) == "#0"
        await incoming.hold()
        assert outgoing.state is CallState.HELD
        await incoming.resume()
        assert outgoing.state is CallState.ACTIVE
        await outgoing.hold()
        assert incoming.state is CallState.HELD
        await incoming.hangup()
        assert (await ended(outgoing)).by is EndedBy.REMOTE
    assert kamailio.contacts("2001") == kamailio.contacts("2002") == []
    for ladder, transport in ((ladders["alice"], ours), (ladders["bob"], theirs)):
        via = ladder.header("> REGISTER", "Via")
        assert via.startswith(f"SIP/2.0/{transport.upper()} ")


async def test_F134_kamailio_is_not_believed_without_its_certificate(
    kamailio: Kamailio, artifacts: Path
) -> None:
    phone = Softphone(
        f"sip:2001@{kamailio.host}:{kamailio.tls_port}",
        password=kamailio.password("2001"),
        network=NetworkConfig(transport="tls"),
    )
    with pytest.raises(TransportError, match="is self-signed"):
        await phone.start()
    assert kamailio.contacts("2001") == []


async def test_500_calls_through_the_proxy_without_one_failure(
    kamailio: Kamailio, artifacts: Path
) -> None:
    async with pair(kamailio, artifacts) as (alice, bob):
        taken: list[Call] = []

        @bob.on_incoming
        async def answer(call: Call) -> None:
            taken.append(call)
            await call.answer()

        async def some(count: int) -> None:
            for _ in range(count):
                call = await alice.dial("2002")
                await call.hangup()
                assert call.ended is not None
                assert (call.ended.by, call.ended.status) == (EndedBy.LOCAL, 200)

        await asyncio.gather(*(some(CALLS // AT_A_TIME) for _ in range(AT_A_TIME)))
        ends = [await ended(call) for call in taken]
        assert [end.by for end in ends] == [EndedBy.REMOTE] * CALLS
        assert alice.calls == bob.calls == []
