"""Presence at our server: other people's phones publish there, and watch each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from peers.baresip import Baresip
from peers.pjsua import Pjsua
from phones import until
from test_registrar import USERS, Seen, account

from voip.config import NetworkConfig
from voip.harness.pbx import EmbeddedPbx
from voip.phone import Softphone
from voip.proxy import SipProxy
from voip.sip.event_server import EventConfig
from voip.sip.message import Response
from voip.sip.packages.presence import CONTENT_TYPE, Presence, PresenceTuple

StartBaresip = Callable[..., Awaitable[Baresip]]
StartPjsua = Callable[..., Awaitable[Pjsua]]


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def proxy(seen: Seen) -> AsyncIterator[SipProxy]:
    # PJSIP leaves the port out of its From, as RFC 3261 has it
    async with SipProxy(USERS, domains=["127.0.0.1"], events=EventConfig(), trace=seen) as proxy:
        yield proxy


async def published(proxy: SipProxy, baresip: StartBaresip) -> Baresip:
    """Start 1001's baresip, and have it publish."""
    alice = await baresip(**account(proxy, "1001"), account="pubint=60")
    await alice.registered()
    await alice.command("insmod", "presence")  # which publishes for the accounts that there are
    await until(lambda: proxy.events.publications == 1, "baresip to publish")
    return alice


async def test_F103_F105_baresip_publishes_and_pjsip_and_we_watch(
    proxy: SipProxy, seen: Seen, baresip: StartBaresip, pjsua: StartPjsua
) -> None:
    bob = await pjsua(**account(proxy, "1002"))
    await bob.registered()
    await bob.watch(f"sip:1001@{proxy.address}")
    await bob.wait_for("presence", text="OFFLINE")
    async with Softphone(
        f"sip:1002@{proxy.address}",
        password=USERS["1002"],
        network=NetworkConfig(bind_host="127.0.0.1", bind_port=0),
    ) as phone:
        watch = await phone.watch(f"sip:1001@{proxy.address}", "presence")
        assert not watch.latest.value.open

        alice = await published(proxy, baresip)
        await alice.command("presence_online")
        await bob.wait_for("presence", text="ONLINE")
        await until(lambda: watch.latest.value.open, "us to be told")
        await alice.command("presence_offline")
        await bob.wait_for("presence", text="OFFLINE")
        await until(lambda: not watch.latest.value.open, "us to be told")
        await watch.close()

    answers = [m for sent, m in seen.messages if sent and isinstance(m, Response)]
    names = [m.headers.get("SIP-ETag") for m in answers if m.cseq.method == "PUBLISH"]
    assert len({name for name in names if name}) >= 3


async def test_F103_baresip_watches_what_we_publish_at_the_embedded_pbx(
    baresip: StartBaresip,
) -> None:
    async with EmbeddedPbx(proxy=True) as pbx:
        contact = f'"Bob" <{pbx.uri("1002")}>;presence=p2p'
        alice = await baresip(
            user="1001",
            registrar=pbx.address,
            password=pbx.password("1001"),
            modules=["contact"],
            contacts=[contact],
        )
        await alice.registered()
        await alice.command("insmod", "presence")

        async def shows(word: str) -> None:
            async with asyncio.timeout(10):
                while word not in await alice.command("contacts"):
                    await asyncio.sleep(0.1)

        await shows("Offline")
        async with Softphone(
            pbx.uri("1002"),
            password=pbx.password("1002"),
            network=NetworkConfig(bind_host="127.0.0.1", bind_port=0),
        ) as bob:
            document = Presence(pbx.uri("1002"), (PresenceTuple("t", True),))
            async with await bob.publish("presence", document.to_bytes(), CONTENT_TYPE):
                await shows("Online")
            await shows("Offline")
