"""Join between our agents (RFC 3911), and the Contact of a focus (RFC 4579)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from event_world import EVENTS, two
from hypothesis import given
from hypothesis import strategies as st
from virtual_sip import Phone, Stranger, established, request_text

from voip.errors import SipError
from voip.sip.events import IncomingInvite, InviteFailed
from voip.sip.flow import Flow
from voip.sip.focus import as_focus, is_focus, user_of
from voip.sip.headers import NameAddr
from voip.sip.join import Join
from voip.sip.message import Request

MIXES = replace(EVENTS, supported=(*EVENTS.supported, "join"))
NAMED = "a;to-tag=b;from-tag=c"


def joining(phone: Phone, whom: Phone, join: Join | str) -> Any:
    return phone.call(whom, headers=[("Join", str(join)), ("Require", "join")])


def three() -> tuple[Any, Phone, Phone, Phone]:
    net, _, _ = two()
    phones = [net.phone(f"192.0.2.{n}", MIXES) for n in (11, 12, 13)]
    return (net, *phones)


@pytest.mark.rfc("3911", "4")
def test_F101_an_invite_with_join_names_the_call_it_is_to_be_part_of() -> None:
    net, alice, bob, carol = three()
    ours, theirs = established(net, alice, bob)
    joining(carol, bob, Join.of(ours))
    net.run(0.1)
    incoming = bob.only(IncomingInvite)
    assert incoming.invite.joins is theirs
    assert incoming.invite.replaces is None


@pytest.mark.rfc("3911", "4")
def test_F101_early_calls_are_joined_whoever_has_called() -> None:
    """Unlike Replaces, Join has no limit to answered calls, nor to those of ours."""
    net, alice, bob, carol = three()
    calling = alice.call(bob)
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, 180)
    net.run(0.1)
    (early,) = calling.dialogs
    theirs = bob.only(IncomingInvite).invite.dialog
    joining(carol, bob, Join.of(early))
    joining(carol, alice, Join.of(theirs))
    net.run(0.1)
    assert bob.events(IncomingInvite)[-1].invite.joins is theirs
    assert alice.only(IncomingInvite).invite.joins is early


@pytest.mark.rfc("3911", "4")
def test_F101_a_call_that_ends_or_has_ended_is_joined_by_nobody() -> None:
    net, alice, bob, carol = three()
    ours, theirs = established(net, alice, bob)
    name = Join.of(ours)
    net.path.drop = lambda m, flow: flow.remote == alice.address
    bob.agent.bye(theirs, now=net.now)
    joining(carol, bob, name)
    net.run(0.2)
    assert carol.events(InviteFailed)[-1].status == 603
    net.run(40)
    joining(carol, bob, name)
    net.run(0.2)
    assert carol.events(InviteFailed)[-1].status == 603
    joining(carol, bob, replace(name, to_tag="other"))
    net.run(0.2)
    assert carol.events(InviteFailed)[-1].status == 481
    assert bob.events(IncomingInvite) == []


@pytest.mark.rfc("3911", "4")
@pytest.mark.parametrize(
    "lines",
    [
        "Join: a;to-tag=b\r\n",
        "Join: a;to-tag=b;from-tag=c;from-tag=d\r\n",
        "Join: \r\n",
        f"Join: {NAMED}\r\nJoin: {NAMED}\r\n",
        f"Join: {NAMED}, {NAMED}\r\n",
        f"Join: {NAMED}\r\nReplaces: {NAMED}\r\n",
    ],
)
def test_F101_what_names_no_one_call_is_refused(lines: str) -> None:
    stranger = Stranger(MIXES)
    assert [r.status for r in stranger.tell(request_text("INVITE", more=lines))] == [400]
    assert stranger.agent.events() == []


@pytest.mark.rfc("3911", "4")
@pytest.mark.rfc("3891", "3")
@pytest.mark.parametrize("header", ["Join", "Replaces"])
@pytest.mark.parametrize("method", ["OPTIONS", "REFER", "SUBSCRIBE"])
def test_F099_F101_only_an_invite_joins_or_replaces(method: str, header: str) -> None:
    (answer,) = Stranger(MIXES).tell(request_text(method, more=f"{header}: {NAMED}\r\n"))
    assert answer.status == 400


@pytest.mark.rfc("3911", "4")
def test_F101_at_a_conference_a_join_that_matches_nothing_does_not_matter() -> None:
    stranger = Stranger(MIXES)
    join = f"Join: {NAMED}\r\n"
    assert [r.status for r in stranger.tell(request_text("INVITE", more=join))] == [481]
    stranger.agent.focuses.add("phone")
    stranger.tell(request_text("INVITE", branch="z9hG4bK2", call_id="2", more=join))
    (event,) = stranger.agent.events()
    assert event.invite.joins is None


@pytest.mark.rfc("3911", "7.1")
def test_F101_a_peer_without_a_tag_is_called_0_in_a_join_too() -> None:
    dialog, another = Stranger(MIXES).calls_without_tag("Join")
    assert another.joins is dialog


def test_F101_who_looks_at_callers_is_told_that_one_names_a_call_of_ours() -> None:
    net, alice, bob, carol = three()
    ours, _ = established(net, alice, bob)
    known: list[bool] = []

    def screen(request: Request, flow: Flow, is_known: bool, now: float) -> Any:
        known.append(is_known)
        return None if is_known else (403, [])

    bob.agent.set_screen(screen)
    joining(carol, bob, Join.of(ours))
    carol.call(bob)
    net.run(0.2)
    assert known == [True, False]
    assert carol.only(InviteFailed).status == 403


def test_a_join_reads_back_as_it_was_written() -> None:
    text = "12adf2f34456gs5;to-tag=12345;from-tag=54321"
    assert Join.parse(text) == Join("12adf2f34456gs5", "12345", "54321")
    assert str(Join.parse(text)) == text
    assert Join.parse("x ; from-tag=a ; to-tag=b ; other=c") == Join("x", "b", "a")


@given(st.text(max_size=200))
def test_any_text_is_a_join_or_a_sip_error(text: str) -> None:
    try:
        join = Join.parse(text)
    except SipError as error:
        assert error.status == 400
    else:
        assert Join.parse(str(join)) == join


# ---------------------------------------------------------------- the focus


@pytest.mark.rfc("4579", "4.2")
def test_a_contact_becomes_that_of_a_conference_and_keeps_its_way() -> None:
    for plain, focus in (
        ("<sip:bob@192.0.2.1:5070>", "<sip:conf-1@192.0.2.1:5070>;isfocus"),
        ("<sip:192.0.2.1>", "<sip:conf-1@192.0.2.1>;isfocus"),
        (
            "<sips:bob@[2001:db8::1];transport=ws;ob;line=2>",
            "<sips:conf-1@[2001:db8::1];transport=ws;ob;line=2>;isfocus",
        ),
        # a GRUU is the registrar's: another user would lead to nobody (RFC 5627)
        ("<sip:bob@example.com;gr=urn:uuid:1>", "<sip:bob@example.com;gr=urn:uuid:1>;isfocus"),
    ):
        assert as_focus(plain, "conf-1") == focus
        assert as_focus(focus, "conf-1") == focus
        assert is_focus(NameAddr.parse(focus))
        assert not is_focus(NameAddr.parse(plain))


@pytest.mark.rfc("4579", "4.3")
def test_options_tell_a_conference_from_a_phone() -> None:
    stranger = Stranger(MIXES)
    stranger.agent.focuses.add("conf-1")
    (answer,) = stranger.tell(request_text("OPTIONS", uri="sip:conf-1@192.0.2.1"))
    assert [str(contact) for contact in answer.contacts] == ["<sip:conf-1@192.0.2.1>;isfocus"]
    assert "join" in answer.headers.values("Supported")
    other = request_text("OPTIONS", branch="z9hG4bK2", call_id="2")
    assert [answer.contacts for answer in stranger.tell(other)] == [[]]


@pytest.mark.rfc("4579", "3.4")
def test_a_dialog_knows_whether_the_other_side_is_a_conference_now() -> None:
    net, alice, bob, _ = three()
    ours, theirs = established(net, alice, bob)
    assert not ours.remote_is_focus
    for contact, focus in ((as_focus(theirs.contact, "conf-1"), True), (theirs.contact, False)):
        theirs.contact = contact
        bob.agent.update(theirs, now=net.now)
        net.run(1)
        assert ours.remote_is_focus is focus


def test_whom_a_uri_names() -> None:
    assert user_of("sip:conf-1@192.0.2.1") == "conf-1"
    assert user_of("sip:192.0.2.1") is None
    assert user_of("tel:+1555") is None
    assert user_of("what") is None
