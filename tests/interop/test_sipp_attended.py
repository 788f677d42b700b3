"""The harder transfers of RFC 5589, where SIPp is transferee, transferor, target or gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from direct import HOST, desk
from peers.sipp import Sipp
from phones import ended, until
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
    echoed,
    maybe,
    nth_call,
    replied,
    scenario,
    sent,
)

from voip.errors import CallError
from voip.events import CallState, EndedBy, Transferred
from voip.proxy import SipProxy
from voip.sip.proxy_policy import Target

StartSipp = Callable[..., Awaitable[Sipp]]

SIPFRAG = ("Content-Type: message/sipfrag", "")
NOWHERE = "127.0.0.1:9"
"""Where nobody listens."""


# ---------------------------------------------------------------- SIPp is asked to call


CONTACT_KEPT = (
    '<ereg regexp="&lt;([^>]+)>" search_in="hdr" header="Contact:" check_it="true"'
    ' assign_to="60,61"/>'
)
HELD = (
    asked("INVITE", 1, more=CONTACT_KEPT),
    replied(200, 1, CONTACT, *DESCRIBED, tag=";tag=n", again=True),
    ACKED,
    asked("INVITE", 5, ("", "a=sendonly")),
    replied(200, 5, CONTACT, *DESCRIBED, again=True),
    ACKED,
)
"""A call of ours to SIPp, which we hold."""


def referred(number: int, outcome: str, *checks: tuple[str, str]) -> tuple[str, ...]:
    """It is asked to call somebody, by our request of this number, and says what came of it."""
    says = (
        CONTACT, f"Event: refer;id={number}", "Subscription-State: terminated;reason=noresource",
        *SIPFRAG, f"SIP/2.0 {outcome}",
    )  # fmt: skip
    return (
        asked("REFER", 9, ("CSeq:", f"{number} REFER"), *checks),
        replied(202, 9, CONTACT),
        sent("NOTIFY", number, *says, uri="[$61]", to="[$2]", own_tag="n"),
        answered(200),
    )


REPLACES = "[?]Replaces=[^>&amp;]+%3Bto-tag%3D[^>&amp;]+%3Bfrom-tag%3D[^>&amp;]+"


async def unrouted(sipp: StartSipp, artifacts: Path) -> Sipp:
    """The target: its Contact leads nowhere, what is sent by its Record-Route reaches it."""
    contact = ("Contact: <sip:carol@192.0.2.99>", "Record-Route: <sip:[local_ip]:[local_port];lr>")
    return await sipp(
        scenario(
            artifacts,
            "unrouted",
            asked("INVITE", 1),
            replied(200, 1, *contact, *DESCRIBED, tag=OURS, again=True),
            ACKED,
            *HUNG_UP_ON,
        )
    )


async def test_F044_who_cannot_reach_the_contact_is_given_the_address_of_record(
    sipp: StartSipp, artifacts: Path
) -> None:
    carol = await unrouted(sipp, artifacts)
    by_address = f"&lt;sip:service@{carol.address}{REPLACES}&amp;Require=replaces>"
    bob = await sipp(
        scenario(
            artifacts,
            "cannot-reach",
            *HELD,
            *referred(3, "404 Not Found", ("Refer-To:", f"&lt;sip:carol@192.0.2.99{REPLACES}>")),
            *referred(4, "200 OK", ("Refer-To:", by_address)),
            *HUNG_UP_ON,
        )
    )
    async with desk(artifacts) as us:
        first = await us.phone.dial(bob.uri)
        await first.hold()
        second = await us.phone.dial(carol.uri)
        await first.transfer(second)
        assert first.state is second.state is CallState.ENDED
        (await bob.finished()).require(1)
        (await carol.finished()).require(1)


async def test_F046_where_the_target_knows_no_replaces_it_is_called_without(
    sipp: StartSipp, artifacts: Path
) -> None:
    carol = await unrouted(sipp, artifacts)
    bob = await sipp(
        scenario(
            artifacts,
            "falls-back",
            *HELD,
            *referred(3, "404 Not Found"),
            *referred(4, "420 Bad Extension", ("Refer-To:", "Require=replaces")),
            *referred(5, "200 OK", ("Refer-To:", f"&lt;sip:service@{carol.address}>")),
            *HUNG_UP_ON,
        )
    )
    async with desk(artifacts) as us:
        first = await us.phone.dial(bob.uri)
        await first.hold()
        second = await us.phone.dial(carol.uri)
        with pytest.raises(CallError) as failed:
            await first.transfer(second)
        assert failed.value.status == 420
        assert first.state is CallState.HELD
        assert second.state is CallState.ACTIVE
        await second.hangup()
        await first.transfer(carol.uri)
        assert first.state is CallState.ENDED
        (await bob.finished()).require(1)
        (await carol.finished()).require(1)


# ---------------------------------------------------------------- SIPp asks us to call


CALLED_US = (
    sent("INVITE", 1, CONTACT, *DESCRIBED),
    maybe(100),
    answered(200, ("Allow:", "REFER"), ("Supported:", "replaces")),
    sent("ACK", 1, tag=TAG, again=False),
)


def refers(number: int, refer_to: str, *outcomes: str) -> list[str]:
    """It asks us to call somebody, and demands that we say so of it."""
    steps = [
        sent("REFER", number, CONTACT, f"Refer-To: <{refer_to}>", tag=TAG),
        answered(202, ("CSeq:", f"{number} REFER")),
    ]
    for outcome in ("SIP/2.0 100", *outcomes):
        steps += [asked("NOTIFY", 1, ("", outcome)), replied(200, 1)]
    return steps


NAMES = "?Replaces=a84b4c%40host%3Bto-tag%3D7%3Bfrom-tag%3D8"
REPLACED = ("Replaces:", "^ *a84b4c@host;to-tag=7;from-tag=8")


async def test_F044_we_say_that_the_contact_leads_nowhere_and_call_the_address_of_record(
    sipp: StartSipp, artifacts: Path
) -> None:
    carol = await sipp(
        scenario(
            artifacts,
            "is-taken-over",
            asked("INVITE", 1, REPLACED, ("Require:", "replaces")),
            replied(200, 1, CONTACT, *DESCRIBED, tag=OURS, again=True),
            ACKED,
            *HUNG_UP_ON,
        )
    )
    path = scenario(
        artifacts,
        "asks-twice",
        *CALLED_US,
        *refers(2, f"sip:carol@{NOWHERE}{NAMES}", "SIP/2.0 (408|480|503)"),
        *refers(3, f"{carol.uri}{NAMES}&Require=replaces", "SIP/2.0 200"),
        sent("BYE", 4, tag=TAG),
        answered(200, ("CSeq:", "4 BYE")),
    )
    async with desk(artifacts) as us:
        alice = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        call = await us.incoming()
        await call.answer()
        (await alice.finished()).require(1)
        (event,) = [event for event in call._events if isinstance(event, Transferred)]
        assert (await ended(call)).by is EndedBy.REMOTE
        await event.call.hangup()
        (await carol.finished()).require(1)


async def test_F046_we_say_that_the_target_knows_no_replaces_and_call_it_without(
    sipp: StartSipp, artifacts: Path
) -> None:
    carol = await sipp(
        scenario(
            artifacts,
            "knows-no-replaces",
            asked("INVITE", 1),
            *nth_call("first", "second"),
            *at(
                "first",
                replied(420, 1, "Unsupported: replaces", tag=OURS, again=True),
                ACKED,
            ),
            *at(
                "second",
                replied(200, 1, CONTACT, *DESCRIBED, tag=OURS, again=True),
                ACKED,
                *HUNG_UP_ON,
            ),
            OVER,
        ),
        calls=2,
    )
    path = scenario(
        artifacts,
        "falls-back",
        *CALLED_US,
        *refers(2, f"{carol.uri}{NAMES}&Require=replaces", "SIP/2.0 420"),
        *refers(3, carol.uri, "SIP/2.0 200"),
        sent("BYE", 4, tag=TAG),
        answered(200, ("CSeq:", "4 BYE")),
    )
    async with desk(artifacts) as us:
        alice = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        call = await us.incoming()
        await call.answer()
        (await alice.finished()).require(1)
        (event,) = [event for event in call._events if isinstance(event, Transferred)]
        assert "Replaces" not in us.ladder.text("> INVITE")
        await event.call.hangup()
        (await carol.finished()).require(2)


# ---------------------------------------------------------------- SIPp is a gateway


async def test_F047_sipp_finds_that_both_ends_of_a_transferred_call_are_its_own(
    sipp: StartSipp, artifacts: Path
) -> None:
    """A telephone behind it is sent on to another one: the call leaves it, and our proxy leads it
    back under one Call-ID, by which it takes the call out again.
    """
    gateway: list[Sipp] = []

    def trunk(user: str) -> Target | None:
        return Target(f"sip:{user}@{gateway[0].address}") if user == "+15550002" else None

    async with (
        SipProxy({"gateway": "trunk"}, services=trunk) as proxy,
        desk(artifacts) as us,
    ):
        host, _, port = proxy.address.rpartition(":")
        target = f"sip:+15550002@{proxy.address}"
        out = {
            "uri": target, "to": f"<{target}>", "call_id": "hairpin///[call_id]",
            "sender": f"<sip:gateway@{proxy.address}>",
        }  # fmt: skip
        within = {**out, "uri": "[next_url]"}
        say = sent(
            "NOTIFY", 2, CONTACT, "Event: refer",
            "Subscription-State: terminated;reason=noresource",
            *SIPFRAG, "SIP/2.0 200 OK", tag=";tag=[$51]",
        )  # fmt: skip
        ours = (
            '<ereg regexp="tag=([^;]+)" search_in="hdr" header="To:" check_it="true"'
            ' assign_to="50,51"/>'
        )
        path = scenario(
            artifacts,
            "gateway",
            sent("INVITE", 1, CONTACT, *DESCRIBED),
            maybe(100),
            answered(200, more=ours),
            sent("ACK", 1, tag=TAG, again=False),
            asked("REFER", 1, ("Refer-To:", "sip:[+]15550002@")),
            replied(202, 1, CONTACT),
            f'<nop><action><setdest host="{host}" port="{port}" protocol="udp"/></action></nop>',
            sent("INVITE", 1, CONTACT, *DESCRIBED, branch="z9hG4bK-[call_id]-1", **out),
            maybe(100),
            answered(407, challenge=True),
            sent("ACK", 1, tag=TAG, again=False, branch="z9hG4bK-[call_id]-1", **out),
            sent("INVITE", 2, CONTACT, "[authentication]", *DESCRIBED,
                 branch="z9hG4bK-[call_id]-2", **out),
            maybe(100),
            asked("INVITE", 5, ("Call-ID:", "^ *hairpin///"), ("P-Asserted-Identity:", "gateway@")),
            echoed(200, CONTACT, *DESCRIBED, tag=";tag=pstn", again=True),
            answered(200, ("CSeq:", "2 INVITE"), ("To:", "tag=pstn"), routed=True),
            sent("ACK", 2, "[routes]", tag=TAG, again=False, **within),
            ACKED,
            sent("BYE", 3, "[routes]", tag=TAG, **within),
            asked("BYE", 5, ("Call-ID:", "^ *hairpin///")),
            echoed(200),
            answered(200, ("CSeq:", "3 BYE")),
            f'<nop><action><setdest host="{HOST}" port="{us.phone.port}" protocol="udp"/>'
            "</action></nop>",
            say,
            answered(200, ("CSeq:", "2 NOTIFY")),
            *HUNG_UP_ON,
        )  # fmt: skip
        gateway.append(
            await sipp(path, remote=f"{HOST}:{us.phone.port}", credentials=("gateway", "trunk"))
        )
        call = await us.incoming()
        await call.answer()
        await call.transfer(target)
        assert call.state is CallState.ENDED
        (await gateway[0].finished()).require(1)


async def test_F048_a_telephone_that_is_lifted_after_the_cancel_is_busy_and_else_it_is_not(
    sipp: StartSipp, artifacts: Path
) -> None:
    """Behind SIPp, a gateway: the blind transfer that follows the CANCEL meets a busy telephone.
    Who waits for the answer instead transfers by Replaces, and there is no glare (section 7.6).
    """
    rings = replied(180, 1, CONTACT, tag=OURS)
    answers = (replied(200, 1, CONTACT, *DESCRIBED, tag=OURS, again=True), ACKED)
    gateway = await sipp(
        scenario(
            artifacts,
            "telephone",
            asked("INVITE", 1),
            *nth_call("consulted", "blind", "again", "replaces"),
            *at(
                "consulted",
                rings,
                asked("CANCEL", 5),
                replied(200, 5),
                replied(487, 1, tag=OURS, again=True),
                ACKED,
            ),
            *at("blind", replied(486, 1, tag=OURS, again=True), ACKED),
            *at("again", rings, '<pause milliseconds="300"/>', *answers, *HUNG_UP_ON),
            *at("replaces", *answers, *HUNG_UP_ON),
            OVER,
        ),
        calls=4,
    )
    async with desk(artifacts, name="alice") as alice, desk(artifacts, name="bob") as bob:
        first = await alice.phone.dial(bob.uri(), wait="started")
        bobs = await bob.incoming()
        await bobs.answer()
        await first.wait_answered()
        await first.hold()
        given_up = await alice.phone.dial(gateway.uri, wait="ringing")
        await given_up.cancel()
        with pytest.raises(CallError) as busy:
            await first.transfer(gateway.uri)
        assert busy.value.status == 486
        assert first.state is CallState.HELD
        second = await alice.phone.dial(gateway.uri)
        await first.transfer(second)
        assert first.state is second.state is CallState.ENDED
        assert "Replaces: " in bob.ladder.text("> INVITE")
        await until(lambda: bobs.state is CallState.ENDED, "bob's first call to end")
        (new,) = (call for call in bob.phone.calls if call is not bobs)
        assert new.state is CallState.ACTIVE
        await new.hangup()
        (await gateway.finished()).require(4)
