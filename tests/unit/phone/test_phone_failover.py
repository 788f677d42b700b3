"""Phones that find their servers by the DNS, and go on when one of them fails (F133)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from callers import until
from dns_server import DnsServer
from test_phone_registration import Desk

from voip.config import NetworkConfig
from voip.errors import CallError, RegistrationError
from voip.events import Registered, RegistrationFailed
from voip.phone import Softphone


@pytest.fixture
async def desks() -> AsyncIterator[tuple[Desk, Desk, DnsServer]]:
    first, second = Desk(), Desk()
    async with (
        first.phone,
        second.phone,
        DnsServer(
            f"_sip._udp.voip.test. 600 IN SRV 1 0 {first.phone.port} a.voip.test.",
            f"_sip._udp.voip.test. 600 IN SRV 2 0 {second.phone.port} a.voip.test.",
            "a.voip.test. 600 IN A 127.0.0.1",
        ) as server,
    ):
        yield first, second, server


def phone(server: DnsServer, **more: object) -> Softphone:
    network = NetworkConfig("127.0.0.1", dns_servers=(server.address,))
    return Softphone("sip:alice@voip.test", network=network, **more)  # type: ignore[arg-type]


async def test_F133_the_first_server_is_registered_at(desks):
    first, second, server = desks
    async with phone(server) as alice:
        assert (len(first.asked), len(second.asked)) == (1, 0)
        assert first.asked[0].request.uri == "sip:voip.test"
        await alice.register()
    assert (len(first.asked), len(second.asked)) == (3, 0)


@pytest.mark.parametrize("fault", ["503", "nobody"])
async def test_F133_a_registrar_that_fails_is_replaced_by_the_next_at_once(desks, fault):
    first, second, server = desks
    if fault == "503":
        first.refusal = 503
    else:
        await first.phone.close()
    async with phone(server) as alice:
        assert alice.registered
        assert list(alice._events) == [Registered(300.0)]
        assert len(second.asked) == 1
        first.refusal = None
        await alice.register()  # where it is registered, it stays
        assert len(second.asked) == 2


async def test_F133_when_all_fail_it_is_told_once_and_tried_again_later(desks):
    first, second, server = desks
    first.refusal = second.refusal = 503
    alice = phone(server)
    with pytest.raises(RegistrationError, match="503"):
        await alice.start()
    told, *_ = alice._events
    assert isinstance(told, RegistrationFailed) and told.retry_in_s is not None
    assert (len(first.asked), len(second.asked)) == (1, 1)


async def test_F133_a_final_refusal_is_final(desks):
    first, second, server = desks
    first.refusal = 403
    with pytest.raises(RegistrationError, match="403"):
        await phone(server).start()
    assert second.asked == []


async def test_F133_a_call_goes_to_the_next_server_when_one_fails(desks):
    first, second, server = desks
    rang = []

    @second.phone.on_incoming
    async def answer(call):
        rang.append(call)
        await call.answer()

    @first.phone.on_incoming
    async def refuse(call):
        rang.append(call)
        await call.reject(503)

    async with phone(server, register=False) as alice:
        async with await alice.dial("bob"):
            assert len(rang) == 2
        async with await alice.dial("bob"):
            assert len(rang) == 3  # the first is left alone for a while

        @second.phone.on_incoming
        async def refuse_too(call):
            await call.reject(503)

        with pytest.raises(CallError, match="503"):
            await alice.dial("bob")

        @first.phone.on_incoming
        async def busy(call):
            await call.reject(486)

        alice._transport._ways._avoided.clear()
        with pytest.raises(CallError, match="486"):
            await alice.dial("bob")
        assert alice.calls == []
        await until(lambda: not first.phone.calls and not second.phone.calls)
        await asyncio.sleep(0)
