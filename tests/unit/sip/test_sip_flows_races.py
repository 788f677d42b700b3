"""The races of RFC 5407 by their outcome, and what ends how often, with and without loss.

The messages themselves are looked at in `test_sip_agent_races`.
"""

from __future__ import annotations

from typing import Any

import pytest
from flow_stage import LOSSES, Stage, stage
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
)

from voip.errors import SipError
from voip.sip.dialog import Dialog
from voip.sip.events import (
    Acknowledged,
    Answered,
    Cause,
    DialogEnded,
    IncomingInvite,
    InviteCancelled,
    InviteFailed,
    Provisional,
    ReinviteDone,
    ReinviteReceived,
    RequestDone,
    RequestFailed,
    RequestReceived,
    UpdateDone,
    UpdateReceived,
)
from voip.sip.message import Response

__all__ = ["stage"]


def call(stage: Stage, **more: Any) -> Any:
    invite = stage.alice.call(stage.bob, **more)
    stage.step()
    return invite


def incoming(stage: Stage) -> Any:
    return stage.bob.only(IncomingInvite).invite


def up(stage: Stage) -> tuple[Dialog, Dialog]:
    call(stage)
    stage.bob.answer(incoming(stage))
    stage.step()
    return stage.alice.only(Answered).dialog, stage.bob.only(Acknowledged).dialog


def agree(stage: Stage, *phones: Phone) -> None:
    """Let these accept every change."""
    for phone in phones:
        phone.on(ReinviteReceived, lambda event, phone=phone: phone.answer(event.invite))
        phone.on(UpdateReceived, lambda event, phone=phone: phone.agent.reply(
            event.request, 200, body=ANSWER, content_type=SDP, now=stage.net.now
        ))  # fmt: skip


def reinvite(stage: Stage, phone: Phone, dialog: Dialog) -> Any:
    return phone.agent.reinvite(dialog, body=OFFER, content_type=SDP, now=stage.net.now)


def bye(stage: Stage, phone: Phone, dialog: Dialog) -> None:
    phone.agent.bye(dialog, now=stage.net.now)


def assert_both_ended(stage: Stage) -> None:
    """Both know it, once."""
    stage.net.run(70)
    stage.alice.only(DialogEnded)
    stage.bob.only(DialogEnded)
    assert stage.alice.agent.dialogs == stage.bob.agent.dialogs == []


# 3.1: the callee has sent its 2xx and has no ACK yet (moratorium).


def test_F049_an_invite_that_is_repeated_after_the_200(stage: Stage) -> None:
    stage.net.path.delay = (0.4, 0.4)
    stage.bob.on(IncomingInvite, lambda event: stage.bob.answer(event.invite))
    stage.alice.call(stage.bob)
    stage.net.run(30)
    assert len(stage.net.sent("INVITE")) > 1
    stage.bob.only(IncomingInvite)
    stage.bob.only(Acknowledged)
    stage.alice.only(Answered)


def test_F050_a_cancel_that_crosses_the_200(stage: Stage) -> None:
    invite = call(stage)
    stage.bob.answer(incoming(stage))
    stage.alice.agent.cancel(invite, now=stage.net.now)
    stage.net.run(70)
    assert stage.alice.only(InviteFailed).cause is Cause.CANCELLED
    assert stage.alice.events(Answered) == stage.bob.events(InviteCancelled) == []
    assert stage.bob.only(DialogEnded).by_remote


def test_F051_an_early_bye_that_crosses_the_200(stage: Stage) -> None:
    call(stage)
    stage.bob.answer(incoming(stage), 180, reliable=True)
    stage.step()
    [early] = [e.dialog for e in stage.alice.events(Provisional) if e.dialog is not None]
    stage.bob.answer(incoming(stage))
    bye(stage, stage.alice, early)
    assert_both_ended(stage)
    assert stage.alice.only(InviteFailed).cause is Cause.CANCELLED
    assert stage.alice.events(Answered) == []


def test_F052_a_reinvite_before_the_ack_has_come(stage: Stage) -> None:
    agree(stage, stage.bob)
    stage.alice.on(Answered, lambda event: reinvite(stage, stage.alice, event.dialog))
    call(stage)
    stage.bob.answer(incoming(stage))
    stage.net.run(40)
    assert stage.alice.only(ReinviteDone).status == 200
    stage.alice.only(Answered)
    assert len(stage.bob.events(Acknowledged)) == 2


def test_F053_a_reinvite_before_the_ack_with_the_answer_has_come(stage: Stage) -> None:
    agree(stage, stage.bob)
    left = [1]

    def lose_the_first_ack(message: Any, _: object) -> bool:
        return getattr(message, "method", "") == "ACK" and bool(left) and bool(left.pop())

    def answered(event: Answered) -> None:
        stage.alice.agent.ack(event.dialog, body=ANSWER, content_type=SDP, now=stage.net.now)
        reinvite(stage, stage.alice, event.dialog)

    stage.alice.on(Answered, answered)
    call(stage, body=b"")
    stage.net.path.drop = lose_the_first_ack
    stage.bob.answer(incoming(stage))
    stage.net.run(60)
    assert "491 INVITE" in stage.sent()
    assert stage.alice.only(ReinviteDone).status == 200
    assert [bool(e.request.body) for e in stage.bob.events(Acknowledged)] == [True, False]


def test_F054_a_bye_before_the_ack_has_come(stage: Stage) -> None:
    stage.alice.on(Answered, lambda event: bye(stage, stage.alice, event.dialog))
    call(stage)
    stage.bob.answer(incoming(stage))
    assert_both_ended(stage)
    assert stage.bob.only(DialogEnded).by_remote


# 3.2: a BYE has been sent and is not answered yet (mortal).


def test_F055_two_byes_that_cross(stage: Stage) -> None:
    ours, theirs = up(stage)
    bye(stage, stage.alice, ours)
    bye(stage, stage.bob, theirs)
    assert_both_ended(stage)


def test_F056_a_reinvite_that_crosses_a_bye(stage: Stage) -> None:
    ours, theirs = up(stage)
    reinvite(stage, stage.alice, ours)
    bye(stage, stage.bob, theirs)
    assert_both_ended(stage)
    assert stage.alice.only(ReinviteDone).status in (481, 487)
    assert stage.bob.events(ReinviteReceived) == []


def test_F057_a_200_to_a_reinvite_that_crosses_our_bye(stage: Stage) -> None:
    ours, _ = up(stage)
    stage.net.path.loss = 0
    reinvite(stage, stage.alice, ours)
    stage.net.run(0.05)
    stage.net.path.loss = stage.loss
    stage.bob.answer(stage.bob.only(ReinviteReceived).invite)
    bye(stage, stage.alice, ours)
    assert_both_ended(stage)
    assert stage.alice.only(ReinviteDone).status == 487
    assert "ACK" in stage.sent(stage.alice)[1:]


def test_F058_an_ack_after_the_callee_has_hung_up(stage: Stage) -> None:
    call(stage)
    stage.bob.answer(incoming(stage))
    bye(stage, stage.bob, incoming(stage).dialog)
    assert_both_ended(stage)
    assert stage.alice.only(DialogEnded).by_remote
    sent = stage.sent()
    assert sent.index("ACK") < sent.index("BYE")


def test_F061_a_refer_that_crosses_our_bye() -> None:
    for loss in LOSSES:
        net = Net(Path(loss=loss), seed=3)
        stage = Stage(net, loss, replace(CONFIG, allow=(*CONFIG.allow, "REFER")))
        ours, theirs = up(stage)
        stage.bob.agent.dialog_request(
            theirs, "REFER", headers=[("Refer-To", "<sip:carol@192.0.2.3>")], now=net.now
        )
        bye(stage, stage.alice, ours)
        assert_both_ended(stage)
        assert stage.alice.events(RequestReceived) == []
        outcome = [*stage.bob.events(RequestDone), *stage.bob.events(RequestFailed)]
        assert [e.response.status for e in outcome if e.response is not None] == [481]
        assert_nothing_left(net)


# 3.3: changes that cross.


def test_F059_two_reinvites_that_cross(stage: Stage) -> None:
    ours, theirs = up(stage)
    agree(stage, stage.alice, stage.bob)
    reinvite(stage, stage.alice, ours)
    reinvite(stage, stage.bob, theirs)
    stage.net.run(60)
    assert stage.alice.only(ReinviteDone).status == 200
    assert stage.bob.only(ReinviteDone).status == 200


def test_F060_an_update_that_crosses_a_reinvite(stage: Stage) -> None:
    ours, theirs = up(stage)
    agree(stage, stage.alice, stage.bob)
    reinvite(stage, stage.bob, theirs)
    stage.alice.agent.update(ours, body=OFFER, content_type=SDP, now=stage.net.now)
    stage.net.run(60)
    assert stage.bob.only(ReinviteDone).status == 200
    assert stage.alice.only(UpdateDone).status == 200


# RFC 6026: the Accepted state.


def test_F116_a_200_that_comes_again_is_acknowledged_again_and_told_once(stage: Stage) -> None:
    call(stage)
    left = [1, 1, 1]

    def lose_acks(message: Any, _: object) -> bool:
        return getattr(message, "method", "") == "ACK" and bool(left) and bool(left.pop())

    stage.net.path.drop = lose_acks
    stage.bob.answer(incoming(stage))
    stage.net.run(31)
    acks = {m.to_bytes() for _, m, _ in stage.net.wire if getattr(m, "method", "") == "ACK"}
    assert len(acks) == 1
    assert len(stage.net.sent("ACK")) >= 4
    stage.alice.only(Answered)
    stage.bob.only(Acknowledged)


def test_F116_an_invite_that_is_repeated_after_the_ack_is_absorbed() -> None:
    stranger = Stranger()
    invite = request_text("INVITE", body="x")
    stranger.tell(invite)
    [event] = stranger.agent.events()
    assert isinstance(event, IncomingInvite)
    stranger.agent.respond(
        event.invite, 200, contact="<sip:p@192.0.2.1>", body=ANSWER, content_type=SDP, now=0.0
    )
    [ok] = stranger.heard()
    stranger.tell(request_text("ACK", to_tag=ok.to.tag or "", branch="z9hG4bKa", cseq="1 ACK"))
    stranger.wait(20)
    stranger.agent.events()
    assert stranger.tell(invite) == []
    assert stranger.agent.events() == []
    [refusal] = stranger.tell(request_text("BYE", branch="z9hG4bKb", cseq="2 BYE"))
    assert isinstance(refusal, Response)
    stranger.wait(20)
    assert stranger.agent.transactions == 0


# RFC 4320: no 408, and no provisional response but a late 100, to anything but INVITE.


@pytest.mark.parametrize("status", [180, 183, 199, 408])
def test_F117_what_may_not_answer_a_request_is_refused_at_the_call(status: int) -> None:
    stranger = Stranger(replace(CONFIG, allow=(*CONFIG.allow, "MESSAGE")))
    stranger.tell(request_text("MESSAGE", body="x"))
    [event] = stranger.agent.events()
    assert isinstance(event, RequestReceived)
    with pytest.raises(SipError, match="may not answer"):
        stranger.agent.reply(event.request, status, now=0.0)
    assert not event.request.replied
    stranger.agent.reply(event.request, 200, now=0.0)
    assert [m.status for m in stranger.heard() if isinstance(m, Response)] == [200]


def test_F117_a_slow_user_is_covered_by_a_late_100(stage: Stage) -> None:
    config = replace(CONFIG, allow=(*CONFIG.allow, "MESSAGE"))
    net = stage.net
    slow = net.phone("192.0.2.3", config)
    slow.on(RequestReceived, lambda event: net.at(
        net.now + 10, lambda: slow.agent.reply(event.request, 200, now=net.now)
    ))  # fmt: skip
    stage.alice.agent.request(
        "MESSAGE", slow.uri, flow=stage.alice.to(slow), from_=f"<{stage.alice.uri}>",
        to=f"<{slow.uri}>", body=b"hello", content_type="text/plain", now=net.now,
    )  # fmt: skip
    net.run(40)
    assert stage.alice.only(RequestDone).response.status == 200
    started = net.sent("MESSAGE")[0]
    hundreds = [at for at in net.sent(100) if at - started < 11]
    assert hundreds
    assert hundreds[0] - started >= 3.5
