"""Softphones that call each other through our proxy, by whatever transport each of them has."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from certificates import Authority
from test_phone_transports import talk

from voip.config import NetworkConfig, TlsConfig
from voip.errors import CallError
from voip.phone import Softphone
from voip.proxy import SipProxy

HOST = "127.0.0.1"
USERS = {"ann": "tea", "ben": "milk"}


def phone(proxy: SipProxy, user: str, transport: str, network: NetworkConfig) -> Softphone:
    port = proxy.tls_port if transport == "tls" else proxy.port
    uri = f"sip:{user}@{HOST}:{port};transport={transport}"
    return Softphone(uri, password=USERS[user], network=network)


WAYS = [("udp", "udp"), ("tcp", "udp"), ("udp", "tcp"), ("tls", "udp"), ("tls", "tcp")]


@pytest.mark.parametrize(("anns", "bens"), WAYS)
async def test_F010_a_call_and_its_changes_go_through_whatever_the_transports(
    tmp_path: Path, anns: str, bens: str
) -> None:
    authority = Authority(tmp_path)
    trusting = TlsConfig(ca_file=str(authority.file))
    named = replace(trusting, certificate=str(authority.issue(HOST)))
    here = NetworkConfig(bind_host=HOST, tls=trusting)
    async with (
        SipProxy(USERS, HOST, tls=named) as proxy,
        phone(proxy, "ann", anns, here) as ann,
        phone(proxy, "ben", bens, here) as ben,
    ):
        await talk(ann, ben, "ben")
        await talk(ben, ann, "ann")
        async with asyncio.timeout(5):
            assert ann.calls == ben.calls == []
    assert proxy.agent.counters.malformed == 0


async def test_who_has_not_registered_is_not_there_and_strangers_are_nobody() -> None:
    async with SipProxy(USERS, HOST) as proxy:
        here = NetworkConfig(bind_host=HOST)
        async with phone(proxy, "ann", "udp", here) as ann, Softphone(network=here) as stranger:
            for caller, target, status in (
                (ann, "ben", 480),
                (ann, "nobody", 404),
                (stranger, f"sip:ben@{proxy.address}", 480),
            ):
                with pytest.raises(CallError) as caught:
                    await caller.dial(target)
                assert caught.value.status == status


async def test_a_name_that_is_nowhere_is_told_soon() -> None:
    async with SipProxy(USERS, HOST) as proxy:
        here = NetworkConfig(bind_host=HOST)
        uri = f"sip:ann@{HOST}:{proxy.port}"
        async with Softphone(uri, password="tea", proxy=uri, network=here) as ann:
            with pytest.raises(CallError) as caught:
                await ann.dial("sip:x@nowhere.invalid")
            assert caught.value.status == 500
