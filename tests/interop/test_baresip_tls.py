"""baresip and we call each other over TLS, each judging the other's certificate (F134)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from callers import answering
from certificates import Authority
from peers.baresip import Baresip
from phones import ended

from voip.config import MediaConfig, NetworkConfig, TlsConfig
from voip.errors import TransportError
from voip.events import EndedBy
from voip.phone import Softphone
from voip.sip.endpoint.trace import SipTraceRecord

StartBaresip = Callable[..., Awaitable[Baresip]]
HOST = "127.0.0.1"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def phone(authority: Authority, seen: list[SipTraceRecord], **tls: str) -> Softphone:
    config = TlsConfig(certificate=str(authority.issue(HOST)), **tls)
    return Softphone(
        network=NetworkConfig(bind_host=HOST, tls=config),
        media=MediaConfig(jitter_min_ms=200.0, jitter_policy="fixed"),
        trace=seen.append,
    )


async def test_F134_we_call_baresip_over_tls(baresip: StartBaresip, authority: Authority) -> None:
    peer = await baresip(certificate=authority.issue(HOST), ca_file=authority.file, transport="tls")
    seen: list[SipTraceRecord] = []
    host, _, port = peer.uri.rpartition(":")
    there = f"{host}:{int(port) + 1};transport=tls"
    async with phone(authority, seen, ca_file=str(authority.file)) as us:
        async with asyncio.TaskGroup() as group:
            dialling = group.create_task(us.dial(there))
            await peer.incoming()
            await peer.accept()
        call = dialling.result()
        await peer.established()
        await call.hold()
        await call.resume()
        await peer.hangup()
        assert (await ended(call)).by is EndedBy.REMOTE
    assert {record.flow.transport for record in seen} == {"tls"}
    async with phone(authority, []) as us:
        with pytest.raises(TransportError, match="authority that is not trusted here"):
            await us.dial(there)


async def test_F134_baresip_calls_us_over_tls(baresip: StartBaresip, authority: Authority) -> None:
    peer = await baresip(certificate=authority.issue(HOST), ca_file=authority.file, transport="tls")
    seen: list[SipTraceRecord] = []
    async with phone(authority, seen, ca_file=str(authority.file)) as us:
        calls = answering(us)
        port = dict(us.addresses)["tls"].port
        await peer.dial(f"sip:us@{HOST}:{port};transport=tls")
        call = await calls.get()
        await peer.established()
        await call.hangup()
        await peer.closed()
    assert {record.flow.transport for record in seen} == {"tls"}
    assert {record.flow.local.port for record in seen} == {port}
