"""Flows that no other peer plays, written for SIPp: its verdict counts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from hashlib import md5
from pathlib import Path

import pytest
from direct import HOST, desk
from peers.sipp import Sipp
from phones import ended
from sipp_flow import (
    ACKED,
    CONTACT,
    DESCRIBED,
    HUNG_UP_ON,
    OURS,
    TAG,
    answered,
    asked,
    called,
    goodbye,
    maybe,
    replied,
    scenario,
    sent,
)

from voip.answering import Answering
from voip.call import Call
from voip.config import CallConfig
from voip.errors import CallError, RequestError
from voip.events import CallState, EndedBy, MessageReceived
from voip.sip.call_info import Geolocation
from voip.sip.server_request import ServerRequest

StartSipp = Callable[..., Awaitable[Sipp]]


def digest(user: str, password: str, header: str) -> str:
    """The response that RFC 2617 wants, of what an Authorization header says."""
    said = dict(re.findall(r'(\w+)="?([^",]+)"?', header))
    ours = md5(f"{user}:{said['realm']}:{password}".encode()).hexdigest()
    theirs = md5(f"INVITE:{said['uri']}".encode()).hexdigest()
    middle = ":".join(said[name] for name in ("nonce", "nc", "cnonce", "qop"))
    return md5(f"{ours}:{middle}:{theirs}".encode()).hexdigest()


async def test_F008_two_proxies_that_ask_for_credentials_one_after_the_other(
    sipp: StartSipp, artifacts: Path
) -> None:
    def demand(realm: str) -> str:
        value = f'Digest realm="{realm}", nonce="{realm}-nonce", qop="auth", algorithm=MD5'
        return f"Proxy-Authenticate: {value}"

    path = scenario(
        artifacts,
        "two-proxies",
        asked("INVITE", 1),
        replied(407, 1, demand("one"), tag=OURS, again=True),
        ACKED,
        asked("INVITE", 5, ("Proxy-Authorization:", "realm=.one.")),
        replied(407, 5, demand("two"), tag=OURS, again=True),
        ACKED,
        asked("INVITE", 9),
        replied(200, 9, CONTACT, *DESCRIBED, tag=OURS, again=True),
        ACKED,
        *HUNG_UP_ON,
    )
    peer = await sipp(path)
    account = {"uri": f"sip:1001@{peer.address}", "password": "secret", "register": False}
    async with desk(artifacts, **account) as us:
        call = await us.phone.dial(peer.uri)
        await call.hangup()
        (await peer.finished()).require(1)
    heard = peer.log.read_text().rpartition("INVITE sip:")[2]  # our own log masks what proves us
    heard = heard.partition("ACK sip:")[0]
    shown = re.findall("^Proxy-Authorization: .*", heard, re.MULTILINE)
    assert [re.findall('realm="([^"]+)"', line) for line in shown] == [["one"], ["two"]]
    for line in shown:
        assert f'response="{digest("1001", "secret", line)}"' in line


async def test_F011_redirected_with_the_description_in_the_ack(
    sipp: StartSipp, artifacts: Path
) -> None:
    path = scenario(
        artifacts,
        "redirects",
        asked("INVITE", 1, ("Content-Length:", "^ *0$")),
        replied(302, 1, "Contact: <sip:bob@[local_ip]:[local_port]>", tag=OURS, again=True),
        ACKED,
        asked("INVITE", 5, ("CSeq:", "2 INVITE"), ("Content-Length:", "^ *0$")),
        replied(200, 5, CONTACT, *DESCRIBED, tag=";tag=bob", again=True),
        '<recv request="ACK"><action><ereg regexp="m=audio [0-9]+ RTP/AVP 0" search_in="body"'
        ' check_it="true" assign_to="20"/></action></recv>',
        *HUNG_UP_ON,
    )
    peer = await sipp(path)
    async with desk(artifacts) as us:
        call = await us.phone.dial(peer.uri, late_offer=True)
        assert us.ladder.text("> INVITE").startswith(f"INVITE sip:bob@{peer.address} ")
        assert call.codec == "pcmu"
        await call.hangup()
        (await peer.finished()).require(1)


@pytest.mark.parametrize("status", [404, 480, 486, 600, 603])
async def test_F014_F016_whoever_is_called_is_not_there_or_does_not_want_to(
    sipp: StartSipp, artifacts: Path, status: int
) -> None:
    path = scenario(
        artifacts,
        "refuses",
        asked("INVITE", 1),
        replied(180, 1, CONTACT, tag=OURS),
        replied(status, 1, tag=OURS, again=True),
        ACKED,
    )
    peer = await sipp(path)
    async with desk(artifacts) as us:
        with pytest.raises(CallError) as refused:
            await us.phone.dial(peer.uri)
        assert refused.value.status == status
        (await peer.finished()).require(1)


async def test_F090_the_callee_offers_reliably_and_is_answered_by_the_prack(
    sipp: StartSipp, artifacts: Path
) -> None:
    path = scenario(
        artifacts,
        "offer-in-183",
        asked("INVITE", 1, ("Supported:", "100rel"), ("Content-Length:", "^ *0$")),
        replied(183, 1, CONTACT, "Require: 100rel", "RSeq: 7", *DESCRIBED, tag=OURS, again=True),
        asked("PRACK", 5, ("RAck:", "7 1 INVITE"), ("", "m=audio [0-9]+ RTP/AVP 0")),
        replied(200, 5),
        replied(200, 1, CONTACT, tag=OURS, again=True),
        '<recv request="ACK"><action><ereg regexp="^ *0$" search_in="hdr"'
        ' header="Content-Length:" check_it="true" assign_to="20"/></action></recv>',
        *HUNG_UP_ON,
    )
    peer = await sipp(path)
    async with desk(artifacts) as us:
        call = await us.phone.dial(peer.uri, late_offer=True)
        assert call.state is CallState.ACTIVE
        assert call.codec == "pcmu"
        await call.hangup()
        (await peer.finished()).require(1)


async def test_F118_one_of_two_forks_ends_before_the_other_answers(
    sipp: StartSipp, artifacts: Path
) -> None:
    path = scenario(
        artifacts,
        "forks",
        asked("INVITE", 1, ("Supported:", "199")),
        replied(183, 1, CONTACT, *DESCRIBED, tag=";tag=one"),
        replied(180, 1, CONTACT, tag=";tag=two"),
        replied(199, 1, CONTACT, "Reason: SIP;cause=486", tag=";tag=one"),
        replied(200, 1, CONTACT, *DESCRIBED, tag=";tag=two", again=True),
        '<recv request="ACK"><action><ereg regexp="tag=two" search_in="hdr" header="To:"'
        ' check_it="true" assign_to="20"/></action></recv>',
        asked("BYE", 80, ("To:", "tag=two")),
        replied(200, 80),
    )
    peer = await sipp(path)
    async with desk(artifacts) as us:
        call = await us.phone.dial(peer.uri)
        await call.hangup()
        (await peer.finished()).require(1)
        assert us.ladder.lines.count("> BYE") == 1


async def test_F106_a_report_is_published_where_it_is_collected(
    sipp: StartSipp, artifacts: Path
) -> None:
    path = scenario(
        artifacts,
        "collector",
        asked(
            "PUBLISH",
            1,
            ("Event:", "vq-rtcpxr"),
            ("Content-Type:", "application/vq-rtcpxr"),
            ("", "VQSessionReport: *CallTerm.*CallID:.*LocalMetrics:.*SessionDesc:"),
        ),
        replied(200, 1, "SIP-ETag: 1", "Expires: 0", tag=OURS),
    )
    collector, peer = await sipp(path), await sipp("uas")
    async with desk(artifacts, quality_collector=collector.uri) as us:
        call = await us.phone.dial(peer.uri)
        await call.hangup()
        (await collector.finished()).require(1)


async def test_F108_digits_go_both_ways_by_info(sipp: StartSipp, artifacts: Path) -> None:
    relay = ("Content-Type: application/dtmf-relay", "")
    path = scenario(
        artifacts,
        "info",
        *called(1, "Recv-Info: x-sipp", checks=(("Allow:", "INFO"), ("Recv-Info:", "x-bell"))),
        sent("INFO", 2, *relay, "Signal=5", "Duration=160", tag=TAG),
        answered(200, ("CSeq:", "2 INFO")),
        sent("INFO", 3, "Info-Package: x-horn", tag=TAG),
        answered(469, ("Recv-Info:", "x-bell")),
        asked("INFO", 1, ("Content-Type:", "application/dtmf-relay"), ("", "Signal= *7")),
        replied(200, 1),
        *goodbye(4),
    )
    async with desk(artifacts, info_packages=("x-bell",)) as us:
        caller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        call = await us.incoming()
        await call.answer()
        assert await call.collect(1, timeout=5) == "5"
        await asyncio.sleep(0.2)
        await call.send_dtmf("7", mode="info")
        assert (await ended(call)).by is EndedBy.REMOTE
        (await caller.finished()).require(1)


async def test_F107_texts_go_both_ways(sipp: StartSipp, artifacts: Path) -> None:
    text = ("Content-Type: text/plain", "", "Watson, come here.")
    writes = scenario(artifacts, "writes", sent("MESSAGE", 1, *text), answered(200))
    reads = scenario(
        artifacts,
        "reads",
        asked("MESSAGE", 1, ("Content-Type:", "^ *text/plain"), ("", "^Coming\\.$")),
        replied(200, 1, tag=OURS),
    )
    busy = scenario(artifacts, "cannot-read", asked("MESSAGE", 1), replied(415, 1, tag=OURS))
    async with desk(artifacts) as us:
        texts: asyncio.Queue[MessageReceived] = asyncio.Queue()
        us.phone.on_message(texts.put_nowait)
        writer = await sipp(writes, remote=f"{HOST}:{us.phone.port}", calls=1)
        (await writer.finished()).require(1)
        assert (await texts.get()).text.strip() == "Watson, come here."
        reader = await sipp(reads)
        await us.phone.message(reader.uri, "Coming.")
        (await reader.finished()).require(1)
        with pytest.raises(RequestError) as refused:
            await us.phone.message((await sipp(busy)).uri, "Coming.")
        assert refused.value.status == 415


async def test_F110_an_answer_goes_where_the_request_came_from(
    sipp: StartSipp, artifacts: Path
) -> None:
    """As if behind a NAT: its Via names a host where it is not."""
    path = scenario(
        artifacts,
        "rport",
        sent("OPTIONS", 1, via="192.0.2.1:9;rport"),
        answered(200, ("Via:", "192.0.2.1:9;"), ("Via:", "received=127.0.0.1"),
                 ("Via:", "rport=[1-9][0-9]+")),
    )  # fmt: skip
    async with desk(artifacts) as us:
        asking = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        (await asking.finished()).require(1)
        assert f"rport={asking.port}" in us.ladder.header("> 200 OPTIONS", "Via")


async def test_F117_whoever_thinks_for_long_says_100_once_that_helps(
    sipp: StartSipp, artifacts: Path
) -> None:
    path = scenario(artifacts, "slow", sent("MESSAGE", 1), answered(100), answered(200))
    asked_at: list[float] = []
    loop = asyncio.get_running_loop()

    def think(request: ServerRequest) -> None:
        asked_at.append(loop.time())
        loop.call_later(5.0, answer, request)

    async with desk(artifacts, requests={"MESSAGE": think}) as us:

        def answer(request: ServerRequest) -> None:
            request.reply(200, now=us.phone._transport.now())
            us.phone._transport.flush()

        asking = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        result = await asking.finished()
        result.require(1)
        assert len(asked_at) == 1
        assert result.retransmissions >= 2  # at 0.5 and 1.5 s; the 100 comes when Timer E is T2


async def test_F129_who_calls_anonymously_is_in_no_line_of_the_invite(
    sipp: StartSipp, artifacts: Path
) -> None:
    path = scenario(
        artifacts,
        "anonymous",
        asked("INVITE", 1, ("From:", "sip:anonymous@anonymous.invalid"), ("Privacy:", "^ *id$")),
        replied(486, 1, tag=OURS, again=True),
        ACKED,
    )
    peer = await sipp(path)
    async with desk(artifacts, uri="sip:alice@wonderland.example", register=False) as us:
        with pytest.raises(CallError):
            await us.phone.dial(peer.uri, anonymous=True)
        (await peer.finished()).require(1)
        assert "alice" not in us.ladder.text("> INVITE")


async def test_F132_where_we_are_is_said_in_the_invite(sipp: StartSipp, artifacts: Path) -> None:
    where = ("Geolocation:", "^ *&lt;https://lis.example/desk>$")
    path = scenario(
        artifacts,
        "place",
        asked("INVITE", 1, where, ("Geolocation-Routing:", "^ *yes$")),
        replied(486, 1, tag=OURS, again=True),
        ACKED,
    )
    peer = await sipp(path)
    place = Geolocation(("https://lis.example/desk",), routing=True)
    async with desk(artifacts) as us:
        with pytest.raises(CallError):
            await us.phone.dial(peer.uri, headers=place.headers())
        (await peer.finished()).require(1)


@pytest.mark.parametrize(
    ("flow", "reason"),
    [
        pytest.param(
            "always", "unconditional", marks=pytest.mark.rfc("5359", "2.7", "F023"), id="F023"
        ),
        pytest.param("busy", "user-busy", marks=pytest.mark.rfc("5359", "2.8", "F024"), id="F024"),
        pytest.param(
            "no_answer", "no-answer", marks=pytest.mark.rfc("5359", "2.9", "F025"), id="F025"
        ),
    ],
)
async def test_F130_a_call_that_we_send_on_says_why(
    sipp: StartSipp, artifacts: Path, flow: str, reason: str
) -> None:
    path = scenario(
        artifacts,
        "forwarded",
        sent("INVITE", 1, CONTACT, *DESCRIBED),
        maybe(100),
        maybe(180),
        answered(302, ("Contact:", "sip:carol@192.0.2.3"), ("Diversion:", f"reason={reason}"),
                 ("History-Info:", "index=1")),
        sent("ACK", 1, tag=TAG, again=False),
    )  # fmt: skip
    to_carol = {f"forward_{flow}": "sip:carol@192.0.2.3"}
    forward = Answering(**to_carol, busy_at=1, no_answer_s=0.5)  # type: ignore[arg-type]

    async with desk(artifacts, answering=forward) as us:
        if flow == "busy":
            await us.phone.dial((await sipp("uas")).uri)

        @us.phone.on_incoming
        async def take(call: Call) -> None:
            await call.ring()
            await call.wait_ended()

        caller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        (await caller.finished()).require(1)


def takes(payload_type: int) -> tuple[tuple[str, str], ...]:
    """What the answer to such a description says."""
    return (("", f"m=audio [0-9]+ RTP/AVP {payload_type}"),)


def described(port: int, payload_type: int, version: int) -> tuple[str, ...]:
    """A description whose sound goes to a port of ours."""
    return (
        "Content-Type: application/sdp", "",
        "v=0", f"o=- 7 {version} IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0",
        f"m=audio {port} RTP/AVP {payload_type}",
    )  # fmt: skip


class Ear(asyncio.DatagramProtocol):
    """Hears RTP: the payload types and the bytes of silence that came."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, set[int]]] = []

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.heard.append((data[1] & 0x7F, set(data[12:])))


async def test_F012_codec_and_address_of_a_call_change_by_reinvite(
    sipp: StartSipp, artifacts: Path
) -> None:
    """From u-law at one port to A-law at another, and what silence is in each."""
    loop = asyncio.get_running_loop()
    (first, one), (second, other) = [
        await loop.create_datagram_endpoint(Ear, local_addr=(HOST, 0)) for _ in range(2)
    ]
    ports = [ear.get_extra_info("sockname")[1] for ear in (first, second)]
    path = scenario(
        artifacts,
        "another-codec",
        *called(1, body=described(ports[0], 0, 1), checks=takes(0)),
        '<pause milliseconds="500"/>',
        *called(2, body=described(ports[1], 8, 2), checks=takes(8), tag=TAG),
        '<pause milliseconds="500"/>',
        *goodbye(3),
    )
    async with desk(artifacts) as us:
        caller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        call = await us.incoming()
        await call.answer()
        assert call.codec == "pcmu"
        await ended(call)
        assert call.codec == "pcma"
        (await caller.finished()).require(1)
    first.close()
    second.close()
    assert len(one.heard) >= 10
    assert len(other.heard) >= 10
    assert all(packet == (0, {0xFF}) for packet in one.heard)
    assert all(packet == (8, {0xD5}) for packet in other.heard)


async def test_F096_a_session_that_is_too_short_for_us_is_refused_and_asked_for_anew(
    sipp: StartSipp, artifacts: Path
) -> None:
    branch = "z9hG4bK-[call_number]-1"
    short = ("Supported: timer", "Session-Expires: 90")
    granted = (("Session-Expires:", "120;refresher=uac"), ("Require:", "timer"))
    longer = ("Supported: timer", "Session-Expires: 120;refresher=uac", "Min-SE: 120")
    path = scenario(
        artifacts,
        "too-short",
        *called(1, *short, status=422, branch=branch, checks=(("Min-SE:", "120"),)),
        *called(2, *longer, checks=granted),
        *goodbye(3),
    )  # fmt: skip
    async with desk(artifacts, calling=CallConfig(session_min_s=120)) as us:
        caller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        call = await us.incoming()
        await call.answer()
        assert (await ended(call)).by is EndedBy.REMOTE
        (await caller.finished()).require(1)
