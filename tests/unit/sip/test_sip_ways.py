"""What an endpoint remembers of the ways to its peers, and how it forgets."""

from __future__ import annotations

from voip.sip.endpoint.ways import IDLE_S, REMEMBERED_FLOWS, ROUTE_SECONDS, Ways
from voip.sip.flow import Flow
from voip.types import Address

LOCAL = Address("192.0.2.1", 5060)
REST = ROUTE_SECONDS + IDLE_S


def way(number: int, transport: str = "udp", local: Address = LOCAL) -> Flow:
    return Flow(transport, local, Address(f"10.0.{number >> 8}.{number & 255}", 5060))


def test_whom_nothing_is_sent_to_any_more_is_forgotten() -> None:
    ways = Ways()
    for number in range(1000):
        ways.remember(way(number), number / 1000)
    ways.remember(way(7), 20.0)
    assert ways.next_timer() == REST
    ways.forget_idle(REST)
    assert len(ways) == 999
    ways.forget_idle(REST + 1)
    assert len(ways) == 1  # the one that was sent to again
    assert ways.known(way(7).peer) == way(7)
    assert ways.next_timer() is not None
    ways.forget_idle(REST + 20.0)
    assert (len(ways), ways.next_timer()) == (0, None)


def test_a_peer_is_remembered_for_64_t1_after_what_was_sent_to_it() -> None:
    ways = Ways()
    for now in (0.0, 4.0, 9.9, 10.0, 15.0, 19.9):
        ways.remember(way(1), now)
        ways.forget_idle(now + 31.9)
        assert len(ways) == 1


def test_a_connection_is_remembered_until_it_is_lost_whatever_comes_by_udp() -> None:
    ways = Ways()
    connection = way(1, "tls")
    ways.remember(connection, 0.0)
    for number in range(2 * REMEMBERED_FLOWS):
        ways.remember(way(number), 1.0)
    assert len(ways) == REMEMBERED_FLOWS + 1
    ways.forget_idle(86_400.0)
    assert ways.known(connection.peer) == connection
    assert ways.forget(connection.peer) == (connection, (connection,))
    assert len(ways) == 0


def test_all_ways_to_a_peer_are_forgotten_with_it_and_each_once() -> None:
    ways = Ways()
    one, other = way(1), way(1, local=Address("192.0.2.2", 5060))
    for flow in (one, other, one, other):
        ways.remember(flow, 0.0)
    assert ways.forget(one.peer) == (one, (one, other))
    assert ways.forget(one.peer) is None
