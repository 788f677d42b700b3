"""Whose word it is that mail waits: a NOTIFY that nobody asked for (RFC 3842, RFC 6665)."""

from __future__ import annotations

import asyncio

import pytest

from voip import Softphone
from voip.config import MediaConfig, NetworkConfig
from voip.events import MessageWaiting
from voip.proxy import SipProxy
from voip.sim import Host, Path, World
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.endpoint.endpoint import SipEndpoint
from voip.sip.events import RequestDone, SipEvent
from voip.sip.packages.message_summary import CONTENT_TYPE, MessageCount, MessageSummary
from voip.types import Address, SeededRandom

MAIL = MessageSummary(
    True, "sip:alice@vm.example", (MessageCount("voice-message", 1, 0),)
).to_bytes()
PHONE, REGISTRAR, TRUSTED, STRANGER = "10.0.0.1", "10.0.0.9", "10.0.0.7", "10.0.0.66"


async def tell_mail(host: Host) -> int:
    """Say that mail waits, from another port than a registrar's; return the answer's status."""
    answered: asyncio.Queue[int] = asyncio.Queue()

    def on_event(event: SipEvent) -> None:
        assert isinstance(event, RequestDone)
        answered.put_nowait(event.response.status)

    agent, platform = SipAgent(AgentConfig(), SeededRandom(4)), host.platform
    endpoint: SipEndpoint[SipEvent] = SipEndpoint(agent, on_event, platform.sip_network())
    await endpoint.start(host.address, 5090)
    agent.request(
        "NOTIFY", f"sip:alice@{PHONE}", flow=await endpoint.flow_to(PHONE, 5060),
        from_=f"<sip:mail@{REGISTRAR}>", to=f"<sip:alice@{REGISTRAR}>",
        headers=[("Event", "message-summary"), ("Subscription-State", "terminated")],
        body=MAIL, content_type=CONTENT_TYPE, now=endpoint.now(),
    )  # fmt: skip
    endpoint.flush()
    status = await answered.get()
    await endpoint.close()
    return status


@pytest.mark.rfc("3842", "5")
@pytest.mark.parametrize(
    ("source", "believed"), [(REGISTRAR, True), (TRUSTED, True), (STRANGER, False)]
)
def test_F102_the_registrar_is_believed_and_strangers_are_not(source: str, believed: bool) -> None:
    world = World(5, path=Path(delay_s=0.01))
    here, registrar = world.host(PHONE), world.host(REGISTRAR)
    hosts = {REGISTRAR: registrar, TRUSTED: world.host(TRUSTED), STRANGER: world.host(STRANGER)}

    async def main() -> None:
        with registrar.here():
            proxy = SipProxy({"alice": "wonderland"}, REGISTRAR, 5060)
            await proxy.__aenter__()
        async with Softphone(
            f"sip:alice@{REGISTRAR}",
            password="wonderland",
            network=NetworkConfig(PHONE, 5060, trusted=(TRUSTED,)),
            media=MediaConfig(elsewhere=Address(PHONE, 40000)),
        ) as alice:
            host = hosts[source]
            status = await host.run(tell_mail(host))
            told = [event for event in alice._events if isinstance(event, MessageWaiting)]
        assert (status, len(told)) == ((200, 1) if believed else (481, 0))
        await proxy.__aexit__()

    world.run(here.run(main()))
