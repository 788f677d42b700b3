"""A SIPp that calls by UDP and wants what follows by TCP: another one waits for it there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from direct import HOST, desk
from peers.sipp import Sipp
from sipp_flow import ACKED, DESCRIBED, TAG, answered, asked, maybe, replied, scenario, sent

from voip.events import EndedBy

pytestmark = pytest.mark.rfc("3261", "12.2.1.1")

StartSipp = Callable[..., Awaitable[Sipp]]


@pytest.mark.parametrize("said_by", ["Contact", "Record-Route"])
async def test_a_call_that_came_by_udp_is_ended_by_tcp(
    sipp: StartSipp, artifacts: Path, said_by: str
) -> None:
    ending = scenario(
        artifacts, "ending", asked("BYE", 80, ("Via:", "SIP/2.0/TCP")), replied(200, 80)
    )
    over_tcp = await sipp(ending, transport="tcp")
    there = f"<sip:sipp@{over_tcp.address};transport=tcp>"
    route = f"Record-Route: <sip:{over_tcp.address};transport=tcp;lr>"
    here = "Contact: <sip:sipp@[local_ip]:[local_port]>"
    lines = (f"Contact: {there}",) if said_by == "Contact" else (here, route)
    async with desk(artifacts) as us:
        path = scenario(
            artifacts,
            "by-udp",
            sent("INVITE", 1, *lines, *DESCRIBED),
            maybe(100),
            maybe(180),
            answered(200),
            sent("ACK", 1, tag=TAG, again=False),
        )
        by_udp = await sipp(path, remote=f"{HOST}:{us.phone.port}")
        call = await us.incoming()
        await call.answer()
        await call.hangup()
        (await by_udp.finished()).require(1)
        (await over_tcp.finished()).require(1)
    assert call.ended is not None
    assert (call.ended.by, call.ended.status) == (EndedBy.LOCAL, 200)


@pytest.mark.rfc("5630", "5.1.2")
async def test_a_call_to_sips_by_udp_is_refused_and_said_why(
    sipp: StartSipp, artifacts: Path
) -> None:
    async with desk(artifacts) as us:
        uri = f"sips:desk@{HOST}:{us.phone.port}"
        path = scenario(
            artifacts,
            "sips-by-udp",
            sent("INVITE", 1, "Contact: <sips:sipp@[local_ip]>", *DESCRIBED, uri=uri),
            maybe(100),
            answered(480, ("Warning:", "^ *380 [^ ]+ .SIPS Not Allowed.")),
            sent("ACK", 1, tag=TAG, again=False, uri=uri),
        )
        (await (await sipp(path, remote=f"{HOST}:{us.phone.port}")).finished()).require(1)
        assert us.phone.calls == []


@pytest.mark.rfc("3261", "8.1.1.8")
async def test_a_call_without_a_contact_is_refused_and_said_why(
    sipp: StartSipp, artifacts: Path
) -> None:
    async with desk(artifacts) as us:
        path = scenario(
            artifacts,
            "no-contact",
            sent("INVITE", 1, *DESCRIBED),
            maybe(100),
            answered(400),
            sent("ACK", 1, tag=TAG, again=False),
        )
        peer = await sipp(path, remote=f"{HOST}:{us.phone.port}")
        (await peer.finished()).require(1)
        assert us.phone.calls == []
    assert "SIP/2.0 400 one Contact is needed in INVITE, not 0" in peer.log.read_text()


@pytest.mark.rfc("3261", "12.1.2")
async def test_an_answer_without_a_contact_is_acknowledged_and_ended_where_it_was_called(
    sipp: StartSipp, artifacts: Path
) -> None:
    path = scenario(
        artifacts,
        "answers-from-nowhere",
        asked("INVITE", 1),
        replied(200, 1, *DESCRIBED, tag=";tag=[call_number]", again=True),
        ACKED,
        asked("BYE", 80),
        replied(200, 80),
    )
    peer = await sipp(path)
    async with desk(artifacts) as us:
        call = await us.phone.dial(peer.uri)
        await call.hangup()
        assert us.ladder.text("> BYE").startswith(f"BYE {peer.uri} ")
        (await peer.finished()).require(1)
