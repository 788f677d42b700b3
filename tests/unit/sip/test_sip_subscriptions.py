"""SUBSCRIBE and NOTIFY between our agents, and against raw messages (RFC 6665)."""

from __future__ import annotations

from typing import Any

import pytest
from event_world import (
    EVENTS,
    PATHS,
    TEXT,
    accepting,
    bodies,
    ends,
    requests,
    states,
    two,
    watch,
)
from virtual_sip import (
    Net,
    Phone,
    Stranger,
    assert_nothing_left,
    established,
    replace,
    request_text,
)

from voip.errors import CallStateError, SipError
from voip.sip.event_headers import EventType, SubscriptionState, SubscriptionStatus
from voip.sip.events import (
    DialogEnded,
    Notified,
    NotifierEnded,
    SubscribeReceived,
    SubscriptionEnded,
    SubscriptionForked,
    SubscriptionLost,
    UnsolicitedNotify,
)
from voip.sip.message import Request, Response

pytestmark = pytest.mark.rfc("6665", "4")

# ---------------------------------------------------------------- the life of a subscription


@pytest.mark.parametrize("path", PATHS)
def test_F104_a_subscription_is_confirmed_told_of_changes_refreshed_and_given_up(path: str) -> None:
    for seed in range(10):
        net, alice, bob = two(replace(PATHS[path]), seed)
        notifiers = accepting(bob)
        subscription = watch(alice, bob, expires_s=600)
        net.run(20)
        assert subscription.status is SubscriptionStatus.ACTIVE
        assert bodies(alice)[0] == b"first"
        (notifier,) = notifiers
        notifier.notify(b"second", now=net.now)
        net.run(20)
        assert bodies(alice)[-1] == b"second"
        net.run(3600)  # six times as long as it lasts
        assert subscription.status is SubscriptionStatus.ACTIVE
        subscription.unsubscribe(net.now)
        net.run(33)
        assert alice.only(SubscriptionEnded).subscription is subscription
        assert bob.only(NotifierEnded).reason == "timeout"
        assert len(notifiers) == 1
        assert_nothing_left(net)
    if path == "no loss":
        assert states(alice)[-1] == "terminated"
        assert 6 <= len(requests(net, "SUBSCRIBE")) <= 14


def test_F104_the_notify_that_comes_before_the_2xx_makes_the_dialog() -> None:
    net, alice, bob = two()
    accepting(bob)
    net.path.drop = lambda m, flow: isinstance(m, Response) and m.cseq.method == "SUBSCRIBE"
    subscription = watch(alice, bob)
    net.run(1)
    assert subscription.status is SubscriptionStatus.ACTIVE
    assert subscription.dialog.remote_target == bob.uri
    net.run(40)  # the SUBSCRIBE itself has timed out, which ends nothing
    assert subscription.status is SubscriptionStatus.ACTIVE
    net.path.drop = None
    subscription.unsubscribe(net.now)
    net.run(1)
    alice.only(SubscriptionEnded)
    assert_nothing_left(net)


def test_F104_timer_N_ends_a_subscription_that_no_notify_confirms() -> None:
    net, alice, bob = two()
    accepting(bob)
    net.path.drop = lambda m, flow: isinstance(m, Request) and m.method == "NOTIFY"
    subscription = watch(alice, bob)
    net.run(31.9)
    assert subscription.status is SubscriptionStatus.NOTIFY_WAIT
    net.run(0.2)
    assert ends(alice) == [("no NOTIFY came", 408)]
    net.run(5)
    assert bob.only(NotifierEnded)  # nobody answered its NOTIFY
    assert_nothing_left(net)


def test_F104_timer_N_runs_for_a_refresh_as_well() -> None:
    net, alice, bob = two()
    accepting(bob)
    subscription = watch(alice, bob)
    net.run(1)
    net.path.drop = lambda m, flow: isinstance(m, Request) and m.method == "NOTIFY"
    subscription.refresh(net.now)
    net.run(33)
    assert ends(alice) == [("no NOTIFY came", 408)]


def test_F104_a_state_is_fetched_once_by_expires_0() -> None:
    net, alice, bob = two()
    accepting(bob)
    watch(alice, bob, expires_s=0)
    net.run(1)
    assert (bodies(alice), states(alice)) == ([b"first"], ["terminated"])
    assert ends(alice) == [("timeout", None)]
    assert_nothing_left(net)


def test_F104_pending_becomes_active_or_is_rejected() -> None:
    net, alice, bob = two()
    notifiers = accepting(bob, b"", pending=True)
    kept = watch(alice, bob, keep=True)
    net.run(1)
    assert kept.status is SubscriptionStatus.PENDING
    notifiers[0].notify(b"welcome", now=net.now)
    net.run(1)
    assert kept.status is SubscriptionStatus.ACTIVE
    notifiers[0].terminate("rejected", now=net.now)
    net.run(1)
    assert ends(alice) == [("rejected", None)]  # not asked for again, though it was to be kept
    assert_nothing_left(net)


def test_F104_the_notifier_ends_what_is_not_refreshed() -> None:
    net, alice, bob = two()
    accepting(bob)
    watch(alice, bob, expires_s=100)
    net.run(1)
    net.path.drop = lambda m, flow: isinstance(m, Request) and m.method == "SUBSCRIBE"
    net.run(110)
    assert bob.only(NotifierEnded).reason == "timeout"
    alice.only(SubscriptionEnded)
    assert_nothing_left(net)


def test_F104_one_notify_at_a_time_and_the_last_state_wins() -> None:
    net, alice, bob = two()
    notifiers = accepting(bob)
    watch(alice, bob)
    net.run(1)
    for number in range(5):
        notifiers[0].notify(b"%d" % number, now=net.now)
    net.run(1)
    assert bodies(alice) == [b"first", b"0", b"4"]
    cseqs = [notify.cseq.number for notify in requests(net, "NOTIFY")]
    assert cseqs == sorted(set(cseqs))


# ---------------------------------------------------------------- reasons, and trying again


@pytest.mark.parametrize(
    ("reason", "retry_after", "again_in"),
    [
        ("deactivated", None, (0, 0)),
        ("deactivated", 99, (0, 0)),
        ("timeout", None, (0, 0)),
        ("giveup", None, (0, 0)),
        ("giveup", 50, (50, 50)),
        ("probation", None, (15, 30)),
        ("probation", 7, (7, 7)),
        ("some-new-reason", None, (15, 30)),
        ("some-new-reason", 40, (40, 40)),
        ("rejected", 5, None),
        ("noresource", None, None),
        ("invariant", 31536000, None),
    ],
)
def test_F104_a_terminated_subscription_is_asked_for_again_as_its_reason_allows(
    reason: str, retry_after: int | None, again_in: tuple[float, float] | None
) -> None:
    net, alice, bob = two()
    notifiers = accepting(bob)
    subscription = watch(alice, bob, keep=True)
    net.run(1)
    first = subscription.dialog.call_id
    notifiers[0].terminate(reason, retry_after_s=retry_after, now=net.now)
    net.run(0.1)
    if again_in is None:
        assert ends(alice) == [(reason, None)]
        net.run(100_000)
        assert len(notifiers) == 1
        return
    lost = alice.only(SubscriptionLost)
    assert again_in[0] <= lost.retry_in_s <= again_in[1]
    net.run(again_in[1] + 1)
    assert subscription.status is SubscriptionStatus.ACTIVE
    assert len(notifiers) == 2
    assert subscription.dialog.call_id != first  # an unrelated SUBSCRIBE (4.1.2.2)
    subscription.unsubscribe(net.now)
    net.run(1)
    assert_nothing_left(net)


def test_F104_who_is_sent_away_again_and_again_waits_longer_each_time() -> None:
    net, alice, bob = two()
    bob.on(
        SubscribeReceived,
        lambda event: (
            event.notifier.accept(contact=bob.contact, now=net.now),
            event.notifier.terminate("deactivated", now=net.now),
        ),
    )
    subscription = watch(alice, bob, keep=True)
    net.run(3600)
    waits = [lost.retry_in_s for lost in alice.events(SubscriptionLost)]
    assert waits[0] == 0
    assert 5 <= len(waits) <= 12
    assert all(wait > 10 for wait in waits[1:])
    subscription.unsubscribe(net.now)
    net.run(1)
    alice.only(SubscriptionEnded)
    assert_nothing_left(net)


def refusing(bob: Phone, status: int, **more: Any) -> None:
    bob.on(SubscribeReceived, lambda e: e.notifier.reject(status, now=bob.net.now, **more))


@pytest.mark.parametrize("status", [403, 404, 489, 603])
def test_F104_a_final_refusal_is_final(status: int) -> None:
    net, alice, bob = two()
    refusing(bob, status)
    watch(alice, bob, keep=True)
    net.run(10_000)
    assert [e.status for e in alice.events(SubscriptionEnded)] == [status]
    assert len(requests(net, "SUBSCRIBE")) == 1
    assert_nothing_left(net)


def test_F104_a_passing_refusal_is_tried_again_not_before_retry_after() -> None:
    net, alice, bob = two()
    refusing(bob, 503, headers=[("Retry-After", "100")])
    subscription = watch(alice, bob, keep=True)
    net.run(99)
    assert len(requests(net, "SUBSCRIBE")) == 1
    bob.reactions.clear()
    accepting(bob)
    net.run(2)
    assert subscription.status is SubscriptionStatus.ACTIVE


def test_F104_a_refresh_refused_by_481_is_asked_for_anew_and_by_500_goes_on() -> None:
    net, alice, bob = two()
    notifiers = accepting(bob)
    subscription = watch(alice, bob, keep=True, expires_s=600)
    net.run(1)
    bob.agent._core.subscriptions._theirs.clear()  # it has restarted
    subscription.refresh(net.now)
    net.run(1)
    assert alice.only(SubscriptionLost).status == 481
    assert len(notifiers) == 2
    assert subscription.status is SubscriptionStatus.ACTIVE


def test_F104_423_is_asked_again_for_as_long_as_the_notifier_wants() -> None:
    net, alice, bob = two()
    accepting(bob)
    subscription = watch(alice, bob, expires_s=10)
    net.run(1)
    assert [r.headers.get("Expires") for r in requests(net, "SUBSCRIBE")] == ["10", "60"]
    assert subscription.status is SubscriptionStatus.ACTIVE


def test_F104_an_unknown_package_is_489_with_those_that_are_known() -> None:
    stranger = Stranger(EVENTS)
    text = request_text("SUBSCRIBE", more="Event: weather\r\nContact: <sip:s@192.0.2.9>\r\n")
    (answer,) = stranger.tell(text)
    assert (answer.status, answer.headers.get("Allow-Events")) == (489, ", ".join(EVENTS.events))
    none = request_text("SUBSCRIBE", branch="z9hG4bK2", call_id="2", more="")
    (answer,) = stranger.tell(none)
    assert (answer.status, answer.headers.get("Allow-Events")) == (489, ", ".join(EVENTS.events))
    refer = request_text("SUBSCRIBE", branch="z9hG4bK3", call_id="3", more="Event: refer\r\n")
    assert stranger.tell(refer)[0].status == 403
    stranger.wait(40)
    assert stranger.empty()


# ---------------------------------------------------------------- whose a NOTIFY is


ACTIVE = "Event: presence\r\nSubscription-State: active;expires=600\r\n"


def notify_text(
    subscribe: Request, *, from_tag: str = "n1", cseq: int = 1, more: str = ACTIVE
) -> str:
    return (
        f"NOTIFY {subscribe.contacts[0].uri} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK{from_tag}{cseq}{len(more)}\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:bob@192.0.2.9>;tag={from_tag}\r\n"
        f"To: {subscribe.headers.get('From')}\r\nCall-ID: {subscribe.call_id}\r\n"
        f"CSeq: {cseq} NOTIFY\r\nContact: <sip:{from_tag}@192.0.2.9>\r\n"
        f"{more}Content-Length: 0\r\n\r\n"
    )


def subscribed(**more: Any) -> tuple[Stranger, Any, Request]:
    stranger = Stranger(EVENTS)
    subscription = stranger.agent.subscriptions.subscribe(
        "sip:bob@192.0.2.9", "presence", flow=stranger.flow, from_="<sip:us@192.0.2.1>",
        to="<sip:bob@192.0.2.9>", contact="<sip:us@192.0.2.1>", accept=(TEXT,), now=0, **more,
    )  # fmt: skip
    (sent,) = stranger.heard()
    assert isinstance(sent, Request)
    return stranger, subscription, sent


def status_of(stranger: Stranger, text: str) -> int:
    (answer,) = stranger.tell(text)
    assert isinstance(answer, Response)
    return answer.status


def test_F104_what_is_granted_for_no_time_is_over_when_its_notify_says_so() -> None:
    stranger, subscription, sent = subscribed()
    stranger.tell(
        f"SIP/2.0 200 OK\r\nVia: {sent.headers.get('Via')}\r\n"
        f"From: {sent.headers.get('From')}\r\nTo: <sip:bob@192.0.2.9>;tag=n1\r\n"
        f"Call-ID: {sent.call_id}\r\nCSeq: 1 SUBSCRIBE\r\nContact: <sip:n1@192.0.2.9>\r\n"
        "Expires: 0\r\nContent-Length: 0\r\n\r\n"
    )
    stranger.wait(1)
    assert subscription.status is SubscriptionStatus.NOTIFY_WAIT
    last = "Event: presence\r\nSubscription-State: terminated;reason=timeout\r\n"
    assert status_of(stranger, notify_text(sent, more=last)) == 200
    assert subscription.status is SubscriptionStatus.TERMINATED


def test_F104_the_first_fork_is_the_subscription_and_the_others_are_told_481() -> None:
    stranger, subscription, sent = subscribed()
    assert status_of(stranger, notify_text(sent)) == 200
    assert status_of(stranger, notify_text(sent, from_tag="n2")) == 481
    assert subscription.dialog.remote.tag == "n1"


def test_F104_where_forks_are_wanted_each_is_a_subscription_of_its_own_up_to_a_limit() -> None:
    stranger, subscription, sent = subscribed(forks=True)
    tags = [f"n{number}" for number in range(15)]
    answers = [status_of(stranger, notify_text(sent, from_tag=tag)) for tag in tags]
    assert answers == [200] * 12 + [481] * 3
    told = stranger.agent.events()
    forks = [event.fork for event in told if isinstance(event, SubscriptionForked)]
    assert len(forks) == 11
    assert len({fork.dialog.id for fork in forks} | {subscription.dialog.id}) == 12
    # each refreshes in its own dialog
    forks[3].refresh(stranger.now)
    (refresh,) = stranger.heard()
    assert refresh.to.tag == "n4"
    assert refresh.uri == "sip:n4@192.0.2.9"
    assert refresh.cseq.number == 2


def test_F104_a_notify_of_another_event_call_or_order_is_refused() -> None:
    stranger, _, sent = subscribed()
    other = "Event: dialog\r\nSubscription-State: active\r\n"
    assert status_of(stranger, notify_text(sent, more=other)) == 481
    case = "Event: Presence\r\nSubscription-State: active\r\n"
    assert status_of(stranger, notify_text(sent, more=case)) == 481
    with_id = "Event: presence;id=1\r\nSubscription-State: active\r\n"
    assert status_of(stranger, notify_text(sent, more=with_id)) == 481
    without = "Event: presence\r\n"
    assert status_of(stranger, notify_text(sent, more=without)) == 400
    assert status_of(stranger, notify_text(sent, cseq=5)) == 200
    assert status_of(stranger, notify_text(sent, cseq=4)) == 500
    stray = notify_text(sent).replace(sent.call_id, "another")
    assert status_of(stranger, stray) == 481


def test_F104_a_body_that_cannot_be_read_is_415() -> None:
    net, alice, bob = two()
    accepting(bob)
    watch(alice, bob)
    net.run(1)
    assert bodies(alice) == [b"first"]
    bob.seen.clear()
    alice.seen.clear()
    bob.reactions.clear()
    bob.on(
        SubscribeReceived,
        lambda event: event.notifier.accept(
            contact=bob.contact, body=b"<x/>", content_type="text/xml", now=net.now
        ),
    )
    watch(alice, bob)
    net.run(40)
    assert net.sent(415)
    assert alice.events(Notified) == []


def test_F104_a_last_notify_whose_body_cannot_be_read_is_the_last_all_the_same() -> None:
    stranger, subscription, sent = subscribed()
    assert status_of(stranger, notify_text(sent)) == 200
    last = "Event: presence\r\nSubscription-State: terminated;reason=noresource\r\n"
    text = notify_text(sent, cseq=2, more=f"{last}Content-Type: text/xml\r\n")
    text = text.replace("Length: 0\r\n\r\n", "Length: 4\r\n\r\n<x/>")
    assert status_of(stranger, text) == 415
    assert subscription.status is SubscriptionStatus.TERMINATED
    (end,) = [one for one in stranger.agent.events() if isinstance(one, SubscriptionEnded)]
    assert end.reason == "noresource"


def test_F097_a_report_that_crosses_our_subscribe_is_known_by_the_number_of_the_refer() -> None:
    """RFC 3515 section 2.4.6: its id stays that of the REFER, whatever we have sent since."""
    stranger = Stranger(EVENTS)
    refer = stranger.agent.subscriptions.refer_outside(
        "sip:bob@192.0.2.9", "<sip:carol@192.0.2.8>", flow=stranger.flow,
        from_="<sip:us@192.0.2.1>", to="<sip:bob@192.0.2.9>", contact="<sip:us@192.0.2.1>", now=0,
    )  # fmt: skip
    (sent,) = stranger.heard()
    assert isinstance(sent, Request)
    reported = "Event: refer;id=1\r\nSubscription-State: active;expires=60\r\n"
    stranger.tell(
        f"SIP/2.0 202 Accepted\r\nVia: {sent.headers.get('Via')}\r\n"
        f"From: {sent.headers.get('From')}\r\nTo: <sip:bob@192.0.2.9>;tag=n1\r\n"
        f"Call-ID: {sent.call_id}\r\nCSeq: 1 REFER\r\nContact: <sip:n1@192.0.2.9>\r\n"
        "Content-Length: 0\r\n\r\n"
    )
    assert status_of(stranger, notify_text(sent, more=reported)) == 200
    refer.unsubscribe(stranger.now)
    (subscribe,) = stranger.heard()
    assert isinstance(subscribe, Request)
    assert (subscribe.method, subscribe.cseq.number) == ("SUBSCRIBE", 2)
    assert status_of(stranger, notify_text(sent, cseq=2, more=reported)) == 200


def test_F102_an_unsolicited_message_summary_is_taken_and_nothing_else() -> None:
    stranger = Stranger(EVENTS)
    more = "Event: message-summary\r\nSubscription-State: active\r\n"
    assert stranger.tell(request_text("NOTIFY", more=more)) == []
    [event] = stranger.agent.events()
    assert isinstance(event, UnsolicitedNotify)
    event.request.reply(200, now=0.0)  # it is the user's to believe
    assert [data[:11] for data, _ in stranger.agent.outgoing()] == [b"SIP/2.0 200"]
    more = "Event: presence\r\nSubscription-State: active\r\n"
    text = request_text("NOTIFY", more=more, call_id="2", branch="z9hG4bK2")
    assert status_of(stranger, text) == 481
    assert stranger.agent.events() == []


# ---------------------------------------------------------------- one dialog, several usages


@pytest.mark.parametrize("path", PATHS)
def test_a_subscription_in_the_dialog_of_a_call_outlives_the_call(path: str) -> None:
    for seed in range(5):
        net, alice, bob = two(seed=seed)
        ours, theirs = established(net, alice, bob)
        net.path = replace(PATHS[path])
        notifiers = accepting(bob)
        watched = alice.agent.subscriptions.subscribe_in(
            ours, "dialog", accept=(TEXT,), now=net.now
        )
        net.run(20)
        assert watched.status is SubscriptionStatus.ACTIVE
        assert watched.dialog is ours
        assert notifiers[0].dialog is theirs
        alice.agent.bye(ours, now=net.now)
        net.run(40)
        assert alice.only(DialogEnded).dialog is ours
        notifiers[0].notify(b"still here", now=net.now)
        net.run(20)
        assert bodies(alice)[-1] == b"still here"
        watched.unsubscribe(net.now)
        net.run(40)
        alice.only(SubscriptionEnded)
        bob.only(NotifierEnded)
        assert_nothing_left(net)
        cseqs = [m.cseq.number for _, m, f in net.wire
                 if isinstance(m, Request) and f.local == alice.address]  # fmt: skip
        assert cseqs == sorted(cseqs)


def test_several_subscriptions_share_the_dialog_of_a_call_up_to_a_limit() -> None:
    net, alice, bob = two()
    ours, _ = established(net, alice, bob)
    notifiers = accepting(bob)
    for number in range(18):
        alice.agent.subscriptions.subscribe_in(
            ours, f"dialog;id={number}", accept=(TEXT,), now=net.now
        )
    net.run(1)
    assert len(notifiers) == EVENTS.max_dialog_subscriptions == 16
    assert [e.status for e in alice.events(SubscriptionEnded)] == [503, 503]
    assert len(alice.agent.dialogs) == 1
    assert alice.agent.dialogs[0].state.value == "confirmed"


def test_no_more_subscriptions_than_the_limit() -> None:
    net = Net()
    config = replace(EVENTS, max_subscriptions=2)
    alice, bob = net.phone("192.0.2.1", config), net.phone("192.0.2.2", config)
    for _ in range(2):
        watch(alice, bob)
    with pytest.raises(SipError, match="2 subscriptions are open"):
        watch(alice, bob)
    net.run(40)
    assert len(bob.events(SubscribeReceived)) == 2


def test_a_subscription_that_nobody_answers_leaves_nothing() -> None:
    net, alice, bob = two()
    watch(alice, bob)
    net.run(40)
    assert alice.only(SubscriptionEnded).status == 408
    with pytest.raises(CallStateError, match="nobody waits"):
        bob.only(SubscribeReceived).notifier.accept(contact=bob.contact, now=net.now)
    assert_nothing_left(net)


# ---------------------------------------------------------------- the headers


def test_event_and_subscription_state_are_read_and_written() -> None:
    assert EventType.parse("presence.winfo ; id=7;x=y") == EventType("presence.winfo", "7")
    assert str(EventType("refer", "93809824")) == "refer;id=93809824"
    state = SubscriptionState.parse("Terminated;Reason=noresource;retry-after=5")
    assert state == SubscriptionState("terminated", None, "noresource", 5)
    assert str(SubscriptionState("active", 3599)) == "active;expires=3599"
    for bad in ("", ";id=1", "a b", 'x;y="'):
        with pytest.raises(SipError):
            EventType.parse(bad)
        with pytest.raises(SipError):
            SubscriptionState.parse(bad)
