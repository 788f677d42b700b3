"""What a conference of ours owes its parties, judged by SIPp, baresip and PJSIP.

SIPp dials in, watches the conference and asks it to call baresip; conferences with baresip and
PJSIP in them are handed over to another phone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from callers import answering
from direct import HOST, Desk, desk
from peers.baresip import Baresip
from peers.pjsua import Pjsua
from peers.sipp import Sipp
from phones import until
from test_conference import BARESIP, heard, require
from test_sipp_bodies import SDP, answered, scenario

from voip.conference import Conference
from voip.desk import ModerationRequest
from voip.sip.packages.conference_info import ConferenceTable

StartBaresip = Callable[..., Awaitable[Baresip]]
StartPjsua = Callable[..., Awaitable[Pjsua]]
StartSipp = Callable[..., Awaitable[Sipp]]

FOCUS = "sip:[service]@[remote_ip]:[remote_port]"
OURS = "sip:sipp@[local_ip]:[local_port]"
NAMED = "Target-Dialog: [call_id];local-tag=a[call_number];remote-tag=[$1]"
"""Of SIPp's call, whose other requests have Call-IDs of their own: what stands before `///`."""


def sent(method: str, call: str, number: int, *lines: str, tag: str = "", body: str = "") -> str:
    """A request to the conference; `call`: which dialog, by the first letter of its tag."""
    prefix = "" if call == "a" else f"{call}///"
    text = "\n".join(
        (
            f"{method} {FOCUS} SIP/2.0",
            "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]",
            "Max-Forwards: 70",
            f"From: <{OURS}>;tag={call}[call_number]",
            f"To: <{FOCUS}>{tag}",
            f"Call-ID: {prefix}[call_id]",
            f"CSeq: {number} {method}",
            f"Contact: <{OURS}>",
            *lines,
            "Content-Length: [len]",
            "",
            body,
        )
    )
    repeat = "" if method == "ACK" else ' retrans="500"'
    return f"<send{repeat}><![CDATA[\n\n{text}\n]]></send>"


def told(*patterns: str, state: str = "active", package: str = "conference") -> str:
    """A NOTIFY that SIPp demands, whose body has all of `patterns`, and its answer."""
    places = {"Event:": package, "Subscription-State:": state}
    checks = [
        f'<ereg regexp="{value}" search_in="hdr" header="{name}" check_it="true" assign_to="{n}"/>'
        for n, (name, value) in enumerate(places.items(), 20)
    ]
    checks += [
        f'<ereg regexp="{pattern}" search_in="body" check_it="true" assign_to="{n}"/>'
        for n, pattern in enumerate(patterns, 30)
    ]
    logs = "".join(f'<log message="[${n}]"/>' for n in (20, 21))
    logs += "".join(f'<log message="[${n}]"/>' for n, _ in enumerate(patterns, 30))
    return f'<recv request="NOTIFY"><action>{"".join(checks)}{logs}</action></recv>{_OK}'


_OK = (
    "<send><![CDATA[\n\nSIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n"
    f"[last_CSeq:]\nContact: <{OURS}>\nContent-Length: 0\n\n]]></send>"
)
_TAG = (
    '<ereg regexp=";tag=([^;]*)" search_in="hdr" header="To:" check_it="true" assign_to="2,1"/>'
    '<log message="[$2]"/>'
)
DIALLED_IN = (
    sent(
        "INVITE",
        "a",
        1,
        "Recv-Info: seated",
        "Content-Type: application/sdp",
        body=SDP.replace("\r\n", "\n"),
    ),
    '<recv response="100" optional="true"/>',
    '<recv response="180" optional="true"/>',
    answered(200, ("Contact:", ";isfocus"), more=_TAG),
    sent("ACK", "a", 1, tag=";tag=[$1]"),
    f'<recv request="INFO"/>{_OK}',  # it takes part from now on
)
LEFT = (sent("BYE", "a", 9, tag=";tag=[$1]"), answered(200, ("CSeq:", "9 BYE")))


def user(entity: str, state: str) -> str:
    """How a user stands in a document, in any order of its attributes."""
    one, other = f"entity=&quot;{entity}&quot;", f"state=&quot;{state}&quot;"
    return f"&lt;user ({one} {other}|{other} {one})"


@asynccontextmanager
async def hosting(artifacts: Path, name: str = "desk") -> AsyncIterator[tuple[Desk, Conference]]:
    """A phone with a conference that whoever has its address may take part in."""
    async with desk(artifacts, name=name) as us, await us.phone.conference() as conference:
        us.phone.on_join(lambda request: True)
        yield us, conference


async def seated(conference: Conference, parties: int) -> None:
    """Tell the last one that has come that it takes part."""
    await until(lambda: len(conference.parties) == parties, f"{parties} parties")
    await conference.parties[-1].send_info("seated")


@pytest.mark.rfc("4575", "3")
async def test_sipp_watches_the_conference_that_it_dials_into(
    sipp: StartSipp, baresip: StartBaresip, artifacts: Path
) -> None:
    """All first, then that baresip is gone, and nothing more when SIPp is gone itself."""
    peer = await baresip(answer="auto")
    there = peer.uri.replace(".", "[.]")
    path = scenario(
        artifacts,
        "watch",
        *DIALLED_IN,
        sent("SUBSCRIBE", "w", 1, "Event: conference", "Expires: 600", NAMED),
        answered(200, ("Expires:", "600")),
        told(
            "conference-info",
            "state=&quot;full&quot;",
            "version=&quot;1&quot;",
            "&lt;purpose&gt;participation",
            "&lt;user-count&gt;3",
            user(there, "full"),
            "&lt;joining-method&gt;focus-owner",
            "&lt;joining-method&gt;dialed-out",
            "&lt;joining-method&gt;dialed-in",
            "&lt;media id=&quot;1&quot;&gt;&lt;type&gt;audio&lt;/type&gt;&lt;status&gt;sendrecv",
        ),
        told(
            "state=&quot;partial&quot;",
            "version=&quot;2&quot;",
            "&lt;user-count&gt;2",
            user(there, "deleted"),
        ),
        *LEFT,
        told(state="terminated;reason=rejected"),
    )
    async with hosting(artifacts) as (us, conference):
        call = await conference.add(peer.uri)
        watcher = await sipp(
            path, remote=f"{HOST}:{us.phone.port}", calls=1, service=conference.user
        )
        await seated(conference, 2)
        await until(lambda: "< 200 NOTIFY" in us.ladder.lines, "SIPp to be told")
        assert us.ladder.header("> NOTIFY", "Content-Type") == "application/conference-info+xml"
        await call.hangup()
        (await watcher.finished()).require(1)


@pytest.mark.rfc("4575", "3.5")
async def test_sipp_may_not_watch_a_conference_that_it_is_not_in(
    sipp: StartSipp, baresip: StartBaresip, artifacts: Path
) -> None:
    peer = await baresip(answer="auto")
    path = scenario(
        artifacts,
        "stranger",
        sent("SUBSCRIBE", "w", 1, "Event: conference", "Expires: 600"),
        answered(403),
        sent("SUBSCRIBE", "x", 1, "Event: conference", "Accept: text/plain"),
        answered(403),
        sent("REFER", "r", 1, f"Refer-To: <{peer.uri};method=BYE>"),
        answered(403),
    )
    async with hosting(artifacts) as (us, conference):
        us.phone.on_moderation(lambda request: True)
        await conference.add(peer.uri)
        stranger = await sipp(
            path, remote=f"{HOST}:{us.phone.port}", calls=1, service=conference.user
        )
        (await stranger.finished()).require(1)
        assert len(conference.parties) == 1


def document(version: int, state: str, inside: str = "") -> str:
    """What another focus says."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<c:conference-info xmlns:c="urn:ietf:params:xml:ns:conference-info" state="{state}"'
        f' entity="sip:room@sipp.example" version="{version}">{inside}</c:conference-info>'
    )


def member(name: str, state: str = "full", inside: str = "") -> str:
    return f'<c:user entity="sip:{name}@sipp.example" state="{state}">{inside}</c:user>'


def on(status: str, state: str = "full") -> str:
    return (
        f'<c:endpoint entity="sip:bob@192.0.2.2" state="{state}">'
        f"<c:status>{status}</c:status></c:endpoint>"
    )


def asks(expires: str) -> str:
    """A SUBSCRIBE of ours that SIPp demands, and its answer."""
    caught = {
        "1": ("From:", ".*"), "2": ("To:", "[^;]*"), "3": ("Event:", "conference"),
        "4": ("Accept:", "application/conference-info.xml"), "5": ("Expires:", f"^ *{expires}"),
    }  # fmt: skip
    checks = "".join(
        f'<ereg regexp="{pattern}" search_in="hdr" header="{name}" check_it="true"'
        f' assign_to="{number}"/><log message="[${number}]"/>'
        for number, (name, pattern) in caught.items()
    )
    checks += (
        '<ereg regexp="&lt;([^&gt;]*)&gt;" search_in="hdr" header="Contact:" check_it="true"'
        ' assign_to="6,7"/><log message="[$6]"/>'
    )
    answer = (
        "SIP/2.0 200 OK\n[last_Via:]\n[last_From:]\nTo:[$2];tag=there\n[last_Call-ID:]\n"
        f"[last_CSeq:]\nContact: <{OURS}>;isfocus\nExpires: {expires}\nContent-Length: 0\n\n"
    )
    return (
        f'<recv request="SUBSCRIBE"><action>{checks}</action></recv>'
        f"<send><![CDATA[\n\n{answer}]]></send>"
    )


def tells(number: int, body: str, state: str = "active;expires=600") -> str:
    """A NOTIFY of SIPp's, and our answer."""
    text = "\n".join(
        (
            "NOTIFY [$7] SIP/2.0",
            "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]",
            "Max-Forwards: 70",
            "From:[$2];tag=there",
            "To:[$1]",
            "Call-ID: [call_id]",
            f"CSeq: {number} NOTIFY",
            f"Contact: <{OURS}>;isfocus",
            "Event: conference",
            f"Subscription-State: {state}",
            "Content-Type: application/conference-info+xml",
            "Content-Length: [len]",
            "",
            body,
        )
    )
    return f'<send retrans="500"><![CDATA[\n\n{text}\n]]></send>' + answered(200)


@pytest.mark.rfc("4575", "4.6")
async def test_we_watch_a_conference_that_sipp_holds(sipp: StartSipp, artifacts: Path) -> None:
    """A document is missed, and asked for; the conference ends, and the subscription with it."""
    path = scenario(
        artifacts,
        "focus",
        asks("3600"),
        tells(1, document(1, "full", f"<c:users>{member('bob', inside=on('alerting'))}</c:users>")),
        tells(
            2,
            document(
                2,
                "partial",
                f'<c:users state="partial">{member("alice")}'
                f"{member('bob', 'partial', on('connected', 'partial'))}</c:users>",
            ),
        ),
        tells(
            3,
            document(4, "partial", f'<c:users state="partial">{member("eve")}</c:users>'),
        ),
        asks("3600"),
        tells(4, document(5, "full", f"<c:users>{member('alice')}{member('carol')}</c:users>")),
        tells(5, document(6, "deleted")),
        asks("0"),
        tells(6, "", "terminated;reason=noresource"),
    )
    async with desk(artifacts) as us:
        focus = await sipp(path, calls=1)
        watch = await us.phone.watch(focus.uri, "conference")
        said = [one.value async for one in watch.notifications()]
        (await focus.finished()).require(1)
        assert watch.users == []
    table = ConferenceTable()
    known = []
    for info in said[:5]:
        complete = table.take(info)
        known.append((complete, [one.entity for one in table.users]))
        if info.version == 2:
            assert table.users[0].endpoints[0].status == "connected"
    bob, alice, carol = (f"sip:{name}@sipp.example" for name in ("bob", "alice", "carol"))
    assert known == [
        (True, [bob]), (True, [bob, alice]), (False, [bob, alice]), (True, [alice, carol]),
        (True, []),
    ]  # fmt: skip


def followed(label: int) -> str:
    """NOTIFYs of a REFER up to the one that says 200, each answered."""
    found = '<ereg regexp="SIP/2.0 200" search_in="body" assign_to="5"/>'
    return (
        f'<label id="{label}"/><recv request="NOTIFY"><action>{found}</action></recv>'
        + _OK.replace("<send>", f'<send next="{label + 1}" test="5">')
        + f'<nop next="{label}"/><label id="{label + 1}"/>'
    )


@pytest.mark.rfc("4579", "5.5")
@pytest.mark.rfc("4579", "5.11")
async def test_F026_sipp_has_the_conference_call_baresip_and_let_it_go(
    sipp: StartSipp, baresip: StartBaresip, artifacts: Path
) -> None:
    peer = await baresip(answer="auto")
    by = f"Referred-By: <{OURS}>"
    path = scenario(
        artifacts,
        "ask",
        *DIALLED_IN,
        sent("REFER", "r", 1, f"Refer-To: <{peer.uri}>", by, NAMED),
        answered(202),
        told("SIP/2.0 100", package="refer"),
        followed(1),
        sent("REFER", "s", 1, f"Refer-To: <{peer.uri};method=BYE>", by, NAMED),
        answered(202),
        told("SIP/2.0 100", package="refer"),
        followed(3),
        sent("REFER", "t", 1, "Refer-To: <sip:nobody@[local_ip]:9>", by, NAMED),
        answered(202),
        told("SIP/2.0 100", package="refer"),
        told("SIP/2.0 603", state="terminated", package="refer"),
        *LEFT,
    )
    asked: list[ModerationRequest] = []

    async with hosting(artifacts) as (us, conference):

        @us.phone.on_moderation
        def may(request: ModerationRequest) -> bool:
            asked.append(request)
            return request.target == peer.uri

        caller = await sipp(
            path, remote=f"{HOST}:{us.phone.port}", calls=1, service=conference.user
        )
        await seated(conference, 1)
        await peer.established()
        await peer.closed()
        (await caller.finished()).require(1)
        invite = us.ladder.text("> INVITE")
        assert f"Contact: <sip:{conference.user}@" in invite and ";isfocus" in invite
        assert "Referred-By: <sip:sipp@" in invite
    assert [one.action for one in asked] == ["add", "remove", "add"]


@pytest.mark.rfc("4579", "5.10")
@pytest.mark.parametrize("by", ["the parties", "the other focus"])
async def test_F026_baresip_and_pjsip_go_on_elsewhere_when_their_host_leaves(
    baresip: StartBaresip, pjsua: StartPjsua, artifacts: Path, by: str
) -> None:
    """Three parties: baresip says a tone, PJSIP says again what it hears, and we hear both.

    Each is sent to the other conference; or that calls each with Replaces, where it lets none in.
    """
    first, second = await baresip(answer="auto", tone_hz=BARESIP), await pjsua()
    async with (
        desk(artifacts) as us,
        desk(artifacts, name="third") as third,
        hosting(artifacts, "there") as (there, theirs),
    ):
        there.phone.on_moderation(lambda request: request.attended)
        calls = answering(third.phone)
        conference = await us.phone.conference()
        _, _, _, number, ours = await asyncio.gather(
            conference.add(first.uri),
            conference.add(second.uri),
            conference.add(third.uri()),
            picked_up(second),
            calls.get(),
        )
        require(await heard(ours), BARESIP, who="the third party, while we are there")
        address = f"sip:{theirs.user}@{HOST}:{there.phone.port}"
        call = await us.phone.dial(address)
        await until(lambda: len(theirs.parties) == 1, "us to be there")
        there.phone.on_join(lambda request: by == "the parties")
        await conference.hand_over(call)
        await until(lambda: len(theirs.parties) == 4, "all to be there")
        assert us.phone.calls == [call]
        await call.hangup()
        await second.closed(number)
        await until(lambda: ours.ended is not None, "the end of the old calls")
        (new,) = third.phone.calls
        assert new.is_focus
        sound = await heard(new)
        require(sound, BARESIP, who="the third party, without us")
        invited = [line for line in there.ladder.lines if line == "> INVITE"]
        assert len(invited) == (0 if by == "the parties" else 3)
        (again,) = [one for one in theirs.parties if one.remote.startswith("sip:pjsip@")]
        require(await heard(again), BARESIP, who="the focus, by what PJSIP says again")


async def picked_up(peer: Pjsua) -> int:
    number = await peer.incoming()
    await peer.answer(number)
    await peer.established(number)
    return number
