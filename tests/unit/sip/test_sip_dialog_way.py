"""Which transport what is sent within a dialog goes by (RFC 3261 8.1.2, 12.2.1.1; RFC 3263 4.1)."""

from __future__ import annotations

import pytest
from virtual_sip import Net, Phone, Stranger, request_text, response_text

from voip.sip.agent import SipAgent
from voip.sip.dialog import Dialog
from voip.sip.events import (
    Acknowledged,
    Answered,
    DialogEnded,
    IncomingInvite,
    ReinviteDone,
    ReinviteReceived,
)
from voip.sip.failover import Sought, Way
from voip.sip.flow import Flow
from voip.sip.message import Request
from voip.types import Address

pytestmark = pytest.mark.rfc("3261", "12.2.1.1")


def gone(net: Net, by: Phone, method: str) -> list[tuple[str, str]]:
    """(transport of the flow, transport in Via) of requests of a method."""
    return [
        (flow.transport, message.via.transport)
        for _, message, flow in net.wire
        if isinstance(message, Request) and message.method == method and flow.local == by.address
    ]


class Finder:
    """Stands for who looks names up and opens connections: what is looked for, to be ended."""

    def __init__(self, agent: SipAgent) -> None:
        self.asked: list[tuple[str | None, Sought]] = []
        agent.set_look_up(self._look)

    def _look(self, dialog: Dialog, sought: Sought) -> None:
        self.asked.append((dialog.next_hop and str(dialog.next_hop), sought))


@pytest.mark.parametrize("transport", ["tcp", "tls", "ws", "wss"])
def test_a_callees_contact_says_how_its_requests_go(
    net: Net, alice: Phone, bob: Phone, transport: str
) -> None:
    contact = f"<sip:bob@192.0.2.2:5060;transport={transport}>"
    bob.on(IncomingInvite, lambda event: bob.answer(event.invite, contact=contact))
    bob.on(ReinviteReceived, lambda event: bob.answer(event.invite, contact=contact))
    alice.call(bob)
    net.run(0.2)
    alice.agent.reinvite(alice.only(Answered).dialog, body=b"v=0", now=net.now)
    net.run(0.2)
    alice.agent.bye(alice.only(Answered).dialog, now=net.now)
    net.run(0.2)
    named = (transport, transport.upper())
    assert gone(net, alice, "INVITE") == [("udp", "UDP"), named]
    assert gone(net, alice, "ACK") == [named, named]
    assert gone(net, alice, "BYE") == [named]


def test_a_callers_contact_says_how_the_callees_requests_go(
    net: Net, alice: Phone, bob: Phone
) -> None:
    bob.on(IncomingInvite, lambda event: bob.answer(event.invite))
    alice.call(bob, contact="<sip:alice@192.0.2.1;transport=tcp>")
    net.run(0.2)
    bob.agent.bye(bob.only(Acknowledged).dialog, now=net.now)
    net.run(0.2)
    assert gone(net, bob, "BYE") == [("tcp", "TCP")]
    assert gone(net, alice, "ACK") == [("udp", "UDP")]


def test_the_proxy_next_to_us_says_it_and_not_the_peer_behind() -> None:
    near, far = "<sip:192.0.2.50:5070;transport=tcp;lr>", "<sip:192.0.2.60;transport=tls;lr>"
    peer = Stranger()
    peer.tell(request_text("INVITE", more=f"Record-Route: {near}, {far}\r\n"))
    (event,) = peer.agent.events()
    peer.agent.respond(event.invite, 200, contact="<sip:us@192.0.2.1>", now=0)
    dialog = event.invite.dialog
    peer.tell(request_text("ACK", to_tag=dialog.local.tag, cseq="1 ACK", branch="z9hG4bKack"))
    peer.agent.bye(dialog, now=0)
    (bye, flow) = peer.heard_with_flows()[-1]
    assert (flow.transport, flow.remote) == ("tcp", Address("192.0.2.50", 5070))
    assert isinstance(bye, Request)
    assert bye.headers.values("Route") == [near, far]


@pytest.mark.parametrize(
    ("contact", "via"),
    [
        ("<sip:s@192.0.2.33;transport=tcp>", "SIP/2.0/UDP 192.0.2.33:5060;branch=z9hG4bKx;rport"),
        ("<sip:s@224.0.0.1;transport=tcp>", None),
        ("<sip:s@127.0.0.1;transport=tcp>", None),
        ("<sip:s@192.0.2.1:5060;transport=tcp>", None),
    ],
    ids=["behind a NAT", "multicast", "loopback", "ourselves"],
)
def test_who_cannot_be_reached_so_is_reached_by_the_flow_it_came_by(
    contact: str, via: str | None
) -> None:
    peer = Stranger()
    text = request_text("INVITE", via=via)
    peer.tell(text.replace("Contact: <sip:stranger@192.0.2.9>", f"Contact: {contact}"))
    (event,) = peer.agent.events()
    peer.agent.respond(event.invite, 180, contact="<sip:us@192.0.2.1>", now=0)
    dialog = event.invite.dialog
    assert (dialog.flow, dialog.seeks_way) == (peer.flow, False)


@pytest.mark.rfc("5626", "4.3")
@pytest.mark.parametrize("transport", ["tcp", "ws", "tls"])
def test_a_connection_is_stayed_on_whatever_the_contact_says(
    net: Net, alice: Phone, bob: Phone, transport: str
) -> None:
    bob.on(IncomingInvite, lambda event: bob.answer(event.invite))
    alice.call(bob, transport, contact="<sip:alice@192.0.2.1;transport=udp>")
    net.run(0.2)
    bob.agent.bye(bob.only(Acknowledged).dialog, now=net.now)
    net.run(0.2)
    assert gone(net, bob, "BYE") == [(transport, transport.upper())]


def test_a_target_that_moves_is_followed_and_the_way_there_is_its_own(
    net: Net, alice: Phone, bob: Phone
) -> None:
    """First by TCP, then by UDP again, then by TCP to another place."""
    bob.on(IncomingInvite, lambda event: bob.answer(event.invite))
    alice.call(bob)
    net.run(0.2)
    dialog, flows = alice.only(Answered).dialog, []
    for contact in (
        "<sip:b@192.0.2.2;transport=tcp>",
        "<sip:b@192.0.2.2>",
        "<sip:b@192.0.2.3:5071;transport=tcp>",
    ):
        moved = Request("UPDATE", "sip:a@192.0.2.1")
        moved.headers.add("Contact", contact)
        dialog.refresh_target(moved)
        alice.agent.dialog_request(dialog, "INFO", now=net.now)
        net.flush()
        flows.append(net.wire[-1][2])
    assert [(flow.transport, str(flow.remote)) for flow in flows] == [
        ("tcp", "192.0.2.2:5060"),
        ("udp", "192.0.2.2:5060"),
        ("tcp", "192.0.2.3:5071"),
    ]
    bob.agent.bye(bob.only(Acknowledged).dialog, now=net.now)
    net.run(1)


NAMED = "<sip:bob@pbx.example;transport=tcp>"


def test_what_is_sent_before_the_way_is_found_waits_in_turn(
    net: Net, alice: Phone, bob: Phone
) -> None:
    """The 2xx is repeated meanwhile, and that is no other fork's."""
    finder = Finder(alice.agent)
    bob.on(IncomingInvite, lambda event: bob.answer(event.invite, contact=NAMED))
    alice.call(bob)
    net.run(2)
    dialog = alice.only(Answered).dialog
    alice.agent.reinvite(dialog, body=b"v=0", now=net.now)
    alice.agent.bye(dialog, now=net.now)
    net.run(1)
    assert len(net.sent(200, by=bob)) > 2
    assert [bool(gone(net, alice, method)) for method in ("ACK", "BYE")] == [False, False]
    ((hop, sought),) = finder.asked
    assert (hop, sought.tried) == ("sip:bob@pbx.example;transport=tcp", frozenset())
    assert not sought.leaves
    assert sought.found(Way(Flow("tcp", alice.address, bob.address)), net.now)
    net.run(1)
    later = [
        message.method
        for _, message, flow in net.wire
        if isinstance(message, Request) and flow.transport == "tcp" and flow.local == alice.address
    ]
    assert later == ["ACK", "BYE"]  # the re-INVITE is given up with the call
    assert alice.only(ReinviteDone).status == 487
    assert alice.only(DialogEnded).status == 200
    assert len(finder.asked) == 1


def test_where_there_is_no_such_way_it_goes_by_the_one_there_is(
    net: Net, alice: Phone, bob: Phone
) -> None:
    finder = Finder(alice.agent)
    bob.on(IncomingInvite, lambda event: bob.answer(event.invite, contact=NAMED))
    alice.call(bob)
    net.run(0.2)
    ((_, sought),) = finder.asked
    sought.lost(net.now)
    alice.agent.bye(alice.only(Answered).dialog, now=net.now)
    net.run(0.2)
    assert gone(net, alice, "ACK") == gone(net, alice, "BYE") == [("udp", "UDP")]
    assert len(finder.asked) == 1


def test_a_peer_that_moves_while_it_is_looked_for_is_looked_for_anew(
    net: Net, alice: Phone, bob: Phone
) -> None:
    finder = Finder(bob.agent)
    bob.on(IncomingInvite, lambda event: bob.answer(event.invite))
    alice.call(bob, contact="<sip:alice@one.example;transport=tcp>")
    net.run(0.2)
    dialog = bob.only(Acknowledged).dialog
    bob.agent.dialog_request(dialog, "INFO", now=net.now)
    moved = Request("UPDATE", "sip:b@192.0.2.2")
    moved.headers.add("Contact", "<sip:alice@two.example;transport=tcp>")
    dialog.refresh_target(moved)
    first = Flow("tcp", bob.address, Address("192.0.2.77", 5060))
    finder.asked[0][1].found(Way(first), net.now)
    assert [hop for hop, _ in finder.asked] == [
        "sip:alice@one.example;transport=tcp",
        "sip:alice@two.example;transport=tcp",
    ]
    finder.asked[1][1].found(Way(Flow("tcp", bob.address, alice.address)), net.now)
    net.run(0.1)
    assert gone(net, bob, "INFO") == [("tcp", "TCP")]
    assert dialog.flow.remote == alice.address
    bob.agent.bye(dialog, now=net.now)
    net.run(1)


def test_a_proxied_call_goes_on_straight_where_no_proxy_stays_in_it() -> None:
    """Though the callee's Contact is what was called already."""
    here = Stranger()
    proxy = Flow("udp", here.flow.local, Address("192.0.2.50", 5060))
    here.agent.invite(
        "sip:stranger@192.0.2.9", flow=proxy, from_="<sip:phone@192.0.2.1>",
        to="<sip:stranger@192.0.2.9>", contact="<sip:phone@192.0.2.1>", body=b"v=0", now=0,
    )  # fmt: skip
    (invite,) = here.heard()
    here.tell(response_text(invite, 200), proxy)
    # the answer and its repetition are acknowledged straight
    here.tell(response_text(invite, 200), proxy)
    (answered,) = here.agent.events()
    assert isinstance(answered, Answered)
    assert answered.dialog.flow.remote == Address("192.0.2.9", 5060)


BEHIND_NAT = "SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK{};rport"


@pytest.mark.rfc("3581", "4")
@pytest.mark.parametrize(
    ("transport", "via", "follows"),
    [
        ("udp", BEHIND_NAT, True),
        ("udp", "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK{}", False),
        ("tcp", "SIP/2.0/TCP 192.0.2.9:5060;branch=z9hG4bK{}", True),
        ("tls", "SIP/2.0/TLS 10.0.0.5:5061;branch=z9hG4bK{};rport", True),
    ],
)
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_who_is_reached_by_its_flow_only_is_reached_by_the_newest(
    method: str, transport: str, via: str, follows: bool
) -> None:
    """A NAT has given it another port, or it has opened another connection."""
    peer = Stranger()
    first = Flow(transport, peer.flow.local, Address("192.0.2.9", 40001))
    later = Flow(transport, peer.flow.local, Address("192.0.2.9", 40002))
    peer.tell(request_text("INVITE", via=via.format(1)), first)
    (event,) = peer.agent.events()
    peer.agent.respond(event.invite, 200, contact="<sip:us@192.0.2.1>", body=b"v=0", now=0)
    dialog, tag = event.invite.dialog, event.invite.tag
    peer.tell(request_text("ACK", to_tag=tag, cseq="1 ACK", via=via.format(2)), first)
    before = dialog.flow
    peer.tell(request_text(method, to_tag=tag, cseq=f"2 {method}", via=via.format(3)), later)
    if method == "INVITE":
        assert dialog.flow == before  # until it is accepted
        peer.agent.respond(peer.agent.events()[-1].invite, 200, body=b"v=0", now=0)
    assert dialog.flow == (later if follows else before)


def test_who_was_heard_by_tls_is_not_followed_to_where_others_hear() -> None:
    peer = Stranger()
    by_tls = Flow("tls", peer.flow.local, Address("192.0.2.9", 40001))
    by_tcp = Flow("tcp", peer.flow.local, Address("192.0.2.9", 40002))
    peer.tell(request_text("INVITE"), by_tls)
    (event,) = peer.agent.events()
    peer.agent.respond(event.invite, 200, contact="<sip:us@192.0.2.1>", body=b"v=0", now=0)
    dialog, tag = event.invite.dialog, event.invite.tag
    peer.tell(request_text("ACK", to_tag=tag, cseq="1 ACK", branch="z9hG4bK2"), by_tls)
    peer.tell(request_text("UPDATE", to_tag=tag, cseq="2 UPDATE", branch="z9hG4bK3"), by_tcp)
    assert dialog.flow == by_tls
