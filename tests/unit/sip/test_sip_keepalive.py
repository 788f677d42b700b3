"""Keep-alives of flows, in virtual time (RFC 5626 section 4.4)."""

from __future__ import annotations

import pytest

from voip.nat.stun import BINDING, Attribute, Kind, StunMessage, xor_address
from voip.sip.flow import Flow
from voip.sip.keepalive import PING, KeepAlive
from voip.sip.message import Response, parse_message
from voip.sip.terms import Terms
from voip.types import Address, SeededRandom

pytestmark = pytest.mark.rfc("5626", "4.4")

HERE, THERE = Address("192.0.2.1", 5060), Address("192.0.2.9", 5060)
SEEN = Address("198.51.100.7", 40000)
TCP, UDP = Flow("tcp", HERE, THERE), Flow("udp", HERE, THERE)


def kept(flow: Flow, **more: object) -> KeepAlive:
    return KeepAlive(flow, SeededRandom(1), 0.0, **more)  # type: ignore[arg-type]


def fire(alive: KeepAlive) -> tuple[float, bytes | None]:
    due = alive.next_timer()
    assert due is not None
    assert alive.handle_timer(due - 0.001) is None  # not before its time
    return due, alive.handle_timer(due)


def response(
    ping: bytes | None, mapped: Address | None = SEEN, kind: Kind = Kind.SUCCESS
) -> StunMessage:
    request = StunMessage.parse(ping or b"")
    assert request is not None and (request.kind, request.method) == (Kind.REQUEST, BINDING)
    assert request.attributes == ()
    told = () if mapped is None else (
        (Attribute.XOR_MAPPED_ADDRESS, xor_address(mapped, request.transaction_id)),
    )  # fmt: skip
    return StunMessage(kind, BINDING, request.transaction_id, told)


@pytest.mark.parametrize(
    ("flow", "timer", "least", "most"),
    [(TCP, None, 96, 120), (UDP, None, 23.2, 29), (TCP, 600, 480, 600), (UDP, 20, 16, 20),
     (TCP, 1, 4, 5)],
)  # fmt: skip
def test_F111_pings_are_spread_over_the_last_fifth_of_the_interval(
    flow: Flow, timer: int | None, least: float, most: float
) -> None:
    alive = kept(flow, flow_timer_s=timer)
    at, gaps = 0.0, []
    for _ in range(50):
        due, ping = fire(alive)
        assert ping == PING  # nobody has promised an answer
        gaps.append(due - at)
        at = due
    assert least <= min(gaps) < max(gaps) <= most
    assert max(gaps) - min(gaps) > 0.5 * (most - least)
    assert alive.failed is None


def test_F111_a_connection_without_a_pong_in_10_s_is_dead() -> None:
    alive = kept(TCP, answers=True)
    at, ping = fire(alive)
    assert ping == PING
    alive.heard(at + 9.9, pong=True)
    at, ping = fire(alive)
    assert ping == PING
    alive.heard(at + 5.0)  # whatever comes proves that they are there
    at, _ = fire(alive)
    due, ping = fire(alive)
    assert (due, ping) == (at + 10.0, None)
    assert alive.failed == "192.0.2.9:5060 does not answer keep-alives any more"
    assert alive.next_timer() is None


def test_F111_who_has_answered_once_is_held_to_it() -> None:
    alive = kept(TCP)
    at, _ = fire(alive)
    due, _ = fire(alive)
    assert due > at + 90 and alive.failed is None
    alive.heard(due + 0.1, pong=True)
    fire(alive)
    fire(alive)
    assert alive.failed


def test_F111_stun_is_repeated_seven_times_and_given_up_16_rto_later() -> None:
    alive = kept(UDP, answers=True)
    start, first = fire(alive)
    times, repeats = [], []
    while alive.failed is None:
        due, ping = fire(alive)
        times.append(due - start)
        repeats.append(ping)
    assert times == pytest.approx([0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 39.5])
    assert repeats == [first] * 6 + [None]


def test_F111_stun_answers_keep_the_flow_and_another_address_ends_it() -> None:
    alive = kept(UDP, answers=True)
    pings = []
    for _ in range(3):
        at, ping = fire(alive)
        pings.append(ping)
        assert not alive.receive(StunMessage(Kind.SUCCESS, BINDING, bytes(12)), at)
        assert alive.receive(response(ping), at + 0.1)
        assert alive.failed is None
        assert not alive.receive(response(ping), at + 0.2)  # it was heard already
    assert len(set(pings)) == 3
    at, ping = fire(alive)
    assert alive.receive(response(ping, Address("198.51.100.7", 40001)), at)
    assert alive.failed == "a NAT has given us another address towards 192.0.2.9:5060"


@pytest.mark.parametrize(("mapped", "kind"), [(SEEN, Kind.ERROR), (None, Kind.SUCCESS)])
def test_F111_a_stun_refusal_ends_the_flow(mapped: Address | None, kind: Kind) -> None:
    alive = kept(UDP, answers=True)
    at, ping = fire(alive)
    assert alive.receive(response(ping, mapped, kind), at)
    assert alive.failed == "192.0.2.9:5060 refuses keep-alives"


# ---------------------------------------------------------------- what a registrar says of it


def ok(*lines: str, via: str = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1") -> Response:
    head = ["SIP/2.0 200 OK", f"Via: {via}", *lines, "Content-Length: 0", "", ""]
    message = parse_message("\r\n".join(head).encode())
    assert isinstance(message, Response)
    return message


@pytest.mark.parametrize(
    ("lines", "outbound", "timer"),
    [
        ([], False, None),
        (["Require: outbound"], True, None),
        (["Require: path, OUTBOUND", "Flow-Timer: 120"], True, 120),
        (["Path: <sip:p2.example;lr>, <sip:t@p1.example;lr;ob>"], True, None),
        (["Path: <sip:t@p2.example;lr;ob>, <sip:p1.example;lr>"], False, None),
        (["Path: <nonsense", "Flow-Timer: soon"], False, None),
    ],
)
def test_F111_the_first_hop_says_whether_it_answers(
    lines: list[str], outbound: bool, timer: int | None
) -> None:
    terms = Terms.of(ok(*lines), UDP)
    assert (terms.outbound, terms.flow_timer_s) == (outbound, timer)


@pytest.mark.parametrize(
    ("flow", "via", "behind"),
    [
        (UDP, ";rport=5060;received=192.0.2.1", False),
        (UDP, "", False),
        (UDP, ";rport=40000;received=198.51.100.7", True),
        (UDP, ";received=198.51.100.7", True),
        (UDP, ";rport=1024", True),
        (TCP, ";rport=1024", False),
    ],
)
def test_F110_a_nat_shows_in_our_via(flow: Flow, via: str, behind: bool) -> None:
    answer = ok(via=f"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1{via}")
    assert Terms.of(answer, flow).behind_nat is behind
