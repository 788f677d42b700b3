"""Offers and answers of RFC 4317 (one stream) and RFC 3311 with SIPp, whose verdict counts.

RFC 4317 adapted: PCMU in the place of iLBC where that is to be taken. What is agreed on is heard:
sound comes where SIPp has said, and nowhere before it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from direct import HOST, desk
from peers.sipp import Sipp
from phones import ended, until
from sipp_flow import (
    ACKED,
    CONTACT,
    DESCRIBED,
    TAG,
    answered,
    asked,
    maybe,
    replied,
    scenario,
    sent,
)
from test_sipp_flows import Ear

from voip.events import CallState, EndedBy

StartSipp = Callable[..., Awaitable[Sipp]]

OURS = ";tag=n"
PAUSE = '<pause milliseconds="500"/>'
"""While sound goes where it has been agreed on."""
CONTACT_KEPT = (
    '<ereg regexp="&lt;([^>]+)>" search_in="hdr" header="Contact:" check_it="true"'
    ' assign_to="60,61"/>'
)
RSEQ_KEPT = '<ereg regexp="[0-9]+" search_in="hdr" header="RSeq:" check_it="true" assign_to="70"/>'
BRANCH = "z9hG4bK-[call_id]"
BYE = (sent("BYE", 3, tag=TAG), answered(200, ("CSeq:", "3 BYE")))
"""SIPp hangs up as the caller."""


def says(version: int, *lines: str, host: str = HOST) -> tuple[str, ...]:
    """What SIPp says of itself, by the version of it."""
    head = ("v=0", f"o=alice 2890844526 {version} IN IP4 {HOST}", "s=-", f"c=IN IP4 {host}")
    return "Content-Type: application/sdp", "", *head, "t=0 0", *lines


def offers(number: int, description: tuple[str, ...], *checks: tuple[str, str]) -> tuple[str, ...]:
    """SIPp calls us, or offers something in the call that it made."""
    tag = TAG if number > 1 else ""
    return (
        sent("INVITE", number, CONTACT, *description, tag=tag),
        maybe(100),
        answered(200, ("CSeq:", f"{number} INVITE"), *checks),
        sent("ACK", number, tag=TAG, again=False),
    )


def called(description: tuple[str, ...]) -> tuple[str, ...]:
    """We call SIPp, which answers this."""
    return (
        asked("INVITE", 1, more=CONTACT_KEPT),
        replied(200, 1, CONTACT, *description, tag=OURS, again=True),
        ACKED,
    )


def offers_back(description: tuple[str, ...], *checks: tuple[str, str]) -> tuple[str, ...]:
    """SIPp offers something in a call that we made."""
    return (
        sent("INVITE", 1, CONTACT, *description, uri="[$61]", to="[$2]", own_tag="n"),
        maybe(100),
        answered(200, ("CSeq:", "1 INVITE"), *checks),
        sent("ACK", 1, uri="[$61]", to="[$2]", own_tag="n", again=False),
    )


@asynccontextmanager
async def ear() -> AsyncIterator[tuple[Ear, str]]:
    """Where sound of PCMU may go: what is heard there, and the m-line of it."""
    loop = asyncio.get_running_loop()
    transport, heard = await loop.create_datagram_endpoint(Ear, local_addr=(HOST, 0))
    try:
        yield heard, f"m=audio {transport.get_extra_info('sockname')[1]} RTP/AVP 0"
    finally:
        transport.close()


async def test_F067_of_two_audio_streams_sipp_has_one_declined(
    sipp: StartSipp, artifacts: Path
) -> None:
    """Section 2.6."""
    async with ear() as (heard, audio), desk(artifacts) as us:
        two = says(1, "m=audio 9 RTP/AVP 97", "a=rtpmap:97 iLBC/8000", audio)
        taken = ("", "m=audio 0 RTP/AVP 97.*m=audio [1-9][0-9]* RTP/AVP 0")
        path = scenario(artifacts, "two-streams", *offers(1, two, taken), PAUSE, *BYE)
        caller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        call = await us.incoming()
        await call.answer()
        assert (await ended(call)).by is EndedBy.REMOTE
        (await caller.finished()).require(1)
        assert len(heard.heard) >= 10


async def test_F070_who_is_answered_by_hold_is_taken_off_it_by_sipp(
    sipp: StartSipp, artifacts: Path
) -> None:
    """Section 3.1."""
    async with ear() as (heard, audio), desk(artifacts) as us:
        path = scenario(
            artifacts,
            "answers-by-hold",
            *called(says(1, audio, "a=sendonly")),
            PAUSE,
            *offers_back(says(2, audio), ("", "a=sendrecv")),
            asked("BYE", 5),
            replied(200, 5),
        )
        peer = await sipp(path)
        call = await us.phone.dial(peer.uri)
        assert call.state is CallState.HELD
        await asyncio.sleep(0.3)
        assert heard.heard == []
        await until(lambda: call.state is CallState.ACTIVE, "SIPp to take us off hold")
        await until(lambda: len(heard.heard) >= 10, "sound to come")
        await call.hangup()
        (await peer.finished()).require(1)


async def test_F075_sipp_calls_without_a_stream_and_adds_sound(
    sipp: StartSipp, artifacts: Path
) -> None:
    """Section 5.1."""
    async with ear() as (heard, audio), desk(artifacts) as us:
        path = scenario(
            artifacts,
            "no-stream",
            *offers(1, says(1), ("", "t=0 0[[:space:]]*$")),
            PAUSE,
            *offers(2, says(2, audio), ("", "m=audio [1-9][0-9]* RTP/AVP 0")),
            PAUSE,
            *BYE,
        )
        caller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        call = await us.incoming()
        await call.answer()
        assert (await ended(call)).by is EndedBy.REMOTE
        (await caller.finished()).require(1)
        assert len(heard.heard) >= 10


async def test_F076_sipp_calls_without_an_address_and_is_heard_when_it_has_one(
    sipp: StartSipp, artifacts: Path
) -> None:
    """Section 5.2."""
    async with ear() as (heard, audio), desk(artifacts) as us:
        path = scenario(
            artifacts,
            "no-address",
            *offers(1, says(1, audio, host="0.0.0.0"), ("", "m=audio [1-9][0-9]* RTP/AVP 0")),
            PAUSE,
            *offers(2, says(2, audio), ("", "m=audio [1-9][0-9]* RTP/AVP 0")),
            PAUSE,
            *BYE,
        )
        caller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        call = await us.incoming()
        await call.answer()
        await asyncio.sleep(0.3)
        assert heard.heard == []
        assert (await ended(call)).by is EndedBy.REMOTE
        (await caller.finished()).require(1)
        assert len(heard.heard) >= 10


async def test_F077_sipp_answers_without_an_address_and_is_heard_when_it_has_one(
    sipp: StartSipp, artifacts: Path
) -> None:
    """Section 5.3."""
    async with ear() as (heard, audio), desk(artifacts) as us:
        path = scenario(
            artifacts,
            "answers-without-an-address",
            *called(says(1, audio, host="0.0.0.0")),
            PAUSE,
            *offers_back(says(2, audio), ("", "m=audio [1-9][0-9]* RTP/AVP 0")),
            asked("BYE", 5),
            replied(200, 5),
        )
        peer = await sipp(path)
        call = await us.phone.dial(peer.uri)
        await asyncio.sleep(0.3)
        assert heard.heard == []
        await until(lambda: call.state is CallState.ACTIVE, "SIPp to have an address")
        await until(lambda: len(heard.heard) >= 10, "sound to come")
        await call.hangup()
        (await peer.finished()).require(1)


# ---------------------------------------------------------------- RFC 6337


async def test_F087_F095_sipp_offers_what_can_be_had_and_then_what_cannot(
    sipp: StartSipp, artifacts: Path
) -> None:
    """A change that is refused leaves the session as it was."""
    async with ear() as (heard, audio), ear() as (elsewhere, other), desk(artifacts) as us:
        nobody_knows = (other.replace("AVP 0", "AVP 97"), "a=rtpmap:97 nobody-knows/8000")
        path = scenario(
            artifacts,
            "refused-change",
            *offers(1, says(1, audio), ("", "m=audio [1-9][0-9]* RTP/AVP 0")),
            PAUSE,
            sent("INVITE", 2, CONTACT, *says(2, *nobody_knows), tag=TAG, branch=f"{BRANCH}-2"),
            maybe(100),
            answered(488, ("CSeq:", "2 INVITE")),
            sent("ACK", 2, tag=TAG, again=False, branch=f"{BRANCH}-2"),
            PAUSE,
            *BYE,
        )
        caller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        call = await us.incoming()
        await call.answer()
        await until(lambda: "> 488 INVITE" in us.ladder.lines, "the change to be refused")
        before = len(heard.heard)
        assert call.state is CallState.ACTIVE
        assert (await ended(call)).by is EndedBy.REMOTE
        (await caller.finished()).require(1)
        assert len(heard.heard) >= before + 10
        assert elsewhere.heard == []


async def test_F088_sipp_has_us_offer_and_answers_in_the_ack(
    sipp: StartSipp, artifacts: Path
) -> None:
    async with ear() as (heard, audio), desk(artifacts) as us:
        path = scenario(
            artifacts,
            "late-offer",
            sent("INVITE", 1, CONTACT),
            maybe(100),
            answered(200, ("", "m=audio [1-9][0-9]* RTP/AVP 0 8")),
            sent("ACK", 1, *says(1, audio), tag=TAG, again=False),
            PAUSE,
            *BYE,
        )
        caller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        call = await us.incoming()
        await call.answer()
        assert (await ended(call)).by is EndedBy.REMOTE
        (await caller.finished()).require(1)
        assert len(heard.heard) >= 10


async def test_F091_sipp_offers_in_its_prack_and_is_answered_in_the_200(
    sipp: StartSipp, artifacts: Path
) -> None:
    async with ear() as (heard, audio), desk(artifacts) as us:
        path = scenario(
            artifacts,
            "offers-in-prack",
            sent("INVITE", 1, CONTACT, "Supported: 100rel", *DESCRIBED),
            maybe(100),
            answered(183, ("Require:", "100rel"), ("", "m=audio [1-9]"), more=RSEQ_KEPT),
            sent("PRACK", 2, "RAck: [$70] 1 INVITE", *says(2, audio), tag=TAG),
            answered(200, ("CSeq:", "2 PRACK"), ("", "m=audio [1-9][0-9]* RTP/AVP 0")),
            answered(200, ("CSeq:", "1 INVITE"), ("Content-Length:", "^ *0$")),
            sent("ACK", 1, tag=TAG, again=False),
            PAUSE,
            *BYE,
        )
        caller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        call = await us.incoming()
        await call.progress()
        await until(lambda: "> 200 PRACK" in us.ladder.lines, "SIPp to acknowledge the 183")
        await call.answer()
        assert (await ended(call)).by is EndedBy.REMOTE
        (await caller.finished()).require(1)
        assert len(heard.heard) >= 10


# ---------------------------------------------------------------- UPDATE


def updates(number: int, *lines: str, says_back: str) -> tuple[str, str]:
    """SIPp offers something by UPDATE."""
    return (
        sent("UPDATE", number, CONTACT, *says(number, "m=audio 9 RTP/AVP 0", *lines), tag=TAG),
        answered(200, ("CSeq:", f"{number} UPDATE"), ("", says_back)),
    )


async def test_F086_F092_sipp_updates_a_call_before_and_after_it_is_answered(
    sipp: StartSipp, artifacts: Path
) -> None:
    async with desk(artifacts) as us:
        path = scenario(
            artifacts,
            "updates",
            sent("INVITE", 1, CONTACT, "Supported: 100rel", *DESCRIBED),
            maybe(100),
            answered(183, ("Require:", "100rel"), ("Allow:", "UPDATE"), more=RSEQ_KEPT),
            sent("PRACK", 2, "RAck: [$70] 1 INVITE", tag=TAG),
            answered(200, ("CSeq:", "2 PRACK")),
            *updates(3, "a=sendonly", says_back="a=recvonly"),
            answered(200, ("CSeq:", "1 INVITE")),
            sent("ACK", 1, tag=TAG, again=False),
            PAUSE,
            *updates(4, says_back="a=sendrecv"),
            sent("UPDATE", 5, CONTACT, tag=TAG),  # without an offer: the session is refreshed
            answered(200, ("CSeq:", "5 UPDATE"), ("Content-Length:", "^ *0$")),
            PAUSE,
            sent("BYE", 6, tag=TAG),
            answered(200, ("CSeq:", "6 BYE")),
        )
        caller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        call = await us.incoming()
        await call.progress()
        await until(lambda: "> 200 UPDATE" in us.ladder.lines, "SIPp to put us on hold")
        await call.answer()
        assert call.state is CallState.HELD
        await until(lambda: call.state is CallState.ACTIVE, "SIPp to take us off hold")
        assert (await ended(call)).by is EndedBy.REMOTE
        (await caller.finished()).require(1)


async def test_F086_F092_we_update_a_call_that_sipp_has_not_answered_yet(
    sipp: StartSipp, artifacts: Path
) -> None:
    path = scenario(
        artifacts,
        "is-updated",
        asked("INVITE", 1, ("Supported:", "100rel")),
        replied(183, 1, CONTACT, "Require: 100rel", "RSeq: 7", "Allow: UPDATE", *DESCRIBED,
                tag=OURS, again=True),
        asked("PRACK", 5, ("RAck:", "7 1 INVITE")),
        replied(200, 5),
        asked("UPDATE", 5, ("", "a=sendonly")),
        replied(200, 5, CONTACT, *says(2, "m=audio 9 RTP/AVP 0", "a=recvonly")),
        replied(200, 1, CONTACT, tag=OURS, again=True),
        ACKED,
        asked("BYE", 5),
        replied(200, 5),
    )  # fmt: skip
    peer = await sipp(path)
    async with desk(artifacts) as us:
        call = await us.phone.dial(peer.uri, wait="started")
        await until(lambda: call.state is CallState.EARLY, "SIPp's 183")
        await call.hold()
        await call.wait_answered()
        assert call.state is CallState.HELD
        await call.hangup()
        (await peer.finished()).require(1)
