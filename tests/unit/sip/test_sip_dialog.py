"""Dialogs: what RFC 3665's endpoints send next, and where it goes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from printed_flows import call_flows
from virtual_sip import Stranger, request_text

from voip.errors import SipError
from voip.sip.dialog import Dialog
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.message import Request, Response, make_response, parse_message
from voip.sip.uri import SipUri
from voip.sip.via import mark_source
from voip.types import Address, SeededRandom

pytestmark = pytest.mark.rfc("3261", "12")

FLOW = Flow("udp", Address("192.0.2.1", 5060), Address("192.0.2.9", 5060))


def request(text: str) -> Request:
    message = parse_message(text.encode())
    assert isinstance(message, Request)
    return message


def plain(uri: str) -> SipUri:
    """The RFC prints Request-URIs without the Contact's transport parameter."""
    return SipUri.parse(uri).without_params("transport")


def hops(message: Request) -> list[str]:
    return message.headers.values("Route")


def flows(reference_data: Path) -> list[list[Request | Response]]:
    return [[message for _, message in flow] for flow in call_flows(reference_data).values()]


@pytest.mark.reference
def test_a_callers_requests_are_those_of_rfc3665(reference_data: Path) -> None:
    """The INVITE and the 2xx with one Via are the caller's: so are the ACK and BYE that follow."""
    compared = 0
    for messages in flows(reference_data):
        invites = {m.via.branch: m for m in messages if _is(m, "INVITE") and _vias(m) == 1}
        for answer in messages:
            if not isinstance(answer, Response) or answer.status != 200 or _vias(answer) != 1:
                continue
            if answer.cseq.method != "INVITE" or answer.via.branch not in invites:
                continue
            invite = invites[answer.via.branch]
            assert isinstance(invite, Request)
            dialog = Dialog.as_caller(invite, answer, FLOW, "<sip:me@192.0.2.1>")
            for printed in messages[messages.index(answer) :]:
                if not isinstance(printed, Request) or _vias(printed) != 1:
                    continue
                if printed.method not in ("ACK", "BYE") or printed.from_.tag != invite.from_.tag:
                    continue
                if printed.to.uri != invite.to.uri:
                    continue  # the other side's INVITE was a re-INVITE
                number = invite.cseq.number if printed.method == "ACK" else None
                ours = dialog.request(printed.method, random=SeededRandom(1), cseq=number)
                if printed.method == "BYE" and hops(printed) == []:
                    continue  # after the re-INVITE of flow 3.7 the target is another one
                _same(ours, printed)
                compared += 1
    assert compared == 9  # ACK in 3.1-3.7, in the re-INVITE of 3.7, BYE in 3.5


@pytest.mark.reference
def test_a_callees_requests_are_those_of_rfc3665(reference_data: Path) -> None:
    """The INVITE that comes before the BYE the other way round is the callee's last hop."""
    compared = 0
    for messages in flows(reference_data):
        byes = [m for m in messages if _is(m, "BYE") and _vias(m) == 1]
        for bye in byes:
            assert isinstance(bye, Request)
            arrived = [
                m
                for m in messages
                if _is(m, "INVITE") and m.to.uri == bye.from_.uri and m.call_id == bye.call_id
            ]
            if not arrived:
                continue
            invite = arrived[-1]
            assert isinstance(invite, Request)
            tag = bye.from_.tag
            assert tag is not None
            dialog = Dialog.as_callee(invite, tag, FLOW, "<sip:me@192.0.2.1>")
            _same(dialog.request("BYE", random=SeededRandom(1)), bye, cseq=False)
            compared += 1
    assert compared == 5  # 3.1, 3.2, 3.4, 3.6, and 3.7 by the re-INVITE


def _is(message: Request | Response, method: str) -> bool:
    return isinstance(message, Request) and message.method == method


def _vias(message: Request | Response) -> int:
    return len(message.headers.values("Via"))


def _same(ours: Request, printed: Request, cseq: bool = True) -> None:
    assert plain(ours.uri).equivalent(plain(printed.uri)), (ours.uri, printed.uri)
    assert hops(ours) == hops(printed)
    assert (ours.from_.uri, ours.from_.tag) == (printed.from_.uri, printed.from_.tag)
    assert (ours.to.uri, ours.to.tag) == (printed.to.uri, printed.to.tag)
    assert ours.call_id == printed.call_id
    if cseq:
        assert ours.cseq == printed.cseq


@pytest.mark.reference
def test_a_strict_router_gets_what_section_12_2_1_1_prints(reference_data: Path) -> None:
    text = (reference_data / "rfc-text" / "rfc3261.txt").read_text("utf-8", "replace")
    example = text[text.index("if the remote target is sip:user@remoteua") :]
    route_set = re.search(r"^ +(<sip:proxy1>\S+)$", example, re.MULTILINE)
    uri = re.search(r"METHOD (\S+)$", example, re.MULTILINE)
    route = re.search(r"Route: (\S+)$", example, re.MULTILINE)
    assert route_set and uri and route
    dialog = callee()
    dialog.remote_target = "sip:user@remoteua"
    dialog.route_set = tuple(route_set[1].split(","))
    made = dialog.request("METHOD", random=SeededRandom(1))
    assert made.uri == uri[1]
    assert ",".join(hops(made)) == route[1]


def callee(via: str | None = None, more: str = "", contact: str | None = None) -> Dialog:
    invite = request(request_text("INVITE", via=via, more=more))
    if contact is not None:
        invite.headers.set("Contact", contact)
    mark_source(invite, FLOW.remote)
    return Dialog.as_callee(invite, "ours", FLOW, "<sip:phone@192.0.2.1>")


def caller(contact: str | None, more: tuple[tuple[str, str], ...] = ()) -> Dialog:
    invite = request(request_text("INVITE"))
    headers = list(more) if contact is None else [("Contact", contact), *more]
    answer = make_response(invite, 200, to_tag="theirs", headers=headers)
    return Dialog.as_caller(invite, answer, FLOW, "<sip:phone@192.0.2.1>")


def test_a_dialog_is_found_by_call_id_and_both_tags() -> None:
    assert callee().id == ("call@192.0.2.9", "ours", "theirs")
    assert caller(None).id == ("call@192.0.2.9", "theirs", "theirs")


def test_cseq_numbers_only_go_up() -> None:
    dialog = callee()
    assert not dialog.in_order(1)
    assert dialog.in_order(5)
    assert not dialog.in_order(5)
    assert not dialog.in_order(4)
    assert dialog.in_order(6)
    assert [dialog.request("INFO", random=SeededRandom(1)).cseq.number for _ in "ab"] == [1, 2]


def test_a_callers_route_set_is_reversed_and_a_callees_is_not() -> None:
    proxies = (("Record-Route", "<sip:p2;lr>, <sip:p1;lr>"),)
    assert caller("<sip:b@192.0.2.7>", proxies).route_set == ("<sip:p1;lr>", "<sip:p2;lr>")
    lines = "Record-Route: <sip:p2;lr>\r\nRecord-Route: <sip:p1;lr>\r\n"
    assert callee(more=lines).route_set == ("<sip:p2;lr>", "<sip:p1;lr>")


def test_a_target_refresh_changes_the_target_and_not_the_route_set() -> None:
    dialog = callee(more="Record-Route: <sip:192.0.2.50;lr>\r\n")
    moved = request(request_text("INVITE", more="Record-Route: <sip:192.0.2.66;lr>\r\n"))
    moved.headers.set("Contact", "<sip:stranger@192.0.2.77>")
    dialog.refresh_target(moved)
    made = dialog.request("BYE", random=SeededRandom(1))
    assert (made.uri, hops(made)) == ("sip:stranger@192.0.2.77", ["<sip:192.0.2.50;lr>"])
    assert dialog.flow.remote == Address("192.0.2.50", 5060)


@pytest.mark.parametrize("name", ["Contact", "Record-Route"])
@pytest.mark.parametrize("value", ["<sip:", "<sip:a b>", '"'])
def test_an_unreadable_contact_or_route_makes_no_dialog(name: str, value: str) -> None:
    invite = request(request_text("INVITE"))
    invite.headers.set(name, value)
    with pytest.raises(SipError):
        Dialog.as_callee(invite, "ours", FLOW, "")
    answer = make_response(request(request_text("INVITE")), 200, to_tag="t")
    answer.headers.set(name, value)
    with pytest.raises(SipError):
        Dialog.as_caller(invite, answer, FLOW, "")


# Which way our requests go.


@pytest.mark.parametrize(
    ("contact", "remote"),
    [
        ("<sip:b@192.0.2.7:5070>", ("192.0.2.7", 5070)),  # straight to the peer
        ("<sip:b@192.0.2.7>", ("192.0.2.7", 5060)),
        ("<sip:b@192.0.2.7;transport=udp>", ("192.0.2.7", 5060)),
        (None, ("192.0.2.9", 5060)),
        ("<sip:b@192.0.2.1>", ("192.0.2.9", 5060)),  # ourselves: a GRUU of the peer's
        ("<sip:b@example.com>", ("192.0.2.9", 5060)),  # a name: whoever resolves sets the flow
        ("<sip:b@192.0.2.7;transport=tcp>", ("192.0.2.9", 5060)),
        ("<sips:b@192.0.2.7>", ("192.0.2.9", 5060)),
        ("<sip:b@[2001:db8::7]>", ("192.0.2.9", 5060)),
        ("<sip:b@0.0.0.0>", ("192.0.2.9", 5060)),
        ("<sip:b@224.0.1.75>", ("192.0.2.9", 5060)),
        ("<sip:b@127.0.0.1>", ("192.0.2.9", 5060)),
        ("<tel:+1555>", ("192.0.2.9", 5060)),
    ],
)
def test_requests_go_to_a_numeric_target_or_stay_on_the_flow(
    contact: str | None, remote: tuple[str, int]
) -> None:
    assert caller(contact).flow.remote == remote


def test_a_private_contact_of_a_public_peer_is_not_believed() -> None:
    invite = request(request_text("INVITE"))
    answer = make_response(invite, 200, to_tag="t", headers=[("Contact", "<sip:b@192.168.1.5>")])
    for peer in ("8.8.8.8", "203.0.113.1"):  # addresses of documentation stand for public ones
        public = FLOW.to(Address(peer, 5060))
        assert Dialog.as_caller(invite, answer, public, "").flow == public
    private = FLOW.to(Address("10.0.0.1", 5060))
    assert Dialog.as_caller(invite, answer, private, "").flow.remote.host == "192.168.1.5"


def test_a_callee_stays_on_the_flow_of_a_peer_behind_a_nat() -> None:
    mapped = callee(
        via="SIP/2.0/UDP 192.0.2.33:5060;branch=z9hG4bKx;rport",
        contact="<sip:s@192.0.2.33>",
    )
    assert mapped.stay_on_flow
    assert mapped.flow == FLOW
    plain_peer = callee(contact="<sip:s@192.0.2.33>")
    assert plain_peer.flow.remote == Address("192.0.2.33", 5060)


def test_a_dialog_over_tcp_stays_on_its_connection() -> None:
    tcp = Flow("tcp", FLOW.local, FLOW.remote)
    invite = request(request_text("INVITE"))
    assert Dialog.as_callee(invite, "ours", tcp, "").flow == tcp


def test_next_hop_is_the_first_proxy_or_else_the_peer() -> None:
    assert str(callee().next_hop) == "sip:stranger@192.0.2.9"
    proxied = callee(more="Record-Route: <sip:p1.example.com;lr>\r\n")
    assert str(proxied.next_hop) == "sip:p1.example.com;lr"
    assert caller("<tel:+1555>").next_hop is None


def test_the_flow_the_user_sets_is_kept_until_the_next_hop_changes() -> None:
    dialog = callee()
    own = Flow("udp", FLOW.local, Address("192.0.2.200", 5060))
    dialog.flow = own
    same = request(request_text("INVITE"))
    dialog.refresh_target(same)
    assert dialog.flow == own
    same.headers.set("Contact", "<sip:s@192.0.2.201>")
    dialog.refresh_target(same)
    assert dialog.flow.remote.host == "192.0.2.201"


def test_a_dialog_keeps_names_and_tags_as_the_peer_wrote_them() -> None:
    invite = request(request_text("INVITE"))
    invite.headers.set("From", '"A \\"quoted\\" name" <sip:s@192.0.2.9>;tag=theirs;x="y z"')
    dialog = Dialog.as_callee(invite, "ours", FLOW, "")
    to = dialog.request("BYE", random=SeededRandom(1)).to
    assert to == NameAddr.parse(invite.headers.get("From") or "")


def test_credentials_are_not_shown() -> None:
    stranger = Stranger()
    assert "password" not in repr(stranger.agent.config)
    assert "credentials" not in repr(callee())
