"""Records from a real DNS server, and the way they lead (F133)."""

from __future__ import annotations

import pytest
from callers import until
from dns_server import DnsServer
from sip_station import HOST, Station, message

from voip.errors import ConfigError, TransportError
from voip.net import dns_records
from voip.net.dns_records import DnsRecords, parse_server
from voip.net.sip_network import KernelNetwork
from voip.sip.locating import Naptr, Srv
from voip.types import Address

pytestmark = pytest.mark.rfc("3263", "4")


async def test_F133_records_are_read_and_remembered_as_long_as_they_hold() -> None:
    async with DnsServer(
        'voip.test. 60 IN NAPTR 50 10 "s" "SIP+D2T" "" _sip._tcp.voip.test.',
        "_sip._tcp.voip.test. 60 IN SRV 1 2 5062 a.voip.test.",
        "a.voip.test. 0 IN A 127.0.0.1",
        "a.voip.test. 60 IN AAAA ::1",
    ) as server:
        records = DnsRecords([server.address])
        for _ in range(3):
            assert await records.naptr("voip.test") == [
                Naptr(50, 10, "s", "SIP+D2T", "", "_sip._tcp.voip.test")
            ]
            assert await records.srv("_sip._tcp.voip.test") == [Srv(1, 2, 5062, "a.voip.test")]
            assert await records.addresses("a.voip.test") == ["127.0.0.1", "::1"]
            assert await records.srv("nothing.voip.test") == []
        assert server.asked.count(("voip.test.", "NAPTR")) == 1
        assert server.asked.count(("_sip._tcp.voip.test.", "SRV")) == 1
        assert server.asked.count(("a.voip.test.", "AAAA")) == 1
        assert server.asked.count(("a.voip.test.", "A")) == 3  # a TTL of 0
        with pytest.raises(TransportError, match=r"'b\.voip\.test' has no address"):
            await records.addresses("b.voip.test")


async def test_F133_names_that_are_in_no_dns_are_not_asked_for() -> None:
    async with DnsServer() as server:
        records = DnsRecords([server.address])
        for name in ("localhost", "pbx", "pbx.local", "pbx.invalid", "a.localhost."):
            assert await records.naptr(name) == []
        for name in ("x" * 64 + ".test", "a..test", "sip:x.test"):
            assert await records.srv(name) == []
        assert [name for name, _ in server.asked if "x.test" not in name] == []


async def test_F133_a_silent_server_is_not_asked_again_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dns_records, "PATIENCE_S", 0.05)
    async with DnsServer() as server:
        server.silent = True
        records = DnsRecords([server.address])
        assert await records.naptr("voip.test") == []
        asked = len(server.asked)
        assert asked >= 1
        assert await records.srv("_sip._udp.voip.test") == []
        assert len(server.asked) == asked


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_servers_are_written_as_addresses(text: str, server: tuple[str, int]) -> None:
    assert parse_server(text) == Address(*server)


@pytest.mark.parametrize("text", ["dns.example", "", "192.0.2.1:x", "[::1]:x"])
def test_a_server_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no DNS server"):
        parse_server(text)


async def test_F133_flows_are_opened_in_order_and_those_that_failed_come_last() -> None:
    one, other = Station(), Station()
    await one.transport.start(HOST)
    await other.transport.start(HOST)
    dead, alive = one.at("tcp").port, other.at("tcp").port
    await one.transport.close()
    async with DnsServer(
        f"_sip._tcp.voip.test. 60 IN SRV 1 0 {dead} a.voip.test.",
        f"_sip._tcp.voip.test. 60 IN SRV 2 0 {alive} a.voip.test.",
        "a.voip.test. 60 IN A 127.0.0.1",
    ) as server:
        caller = Station(KernelNetwork([server.address]))
        await caller.transport.start(HOST)
        flow = await caller.transport.flow_to("voip.test")
        assert (flow.transport, flow.remote.port) == ("tcp", alive)
        assert [peer.remote.port for peer in caller.transport._ways._avoided] == [dead]
        caller.say(message("sip:x"), flow)
        await until(lambda: other.agent.received)
        await other.transport.close()
        await until(lambda: caller.agent.failed)
        with pytest.raises(TransportError, match="nobody listens"):
            await caller.transport.flow_to("voip.test")
        await caller.transport.close()
