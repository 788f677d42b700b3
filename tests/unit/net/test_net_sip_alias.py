"""Connections that are used for requests to who has opened them (RFC 5923)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from callers import until
from certificates import Authority
from sip_station import HOST, Names, Station, message

from voip.config import TlsConfig
from voip.errors import TransportError
from voip.sip.flow import Flow
from voip.sip.via import via_of

pytestmark = pytest.mark.rfc("5923", "8")

Stations = Callable[..., Awaitable[Station]]


@pytest.fixture
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def station(authority: Authority) -> AsyncIterator[Stations]:
    """Make stations; one with `names` has a certificate for them, and listens for TLS."""
    async with AsyncExitStack() as stack:

        async def make(*names: str, asks: bool = True, tcp_alias: bool = False) -> Station:
            certificate = str(authority.issue(*names)) if names else None
            tls = TlsConfig(
                str(authority.file), certificate, client_certificates=asks and bool(names)
            )
            one = Station(Names(), tls=tls, tcp_alias=tcp_alias)
            stack.push_async_callback(one.transport.close)
            await one.transport.start(HOST, streams={"tls": 0} if names else {})
            return one

        yield make


async def offer(caller: Station, callee: Station, name: str, transport: str = "tls") -> Flow:
    """Let a request go by a new connection; returns the flow it went by."""
    flow = await caller.transport.flow_to(name, callee.at(transport).port, transport)
    via = f"Via: {via_of(flow, 'z9hG4bK1')}\r\n".encode()
    say = message("sip:x").replace(b"\r\n", b"\r\n" + via, 1)
    before = len(callee.agent.received)
    caller.say(say, flow)
    await until(lambda: len(callee.agent.received) > before)
    return flow


def connections(station: Station) -> int:
    streams = station.transport._streams
    return 0 if streams is None else streams.count


async def test_who_has_shown_a_certificate_is_reached_by_its_own_connection(
    station: Stations,
) -> None:
    one, other = await station("one.example"), await station("other.example")
    flow = await offer(one, other, "other.example")
    assert flow.reuse and str(via_of(flow, "b")).endswith(";alias")
    back = await other.transport.flow_to("ONE.example.", one.at("tls").port, "tls")
    assert back == other.agent.received[0][1]
    assert back.remote.port != one.at("tls").port
    other.say(message("sip:back"), back)
    await until(lambda: one.agent.received)
    assert one.agent.received[0][1] == flow
    assert (connections(one), connections(other)) == (1, 1)
    assert not back.reuse  # it is not ours to offer


async def test_a_certificate_for_another_domain_does_not_let_anybody_in(station: Stations) -> None:
    thief, other = await station("thief.example"), await station("other.example")
    await offer(thief, other, "other.example")
    with pytest.raises(TransportError, match=r"thief\.example, not for one\.example"):
        await other.transport.flow_to("one.example", thief.at("tls").port, "tls")


async def test_who_was_not_asked_for_a_certificate_is_called_back_by_another_connection(
    station: Stations,
) -> None:
    one, other = await station("one.example"), await station("other.example", asks=False)
    await offer(one, other, "other.example")
    back = await other.transport.flow_to("one.example", one.at("tls").port, "tls")
    assert back.remote == one.at("tls")
    assert connections(other) == 2


async def test_who_can_show_no_certificate_offers_nothing(station: Stations) -> None:
    one, other = await station(), await station("other.example", asks=False)
    flow = await offer(one, other, "other.example")
    assert not flow.reuse and via_of(flow, "b").param("alias") is None


async def test_a_connection_that_is_gone_is_not_used_and_a_new_one_is_opened(
    station: Stations,
) -> None:
    one, other = await station("one.example"), await station("other.example")
    flow = await offer(one, other, "other.example")
    streams = one.transport._streams
    assert streams is not None
    streams.cut(flow.peer, "the test")
    await until(lambda: connections(other) == 0)
    back = await other.transport.flow_to("one.example", one.at("tls").port, "tls")
    assert back.remote == one.at("tls")


@pytest.mark.parametrize("allowed", [False, True])
async def test_tcp_connections_are_offered_and_used_where_that_is_allowed(
    station: Stations, allowed: bool
) -> None:
    one, other = await station(tcp_alias=allowed), await station(tcp_alias=allowed)
    flow = await offer(one, other, HOST, "tcp")
    assert (via_of(flow, "b").param("alias") is not None) == allowed
    back = await other.transport.flow_to(HOST, one.at("tcp").port, "tcp")
    assert (back == other.agent.received[0][1]) == allowed
    assert connections(other) == (1 if allowed else 2)


async def test_what_is_offered_is_taken_only_by_who_allows_it(station: Stations) -> None:
    one, other = await station(tcp_alias=True), await station()
    await offer(one, other, HOST, "tcp")
    back = await other.transport.flow_to(HOST, one.at("tcp").port, "tcp")
    assert back.remote == one.at("tcp")
