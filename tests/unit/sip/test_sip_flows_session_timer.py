"""Session timers in both roles (RFC 4028)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from flow_stage import LOSSES, Stage
from virtual_sip import (
    ANSWER,
    CONFIG,
    OFFER,
    SDP,
    Net,
    Path,
    Phone,
    Stranger,
    assert_nothing_left,
    replace,
    request_text,
    response_text,
)

from voip.sip.config import AgentConfig
from voip.sip.dialog import Dialog
from voip.sip.events import (
    Acknowledged,
    Answered,
    DialogEnded,
    IncomingInvite,
    InviteFailed,
    RefreshDue,
    ReinviteDone,
    ReinviteReceived,
    UpdateDone,
    UpdateReceived,
)
from voip.sip.message import Request, Response

pytestmark = pytest.mark.rfc("4028", "7-10")

ASKS = replace(CONFIG, session_expires=1800)
SHORT = replace(CONFIG, session_expires=90)
PLAIN = replace(CONFIG, supported=(), allow=("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS"))
NO_UPDATE = replace(CONFIG, allow=("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "PRACK"))


def make(caller: AgentConfig, callee: AgentConfig, loss: float = 0.0, seed: int = 11) -> Stage:
    stage = Stage(Net(Path(loss=loss), seed), loss, caller)
    stage.bob = stage.net.phone("192.0.2.2", callee)
    return stage


def up(stage: Stage) -> tuple[Dialog, Dialog]:
    stage.alice.call(stage.bob)
    stage.step()
    stage.bob.answer(stage.bob.only(IncomingInvite).invite)
    stage.step()
    return stage.alice.only(Answered).dialog, stage.bob.only(Acknowledged).dialog


def end(stage: Stage) -> None:
    """Hang up, and see that no timer is left."""
    for phone in (stage.alice, stage.bob):
        for dialog in phone.agent.dialogs:
            phone.agent.bye(dialog, now=stage.net.now)
        stage.step()
    assert_nothing_left(stage.net)


def refreshes(stage: Stage, method: str, phone: Phone) -> list[float]:
    """When `phone` sent a refresh, repetitions left out."""
    times: dict[int, float] = {}
    for now, message, flow in stage.net.wire:
        ours = flow.local == phone.address and isinstance(message, Request)
        if ours and message.method == method and message.to.tag is not None:
            times.setdefault(message.cseq.number, now)
    return list(times.values())


loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda value: f"{value:.0%} loss")


@loss
def test_F096_the_caller_asks_and_refreshes_by_update(loss: float) -> None:
    stage = make(ASKS, CONFIG, loss)
    up(stage)
    assert stage.only("INVITE").headers.get("Session-Expires") == "1800"
    ok = stage.only("200 INVITE")
    assert ok.headers.get("Session-Expires") == "1800;refresher=uac"
    assert ok.headers.values("Require") == ["timer"]
    assert "timer" in stage.only("INVITE").headers.values("Supported")
    stage.net.run(4000)
    times = refreshes(stage, "UPDATE", stage.alice)
    assert len(times) == 4
    assert all(880 < later - sooner < 940 for sooner, later in pairwise(times))
    assert stage.messages("UPDATE")[0].headers.get("Session-Expires") == "1800;refresher=uac"
    assert stage.alice.events(DialogEnded) == stage.bob.events(DialogEnded) == []
    assert stage.bob.events(UpdateReceived) == stage.alice.events(UpdateDone) == []
    end(stage)


@loss
def test_F096_the_callee_asks_and_refreshes(loss: float) -> None:
    stage = make(CONFIG, ASKS, loss)
    up(stage)
    assert "Session-Expires" not in stage.only("INVITE").headers
    assert stage.only("200 INVITE").headers.get("Session-Expires") == "1800;refresher=uas"
    stage.net.run(2000)
    assert len(refreshes(stage, "UPDATE", stage.bob)) == 2
    assert refreshes(stage, "UPDATE", stage.alice) == []
    end(stage)


@pytest.mark.parametrize(
    ("caller", "callee", "refresher"),
    [("us", None, "uac"), ("them", None, "uas"), (None, "us", "uas"), (None, "them", "uac")],
)
def test_F096_who_refreshes_is_settled_as_table_2_says(
    caller: Any, callee: Any, refresher: str
) -> None:
    stage = make(replace(ASKS, refresher=caller), replace(CONFIG, refresher=callee))
    up(stage)
    assert stage.only("200 INVITE").headers.get("Session-Expires") == f"1800;refresher={refresher}"
    stage.net.run(1000)
    ours, theirs = (refreshes(stage, "UPDATE", phone) for phone in (stage.alice, stage.bob))
    assert (len(ours), len(theirs)) == ((1, 0) if refresher == "uac" else (0, 1))
    end(stage)


def test_F096_a_peer_that_knows_no_timer_has_no_timer() -> None:
    stage = make(ASKS, PLAIN)
    up(stage)
    assert "Session-Expires" not in stage.only("200 INVITE").headers
    stage.net.run(4000)
    assert stage.alice.events(RefreshDue) == stage.alice.events(DialogEnded) == []
    end(stage)


def test_F096_a_proxy_asks_for_a_caller_that_knows_no_timer() -> None:
    stranger = Stranger()
    stranger.tell(request_text("INVITE", body="x", more="Session-Expires: 600\r\n"))
    [event] = stranger.agent.events()
    assert isinstance(event, IncomingInvite)
    stranger.agent.respond(
        event.invite, 200, contact="<sip:p@192.0.2.1>", body=OFFER, content_type=SDP, now=0.0
    )
    [ok] = stranger.heard()
    assert ok.headers.get("Session-Expires") == "600;refresher=uas"
    assert "Require" not in ok.headers
    stranger.tell(request_text("ACK", to_tag=ok.to.tag or "", branch="z9hG4bKa", cseq="1 ACK"))
    stranger.wait(301)
    assert any(isinstance(e, RefreshDue) for e in stranger.agent.events())


@loss
def test_F096_an_interval_that_is_too_small_is_raised_and_tried_again(loss: float) -> None:
    stage = make(SHORT, replace(CONFIG, min_session_expires=300), loss)
    up(stage)
    first, again = stage.messages("INVITE")
    assert stage.only("422 INVITE").headers.get("Min-SE") == "300"
    assert first.headers.get("Session-Expires") == "90"
    assert (again.headers.get("Session-Expires"), again.headers.get("Min-SE")) == ("300", "300")
    assert again.cseq.number == first.cseq.number + 1
    assert (again.call_id, again.from_.tag) == (first.call_id, first.from_.tag)
    assert stage.only("200 INVITE").headers.get("Session-Expires") == "300;refresher=uac"
    stage.net.run(200)
    assert stage.messages("UPDATE")[0].headers.get("Min-SE") == "300"
    end(stage)


def test_F096_a_422_that_asks_for_nothing_more_is_a_refusal() -> None:
    stranger = Stranger(ASKS)
    invite = stranger.called()
    for least in (1900, 2000, 2000):
        answer = stranger.tell(response_text(invite, 422, f"Min-SE: {least}\r\n"))
        invites = [m for m in answer if isinstance(m, Request) and m.method == "INVITE"]
        invite = invites[0] if invites else invite
    assert invite.headers.get("Session-Expires") == "2000"
    [failed] = [e for e in stranger.agent.events() if isinstance(e, InviteFailed)]
    assert failed.status == 422
    stranger.wait(60)
    assert stranger.empty()


@loss
def test_F096_without_update_the_user_refreshes_by_reinvite(loss: float) -> None:
    stage = make(ASKS, NO_UPDATE, loss)
    stage.alice.on(RefreshDue, lambda event: stage.alice.agent.reinvite(
        event.dialog, body=OFFER, content_type=SDP, now=stage.net.now
    ))  # fmt: skip
    stage.bob.on(ReinviteReceived, lambda event: stage.bob.answer(event.invite))
    up(stage)
    stage.net.run(2800)
    assert len(refreshes(stage, "INVITE", stage.alice)) == 3
    assert [e.status for e in stage.alice.events(ReinviteDone)] == [200] * 3
    again = stage.messages("INVITE")[1]
    assert again.headers.get("Session-Expires") == "1800;refresher=uac"
    assert stage.alice.events(DialogEnded) == []
    end(stage)


def test_F096_an_update_that_is_not_allowed_after_all_is_followed_by_a_reinvite() -> None:
    stage = make(ASKS, CONFIG)
    ours, _ = up(stage)
    stage.bob.agent._core.config = replace(CONFIG, allow=NO_UPDATE.allow)
    stage.net.run(1800 - 32 - 5)
    assert len(refreshes(stage, "UPDATE", stage.alice)) == 1
    assert stage.alice.events(RefreshDue) != []
    assert "UPDATE" not in ours.allowed
    end(stage)


def test_F096_a_peer_that_wants_an_offer_in_the_update_has_one() -> None:
    stranger = Stranger(ASKS)
    invite = stranger.called()
    timer = "Allow: INVITE, UPDATE\r\nRequire: timer\r\nSession-Expires: 90;refresher=uac\r\n"
    stranger.tell(response_text(invite, 200, timer))
    [update] = [m for m in stranger.wait(45.2) if isinstance(m, Request)]
    assert (update.method, update.body) == ("UPDATE", b"")
    stranger.tell(response_text(update, 400))
    assert [type(e) for e in stranger.agent.events() if not isinstance(e, Answered)] == [RefreshDue]
    [dialog] = stranger.agent.dialogs
    stranger.agent.update(dialog, body=OFFER, content_type=SDP, now=stranger.now)
    [again] = [m for m in stranger.heard() if isinstance(m, Request)]
    stranger.tell(response_text(again, 200, timer))
    assert stranger.wait(40) == []
    assert stranger.agent.dialogs == [dialog]


@loss
def test_F096_a_session_nobody_refreshes_is_ended_before_it_expires(loss: float) -> None:
    """The callee waits for refreshes that the caller cannot send any more."""
    stage = make(ASKS, CONFIG, loss)
    up(stage)
    stage.net.path.drop = lambda message, flow: flow.local == stage.alice.address
    answered = stage.net.sent(200, stage.bob)[0]
    stage.net.run(2000)
    ended = stage.bob.only(DialogEnded)
    assert (ended.by_remote, ended.status) == (False, 408)
    assert "refreshed" in ended.reason
    [first, *_] = stage.net.sent("BYE", stage.bob)
    assert first - answered == pytest.approx(1800 - 32, abs=0.1)
    assert_nothing_left(stage.net)


def test_F096_a_short_session_is_ended_a_third_before_it_expires() -> None:
    stage = make(SHORT, CONFIG)
    up(stage)
    stage.net.path.drop = lambda message, flow: flow.local == stage.alice.address
    answered = stage.net.sent(200, stage.bob)[0]
    stage.net.run(200)
    [first, *_] = stage.net.sent("BYE", stage.bob)
    assert first - answered == pytest.approx(60, abs=0.01)
    assert_nothing_left(stage.net)


def test_F096_a_refresh_that_nobody_answers_ends_the_call() -> None:
    stage = make(ASKS, CONFIG)
    up(stage)
    stage.net.path.drop = lambda message, flow: flow.local == stage.bob.address
    stage.net.run(1000)
    assert stage.alice.only(DialogEnded).status == 408
    stage.net.run(1000)
    assert_nothing_left(stage.net)


def test_F096_a_refresh_that_fails_is_tried_again_while_there_is_time() -> None:
    """The callee asks for a refresh by the caller, and refuses every re-INVITE with 500."""
    stage = make(replace(ASKS, session_expires=180), NO_UPDATE)
    stage.alice.on(RefreshDue, lambda event: stage.alice.agent.reinvite(
        event.dialog, body=OFFER, content_type=SDP, now=stage.net.now
    ))  # fmt: skip
    stage.bob.on(ReinviteReceived, lambda event: stage.bob.answer(event.invite, 503))
    up(stage)
    stage.net.run(200)
    times = refreshes(stage, "INVITE", stage.alice)
    gaps = [later - sooner for sooner, later in pairwise(times)]
    assert 2 <= len(times) <= 5
    assert gaps == sorted(gaps, reverse=True)  # halfway to the end, again and again
    assert stage.bob.only(DialogEnded).status == 408  # it hangs up first
    assert_nothing_left(stage.net)


def test_F096_a_refresh_that_failed_is_tried_again_before_the_peer_gives_up() -> None:
    """It may do so a third of a short session before its end (RFC 4028 section 10)."""
    stage = make(replace(ASKS, session_expires=120), NO_UPDATE)
    stage.alice.on(RefreshDue, lambda event: stage.alice.agent.reinvite(
        event.dialog, body=OFFER, content_type=SDP, now=stage.net.now
    ))  # fmt: skip
    refusals = [503]
    stage.bob.on(
        ReinviteReceived,
        lambda event: stage.bob.answer(event.invite, refusals.pop() if refusals else 200),
    )
    up(stage)
    stage.net.run(118)
    first, second = refreshes(stage, "INVITE", stage.alice)
    assert second - first < 120 - 32 - 60
    assert stage.bob.events(DialogEnded) == []
    end(stage)


def test_F096_any_change_refreshes_and_roles_stay() -> None:
    """A re-INVITE of who does not refresh says so, and puts the end off."""
    stage = make(ASKS, CONFIG)
    _, theirs = up(stage)
    stage.alice.on(ReinviteReceived, lambda event: stage.alice.answer(event.invite))
    stage.net.run(800)
    stage.bob.agent.reinvite(theirs, body=OFFER, content_type=SDP, now=stage.net.now)
    stage.net.run(0.2)
    again = stage.messages("INVITE")[1]
    assert again.headers.get("Session-Expires") == "1800;refresher=uas"
    assert stage.messages("200 INVITE")[1].headers.get("Session-Expires") == "1800;refresher=uas"
    stage.net.run(800)
    assert refreshes(stage, "UPDATE", stage.alice) == []
    stage.net.run(200)
    assert len(refreshes(stage, "UPDATE", stage.alice)) == 1
    end(stage)


def test_F096_a_callee_shortens_what_is_longer_than_it_wants() -> None:
    stage = make(replace(ASKS, session_expires=7200), ASKS)
    up(stage)
    assert stage.only("200 INVITE").headers.get("Session-Expires") == "1800;refresher=uac"
    end(stage)
    stage = make(replace(ASKS, session_expires=7200, min_session_expires=3600), ASKS)
    up(stage)
    assert stage.only("INVITE").headers.get("Min-SE") == "3600"
    assert stage.only("200 INVITE").headers.get("Session-Expires") == "3600;refresher=uac"
    end(stage)


def test_F096_a_timer_may_be_demanded() -> None:
    stage = make(replace(ASKS, required=("timer",)), CONFIG)
    up(stage)
    assert stage.only("INVITE").headers.values("Require") == ["timer"]
    end(stage)
    stage = make(CONFIG, replace(ASKS, required=("timer",)))
    plain = stage.net.phone("192.0.2.3", PLAIN)
    plain.call(stage.bob)
    stage.step()
    assert plain.only(InviteFailed).status == 421
    assert stage.only("421 INVITE").headers.values("Require") == ["timer"]
    end(stage)


def test_F096_a_session_that_is_over_has_no_timer() -> None:
    stage = make(ASKS, CONFIG)
    ours, _ = up(stage)
    stage.alice.agent.bye(ours, now=stage.net.now)
    stage.net.run(1)
    assert_nothing_left(stage.net)
    assert stage.net.now < 60


def test_F096_a_session_expires_that_cannot_be_read_is_none() -> None:
    for text in ("soon", "", "-1", '90;refresher="'):
        stranger = Stranger(CONFIG)
        stranger.tell(request_text("INVITE", body="x", more=f"Session-Expires: {text}\r\n"))
        [event] = stranger.agent.events()
        assert isinstance(event, IncomingInvite)
        stranger.agent.respond(
            event.invite, 200, contact="<sip:p@192.0.2.1>", body=ANSWER, content_type=SDP, now=0.0
        )
        [ok] = stranger.heard()
        assert isinstance(ok, Response)
        assert ("Session-Expires" in ok.headers) == text.startswith("90")
