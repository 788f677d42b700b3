"""A phone on a hostile wire and with handlers that fail: it stays up, and tells no secrets."""

from __future__ import annotations

import asyncio
import csv
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from callers import answering
from hostile_wire import HERE, SDP, Wire
from loopback_phones import engine_thread

from voip.arguments import agent_config
from voip.call import Call
from voip.errors import CallError, ConfigError, VoipError
from voip.events import CallbackFailed, CallState, EndedBy
from voip.phone import Softphone
from voip.sip.config import AgentConfig
from voip.sip.message import Request
from voip.sip.server_request import ServerRequest

# ---------------------------------------------------------------- the wire


@pytest.mark.reference
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_the_torture_messages_of_rfc4475_harm_nothing(scene, reference_data, transport):
    folder = reference_data / "sip-torture-rfc4475"
    with (folder / "EXPECTED.csv").open(newline="") as table:
        names = {row["file"].removesuffix(".dat") for row in csv.DictReader(table)}
    paths = sorted(path for path in folder.glob("*/*.dat") if path.stem in names)
    assert len(paths) == 49
    for path in paths:
        if transport == "udp":
            scene.wire.send(path.read_bytes())
            continue
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.bob.port)
        writer.write(path.read_bytes())
        await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(10):
            while await reader.read(65536):
                pass
        writer.close()
    await scene.assert_unharmed()


async def test_garbage_harms_nothing(scene):
    seeded = random.Random(4475)
    valid = scene.wire.message("INVITE", body=SDP)
    for number in range(3000):
        if number % 3 == 0:
            data = seeded.randbytes(seeded.randrange(1, 1500))
        else:
            data = bytearray(valid.replace(b"call-1", b"call-%d" % number))
            for _ in range(seeded.randrange(1, 12)):
                at = seeded.randrange(len(data))
                if seeded.random() < 0.3:
                    del data[at : at + seeded.randrange(1, 40)]
                else:
                    data[at] = seeded.choice(b'\r\n\0 <>;,:"@=\xff9zA')
        scene.wire.send(bytes(data))
        if number % 50 == 0:
            await asyncio.sleep(0)
            scene.wire.heard()
    for data in (b"", b"\r\n\r\n", b"\0" * 4, b"\x80" * 172, b"INVITE", b"A" * 65507):
        scene.wire.send(data)
    await scene.assert_unharmed()
    assert scene.bob._agent.counters.malformed > 1000


async def test_garbage_on_connections_harms_nothing(scene):
    seeded = random.Random(3261)
    valid = scene.wire.message("OPTIONS")
    pieces = [
        seeded.randbytes(5000),
        b"\r\n" * 5000,
        b"OPTIONS sip:x SIP/2.0\r\n" * 3000,
        valid[:100],
        valid.replace(b"Content-Length: 0", b"Content-Length: 99999999999"),
        valid.replace(b"Content-Length: 0", b"Content-Length: -1"),
        valid.replace(b"Content-Length: 0\r\n", b""),
        valid * 200,
        b"\0" * 70000,
        b"x: y\r\n" * 20000,
    ]
    for piece in pieces:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.bob.port)
        writer.write(piece)
        writer.write_eof()
        async with asyncio.timeout(20):
            try:
                while await reader.read(65536):
                    pass
            except ConnectionError:
                pass
        writer.close()
    await scene.assert_unharmed()
    assert scene.bob._transport._streams.count == 0


@pytest.fixture
def small_limits(monkeypatch) -> AgentConfig:
    """Let phones take a tenth of the calls they would, so that a flood exceeds that."""
    limits = {"max_dialogs": 500, "max_server_transactions": 2000}
    monkeypatch.setattr(
        "voip.phone.agent_config", lambda *of, **more: replace(agent_config(*of, **more), **limits)
    )
    return AgentConfig(**limits)


async def test_a_flood_from_one_socket_is_survived_with_bounded_memory(small_limits, scene):
    for number in range(5_000):
        scene.wire.send(scene.wire.message("INVITE" if number % 4 == 0 else "OPTIONS"))
        if number % 50 == 0:
            await asyncio.sleep(0)
            scene.wire.heard()
    await scene.assert_unharmed()
    agent = scene.bob._agent
    assert agent.counters.overload > 0
    assert len(agent.dialogs) == small_limits.max_dialogs
    assert len(agent.dialogs) <= agent.transactions <= small_limits.max_server_transactions
    assert len(scene.bob.calls) <= small_limits.max_dialogs
    assert len(scene.bob._transport._ways) < 10


async def test_requests_with_the_wrong_tags_do_not_touch_the_call(scene):
    dialog = scene.theirs._session.dialog
    right = {"call_id": dialog.call_id, "to_tag": dialog.local.tag, "from_tag": dialog.remote.tag}
    for wrong in ({"to_tag": "nobody"}, {"from_tag": "nobody"}, {"call_id": "no-call"}):
        for method in ("BYE", "INVITE", "OPTIONS"):
            message = scene.wire.message(method, cseq=77, **{**right, **wrong})
            assert (await scene.wire.ask(message)).status == 481, (method, wrong)
        scene.wire.send(scene.wire.message("ACK", cseq=1, **{**right, **wrong}))
        cancel = scene.wire.message("CANCEL", cseq=1, **{**right, **wrong})
        assert (await scene.wire.ask(cancel)).status == 481
    old = scene.wire.message("INVITE", cseq=0, **right)
    assert (await scene.wire.ask(old)).status == 500
    unknown = scene.wire.message("PUBLISH", cseq=78, **right)
    assert (await scene.wire.ask(unknown)).status == 405
    await scene.assert_unharmed()


async def test_a_peer_that_requires_what_we_cannot_do_is_told_so(scene):
    invite = scene.wire.message("INVITE", body=SDP, more="Require: precondition\r\n")
    answer = await scene.wire.ask(invite)
    assert (answer.status, answer.headers.get("Unsupported")) == (420, "precondition")
    assert len(scene.bob.calls) == 1


async def test_a_call_whose_sound_is_to_go_nowhere_is_answered_all_the_same(scene):
    """Hold by 0.0.0.0, and addresses that cannot be sent to from here."""
    for address in ("0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.77", "nobody.invalid"):
        body = SDP.replace("c=IN IP4 127.0.0.1", f"c=IN IP4 {address}")
        invite = scene.wire.message("INVITE", body=body, from_tag=f"t{address}")
        ringing = await scene.wire.ask(invite, status=range(180, 700))
        assert ringing.status in (180, 400, 488)
    answering = [
        asyncio.create_task(call.answer())
        for call in scene.bob.calls
        if call is not scene.theirs and call.state is not CallState.ENDED
    ]
    await asyncio.sleep(0.2)
    for task in answering:
        task.cancel()
    await asyncio.gather(*answering, return_exceptions=True)
    await scene.assert_unharmed()


# ---------------------------------------------------------------- handlers of applications


async def test_an_authorization_that_fails_refuses_the_call_and_is_told():
    def broken(request: Request, now: float) -> None:
        raise ValueError("oops")

    async with Softphone(network=HERE, authorize=broken) as bob:
        bob.on_incoming(lambda call: None)
        wire = Wire(bob)
        assert (await wire.ask(wire.message("INVITE", body=SDP))).status == 500
        assert [str(event.error) for event in bob._events] == ["oops"]
        wire.close()


@pytest.mark.parametrize("headers", [[("X\r\n", "y")], [("X", "a\r\nb")], [1], 7])
async def test_a_challenge_that_makes_no_message_refuses_the_call(headers):
    async with Softphone(network=HERE, authorize=lambda request, now: headers) as bob:
        bob.on_incoming(lambda call: None)
        wire = Wire(bob)
        assert (await wire.ask(wire.message("INVITE", body=SDP))).status == 500
        wire.close()


async def test_a_handler_of_requests_that_fails_answers_500_and_is_told():
    def broken(request: ServerRequest) -> None:
        raise ValueError("oops")

    def too_late(request: ServerRequest) -> None:
        request.reply(200, now=bob._transport.now())
        raise ValueError("oops")

    async with Softphone(network=HERE, requests={"MESSAGE": broken, "INFO": too_late}) as bob:
        wire = Wire(bob)
        assert (await wire.ask(wire.message("MESSAGE"))).status == 500
        assert (await wire.ask(wire.message("INFO"))).status == 200
        assert [type(event) for event in bob._events] == [CallbackFailed] * 2
        wire.close()


async def test_a_trace_that_fails_loses_no_message():
    def broken(record: Any) -> None:
        raise ValueError("oops")

    async with Softphone(network=HERE, trace=broken) as bob:
        wire = Wire(bob)
        assert (await wire.ask(wire.message("OPTIONS"))).status == 200
        wire.close()


async def test_a_handler_that_cancels_itself_refuses_the_call():
    async with Softphone(network=HERE) as alice, Softphone(network=HERE) as bob:

        @bob.on_incoming
        async def confused(call: Call) -> None:
            inner = asyncio.create_task(asyncio.sleep(10))
            inner.cancel()
            await inner

        with pytest.raises(CallError, match="500"):
            await alice.dial(f"sip:bob@127.0.0.1:{bob.port}")


async def test_a_handler_that_will_not_end_does_not_keep_the_phone_from_closing(monkeypatch):
    monkeypatch.setattr("voip.tasks.HANDLERS_S", 0.1)
    stop = asyncio.Event()
    alice, bob = Softphone(network=HERE), Softphone(network=HERE)
    await alice.start()
    await bob.start()

    @bob.on_incoming
    async def stubborn(call: Call) -> None:
        await call.answer()
        while not stop.is_set():
            try:
                await stop.wait()
            except asyncio.CancelledError:
                continue

    await alice.dial(f"sip:bob@127.0.0.1:{bob.port}")
    async with asyncio.timeout(10):
        await bob.close()
    await alice.close()
    stop.set()
    await asyncio.sleep(0)


async def test_a_handler_may_close_its_own_phone():
    async with Softphone(network=HERE) as alice:
        bob = Softphone(network=HERE)
        await bob.start()
        closed = asyncio.Event()

        @bob.on_incoming
        async def enough(call: Call) -> None:
            await call.answer()
            await bob.close()
            closed.set()

        call = await alice.dial(f"sip:bob@127.0.0.1:{bob.port}")
        assert (await call.wait_ended()).by is EndedBy.REMOTE
        async with asyncio.timeout(5):
            await closed.wait()
            await bob.close()


async def test_a_close_that_is_cancelled_closes_everything_all_the_same():
    alice, bob = Softphone(network=HERE), Softphone(network=HERE)
    await alice.start()
    await bob.start()
    answering(bob)
    call = await alice.dial(f"sip:bob@127.0.0.1:{bob.port}")
    for endpoint in bob._transport._ports.udp.values():
        endpoint._received = lambda data, source: None  # nobody hears the BYE
    closing = asyncio.create_task(alice.close())
    await asyncio.sleep(0.05)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert call.ended is not None
    assert engine_thread(alice)._engine.streams == 0
    assert not engine_thread(alice)._thread.is_alive()
    await alice.close()
    closing = asyncio.create_task(bob.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    assert not engine_thread(bob)._thread.is_alive()


# ---------------------------------------------------------------- secrets

PASSWORD = "correct-horse-battery"


@pytest.mark.parametrize("right", [True, False])
async def test_no_password_and_no_digest_is_told_anywhere(tmp_path: Path, caplog, right):
    caplog.set_level(logging.DEBUG)
    from voip.harness.pbx import EmbeddedPbx

    traced: list[Any] = []
    raw: list[bytes] = []
    told: list[str] = []
    async with EmbeddedPbx(users={"1001": PASSWORD if right else "another"}) as pbx:
        alice = Softphone(
            pbx.uri("1001"), password=PASSWORD, network=HERE, register=False,
            pcap=tmp_path / "x.pcap", trace=traced.append,
        )  # fmt: skip
        await alice.start()
        tap = alice._transport._tap
        alice._transport._tap = lambda sent, flow, data: (raw.append(data), tap(sent, flow, data))
        for work in (alice.register, lambda: alice.dial(pbx.uri("601"))):
            try:
                await work()
            except VoipError as error:
                told += [str(error), repr(error), repr(error.context), error.hint]
        for call in alice.calls:
            told += [repr(call), repr(call.stats), *(repr(event) for event in call._events)]
        told += [repr(alice), repr(alice.account), repr(alice.account.credentials())]
        told += [repr(alice._config), *(repr(event) for event in alice._events)]
        told += [repr(vars(alice)[name]) for name in vars(alice)]
        await alice.close()
    digests = {
        part.split(b'"')[1]
        for data in raw
        for part in data.split(b",")
        if part.strip().startswith(b"response=")
    }
    assert len(digests) >= 2, "nothing was authorized: nothing was tested"
    told += [record.getMessage() for record in caplog.records]
    told += [record.exc_text or "" for record in caplog.records]
    told += [repr(record) for record in traced]
    everything = "\n".join(told).encode() + b"".join(record.data for record in traced)
    everything += (tmp_path / "x.pcap").read_bytes()
    assert b"Authorization: Digest" in everything
    for secret in (PASSWORD.encode(), *digests):
        assert secret not in everything


@pytest.mark.parametrize(
    "make",
    [
        lambda: Softphone(f"sip:alice:{PASSWORD}@pbx.example"),
        lambda: Softphone("sip:alice@pbx.example", proxy=f"sip:x:{PASSWORD}@pbx.example"),
        lambda: Softphone("sip:alice@pbx.example").account.dial_uri(f"sip:bob:{PASSWORD}@x"),
    ],
)
def test_a_password_in_a_uri_is_refused_and_not_repeated(make: Callable[[], object]):
    with pytest.raises(ConfigError, match="password=") as caught:
        make()
    assert PASSWORD not in str(caught.value) + repr(caught.value)
