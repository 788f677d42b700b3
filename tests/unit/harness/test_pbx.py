"""The embedded PBX: who may call, what it can be told to do, strangers, and nothing left."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import AsyncExitStack

import numpy as np
import pytest
from pbx_callers import ended, in_virtual_time, phone_of, refusal

from voip.call import Call
from voip.config import NetworkConfig
from voip.errors import AuthenticationError, ConfigError, RequestError, SubscriptionError
from voip.events import CallState, EndedBy
from voip.harness.pbx import EmbeddedPbx
from voip.phone import Softphone
from voip.sip.endpoint.trace import SipTraceRecord
from voip.sip.event_server import EventConfig
from voip.sip.message import Request, parse_message
from voip.sip.packages.presence import CONTENT_TYPE as PIDF
from voip.sip.packages.presence import Presence, PresenceTuple

pytestmark = [pytest.mark.realtime, pytest.mark.xdist_group("pbx")]


# ---------------------------------------------------------------- who may


async def test_users_register_with_digest_and_are_forgotten_when_they_leave() -> None:
    async with EmbeddedPbx() as pbx:
        async with phone_of(pbx) as phone, phone_of(pbx):
            assert phone.registered
            assert len(pbx.contacts("1001")) == 2
            assert f"sip:1001@127.0.0.1:{phone.port}" in pbx.contacts("1001")
        assert pbx.contacts("1001") == []


async def test_a_wrong_password_neither_registers_nor_calls() -> None:
    async with EmbeddedPbx() as pbx:
        message = f"401 twice: wrong password for 1001@{pbx.address}"
        with pytest.raises(AuthenticationError) as raised:
            async with phone_of(pbx, password="guess"):
                pass
        assert str(raised.value) == message
        assert pbx.contacts("1001") == []

        async with phone_of(pbx, password="guess", register=False) as phone:
            assert str(await refusal(phone.dial("600"))) == message


async def test_a_user_cannot_call_as_another() -> None:
    async with EmbeddedPbx() as pbx:
        password = pbx.password("1001")
        async with phone_of(
            pbx, "1002", auth_user="1001", password=password, register=False
        ) as phone:
            assert isinstance(await refusal(phone.dial("600")), AuthenticationError)


async def test_users_are_whom_it_was_given() -> None:
    async with (
        EmbeddedPbx(users={"alice": "wonderland"}) as pbx,
        Softphone(pbx.uri("alice"), password="wonderland") as phone,
    ):
        assert len(pbx.contacts("alice")) == 1
        with pytest.raises(ConfigError):
            pbx.password("1001")
        async with await phone.dial("600") as call:
            assert call.codec == "pcmu"


# ---------------------------------------------------------------- robustness


@pytest.mark.parametrize("number", ["600", "606", "609"])
async def test_who_is_cancelled_while_dialling_leaves_no_call_on_either_side(number: str) -> None:
    """With each message, as it goes or comes: INVITE, 401, ACK, INVITE, and what is answered."""
    seen: Counter[str] = Counter()
    dialling: asyncio.Future[Call]

    def cancel_in_time(record: SipTraceRecord) -> None:
        call_id = parse_message(record.data).call_id
        seen[call_id] += 1
        if seen[call_id] == len(seen) == moment:
            dialling.cancel()

    async with (
        EmbeddedPbx() as pbx,
        phone_of(pbx, register=False, trace=cancel_in_time) as phone,
    ):
        moment, cancelled = 0, True
        while cancelled:
            moment += 1
            dialling = asyncio.ensure_future(phone.dial(number, wait="ringing"))
            await asyncio.wait({dialling})
            cancelled = dialling.cancelled()
            if not cancelled:
                await dialling.result().hangup()
            async with asyncio.timeout(10):
                while phone.calls:
                    await phone.calls[0].wait_ended()
            await pbx.idle()

    assert moment > 5  # it went through all of them


def test_options_of_the_proxy_want_a_proxy() -> None:
    for options in ({"max_redirects": 1}, {"hides_users": False}, {"events": EventConfig()}):
        with pytest.raises(ConfigError, match="proxy=True") as refused:
            EmbeddedPbx(**options)  # type: ignore[arg-type]
        assert refused.value.message.startswith(f"{next(iter(options))}: ")
    with pytest.raises(ConfigError, match="max_redirects and events: "):
        EmbeddedPbx(max_redirects=1, events=EventConfig())


def test_without_a_proxy_it_has_neither_presence_nor_names_of_phones() -> None:
    """And says so to phones that ask for them, which are registered and called all the same."""

    async def work() -> None:
        async with EmbeddedPbx("192.0.2.1") as pbx:
            own = NetworkConfig(bind_host="192.0.2.1", bind_port=0)
            async with (
                phone_of(pbx, "1001", network=own, outbound=True) as alice,
                phone_of(pbx, "1002", network=own) as bob,
            ):
                assert alice.registered
                assert alice.gruu is None
                alice.on_incoming(lambda call: call.answer())
                here = Presence(pbx.uri("1001"), (PresenceTuple("t", True),)).to_bytes()
                with pytest.raises(RequestError) as unpublished:
                    await alice.publish("presence", here, PIDF)
                assert unpublished.value.status == 405
                with pytest.raises(SubscriptionError) as untold:
                    await bob.watch("1001", "presence")
                assert untold.value.status == 489
                async with await bob.dial("1001") as call:
                    assert call.state is CallState.ACTIVE

    in_virtual_time(work())


@pytest.mark.parametrize(("max_redirects", "answered"), [(0, False), (1, True)])
def test_its_proxy_follows_phones_that_send_calls_on(max_redirects: int, answered: bool) -> None:
    async def work() -> None:
        async with EmbeddedPbx("192.0.2.1", proxy=True, max_redirects=max_redirects) as pbx:
            own = NetworkConfig(bind_host="192.0.2.1", bind_port=0)
            async with (
                phone_of(pbx, "1001", network=own) as alice,
                phone_of(pbx, "1002", network=own) as bob,
            ):
                bob.on_incoming(lambda call: call.redirect(pbx.uri("600")))
                if answered:
                    async with await alice.dial("1002", redirect=False) as call:
                        assert call.state is CallState.ACTIVE
                else:
                    assert (await refusal(alice.dial("1002", redirect=False))).status == 302

    in_virtual_time(work())


@pytest.mark.parametrize("hides_users", [True, False])
def test_its_proxy_tells_strangers_who_is_there_where_it_may(hides_users: bool) -> None:
    async def work() -> None:
        async with EmbeddedPbx("192.0.2.1", proxy=True, hides_users=hides_users) as pbx:
            own = NetworkConfig(bind_host="192.0.2.1", bind_port=0)
            async with Softphone("sip:x@elsewhere.example", register=False, network=own) as x:
                found = [(await refusal(x.dial(pbx.uri(who)))).status for who in ("1001", "999")]
                assert found == ([480, 480] if hides_users else [480, 404])

    in_virtual_time(work())


def test_its_users_publish_presence_and_watch_it() -> None:
    async def work() -> None:
        async with EmbeddedPbx("192.0.2.1", proxy=True) as pbx:
            assert pbx.proxy is not None
            own = NetworkConfig(bind_host="192.0.2.1", bind_port=0)
            async with (
                phone_of(pbx, "1001", network=own) as alice,
                phone_of(pbx, "1002", network=own) as bob,
                await alice.watch("1002", "presence") as watch,
            ):
                told = watch.notifications()
                assert not (await anext(told)).value.open
                here = Presence(pbx.uri("1002"), (PresenceTuple("t", True),)).to_bytes()
                async with await bob.publish("presence", here, PIDF):
                    assert (await anext(told)).value.open
                assert not (await anext(told)).value.open

    in_virtual_time(work())


async def test_nothing_is_left_running_even_when_it_closes_during_calls() -> None:
    threads, tasks = threading.active_count(), len(asyncio.all_tasks())
    async with AsyncExitStack() as stack:
        phone = await stack.enter_async_context(Softphone("sip:1001@127.0.0.1", register=False))
        async with EmbeddedPbx() as pbx:
            caller = await stack.enter_async_context(phone_of(pbx, register=False))
            ringing = await caller.dial("609", wait="ringing")
            calls = [await caller.dial(number) for number in ("600", "601", "604", "612")]
            assert pbx.calls() == 5
        ends = [await ended(call) for call in calls]
        assert [end.by for end in ends] == [EndedBy.REMOTE] * 4
        assert (await ended(ringing)).status == 603
        assert phone.calls == caller.calls == []

    assert (threading.active_count(), len(asyncio.all_tasks())) == (threads, tasks)


async def test_strangers_messages_are_answered_or_dropped() -> None:
    loop = asyncio.get_running_loop()
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    class Stranger(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            answers.put_nowait(data)

    async with EmbeddedPbx() as pbx:
        transport, _ = await loop.create_datagram_endpoint(
            Stranger, remote_addr=(pbx.host, pbx.port)
        )
        try:
            rng = np.random.default_rng(1)
            for _ in range(30):  # fewer than a stranger may send at once
                transport.sendto(rng.bytes(int(rng.integers(1, 300))))
            for from_, authorization in (
                ("<tel:+15551234>", ""),
                ("<sip:1001@x>", "Digest nonsense"),
                ("<sip:1001@x>", 'Digest username="1001", realm="voip", nonce="", uri="", '
                 'response=""'),
            ):  # fmt: skip
                transport.sendto(invite(pbx, from_, authorization))
                async with asyncio.timeout(5):
                    assert (await answers.get()).startswith(b"SIP/2.0 401 ")
        finally:
            transport.close()
        async with phone_of(pbx) as phone:
            assert phone.registered


def invite(pbx: EmbeddedPbx, from_: str, authorization: str) -> bytes:
    request = Request("INVITE", pbx.uri("600"))
    branch = f"z9hG4bK{abs(hash((from_, authorization)))}"
    for name, value in (
        ("Via", f"SIP/2.0/UDP 127.0.0.1:9;branch={branch};rport"),
        ("From", f"{from_};tag=1"),
        ("To", f"<{pbx.uri('600')}>"),
        ("Call-ID", branch),
        ("CSeq", "1 INVITE"),
        ("Contact", "<sip:stranger@127.0.0.1:9>"),
        ("Max-Forwards", "70"),
        ("Content-Length", "0"),
    ):
        request.headers.add(name, value)
    if authorization:
        request.headers.add("Authorization", authorization)
    return request.to_bytes()
