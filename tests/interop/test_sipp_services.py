"""Services of RFC 5359, where SIPp is caller, callee or server: its verdict counts."""

from __future__ import annotations

import asyncio
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
    HUNG_UP_ON,
    OURS,
    OVER,
    TAG,
    answered,
    asked,
    at,
    maybe,
    nth_call,
    replied,
    scenario,
    sent,
)

from voip.call import Call
from voip.errors import CallError
from voip.events import CallState, EndedBy, MessageReceived, Redirected
from voip.proxy import SipProxy
from voip.sip.proxy_policy import Target

StartSipp = Callable[..., Awaitable[Sipp]]

PASSWORDS = {"alice": "wonderland", "bob": "builder", "mallory": "malice"}
FAILURE = "https://screening.example/failure.wav"


# ---------------------------------------------------------------- transfer by a text


async def test_F022_sipp_reads_our_place_in_a_text_and_takes_it(
    sipp: StartSipp, artifacts: Path
) -> None:
    """Bob, of ours, writes to SIPp where he stands in Alice's call; it calls her in his place."""
    place = (
        '<ereg regexp="sip:([0-9.]+):([0-9]+)[?]Replaces=([^%]+)%3Bto-tag%3D([^%]+)'
        '%3Bfrom-tag%3D([0-9A-Za-z.-]+)" search_in="body" check_it="true"'
        ' assign_to="60,61,62,63,64,65"/>'
    )
    replaces = "Replaces: [$63];to-tag=[$64];from-tag=[$65]"
    alices = {
        "uri": "sip:[$61]:[$62]", "to": "<sip:[$61]:[$62]>", "call_id": "carol///[call_id]"
    }  # fmt: skip
    carol = await sipp(
        scenario(
            artifacts,
            "takes-a-place",
            asked("MESSAGE", 1, ("Content-Type:", "text/plain"), more=place),
            replied(200, 1, tag=OURS),
            '<nop><action><setdest host="[$61]" port="[$62]" protocol="udp"/></action></nop>',
            sent("INVITE", 1, CONTACT, "Require: replaces", replaces, *DESCRIBED, **alices),
            maybe(100),
            answered(200, ("CSeq:", "1 INVITE")),
            sent("ACK", 1, tag=TAG, again=False, **alices),
            sent("BYE", 2, tag=TAG, **alices),
            answered(200, ("CSeq:", "2 BYE")),
        )
    )
    async with desk(artifacts, name="alice") as alice, desk(artifacts, name="bob") as bob:
        alices_call = await alice.phone.dial(bob.uri(), wait="started")
        bobs = await bob.incoming()
        await bobs.answer()
        await bob.phone.message(carol.uri, f"Will you talk to her? {bobs.place}")
        (await carol.finished()).require(1)
        assert (await ended(bobs)).by is EndedBy.REMOTE
        new = alices_call.replaced_by
        assert new is not None
        assert new.remote.startswith("sip:sipp@")
        assert (await ended(new)).by is EndedBy.REMOTE


async def test_F022_the_place_that_sipp_sends_us_in_a_text_is_taken(
    sipp: StartSipp, artifacts: Path
) -> None:
    alice = await sipp(
        scenario(
            artifacts,
            "is-taken-over",
            asked("INVITE", 1, ("Replaces:", "^ *a84b4c@host;to-tag=7;from-tag=8")),
            replied(200, 1, CONTACT, *DESCRIBED, again=True, tag=OURS),
            ACKED,
            *HUNG_UP_ON,
        )
    )
    place = f"sip:alice@{alice.address}?Replaces=a84b4c%40host%3Bto-tag%3D7%3Bfrom-tag%3D8"
    text = ("Content-Type: text/plain", "", f"Will you talk to her? {place}")
    writes = scenario(artifacts, "writes", sent("MESSAGE", 1, *text), answered(200))
    async with desk(artifacts) as us:
        texts: asyncio.Queue[MessageReceived] = asyncio.Queue()
        us.phone.on_message(texts.put_nowait)
        bob = await sipp(writes, remote=f"{HOST}:{us.phone.port}", calls=1)
        (await bob.finished()).require(1)
        call = await us.phone.dial((await texts.get()).text.split()[-1])
        assert call.state is CallState.ACTIVE
        await call.hangup()
        (await alice.finished()).require(1)


# ---------------------------------------------------------------- call screening


def through(proxy: SipProxy, user: str, callee: str, *answer: str, also: str = "") -> list[str]:
    """SIPp calls somebody by a proxy that asks it who it is."""
    where = {
        "uri": f"sip:{callee}@{proxy.address}",
        "to": f"<sip:{callee}@{proxy.address}>",
        "sender": f"<sip:{user}@{proxy.address}>",
    }
    more = (also,) if also else ()
    return [
        sent("INVITE", 1, CONTACT, *more, *DESCRIBED, branch="z9hG4bK-[call_id]-1", **where),
        maybe(100),
        answered(407, challenge=True),
        sent("ACK", 1, tag=TAG, again=False, branch="z9hG4bK-[call_id]-1", **where),
        sent("INVITE", 2, CONTACT, "[authentication]", *more, *DESCRIBED,
             branch="z9hG4bK-[call_id]-2", **where),
        maybe(100),
        *answer,
    ]  # fmt: skip


def screened_out(proxy: SipProxy, user: str, callee: str) -> tuple[str, ...]:
    """It hears why, and where that is said aloud."""
    return (
        answered(403, ("Error-Info:", FAILURE)),
        sent("ACK", 2, tag=TAG, again=False, branch="z9hG4bK-[call_id]-2",
             uri=f"sip:{callee}@{proxy.address}", to=f"<sip:{callee}@{proxy.address}>",
             sender=f"<sip:{user}@{proxy.address}>"),
    )  # fmt: skip


def let_through(proxy: SipProxy, user: str, callee: str) -> tuple[str, ...]:
    """It is answered, and hangs up."""
    where = {
        "uri": "[next_url]",
        "to": f"<sip:{callee}@{proxy.address}>",
        "sender": f"<sip:{user}@{proxy.address}>",
    }
    return (
        answered(200, ("CSeq:", "2 INVITE"), routed=True),
        sent("ACK", 2, "[routes]", tag=TAG, again=False, **where),
        sent("BYE", 3, "[routes]", tag=TAG, **where),
        answered(200, ("CSeq:", "3 BYE")),
    )


async def test_F029_a_caller_that_is_not_wanted_is_screened_out(
    sipp: StartSipp, artifacts: Path
) -> None:
    """By who the proxy says that it is, not by From (section 2.13), nor by what it says itself.

    Who calls past the proxy is sent there; by 302, as 305 is no answer of ours.
    """
    async with SipProxy(PASSWORDS) as proxy:

        async def screen(call: Call) -> None:
            assert call.identity is not None
            if not call.identity.proven:
                await call.redirect(f"sip:bob@{proxy.address}")
            elif call.identity.best.sip_uri.user != "alice":
                error = {"Error-Info": f"<{FAILURE}>"}
                await call.reject(403, "Screening Failure (Terminating)", headers=error)
            else:
                await call.answer()
                await call.wait_ended()

        bob = {"uri": f"sip:bob@{proxy.address}", "password": PASSWORDS["bob"]}
        async with desk(artifacts, **bob) as us:
            us.phone.on_incoming(screen)
            past = scenario(
                artifacts,
                "past-the-proxy",
                sent("INVITE", 1, CONTACT, *DESCRIBED, branch="z9hG4bK-[call_id]-1"),
                maybe(100),
                answered(302, ("Contact:", f"sip:bob@{proxy.address}")),
                sent("ACK", 1, tag=TAG, again=False, branch="z9hG4bK-[call_id]-1"),
            )
            peer = await sipp(past, remote=f"{HOST}:{us.phone.port}", calls=1)
            (await peer.finished()).require(1)
            claim = f"P-Asserted-Identity: <sip:alice@{proxy.address}>"
            for user, answer in (("mallory", screened_out), ("alice", let_through)):
                steps = through(proxy, user, "bob", *answer(proxy, user, "bob"), also=claim)
                path = scenario(artifacts, user, *steps)
                known = (user, PASSWORDS[user])
                peer = await sipp(path, remote=proxy.address, calls=1, credentials=known)
                (await peer.finished()).require(1)
            answers = [line for line in us.ladder.lines if line.endswith("INVITE")]
            assert answers[1::2] == ["> 302 INVITE", "> 403 INVITE", "> 200 INVITE"]


async def test_F030_a_number_that_is_barred_is_screened_out_for_who_may_not_call_it(
    sipp: StartSipp, artifacts: Path
) -> None:
    """The proxy knows who calls, and has calls to numbers judged by a server behind it."""
    async with desk(artifacts, name="screen") as server:

        @server.phone.on_incoming
        async def screen(call: Call) -> None:
            assert call.identity is not None
            assert call.identity.proven
            if call.identity.best.sip_uri.user != "alice":
                error = {"Error-Info": f"<{FAILURE}>"}
                await call.reject(403, "Screening Failure (Originating)", headers=error)
                return
            await call.answer()
            await call.wait_ended()

        def services(number: str) -> Target | None:
            return Target(f"sip:{number}@{HOST}:{server.phone.port}") if number == "900" else None

        async with SipProxy(PASSWORDS, services=services) as proxy:
            for user, answer in (("mallory", screened_out), ("alice", let_through)):
                steps = through(proxy, user, "900", *answer(proxy, user, "900"))
                known = (user, PASSWORDS[user])
                path = scenario(artifacts, user, *steps)
                peer = await sipp(path, remote=proxy.address, calls=1, credentials=known)
                (await peer.finished()).require(1)


async def test_F030_a_proxy_that_screens_our_call_out_says_why_and_where_to_hear_it(
    sipp: StartSipp, artifacts: Path
) -> None:
    demand = 'Proxy-Authenticate: Digest realm="one", nonce="n", qop="auth", algorithm=MD5'
    path = scenario(
        artifacts,
        "screens",
        asked("INVITE", 1),
        replied(407, 1, demand, tag=OURS, again=True),
        ACKED,
        asked("INVITE", 5, ("CSeq:", "2 INVITE"), ("Proxy-Authorization:", "username=.1001.")),
        replied(403, 5, f"Error-Info: <{FAILURE}>", tag=OURS, again=True),
        ACKED,
    )
    peer = await sipp(path)
    account = {"uri": f"sip:1001@{peer.address}", "password": "secret", "register": False}
    async with desk(artifacts, **account) as us:
        call = await us.phone.dial(f"sip:900@{peer.address}", wait="started")
        assert (await ended(call)).status == 403
        assert call.end_headers.get("Error-Info") == f"<{FAILURE}>"
        (await peer.finished()).require(1)
        assert us.ladder.lines.count("> INVITE") == 2  # the refusal is final


# ---------------------------------------------------------------- automatic redial


def dialogs(version: int, *states: str) -> tuple[str, ...]:
    """What SIPp says of its calls."""
    head = f'version="{version}" state="full" entity="sip:service@[local_ip]"'
    calls = (f'<dialog id="{n}"><state>{state}</state></dialog>' for n, state in enumerate(states))
    return (
        "Content-Type: application/dialog-info+xml", "", '<?xml version="1.0"?>',
        f'<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" {head}>', *calls,
        "</dialog-info>",
    )  # fmt: skip


async def test_F033_who_is_busy_at_sipp_is_called_again_when_it_says_it_is_free(
    sipp: StartSipp, artifacts: Path
) -> None:
    """Of the three calls that it counts, one is refused, one a subscription, and one answered."""

    def notified(number: int, state: str, *body: str) -> tuple[str, str]:
        head = (CONTACT, "Event: dialog", f"Subscription-State: {state}")
        notify = sent("NOTIFY", number, *head, *body, uri="[$61]", to="[$2]", own_tag="n")
        return notify, answered(200)

    contact = (
        '<ereg regexp="&lt;([^>]+)>" search_in="hdr" header="Contact:" check_it="true"'
        ' assign_to="60,61"/>'
    )
    path = scenario(
        artifacts,
        "busy",
        asked("INVITE", 11, or_else="called"),
        asked("SUBSCRIBE", 1, ("Event:", "dialog"), more=contact),
        replied(200, 1, CONTACT, "Expires: 600", tag=";tag=n"),
        *notified(1, "active;expires=600", *dialogs(0, "confirmed")),
        '<pause milliseconds="1500"/>',
        *notified(2, "active;expires=600", *dialogs(1)),
        asked("SUBSCRIBE", 5, ("Expires:", "^ *0$")),
        replied(200, 5, CONTACT, "Expires: 0"),
        *notified(3, "terminated;reason=timeout", *dialogs(2)),
        '<nop next="over"/>',
        *at("called", *nth_call("refused", "answered")),
        *at("refused", replied(486, 11, tag=OURS, again=True), ACKED),
        *at(
            "answered",
            replied(200, 11, CONTACT, *DESCRIBED, tag=OURS, again=True),
            ACKED,
            *HUNG_UP_ON,
        ),
        OVER,
    )
    peer = await sipp(path, calls=3)
    async with desk(artifacts) as us:
        loop = asyncio.get_running_loop()
        began = loop.time()
        call = await us.phone.dial_when_free(peer.uri, timeout=20)
        assert loop.time() - began >= 1.5
        assert call.state is CallState.ACTIVE
        assert us.ladder.lines.count("> INVITE") == 2
        await call.hangup()
        (await peer.finished()).require(3)


# ---------------------------------------------------------------- forwarding, as the caller


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        pytest.param("unconditional", 302, marks=pytest.mark.rfc("5359", "2.7", "F023"), id="F023"),
        pytest.param("user-busy", 486, marks=pytest.mark.rfc("5359", "2.8", "F024"), id="F024"),
        pytest.param("no-answer", 408, marks=pytest.mark.rfc("5359", "2.9", "F025"), id="F025"),
    ],
)
async def test_F130_a_call_that_sipp_sends_on_says_so_where_it_goes(
    sipp: StartSipp, artifacts: Path, reason: str, cause: int
) -> None:
    """What the 302 says of who sent the call on, and of the way it came, is in the next INVITE."""
    carol = await sipp(
        scenario(
            artifacts,
            "carol",
            asked(
                "INVITE", 1, ("Diversion:", f"sip:bob@biloxi.example>;reason={reason}"),
                ("History-Info:", f"bob@biloxi.example[?]Reason=SIP%3Bcause%3D{cause}>;index=1$"),
                ("*", "History-Info: &lt;sip:service@[0-9.:]+>;index=2;mp=1"),
                ("CSeq:", "2 INVITE"),
            ),
            replied(200, 1, CONTACT, *DESCRIBED, tag=OURS, again=True),
            ACKED,
            *HUNG_UP_ON,
        )
    )  # fmt: skip
    history = f"History-Info: <sip:bob@biloxi.example?Reason=SIP%3Bcause%3D{cause}>;index=1"
    bob = await sipp(
        scenario(
            artifacts,
            "bob",
            asked("INVITE", 1),
            replied(302, 1, f"Contact: <{carol.uri}>;mp=1",
                    f"Diversion: <sip:bob@biloxi.example>;reason={reason};counter=1", history,
                    tag=OURS, again=True),
            ACKED,
        )
    )  # fmt: skip
    async with desk(artifacts) as us:
        call = await us.phone.dial(bob.uri)
        assert Redirected(carol.uri) in call._events
        (await bob.finished()).require(1)
        await call.hangup()
        (await carol.finished()).require(1)


async def test_F023_a_call_that_sipp_sends_on_too_often_comes_to_nothing(
    sipp: StartSipp, artifacts: Path
) -> None:
    """Each 302 names another place at the same SIPp: five are followed."""
    path = scenario(
        artifacts,
        "sends-on",
        *(
            step
            for n in range(6)
            for step in (
                asked("INVITE", 1, ("CSeq:", f"{n + 1} INVITE")),
                replied(302, 1, f"Contact: <sip:place{n}@[local_ip]:[local_port]>", tag=OURS,
                        again=True),
                ACKED,
            )
        ),
    )  # fmt: skip
    peer = await sipp(path)
    async with desk(artifacts) as us:
        with pytest.raises(CallError) as failed:
            await us.phone.dial(peer.uri)
        assert failed.value.status == 302
        (await peer.finished()).require(1)
