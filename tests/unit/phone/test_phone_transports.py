"""Softphones that call each other over what is neither UDP nor TCP."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from callers import answering
from certificates import Authority

from voip.config import NetworkConfig, TlsConfig
from voip.errors import TransportError
from voip.events import EndedBy
from voip.phone import Softphone
from voip.sip.endpoint.trace import SipTraceRecord
from voip.types import Address

HOST = "127.0.0.1"
HERE = NetworkConfig(bind_host=HOST)


def at(phone: Softphone, transport: str) -> Address:
    return dict(phone.addresses)[transport]


def tls_of(directory: Path) -> tuple[TlsConfig, TlsConfig]:
    """Who believes an authority, and who has a certificate of it too."""
    authority = Authority(directory)
    trusting = TlsConfig(ca_file=str(authority.file))
    return trusting, replace(trusting, certificate=str(authority.issue(HOST)))


async def talk(caller: Softphone, callee: Softphone, target: str) -> None:
    """Place a call, hold and resume it, and let the other side hang up."""
    calls = answering(callee)
    call = await caller.dial(target)
    theirs = await calls.get()
    await call.hold()
    await call.resume()
    await theirs.hangup()
    assert (await call.wait_ended()).by is EndedBy.REMOTE


@pytest.mark.parametrize(
    ("target", "contact"),
    [
        ("sips:bob@{0}", "Contact: <sips:{0}>"),
        ("sip:bob@{0};transport=tls", "Contact: <sip:{0};transport=tls>"),
    ],
)
async def test_F134_a_call_over_tls_stays_there_and_says_how_it_is_reached(
    tmp_path: Path, target: str, contact: str
) -> None:
    seen: list[SipTraceRecord] = []
    trusting, named = tls_of(tmp_path)
    async with (
        Softphone(network=replace(HERE, tls=named)) as bob,
        Softphone(network=replace(HERE, tls=trusting), trace=seen.append) as alice,
    ):
        await talk(alice, bob, target.format(at(bob, "tls")))
        told = [record.data.decode() for record in seen]
        assert {record.flow.transport for record in seen} == {"tls"}
        assert all("Via: SIP/2.0/TLS " in text for text in told)
        invite = told[0]
        assert contact.format(seen[0].flow.local) in invite
        answer = next(text for text in told if text.startswith("SIP/2.0 200") and "INVITE" in text)
        assert contact.format(at(bob, "tls")) in answer
        stranger = Softphone(network=HERE)
        async with stranger:
            with pytest.raises(TransportError, match="authority that is not trusted here"):
                await stranger.dial(target.format(at(bob, "tls")))


@pytest.mark.parametrize(
    ("target", "via", "contact"),
    [
        ("sip:bob@{0};transport=ws", "WS", r"<sip:[0-9a-f]+\.invalid;transport=ws>"),
        ("sips:bob@{0};transport=ws", "WSS", r"<sips:[0-9a-f]+\.invalid;transport=ws>"),
        ("sip:bob@{0};transport=wss", "WSS", r"<sip:[0-9a-f]+\.invalid;transport=ws>"),
    ],
)
async def test_F135_a_call_over_websocket(
    tmp_path: Path, target: str, via: str, contact: str
) -> None:
    seen: list[SipTraceRecord] = []
    trusting, named = tls_of(tmp_path)
    async with (
        Softphone(network=replace(HERE, tls=named, ws_port=0, wss_port=0)) as bob,
        Softphone(network=replace(HERE, tls=trusting), trace=seen.append) as alice,
    ):
        await talk(alice, bob, target.format(at(bob, via.lower())))
    assert {record.flow.transport for record in seen} == {via.lower()}
    invite = seen[0].data.decode()
    assert re.search(rf"Via: SIP/2.0/{via} [0-9a-f]+\.invalid;branch", invite)
    assert re.search(rf"Contact: {contact}", invite)


async def test_tls_is_answered_at_the_port_after_the_others(tmp_path: Path) -> None:
    certificate = str(Authority(tmp_path).issue(HOST))
    tls = TlsConfig(certificate=certificate)
    assert NetworkConfig(bind_port=5060, tls=tls).streams() == {"tls": 5061}
    assert NetworkConfig(bind_port=5060, tls=tls, tls_port=443).streams() == {"tls": 443}
    assert NetworkConfig(tls=tls).streams() == {"tls": 0}
    assert NetworkConfig(bind_port=5060).streams() == {}
    async with Softphone(network=NetworkConfig(tls=tls)) as phone:
        ports = [address.port for transport, address in phone.addresses if transport == "tls"]
        assert len(set(ports)) == 1


@pytest.mark.parametrize("has_tcp", [True, False])
async def test_an_invite_too_long_for_a_datagram_goes_by_tcp_where_there_is_any(
    has_tcp: bool,
) -> None:
    seen: list[SipTraceRecord] = []
    async with (
        Softphone(network=HERE) as bob,
        Softphone(network=HERE, trace=seen.append) as alice,
    ):
        if not has_tcp:
            for _, listener in bob._transport._ports.listeners:
                listener.close()
        answering(bob)
        headers = {"Subject": "x" * 1300}
        async with await alice.dial(f"sip:bob@{at(bob, 'udp')}", headers=headers):
            invites = [one.flow.transport for one in seen if one.data.startswith(b"INVITE")]
            assert invites == (["tcp"] if has_tcp else ["tcp", "udp"])
