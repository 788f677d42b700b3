"""Where a SIP URI leads, by records given (RFC 3263, 2782, 7118)."""

from __future__ import annotations

from collections import Counter

import pytest

from voip.errors import TransportError
from voip.sip.locating import Hop, Naptr, Srv, Where, hops, preferred, weighted
from voip.types import Address, SeededRandom

pytestmark = pytest.mark.rfc("3263", "4")

ONE, TWO, SIX = "192.0.2.1", "192.0.2.2", "2001:db8::1"


class Zone:
    """Names that were written down, and what was asked."""

    def __init__(self, **records: list[object]) -> None:
        self.records = {name.replace("__", "-"): found for name, found in records.items()}
        self.asked: list[str] = []

    def having(self, name: str, *records: object) -> Zone:
        self.records[name] = list(records)
        return self

    async def naptr(self, name: str) -> list[Naptr]:
        return self._of(name, Naptr)

    async def srv(self, name: str) -> list[Srv]:
        return self._of(name, Srv)

    async def addresses(self, name: str) -> list[str]:
        found = self._of(name, str)
        if not found:
            raise TransportError(f"the name {name!r} has no address")
        return found

    def _of(self, name, kind):  # type: ignore[no-untyped-def]
        self.asked.append(f"{kind.__name__} {name}")
        return [record for record in self.records.get(name, []) if isinstance(record, kind)]


def example() -> Zone:
    """RFC 3263's example, section 4.1, with addresses."""
    return (
        Zone()
        .having(
            "example.com",
            Naptr(90, 50, "s", "SIP+D2T", "", "_sip._tcp.example.com"),
            Naptr(100, 50, "s", "SIP+D2U", "", "_sip._udp.example.com."),
            Naptr(50, 50, "s", "SIPS+D2T", "", "_sips._tcp.example.com."),
            "192.0.2.80",
        )
        .having("_sip._tcp.example.com", Srv(0, 1, 5060, "server1.example.com"),
                Srv(0, 2, 5060, "server2.example.com"))
        .having("_sips._tcp.example.com", Srv(0, 0, 5061, "server1.example.com"))
        .having("_sip._udp.example.com", Srv(1, 0, 5070, "server2.example.com"),
                Srv(0, 0, 5060, "server1.example.com"))
        .having("server1.example.com", ONE, SIX)
        .having("server2.example.com", TWO)
    )  # fmt: skip


async def found(zone: Zone, host: str, *more: object, **also: object) -> list[tuple[str, str]]:
    where = Where(host, *more, **also)  # type: ignore[arg-type]
    places = await hops(where, zone, SeededRandom(1))
    assert {hop.domain for hop in places} == {host.strip("[]")}
    return [(hop.transport, str(hop.address)) for hop in places]


async def test_F133_naptr_chooses_the_transport_and_srv_the_servers() -> None:
    zone = example()
    assert await found(zone, "example.com") == [
        ("tls", "192.0.2.1:5061"), ("tls", "[2001:db8::1]:5061"),
    ]  # fmt: skip
    assert zone.asked == [
        "Naptr example.com", "Srv _sips._tcp.example.com", "str server1.example.com",
    ]  # fmt: skip
    zone.records["_sips._tcp.example.com"] = []
    places = await found(zone, "example.com")
    assert sorted(places) == sorted(
        [("tcp", "192.0.2.1:5060"), ("tcp", "[2001:db8::1]:5060"), ("tcp", "192.0.2.2:5060")]
    )


async def test_F133_a_transport_that_is_named_asks_for_its_srv_alone() -> None:
    zone = example()
    assert await found(zone, "example.com", transport="udp") == [
        ("udp", "192.0.2.1:5060"), ("udp", "[2001:db8::1]:5060"), ("udp", "192.0.2.2:5070"),
    ]  # fmt: skip
    assert zone.asked[0] == "Srv _sip._udp.example.com"


async def test_F133_a_port_that_is_named_asks_for_addresses_alone() -> None:
    zone = example()
    assert await found(zone, "example.com", 5080) == [("udp", "192.0.2.80:5080")]
    assert await found(zone, "example.com", 5080, secure=True) == [("tls", "192.0.2.80:5080")]
    assert await found(zone, "example.com", 5080, "tcp") == [("tcp", "192.0.2.80:5080")]
    assert set(zone.asked) == {"str example.com"}


@pytest.mark.parametrize(
    ("where", "hop"),
    [
        (Where(ONE), Hop("udp", Address(ONE, 5060), ONE)),
        (Where(ONE, secure=True), Hop("tls", Address(ONE, 5061), ONE)),
        (Where(ONE, None, "tcp"), Hop("tcp", Address(ONE, 5060), ONE)),
        (Where(ONE, None, "ws"), Hop("ws", Address(ONE, 80), ONE)),
        (Where(ONE, None, "wss"), Hop("wss", Address(ONE, 443), ONE)),
        (Where("[2001:DB8::1]", 7), Hop("udp", Address(SIX, 7), SIX)),
    ],
)
async def test_F133_an_address_is_where_it_says_and_nobody_is_asked(where: Where, hop: Hop) -> None:
    zone = Zone()
    assert await hops(where, zone, SeededRandom(1)) == [hop]
    assert zone.asked == []


async def test_F133_without_naptr_the_first_transport_with_srv_records_is_taken() -> None:
    zone = (
        Zone().having("_sip._tcp.a.example", Srv(0, 0, 5065, "b.example")).having("b.example", ONE)
    )
    assert await found(zone, "a.example") == [("tcp", "192.0.2.1:5065")]
    assert zone.asked == [
        "Naptr a.example", "Srv _sip._udp.a.example", "Srv _sip._tcp.a.example", "str b.example",
    ]  # fmt: skip


async def test_F133_without_srv_the_address_and_the_default_are_taken() -> None:
    zone = Zone().having("a.example", ONE)
    assert await found(zone, "a.example") == [("udp", "192.0.2.1:5060")]
    assert await found(zone, "a.example", secure=True) == [("tls", "192.0.2.1:5061")]
    assert await found(zone, "a.example", None, "tls") == [("tls", "192.0.2.1:5061")]
    with pytest.raises(TransportError, match=r"'b\.example' has no address"):
        await hops(Where("b.example"), zone, SeededRandom(1))


async def test_F133_sips_takes_nothing_but_sips() -> None:
    zone = example()
    zone.records["_sips._tcp.example.com"] = []
    assert await found(zone, "example.com", secure=True) == [("tls", "192.0.2.80:5061")]
    assert not any("_sip._" in asked for asked in zone.asked)


async def test_F133_a_target_without_address_is_passed_over() -> None:
    zone = example()
    del zone.records["server1.example.com"]
    assert await found(zone, "example.com", transport="udp") == [("udp", "192.0.2.2:5070")]
    del zone.records["server2.example.com"]
    with pytest.raises(TransportError, match="has no address"):
        await hops(Where("example.com", None, "udp"), zone, SeededRandom(1))


async def test_F133_a_service_that_is_not_there_is_said_by_a_dot() -> None:
    zone = Zone().having("_sip._udp.a.example", Srv(0, 0, 0, ".")).having("a.example", ONE)
    assert await found(zone, "a.example") == [("udp", "192.0.2.1:5060")]


def test_F133_naptr_records_are_ordered_and_those_for_others_left_out() -> None:
    records = [
        Naptr(20, 1, "s", "SIP+D2U", "", "u."),
        Naptr(10, 9, "S", "sips+d2w", "", "w"),
        Naptr(10, 1, "s", "SIP+D2T", "", "t"),
        Naptr(1, 1, "s", "SIP+D2S", "", "sctp"),
        Naptr(1, 1, "u", "SIP+D2U", "", "flag"),
        Naptr(1, 1, "s", "SIP+D2U", "!.*!x!", "regexp"),
        Naptr(1, 1, "s", "E2U+sip", "", "enum"),
    ]
    assert preferred(records, secure=False) == [("tcp", "t"), ("wss", "w"), ("udp", "u")]
    assert preferred(records, secure=True) == [("wss", "w")]


def test_F133_priorities_come_first_and_weights_are_drawn_as_rfc_2782_says() -> None:
    """20,000 draws of 1 : 3 : 0 beside each other, before a lower priority whatever it weighs."""
    records = [
        Srv(9, 65535, 1, "late"),
        Srv(1, 1, 1, "one"),
        Srv(1, 3, 1, "three"),
        Srv(1, 0, 1, "never"),
    ]
    random = SeededRandom(7)
    drawn = [tuple(one.target for one in weighted(records, random)) for _ in range(20_000)]
    assert {order[3] for order in drawn} == {"late"}
    first = Counter(order[0] for order in drawn)
    # a draw of 0..4: 0 is the weightless one's, 1 the next, 2 to 4 the last's
    assert first["never"] == pytest.approx(4_000, rel=0.05)
    assert first["one"] == pytest.approx(4_000, rel=0.05)
    assert first["three"] == pytest.approx(12_000, rel=0.05)
    assert weighted([], random) == []


async def test_F133_an_answer_of_thousands_costs_what_64_do() -> None:
    many = [Srv(0, 1, 5060, f"s{n}.example") for n in range(5000)]
    zone = Zone().having("_sip._udp.a.example", *many)
    for record in many:
        zone.having(record.target, *[f"192.0.2.{n % 250}" for n in range(200)])
    places = await hops(Where("a.example", None, "udp"), zone, SeededRandom(1))
    assert (len(places), len(zone.asked)) == (64 * 64, 65)
