"""What is agreed on about RTCP: one port with RTP (RFC 5761), and packets without a report."""

from __future__ import annotations

import pytest
from sdp_exchange import negotiator

from voip.sdp import parse
from voip.sdp.negotiation import Negotiator
from voip.types import Address

pytestmark = pytest.mark.rfc("5761", "5.1.1")

BOTH = {"rtcp_mux": True, "rtcp_rsize": True}


def callee(**more: bool) -> Negotiator:
    return negotiator(address=Address("192.0.2.2", 6000), **more)


def exchange(caller: Negotiator, answerer: Negotiator) -> tuple[bytes, bytes]:
    offer = caller.create_offer().to_bytes()
    answerer.receive_offer(parse(offer))
    answer = answerer.create_answer().to_bytes()
    caller.receive_answer(parse(answer))
    return offer, answer


def test_one_port_where_both_sides_say_so() -> None:
    one, other = negotiator(**BOTH), callee(**BOTH)
    for caller, answerer in ((one, other), (other, one)):  # and again in a later offer
        for text in exchange(caller, answerer):
            assert text.count(b"a=rtcp-mux\r\n") == text.count(b"a=rtcp-rsize\r\n") == 1
        for side, port in ((one, 6000), (other, 4000)):
            agreed = side.agreed
            assert agreed is not None and agreed.rtcp_mux and agreed.rtcp_rsize
            assert agreed.remote_rtcp == agreed.remote_rtp
            assert agreed.remote_rtcp is not None and agreed.remote_rtcp.port == port


@pytest.mark.parametrize(("ours", "theirs"), [(BOTH, {}), ({}, BOTH), ({}, {})])
def test_two_ports_where_one_does_not(ours: dict[str, bool], theirs: dict[str, bool]) -> None:
    caller, answerer = negotiator(**ours), callee(**theirs)
    _, answer = exchange(caller, answerer)
    assert b"rtcp-" not in answer
    for one, port in ((caller, 6001), (answerer, 4001)):
        agreed = one.agreed
        assert agreed is not None and not agreed.rtcp_mux and not agreed.rtcp_rsize
        assert agreed.remote_rtcp is not None and agreed.remote_rtcp.port == port
