"""REFER and Replaces between our agents (RFC 3515, 3891, 3892, 3911, 4488)."""

from __future__ import annotations

from typing import Any

import pytest
from event_world import EVENTS, PATHS, bodies, ends, requests, states, two
from virtual_sip import (
    Phone,
    Stranger,
    assert_nothing_left,
    established,
    replace,
    request_text,
)

from voip.errors import CallStateError, SipError
from voip.sip.dialog import DialogState
from voip.sip.event_headers import EventType
from voip.sip.events import (
    Answered,
    DialogEnded,
    IncomingInvite,
    InviteFailed,
    NotifierEnded,
    ReferReceived,
    SubscriptionEnded,
)
from voip.sip.refer import SIPFRAG, read_sipfrag, refer_target, sipfrag
from voip.sip.replaces import Replaces

TARGET = "<sip:carol@192.0.2.3>"


def accepting(phone: Phone) -> list[Any]:
    taken: list[Any] = []

    def accept(event: ReferReceived) -> None:
        taken.append(event.notifier)
        event.notifier.accept(
            contact=phone.contact, body=sipfrag(100), content_type=SIPFRAG, now=phone.net.now
        )

    phone.on(ReferReceived, accept)
    return taken


@pytest.mark.parametrize("path", PATHS)
def test_F097_a_refer_in_a_call_is_accepted_and_its_progress_told_by_sipfrags(path: str) -> None:
    for seed in range(10):
        net, alice, bob = two(seed=seed)
        ours, _ = established(net, alice, bob)
        net.path = replace(PATHS[path])
        taken = accepting(bob)
        alice.agent.subscriptions.refer(ours, TARGET, now=net.now)
        net.run(40)
        (notifier,) = taken
        assert refer_target(notifier.request).uri.user == "carol"
        for status in (180, 200):
            if status == 180:
                notifier.notify(sipfrag(180), now=net.now)
            else:
                notifier.terminate("noresource", sipfrag(200), now=net.now)
            net.run(40)
        told = [read_sipfrag(body)[0] for body in bodies(alice)]
        assert told == [100, 180, 200]
        assert states(alice) == ["active", "active", "terminated"]
        assert ends(alice) == [("noresource", None)]
        assert alice.agent.dialogs == [ours]  # the call goes on
        alice.agent.bye(ours, now=net.now)
        assert_nothing_left(net)


def test_F097_several_refers_in_one_call_are_told_apart_by_their_ids() -> None:
    net, alice, bob = two()
    ours, _ = established(net, alice, bob)
    taken = accepting(bob)
    handles = [alice.agent.subscriptions.refer(ours, TARGET, now=net.now) for _ in range(3)]
    net.run(1)
    for status, notifier in zip((486, 603, 200), taken, strict=True):
        notifier.terminate("noresource", sipfrag(status), now=net.now)
    net.run(1)
    last = {}
    for event in alice.seen:
        if type(event).__name__ == "Notified":
            last[event.subscription] = read_sipfrag(event.request.body)[0]
    assert [last[handle] for handle in handles] == [486, 603, 200]
    ids = {request.headers.get("Event") for request in requests(net, "NOTIFY")}
    assert ids == {f"refer;id={r.cseq.number}" for r in requests(net, "REFER")}


def test_F097_a_first_refer_may_be_told_of_without_an_id() -> None:
    net, alice, bob = two()
    ours, _ = established(net, alice, bob)

    def accept(event: ReferReceived) -> None:
        event.notifier.event = EventType("refer")
        event.notifier.accept(
            contact=bob.contact, body=sipfrag(100), content_type=SIPFRAG, now=net.now
        )

    bob.on(ReferReceived, accept)
    handle = alice.agent.subscriptions.refer(ours, TARGET, now=net.now)
    net.run(1)
    assert requests(net, "NOTIFY")[0].headers.get("Event") == "refer"
    handle.unsubscribe(net.now)
    net.run(1)
    assert requests(net, "SUBSCRIBE")[0].headers.get("Event") == "refer"
    alice.only(SubscriptionEnded)
    bob.only(NotifierEnded)


def test_F097_a_refused_refer_ends_with_its_status() -> None:
    net, alice, bob = two()
    ours, _ = established(net, alice, bob)
    bob.on(ReferReceived, lambda event: event.notifier.reject(603, now=net.now))
    alice.agent.subscriptions.refer(ours, TARGET, now=net.now)
    net.run(1)
    assert ends(alice) == [("Decline", 603)]
    assert len(alice.agent.dialogs) == 1


def test_F098_a_refer_that_wants_no_subscription_gets_none() -> None:
    net, alice, bob = two()
    ours, _ = established(net, alice, bob)
    bob.on(
        ReferReceived, lambda event: event.notifier.accept_once(contact=bob.contact, now=net.now)
    )
    alice.agent.subscriptions.refer(ours, TARGET, subscribe=False, now=net.now)
    net.run(40)
    assert not refer_target(bob.only(ReferReceived).notifier.request).wants_subscription
    assert ends(alice) == [("no subscription", 202)]
    assert requests(net, "NOTIFY") == []
    assert len(alice.agent.subscriptions) == len(bob.agent.subscriptions) == 0


def test_F098_who_does_not_know_norefersub_subscribes_all_the_same() -> None:
    net, alice, bob = two()
    ours, _ = established(net, alice, bob)
    taken = accepting(bob)
    alice.agent.subscriptions.refer(ours, TARGET, subscribe=False, now=net.now)
    net.run(1)
    taken[0].terminate("noresource", sipfrag(200), now=net.now)
    net.run(1)
    assert ends(alice) == [("noresource", None)]


def test_F100_referred_by_comes_along() -> None:
    net, alice, bob = two()
    ours, _ = established(net, alice, bob)
    accepting(bob)
    by = "<sip:alice@example.com>"
    alice.agent.subscriptions.refer(ours, TARGET, headers=[("Referred-By", by)], now=net.now)
    net.run(1)
    assert refer_target(bob.only(ReferReceived).notifier.request).referred_by == by


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ("", 400),
        ("Refer-To: <sip:a@x>\r\nRefer-To: <sip:b@x>\r\n", 400),
        ("Refer-To: <sip:a@x>, <sip:b@x>\r\n", 400),
        ("Refer-To: <sip:a@\r\n", 400),
        ("Refer-To: <sip:a@x>\r\nReferred-By: <sip:b@x>, <sip:c@x>\r\n", 400),
        ("r: <sip:a@x>\r\nRequire: weird\r\n", 420),
    ],
)
def test_F097_a_refer_without_one_readable_refer_to_is_refused(more: str, status: int) -> None:
    stranger = Stranger(EVENTS)
    (answer,) = stranger.tell(request_text("REFER", more=more))
    assert answer.status == status
    assert stranger.agent.events() == []


def test_F061_a_refer_that_crosses_our_bye_is_481() -> None:
    net, alice, bob = two()
    ours, theirs = established(net, alice, bob)
    alice.agent.subscriptions.refer(ours, TARGET, now=net.now)
    bob.agent.bye(theirs, now=net.now)
    net.run(1)
    assert bob.events(ReferReceived) == []
    assert ends(alice)[0][1] == 481
    assert_nothing_left(net)


def test_F061_a_refer_is_not_sent_when_the_call_is_ending() -> None:
    net, alice, bob = two()
    ours, _ = established(net, alice, bob)
    alice.agent.bye(ours, now=net.now)
    with pytest.raises(CallStateError):
        alice.agent.subscriptions.refer(ours, TARGET, now=net.now)


def test_F097_a_refer_outside_of_any_call_makes_a_dialog_of_its_own() -> None:
    net, alice, bob = two()
    taken = accepting(bob)
    alice.agent.subscriptions.refer_outside(
        bob.uri, TARGET, flow=alice.to(bob), from_=alice.contact, to=bob.contact,
        contact=alice.contact, now=net.now,
    )  # fmt: skip
    net.run(1)
    taken[0].terminate("noresource", sipfrag(200), now=net.now)
    net.run(1)
    assert [read_sipfrag(body)[0] for body in bodies(alice)] == [100, 200]
    assert_nothing_left(net)


def test_sipfrags_and_refer_targets_are_read_with_care() -> None:
    assert sipfrag(486) == b"SIP/2.0 486 Busy Here\r\n"
    assert read_sipfrag(b"SIP/2.0 180 Ringing") == (180, "Ringing")
    assert read_sipfrag(b"SIP/2.0 200\r\nWarning: 1") == (200, "")
    for bad in (b"", b"INVITE sip:a SIP/2.0", b"SIP/2.0 99 x", b"SIP/2.0 \xb2\xb2\xb2 x"):
        assert read_sipfrag(bad) is None


# ---------------------------------------------------------------- Replaces


def replacing(phone: Phone, whom: Phone, replaces: Replaces | str) -> Any:
    return phone.call(whom, headers=[("Replaces", str(replaces)), ("Require", "replaces")])


def seen_by(dialog: Any) -> Replaces:
    """How a third party that was told by this side names the dialog to the other side."""
    return Replaces.of(dialog)


def test_F099_an_invite_with_replaces_names_the_confirmed_call_it_is_to_replace() -> None:
    net, alice, bob = two()
    carol = net.phone("192.0.2.3", EVENTS)
    ours, theirs = established(net, alice, bob)
    replacing(carol, bob, seen_by(ours))
    net.run(0.1)
    incoming = bob.only(IncomingInvite)
    assert incoming.invite.replaces is theirs
    bob.answer(incoming.invite)
    bob.agent.bye(theirs, now=net.now)
    net.run(1)
    carol.only(Answered)
    alice.only(DialogEnded)


def test_F099_an_early_call_of_ours_is_replaced_and_one_that_rings_here_is_not() -> None:
    net, alice, bob = two()
    carol = net.phone("192.0.2.3", EVENTS)
    calling = alice.call(bob)
    net.run(0.1)
    bob.answer(bob.only(IncomingInvite).invite, 180)
    net.run(0.1)
    (early,) = calling.dialogs
    theirs = bob.only(IncomingInvite).invite.dialog
    replacing(carol, bob, seen_by(early))  # bob is called: it rings there
    net.run(0.1)
    assert carol.events(InviteFailed)[-1].status == 481
    replacing(carol, alice, seen_by(theirs))
    net.run(0.1)
    assert alice.only(IncomingInvite).invite.replaces is early
    assert early.state is DialogState.EARLY


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("unknown@x;to-tag=a;from-tag=b", 481),
        ("unknown@x;to-tag=a", 400),
        ("unknown@x;to-tag=a;from-tag=b;to-tag=c", 400),
        ("", 400),
    ],
)
def test_F099_a_replaces_that_matches_nothing_or_says_nothing_is_refused(
    value: str, status: int
) -> None:
    net, alice, bob = two()
    replacing(alice, bob, value)
    net.run(0.2)
    assert alice.only(InviteFailed).status == status
    assert bob.events(IncomingInvite) == []


def test_F099_early_only_is_486_once_it_is_answered_and_603_when_it_is_over() -> None:
    net, alice, bob = two()
    carol = net.phone("192.0.2.3", EVENTS)
    ours, _ = established(net, alice, bob)
    replacing(carol, bob, replace(seen_by(ours), early_only=True))
    net.run(0.2)
    assert carol.events(InviteFailed)[-1].status == 486
    name = seen_by(ours)
    net.path.drop = lambda m, flow: flow.remote == alice.address  # bob's BYE is on its way
    bob.agent.bye(bob.agent.dialogs[0], now=net.now)
    replacing(carol, bob, name)
    net.run(0.2)
    assert carol.events(InviteFailed)[-1].status == 603
    net.run(40)
    replacing(carol, bob, name)
    net.run(0.2)
    assert carol.events(InviteFailed)[-1].status == 603
    assert bob.events(IncomingInvite) == []


def test_F099_two_replaces_are_400_and_who_does_not_know_it_says_420() -> None:
    twice = "Replaces: a;to-tag=b;from-tag=c\r\nReplaces: d;to-tag=e;from-tag=f\r\n"
    assert [r.status for r in Stranger(EVENTS).tell(request_text("INVITE", more=twice))] == [400]
    required = "Require: replaces\r\nReplaces: a;to-tag=b;from-tag=c\r\n"
    assert [r.status for r in Stranger().tell(request_text("INVITE", more=required))] == [420]


def test_F099_a_subscription_s_dialog_is_not_replaced() -> None:
    net, alice, bob = two()
    taken = accepting(bob)
    alice.agent.subscriptions.refer_outside(
        bob.uri, TARGET, flow=alice.to(bob), from_=alice.contact, to=bob.contact,
        contact=alice.contact, now=net.now,
    )  # fmt: skip
    net.run(1)
    replacing(alice, bob, Replaces.parse(
        f"{taken[0].dialog.call_id};to-tag={taken[0].dialog.local.tag}"
        f";from-tag={taken[0].dialog.remote.tag}"))  # fmt: skip
    net.run(0.2)
    assert alice.only(InviteFailed).status == 481


def test_F101_a_call_that_demands_to_join_is_told_that_we_do_not_mix() -> None:
    join = "Join: a;to-tag=b;from-tag=c\r\n"
    (answer,) = Stranger(EVENTS).tell(request_text("INVITE", more=f"Require: join\r\n{join}"))
    assert (answer.status, answer.headers.get("Unsupported")) == (420, "join")
    # without Require it is a call like any other (RFC 3911 section 4)
    stranger = Stranger(EVENTS)
    stranger.tell(request_text("INVITE", more=join))
    assert [type(event) for event in stranger.agent.events()] == [IncomingInvite]
    both = f"Replaces: a;to-tag=b;from-tag=c\r\n{join}"
    assert [r.status for r in Stranger(EVENTS).tell(request_text("INVITE", more=both))] == [400]


def test_F099_a_peer_without_a_tag_is_called_0() -> None:
    dialog, another = Stranger(EVENTS).calls_without_tag("Replaces")
    assert another.replaces is dialog


def test_replaces_names_a_dialog_as_its_other_side_knows_it() -> None:
    text = "425928@bobster.example.org;to-tag=7743;from-tag=6472;early-only"
    assert Replaces.parse(text) == Replaces("425928@bobster.example.org", "7743", "6472", True)
    assert str(Replaces.parse(text)) == text
    for bad in ("x", "x;to-tag=1", ";to-tag=1;from-tag=2", "a b;to-tag=1;from-tag=2"):
        with pytest.raises(SipError):
            Replaces.parse(bad)
