"""Kamailio sends what is for us by the connection that we have opened and offered (RFC 5923)."""

from __future__ import annotations

from pathlib import Path

import pytest
from callers import answering
from certificates import Authority
from direct import Ladder
from peers.kamailio import Kamailio
from phones import JITTER_MS, ended, softphone

from voip.config import MediaConfig, NetworkConfig, TlsConfig
from voip.events import CallState, EndedBy
from voip.phone import Softphone
from voip.sip.uri import SipUri

pytestmark = pytest.mark.rfc("5923", "8")


@pytest.mark.parametrize("offered", [True, False])
async def test_kamailio_calls_by_the_connection_that_is_offered_and_else_opens_one(
    kamailio: Kamailio, artifacts: Path, offered: bool
) -> None:
    ladder = Ladder(artifacts / "2001.sip")
    async with (
        Softphone(
            kamailio.uri("2001"),
            password=kamailio.password("2001"),
            network=NetworkConfig(transport="tcp", bind_host="127.0.0.1", tcp_alias=offered),
            media=MediaConfig(jitter_min_ms=JITTER_MS, jitter_policy="fixed"),
            pcap=artifacts / "2001.pcap",
            trace=ladder,
        ) as alice,
        softphone(kamailio, "2002", artifacts) as bob,
    ):
        (contact,) = kamailio.contacts("2001")
        assert contact == f"sip:2001@127.0.0.1:{alice.port};transport=tcp"
        before = kamailio.command("core.tcp_list")
        answered = answering(alice)
        call = await bob.dial("2001")
        incoming = await answered.get()
        assert incoming.state is CallState.ACTIVE
        dialog = incoming._session.dialog
        assert dialog is not None
        assert (dialog.flow.remote.port == kamailio.port) == offered
        opened = f"port: {alice.port}\n"  # what it has opened leads to where we listen
        assert opened not in before
        assert (opened in kamailio.command("core.tcp_list")) != offered
        await call.hangup()
        assert (await ended(incoming)).by is EndedBy.REMOTE


async def test_kamailio_calls_by_the_tls_connection_that_is_offered(
    kamailio: Kamailio, artifacts: Path, tmp_path: Path
) -> None:
    """A phone with a certificate offers it: nothing but the offer leads Kamailio back by it."""
    shown = str(Authority(tmp_path).issue("127.0.0.1"))
    tls = TlsConfig(certificate=shown, ca_file=str(kamailio.certificate))
    ladder = Ladder(artifacts / "2001.sip")
    async with (
        Softphone(
            f"sip:2001@{kamailio.host}:{kamailio.tls_port}",
            password=kamailio.password("2001"),
            network=NetworkConfig(transport="tls", bind_host="127.0.0.1", tls=tls),
            media=MediaConfig(jitter_min_ms=JITTER_MS, jitter_policy="fixed"),
            pcap=artifacts / "2001.pcap",
            trace=ladder,
        ) as alice,
        softphone(kamailio, "2002", artifacts) as bob,
    ):
        assert ladder.header("> REGISTER", "Via").endswith(";alias")
        (contact,) = kamailio.contacts("2001")
        uri = SipUri.parse(contact)
        assert (uri.host, uri.transport) == ("127.0.0.1", "tls")
        assert f"port: {uri.port}\n" not in kamailio.command("core.tcp_list")
        answered = answering(alice)
        call = await bob.dial("2001")
        incoming = await answered.get()
        dialog = incoming._session.dialog
        assert dialog is not None
        assert dialog.flow.transport == "tls"
        assert dialog.flow.remote.port == kamailio.tls_port
        assert f"port: {uri.port}\n" not in kamailio.command("core.tcp_list")
        await call.hold()
        assert incoming.state is CallState.HELD
        await call.hangup()
        assert (await ended(incoming)).by is EndedBy.REMOTE
