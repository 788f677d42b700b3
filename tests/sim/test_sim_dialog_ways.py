"""Calls begun by UDP whose Contact or Record-Route names another transport (RFC 3263, 4.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from voip import Softphone
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.sim import Host, Path, World
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.endpoint.endpoint import SipEndpoint
from voip.sip.endpoint.trace import SipTraceRecord
from voip.sip.events import (
    Acknowledged,
    Answered,
    DialogEnded,
    IncomingInvite,
    InviteFailed,
    SipEvent,
)
from voip.sip.message import Request, parse_message
from voip.types import Address, SeededRandom

pytestmark = pytest.mark.rfc("3263", "4.1")

PHONE, PEER, NAME = "10.0.0.1", "10.0.0.2", "peer.example"
SDP = (
    b"v=0\r\no=- 7 1 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\n"
    b"m=audio 40000 RTP/AVP 0\r\n"
)


class Peer:
    """A bare agent that says whatever it likes of where it is reached."""

    def __init__(self, host: Host, contact: str) -> None:
        self.agent = SipAgent(AgentConfig(), SeededRandom(5))
        self.happened: asyncio.Queue[SipEvent] = asyncio.Queue()
        self.came: list[tuple[str, str]] = []  # method, transport
        self._contact = contact
        platform = host.platform
        self.endpoint: SipEndpoint[SipEvent] = SipEndpoint(
            self.agent,
            self._on_event,
            platform.sip_network(),
            random=platform.random(),
            trace=self._trace,
        )

    def _trace(self, record: SipTraceRecord) -> None:
        message = parse_message(record.data)
        if not record.sent and isinstance(message, Request):
            self.came.append((message.method, record.flow.transport))

    def _on_event(self, event: SipEvent) -> None:
        if isinstance(event, IncomingInvite):
            self.agent.respond(
                event.invite, 200, contact=self._contact, body=SDP,
                content_type="application/sdp", now=self.endpoint.now(),
            )  # fmt: skip
        if isinstance(event, Answered | Acknowledged | DialogEnded | InviteFailed):
            self.happened.put_nowait(event)

    async def call(self, phone: Softphone, scheme: str = "sip") -> None:
        uri = f"{scheme}:desk@{PHONE}:{phone.port}"
        self.agent.invite(
            uri, flow=await self.endpoint.flow_to(PHONE, phone.port, "udp"),
            from_=f"<sip:peer@{PEER}>", to=f"<{uri}>", contact=self._contact, body=SDP,
            content_type="application/sdp", now=self.endpoint.now(),
        )  # fmt: skip
        self.endpoint.flush()

    async def event(self, kind: type[Any]) -> Any:
        event = await asyncio.wait_for(self.happened.get(), 40)
        assert isinstance(event, kind)
        return event


def scene(
    contact: str,
    main: Callable[[Softphone, Peer], Any],
    transports: tuple[str, ...] = ("udp", "tcp"),
) -> list[tuple[str, str]]:
    """Let a phone and a peer do something; return what has come to the peer, and how."""
    world = World(3, path=Path(delay_s=0.02))
    desk, far = world.host(PHONE), world.host(PEER)
    world.dns.add(NAME, PEER)

    async def whole() -> None:
        with far.here():
            peer = Peer(far, contact)
            await peer.endpoint.start(PEER, 5060, transports)
        async with Softphone(
            network=NetworkConfig(bind_host=PHONE, bind_port=5060),
            media=MediaConfig(elsewhere=Address(PHONE, 40000)),
        ) as phone:
            await main(phone, peer)
            came.extend(peer.came)
        await peer.endpoint.close()

    came: list[tuple[str, str]] = []
    world.run(desk.run(whole()))
    return came


async def dials(phone: Softphone, peer: Peer) -> None:
    call = await phone.dial(f"sip:peer@{PEER}", timeout=40)
    await peer.event(Acknowledged)
    await call.hangup()
    await peer.event(DialogEnded)


async def is_called(phone: Softphone, peer: Peer) -> None:
    calls: asyncio.Queue[Call] = asyncio.Queue()

    @phone.on_incoming
    async def taken(call: Call) -> None:
        await call.answer()
        calls.put_nowait(call)
        await call.wait_ended()

    await peer.call(phone)
    await peer.event(Answered)
    await (await calls.get()).hangup()
    await peer.event(DialogEnded)


@pytest.mark.parametrize("host", [PEER, f"{PEER}:5060", NAME, f"{NAME}:5060"])
def test_what_follows_goes_by_the_transport_that_the_contact_names(host: str) -> None:
    contact = f"<sip:peer@{host};transport=tcp>"
    assert scene(contact, dials) == [("INVITE", "udp"), ("ACK", "tcp"), ("BYE", "tcp")]
    assert scene(contact, is_called) == [("BYE", "tcp")]


@pytest.mark.parametrize(
    "contact",
    [
        f"<sip:peer@{PEER};transport=tcp>",
        "<sip:peer@nowhere.example;transport=tcp>",
        f"<sip:peer@{PEER};transport=tls>",
        f"<sip:peer@{PEER};transport=sctp>",
        "<sip:peer@h7s8.invalid;transport=ws>",
    ],
)
def test_a_contact_that_leads_nowhere_costs_no_call(contact: str) -> None:
    """Who is reached by UDP only, whatever it says, is reached by UDP."""
    udp = ("udp",)
    assert scene(contact, dials, udp) == [("INVITE", "udp"), ("ACK", "udp"), ("BYE", "udp")]
    assert scene(contact, is_called, udp) == [("BYE", "udp")]


@pytest.mark.rfc("5630", "5.1.2")
def test_a_call_to_sips_that_comes_by_udp_rings_nowhere() -> None:
    async def is_called(phone: Softphone, peer: Peer) -> None:
        phone.on_incoming(rung.append)
        await peer.call(phone, "sips")
        refused = (await peer.event(InviteFailed)).response
        assert (refused.status, refused.headers.get("Warning")) == (
            480,
            '380 voip "SIPS Not Allowed"',
        )

    rung: list[Call] = []
    scene(f"<sips:peer@{PEER}>", is_called)
    assert rung == []


@pytest.mark.rfc("3261", "8.1.1.8")
def test_a_call_from_nowhere_rings_nowhere() -> None:
    async def is_called(phone: Softphone, peer: Peer) -> None:
        phone.on_incoming(rung.append)
        await peer.call(phone)
        refused = await peer.event(InviteFailed)
        assert (refused.status, refused.reason) == (
            400,
            "a SIP URI is needed in the Contact of INVITE",
        )

    rung: list[Call] = []
    scene("<tel:+493012345>", is_called)
    assert rung == []
