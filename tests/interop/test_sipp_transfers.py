"""REFER and Replaces as RFC 5589 and RFC 3891 write them, played by SIPp: its verdict counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from direct import HOST, desk
from peers.sipp import Sipp
from phones import ended
from sipp_flow import (
    ACKED,
    CONTACT,
    DESCRIBED,
    TAG,
    answered,
    asked,
    called,
    goodbye,
    replied,
    scenario,
    sent,
)

from voip.call import Call
from voip.errors import CallError
from voip.events import CallState, EndedBy, Transferred

StartSipp = Callable[..., Awaitable[Sipp]]

UP = called(
    1,
    more='<ereg regexp="tag=([^;]+)" search_in="hdr" header="To:" check_it="true"'
    ' assign_to="50,51"/>',
)
"""A call of SIPp's; our tag is in the variable 51."""
ANOTHER = "other///[call_id]"
"""A Call-ID of another dialog, which SIPp takes for the same call of its own."""


def told(first: int) -> tuple[str, str]:
    """A NOTIFY comes in the other dialog."""
    return asked("NOTIFY", first), replied(200, first, call_id=ANOTHER)


async def test_F035_a_refer_beside_the_call_is_followed_and_told_of_there(
    sipp: StartSipp, artifacts: Path
) -> None:
    """RFC 5589 section 6.1: it demands that we know Target-Dialog, and names the call by it."""
    target = await sipp("uas")
    names = "Target-Dialog: [call_id];local-tag=[$51];remote-tag=[call_number]"
    path = scenario(
        artifacts,
        "refer-beside",
        *UP,
        sent(
            "REFER", 1, CONTACT, "Require: tdialog", names, f"Refer-To: <{target.uri}>",
            call_id=ANOTHER,
        ),
        answered(202, ("CSeq:", "1 REFER")),
        *told(1), *told(5), *told(9),  # 100, 180, 200
        *goodbye(2, ";tag=[$51]"),
    )  # fmt: skip
    async with desk(artifacts) as us:
        transferor = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        call = await us.incoming()
        await call.answer()
        (await transferor.finished()).require(1)
        (event,) = [event for event in call._events if isinstance(event, Transferred)]
        assert event.call.state is CallState.ACTIVE
        assert us.ladder.text("> NOTIFY").endswith("SIP/2.0 200 OK\r\n")
        assert us.ladder.header("> NOTIFY", "Call-ID").startswith("other")
        assert (await ended(call)).by is EndedBy.REMOTE
        await event.call.hangup()
        (await target.finished()).require(1)


@pytest.mark.parametrize("status", [405, 420, 501, 603])
async def test_F043_who_takes_no_refer_stays_in_the_call(
    sipp: StartSipp, artifacts: Path, status: int
) -> None:
    path = scenario(
        artifacts,
        "no-refer",
        asked("INVITE", 1),
        replied(200, 1, CONTACT, *DESCRIBED, again=True, tag=";tag=[call_number]"),
        ACKED,
        asked("REFER", 5),
        replied(status, 5),
        asked("BYE", 9),
        replied(200, 9),
    )
    peer = await sipp(path)
    async with desk(artifacts) as us:
        call = await us.phone.dial(peer.uri)
        with pytest.raises(CallError) as refused:
            await call.transfer("sip:carol@192.0.2.3")
        assert refused.value.status == status
        assert call.state is CallState.ACTIVE
        await call.hangup()
        (await peer.finished()).require(1)


def replacing(number: int, status: int, value: str, *more: str) -> tuple[str, ...]:
    """An INVITE of a dialog of its own, with Replaces, and how it is refused."""
    branch = f"z9hG4bK-[call_number]-{number}"
    lines = (f"Replaces: {value}", *more)
    return called(number, *lines, status=status, call_id=ANOTHER, branch=branch)


async def test_F099_a_replaces_that_cannot_be_done_is_refused_as_rfc_3891_says(
    sipp: StartSipp, artifacts: Path
) -> None:
    ours = "[call_id];to-tag=[$51];from-tag=[call_number]"
    path = scenario(
        artifacts,
        "replaces",
        *UP,
        *replacing(1, 481, "nothing;to-tag=a;from-tag=b"),
        *replacing(2, 481, "[call_id];to-tag=[call_number];from-tag=[$51]"),
        *replacing(3, 486, f"{ours};early-only"),
        *replacing(4, 400, ours, f"Replaces: {ours}"),
        *replacing(5, 400, "[call_id];to-tag=[$51]"),
        *goodbye(2, ";tag=[$51]"),
        *replacing(6, 603, ours),
    )
    async with desk(artifacts) as us:
        caller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        call: Call = await us.incoming()
        await call.answer()
        (await caller.finished()).require(1)
        assert (await ended(call)).by is EndedBy.REMOTE
        assert call.replaced_by is None


def notified(number: int, package: str, state: str, *body: str) -> tuple[str, str]:
    """SIPp tells us of the subscription that we have asked it for."""
    head = (CONTACT, f"Event: {package}", f"Subscription-State: {state}")
    notify = sent("NOTIFY", number, *head, *body, uri="[$61]", to="[$2]", own_tag="n")
    return notify, answered(200)


OUR_CONTACT = (
    '<ereg regexp="&lt;([^>]+)>" search_in="hdr" header="Contact:" check_it="true"'
    ' assign_to="60,61"/>'
)


async def test_F034_F097_who_is_asked_to_call_says_how_it_goes(
    sipp: StartSipp, artifacts: Path
) -> None:
    """Click-to-dial: a REFER outside of any call, and three reports."""
    said = ("Content-Type: message/sipfrag", "")
    path = scenario(
        artifacts,
        "click-to-dial",
        asked(
            "REFER", 1, ("Refer-To:", "sip:carol@192.0.2.3"), ("Referred-By:", "sip:"),
            more=OUR_CONTACT,
        ),
        replied(202, 1, CONTACT, tag=";tag=n"),
        *notified(1, "refer", "active;expires=60", *said, "SIP/2.0 100 Trying"),
        *notified(2, "refer", "active;expires=60", *said, "SIP/2.0 180 Ringing"),
        *notified(3, "refer", "terminated;reason=noresource", *said, "SIP/2.0 [field0]"),
    )  # fmt: skip
    for outcome, status in (("200 OK", None), ("486 Busy Here", 486)):
        outcomes = artifacts / "outcomes.csv"
        outcomes.write_text(f"SEQUENTIAL\n{outcome}\n")
        peer = await sipp(path, users=outcomes)
        async with desk(artifacts, name=f"desk-{status}") as us:
            if status is None:
                await us.phone.refer(peer.uri, "sip:carol@192.0.2.3")
            else:
                with pytest.raises(CallError) as failure:
                    await us.phone.refer(peer.uri, "sip:carol@192.0.2.3")
                assert failure.value.status == status
            (await peer.finished()).require(1)


async def test_F032_a_call_that_rings_at_sipp_is_picked_up_of_its_caller(
    sipp: StartSipp, artifacts: Path
) -> None:
    """One SIPp rings and says whose call it is; another has called, and finds it replaced."""
    named = "rings;to-tag=calling;from-tag=ringing"
    caller = await sipp(
        scenario(
            artifacts,
            "caller",
            asked(
                "INVITE", 1, ("Replaces:", f"{named};early-only"), ("Require:", "replaces"),
            ),
            replied(200, 1, CONTACT, *DESCRIBED, again=True, tag=";tag=[call_number]"),
            ACKED,
            asked("BYE", 80),
            replied(200, 80),
        )
    )  # fmt: skip
    document = (
        "Content-Type: application/dialog-info+xml", "", '<?xml version="1.0"?>',
        '<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="0" state="full"'
        ' entity="sip:service@[local_ip]">',
        '<dialog id="1" call-id="rings" local-tag="ringing" remote-tag="calling"'
        ' direction="recipient"><state>early</state>',
        f"<remote><identity>{caller.uri}</identity><target uri=\"{caller.uri}\"/></remote>",
        "</dialog></dialog-info>",
    )  # fmt: skip
    phone = await sipp(
        scenario(
            artifacts,
            "rings",
            asked("SUBSCRIBE", 1, ("Event:", "dialog"), more=OUR_CONTACT),
            replied(200, 1, CONTACT, "Expires: 600", tag=";tag=n"),
            *notified(1, "dialog", "active;expires=600", *document),
            asked("SUBSCRIBE", 5, ("Expires:", "^ *0$")),
            replied(200, 5, CONTACT, "Expires: 0"),
            *notified(2, "dialog", "terminated;reason=timeout", *document),
        )
    )
    async with desk(artifacts) as us:
        async with await us.phone.watch(phone.uri, "dialog") as watch:
            (rings,) = watch.dialogs
            call = await us.phone.pick_up(rings)
        assert call.state is CallState.ACTIVE
        await call.hangup()
        (await caller.finished()).require(1)
        (await phone.finished()).require(1)


async def test_F098_who_is_asked_for_no_reports_calls_and_makes_none(
    sipp: StartSipp, artifacts: Path
) -> None:
    target = await sipp("uas")
    path = scenario(
        artifacts,
        "no-reports",
        *UP,
        sent("REFER", 2, CONTACT, "Refer-Sub: false", f"Refer-To: <{target.uri}>", tag=TAG),
        answered(202, ("CSeq:", "2 REFER"), ("Refer-Sub:", "^ *false")),
        '<pause milliseconds="800"/>',  # a NOTIFY that comes now fails the call
        sent("BYE", 3, tag=TAG),
        answered(200, ("CSeq:", "3 BYE")),
    )
    async with desk(artifacts) as us:
        transferor = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        call = await us.incoming()
        await call.answer()
        (await transferor.finished()).require(1)
        (event,) = [event for event in call._events if isinstance(event, Transferred)]
        assert event.call.state is CallState.ACTIVE
        assert "> NOTIFY" not in us.ladder.lines
        await event.call.hangup()
        (await target.finished()).require(1)
