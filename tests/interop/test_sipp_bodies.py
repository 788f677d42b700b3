"""Bodies of other kinds, sent by SIPp from call flows written for it here: its verdict counts."""

from __future__ import annotations

import asyncio
from base64 import encodebytes
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from direct import HOST, desk
from peers.sipp import Sipp
from sipp_flow import CONTACT, SDP, TAG, answered, maybe, scenario, sent

from voip.call import Call
from voip.events import MessageReceived

StartSipp = Callable[..., Awaitable[Sipp]]


def mail(disposition: str) -> tuple[str, ...]:
    """A text as mail writes it, and a picture beside."""
    return (
        "Content-Type: multipart/mixed;boundary=next", "",
        "--next", "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: quoted-printable", "", "Watson, come =", "here. =E2=98=8E",
        "--next", "Content-Type: image/gif", "Content-Transfer-Encoding: base64",
        f"Content-Disposition: {disposition}", "", "R0lGODlh",
        "--next--",
    )  # fmt: skip


@pytest.mark.rfc("3428", "7")
@pytest.mark.rfc("2045", "6")
async def test_a_text_among_parts_is_taken_and_what_must_be_understood_refused(
    sipp: StartSipp, artifacts: Path
) -> None:
    path = scenario(
        artifacts,
        "message-parts",
        sent("MESSAGE", 1, *mail("icon;handling=optional")),
        answered(200),
        sent("MESSAGE", 2, *mail("icon")),
        answered(415, ("Accept:", "text/plain.*multipart/mixed")),
    )
    heard: list[MessageReceived] = []
    async with desk(artifacts) as us:
        us.phone.on_message(heard.append)
        sender = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        (await sender.finished()).require(1)
    assert [(one.text, one.content_type) for one in heard] == [
        ("Watson, come here. \u260e", "text/plain")
    ]


LETTERS = (
    "Content-Type: multipart/mixed;boundary=next", "",
    "--next", "Content-Type: application/sdp", "Content-Transfer-Encoding: base64", "",
    *encodebytes(SDP.encode()).decode().split(),
    "--next", "Content-Type: application/isup",
    "Content-Disposition: signal;handling=optional", "", "IAM",
    "--next--",
)  # fmt: skip


@pytest.mark.rfc("3262", "3-5")
@pytest.mark.rfc("2045", "6")
async def test_a_prack_is_refused_for_what_it_carries_and_taken_without(
    sipp: StartSipp, artifacts: Path
) -> None:
    """The INVITE has its description in base64, beside what the telephone network says."""
    numbered = (
        '<ereg regexp="[0-9]+" search_in="hdr" header="RSeq:" check_it="true" assign_to="1"/>'
    )
    path = scenario(
        artifacts,
        "prack-bodies",
        sent("INVITE", 1, CONTACT, "Supported: 100rel", *LETTERS),
        maybe(100),
        answered(183, more=numbered),
        sent("PRACK", 2, "RAck: [$1] 1 INVITE", "Content-Type: application/isup", "", "IAM",
             tag=TAG),
        answered(415, ("Accept:", "application/sdp")),
        sent("PRACK", 3, "RAck: [$1] 1 INVITE", tag=TAG),
        answered(200, ("CSeq:", "3 PRACK")),
        answered(200, ("CSeq:", "1 INVITE")),
        sent("ACK", 1, tag=TAG, again=False),
        sent("BYE", 4, tag=TAG),
        answered(200, ("CSeq:", "4 BYE")),
    )  # fmt: skip
    over = asyncio.Event()
    async with desk(artifacts) as us:

        @us.phone.on_incoming
        async def take(call: Call) -> None:
            await call.progress()
            await call.answer()  # waits for the PRACK that is taken
            await call.wait_ended()
            over.set()

        caller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        (await caller.finished()).require(1)
        async with asyncio.timeout(5):
            await over.wait()
        assert [line for line in us.ladder.lines if "PRACK" in line] == [
            "< PRACK", "> 415 PRACK", "< PRACK", "> 200 PRACK",
        ]  # fmt: skip
