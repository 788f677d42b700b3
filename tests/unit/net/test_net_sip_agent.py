"""Two real SIP agents over real sockets: a call, a refusal, and nobody there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

import pytest

from voip.net.sip_network import KernelNetwork
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.endpoint.endpoint import SipEndpoint
from voip.sip.events import (
    Acknowledged,
    Answered,
    Cause,
    DialogEnded,
    IncomingInvite,
    InviteFailed,
    Provisional,
    RequestDone,
    RequestFailed,
    SipEvent,
)
from voip.types import Address, SecureRandom

HOST = "127.0.0.1"
Kind = TypeVar("Kind")


class Phone:
    """An agent on sockets, and its events in a queue."""

    def __init__(self) -> None:
        self.agent = SipAgent(AgentConfig(), SecureRandom())
        self.events: asyncio.Queue[SipEvent] = asyncio.Queue()
        self.transport: SipEndpoint[SipEvent] = SipEndpoint(
            self.agent, self.events.put_nowait, KernelNetwork()
        )

    def address(self, transport: str) -> Address:
        return dict(self.transport.addresses)[transport]

    async def next(self, kind: type[Kind]) -> Kind:
        async with asyncio.timeout(5):
            event = await self.events.get()
        assert isinstance(event, kind), event
        return event


Phones = Callable[[], Awaitable[Phone]]


@pytest.fixture
async def phone() -> AsyncIterator[Phones]:
    async with AsyncExitStack() as stack:

        async def make() -> Phone:
            one = Phone()
            await one.transport.start(HOST)
            stack.push_async_callback(one.transport.close)
            return one

        yield make


async def _call(caller: Phone, to: Address, transport: str) -> object:
    flow = await caller.transport.flow_to(*to, transport)
    uri = f"sip:bob@{to};transport={transport}"
    invite = caller.agent.invite(
        uri,
        flow=flow,
        from_="<sip:alice@localhost>",
        to=f"<{uri}>",
        contact=f"<sip:alice@{flow.local};transport={transport}>",
        body=b"v=0\r\n",
        content_type="application/sdp",
        now=caller.transport.now(),
    )
    caller.transport.flush()
    return invite


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_call_rings_is_answered_and_ends(phone: Phones, transport: str) -> None:
    alice, bob = await phone(), await phone()
    await _call(alice, bob.address(transport), transport)
    incoming = await bob.next(IncomingInvite)
    contact = f"<sip:bob@{bob.address(transport)};transport={transport}>"
    bob.agent.ring(incoming.invite, contact=contact, now=bob.transport.now())
    bob.transport.flush()
    await alice.next(Provisional)
    bob.agent.respond(
        incoming.invite, 200, contact=contact, body=b"v=0\r\n", content_type="application/sdp",
        now=bob.transport.now(),
    )  # fmt: skip
    bob.transport.flush()
    answered = await alice.next(Answered)
    await bob.next(Acknowledged)
    alice.agent.bye(answered.dialog, now=alice.transport.now())
    alice.transport.flush()
    assert (await bob.next(DialogEnded)).by_remote
    assert not (await alice.next(DialogEnded)).by_remote
    assert alice.agent.dialogs == bob.agent.dialogs == []


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_request_is_answered(phone: Phones, transport: str) -> None:
    alice, bob = await phone(), await phone()
    to = bob.address(transport)
    flow = await alice.transport.flow_to(*to, transport)
    alice.agent.request(
        "OPTIONS", f"sip:{to}", flow=flow, from_="<sip:alice@localhost>", to=f"<sip:{to}>",
        now=alice.transport.now(),
    )  # fmt: skip
    alice.transport.flush()
    assert (await alice.next(RequestDone)).response.status == 200


async def test_nobody_listening_fails_a_call_at_once_and_says_where(phone: Phones) -> None:
    alice = await phone()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind((HOST, 0))
        dead = Address(*gone.getsockname())
    await _call(alice, dead, "udp")
    async with asyncio.timeout(1):
        failed = await alice.next(InviteFailed)
    assert failed.cause is Cause.TRANSPORT
    assert failed.reason == f"nobody listens at {dead}"


async def test_a_connection_that_breaks_fails_the_request_on_it(phone: Phones) -> None:
    alice = await phone()
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _r, w: accepted.put_nowait(w), HOST, 0)
    to = Address(*server.sockets[0].getsockname())
    flow = await alice.transport.flow_to(*to, "tcp")
    alice.agent.request(
        "OPTIONS", f"sip:{to}", flow=flow, from_="<sip:alice@localhost>", to=f"<sip:{to}>",
        now=alice.transport.now(),
    )  # fmt: skip
    alice.transport.flush()
    writer = await accepted.get()
    writer.transport.abort()
    failed = await alice.next(RequestFailed)
    assert failed.cause is Cause.TRANSPORT and str(to) in failed.reason
    server.close()
    await server.wait_closed()


async def test_one_hundred_requests_at_once_are_all_answered(phone: Phones) -> None:
    alice, bob = await phone(), await phone()
    to = bob.address("udp")
    flow = await alice.transport.flow_to(*to)
    for number in range(100):
        alice.agent.request(
            "OPTIONS", f"sip:{number}@{to}", flow=flow, from_="<sip:alice@localhost>",
            to=f"<sip:{to}>", now=alice.transport.now(),
        )  # fmt: skip
    alice.transport.flush()
    done = [await alice.next(RequestDone) for _ in range(100)]
    assert {event.response.status for event in done} == {200}
    assert len({event.handle.request.uri for event in done}) == 100
