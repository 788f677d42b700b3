"""What a PRACK carries that is not what it should be: refused, it acknowledges nothing.

RFC 3262 sections 3 and 5; RFC 6337 section 2.3 for what may follow a refusal.
"""

from __future__ import annotations

from typing import Any

import pytest
from virtual_sip import ANSWER, OFFER, SDP, Stranger, request_text

from voip.sip.events import IncomingInvite, PrackReceived
from voip.sip.message import Response

pytestmark = [pytest.mark.rfc("3262", "3-5"), pytest.mark.rfc("6337", "2.3")]

CONTACT = "<sip:p@192.0.2.1>"
OTHER = OFFER.replace(b"1 1 IN", b"1 2 IN")


class Caller(Stranger):
    """Somebody who knows reliable responses and sends what it likes in its PRACKs."""

    def __init__(self, offer: bytes = OFFER) -> None:
        super().__init__()
        self._count = 1
        self.tell(request_text("INVITE", body=offer.decode(), more="Supported: 100rel\r\n"))
        [event] = self.agent.events()
        assert isinstance(event, IncomingInvite)
        self.invite = event.invite

    def progress(self, status: int = 183, body: bytes = b"") -> Response:
        """Have the agent send a reliable response; return it."""
        kind = SDP if body else None
        self.agent.respond(
            self.invite, status, contact=CONTACT, body=body, content_type=kind, reliable=True,
            now=self.now,
        )  # fmt: skip
        [early] = self.heard()
        assert isinstance(early, Response)
        return early

    def prack(self, early: Response, body: bytes = b"", kind: str = SDP) -> list[Any]:
        """Acknowledge a response; return what is answered at once."""
        self._count += 1
        text = request_text(
            "PRACK", branch=f"z9hG4bKp{self._count}", to_tag=early.to.tag or "",
            cseq=f"{self._count} PRACK", more=f"RAck: {early.headers.get('RSeq')} 1 INVITE\r\n",
            body=body.decode("latin-1"),
        )  # fmt: skip
        return self.tell(text.replace(SDP, kind))

    def statuses(self, seconds: float) -> list[int]:
        """What it is told in that time."""
        return [one.status for one in self.wait(seconds) if isinstance(one, Response)]

    def refuse(self) -> None:
        """Have the call refused, and see that nothing is left of it."""
        self.agent.respond(self.invite, 486, now=self.now)
        self.wait(80)
        assert self.empty()


def test_a_body_that_nobody_reads_is_refused_and_the_response_repeated() -> None:
    caller = Caller()
    early = caller.progress(body=ANSWER)
    [refused] = caller.prack(early, b"...", "application/isup")
    assert (refused.status, refused.headers.get("Accept")) == (
        415,
        "application/sdp, multipart/mixed, multipart/alternative",
    )
    [torn] = caller.prack(early, b"...", "multipart/mixed;boundary=x")
    assert torn.status == 400
    assert caller.agent.events() == []
    assert caller.statuses(0.6) == [183]
    [taken] = caller.prack(early)
    assert (taken.status, taken.body) == (200, b"")
    assert caller.statuses(10) == []
    caller.refuse()


def test_a_second_offer_before_the_answer_to_the_first_is_refused() -> None:
    caller = Caller()
    ringing = caller.progress(180)
    [refused] = caller.prack(ringing, OTHER)
    assert refused.status == 488
    assert caller.agent.events() == []
    assert caller.statuses(0.6) == [180]
    [taken] = caller.prack(ringing)
    assert taken.status == 200
    caller.refuse()


def test_an_offer_is_refused_while_the_answer_waits_behind_the_response() -> None:
    """The 183 with the answer is not sent before the PRACK to the 180 has come."""
    caller = Caller()
    ringing = caller.progress(180)
    caller.agent.respond(
        caller.invite, 183, contact=CONTACT, body=ANSWER, content_type=SDP, now=caller.now
    )
    assert caller.heard() == []
    [refused] = caller.prack(ringing, OTHER)
    assert refused.status == 488
    taken, described = caller.prack(ringing)
    assert (taken.status, described.status, described.body) == (200, 183, ANSWER)
    caller.refuse()


@pytest.mark.parametrize("offer", [OFFER, b""], ids=["their offer first", "ours first"])
def test_an_offer_may_come_with_any_prack_once_the_first_is_answered(offer: bytes) -> None:
    """The 180 describes nothing; its PRACK may offer all the same."""
    caller = Caller(offer)
    early = caller.progress(body=ANSWER if offer else OTHER)
    [taken] = caller.prack(early, b"" if offer else ANSWER)
    assert taken.status == 200
    caller.agent.events()
    ringing = caller.progress(180)
    assert caller.prack(ringing, OTHER) == []
    [event] = caller.agent.events()
    assert isinstance(event, PrackReceived)
    assert event.reply is not None
    assert event.reply.request.body == OTHER
    assert caller.statuses(5) == [100]  # it has arrived: the 180 is not repeated
    caller.agent.reply(event.reply, 200, body=ANSWER, content_type=SDP, now=caller.now)
    [answered] = caller.heard()
    assert (answered.status, answered.body) == (200, ANSWER)
    assert caller.statuses(10) == []
    caller.refuse()


def test_an_offer_that_is_refused_leaves_the_response_to_another_prack() -> None:
    caller = Caller()
    early = caller.progress(body=ANSWER)
    assert caller.prack(early, OTHER) == []
    [event] = caller.agent.events()
    [crossing] = caller.prack(early, OTHER)
    assert crossing.status == 500
    assert int(crossing.headers.get("Retry-After")) <= 10
    caller.agent.reply(event.reply, 488, now=caller.now)
    assert [one.status for one in caller.heard()] == [488]
    assert caller.statuses(1.6) == [183, 183]
    [taken] = caller.prack(early)
    assert taken.status == 200
    assert caller.statuses(10) == []
    caller.refuse()


def test_a_response_whose_pracks_are_all_refused_ends_the_call_after_64_t1() -> None:
    caller = Caller()
    early = caller.progress(body=ANSWER)
    caller.wait(20)
    [refused] = caller.prack(early, b"...", "application/isup")
    assert refused.status == 415
    assert 504 in caller.statuses(15)
    caller.wait(80)
    assert caller.empty()


def test_a_prack_that_owes_the_answer_and_brings_none_is_told() -> None:
    caller = Caller(b"")
    early = caller.progress(body=OTHER)
    [taken] = caller.prack(early)
    assert taken.status == 200
    [event] = caller.agent.events()
    assert isinstance(event, PrackReceived)
    assert (event.request.body, event.reply) == (b"", None)
    caller.refuse()
