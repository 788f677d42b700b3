"""REFERs outside of the dialog of a call (RFC 3515, RFC 4488, RFC 4538)."""

from __future__ import annotations

import asyncio

import pytest
from callers import answering, told
from phone_scene import Network, Server, flow, in_virtual_time, quiet, uri
from transfer_scene import up

from voip.call import Call
from voip.events import (
    Transferred,
)
from voip.phone import Softphone
from voip.sip.config import AgentConfig
from voip.sip.events import ReferReceived
from voip.sip.refer import SIPFRAG, sipfrag


def target_dialog(call: Call) -> str:
    dialog = call._session.dialog
    return f"{dialog.call_id};local-tag={dialog.local.tag};remote-tag={dialog.remote.tag}"


async def referred_outside(phone: Softphone, whom: Softphone, target: str, **more: str) -> list:
    seen: list = []
    flow = await phone._transport.flow_to(whom.network.bind_host, 5060)
    handle = phone._agent.subscriptions.refer_outside(
        uri(whom), f"<{target}>", flow=flow, from_=f"<{uri(phone)}>", to=f"<{uri(whom)}>",
        contact=f"<{uri(phone)}>", headers=list(more.items()), now=phone._transport.now(),
    )  # fmt: skip
    phone._stack.watchers[handle] = seen.append
    phone._transport.flush()
    await asyncio.sleep(60)
    phone._stack.watchers.pop(handle)
    return seen


@flow
async def test_F035_a_refer_in_a_dialog_of_its_own_is_followed_where_it_names_the_call(
    net: Network,
) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_bob, to_carol = answering(bob), answering(carol)
        call, bobs = await up(alice, bob, to_bob)
        seen = await referred_outside(
            alice,
            bob,
            uri(carol),
            **{"Target-Dialog": target_dialog(call), "Require": "tdialog"},
        )
        assert seen[-2].request.body == b"SIP/2.0 200 OK\r\n"
        assert (await to_carol.get()).remote == uri(bob)
        assert told(bobs, Transferred)
        await call.hangup()
        await told(bobs, Transferred)[0].call.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F097_a_refer_outside_of_any_call_is_declined_unless_a_handler_says_yes(
    net: Network,
) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_carol = answering(carol)
        seen = await referred_outside(alice, bob, uri(carol))
        assert [event.status for event in seen] == [603]
        assert net.requests("INVITE") == []
        bob.on_transfer(lambda request: request.call is None)
        seen = await referred_outside(alice, bob, uri(carol))
        assert seen[-2].request.body == b"SIP/2.0 200 OK\r\n"
        await (await to_carol.get()).hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F098_a_transferee_that_is_asked_for_no_reports_makes_none(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_carol = answering(carol)
        bob.on_transfer(lambda request: True)
        seen = await referred_outside(alice, bob, uri(carol), **{"Refer-Sub": "false"})
        assert [(event.reason, event.status) for event in seen] == [("no subscription", 202)]
        assert net.requests("NOTIFY") == []
        await (await to_carol.get()).hangup()
        await quiet(alice, bob, carol)


@pytest.mark.parametrize(
    ("refer_to", "status"),
    [
        ("sip:carol@192.0.2.3;method=BYE", 501),
        ("sip:carol@192.0.2.3?Replaces=nonsense", 400),
        ("tel:+123", 416),
    ],
)
def test_F097_what_is_no_call_is_not_followed(refer_to: str, status: int) -> None:
    async def run(net: Network) -> None:
        async with net.phone("alice") as alice, net.phone("bob") as bob:
            bob.on_transfer(lambda request: True)
            seen = await referred_outside(alice, bob, refer_to)
            assert [event.status for event in seen] == [status]
            assert net.requests("INVITE") == []
            await quiet(alice, bob)

    in_virtual_time(run)


@pytest.mark.rfc("3515", "3.4")
@pytest.mark.parametrize("refreshes", [True, False], ids=["refreshed", "refused"])
@flow
async def test_F097_reports_go_on_for_as_long_as_the_target_rings(
    net: Network, refreshes: bool
) -> None:
    """A server grants a minute, and the target rings for more; who cannot be asked is awaited."""
    allow = (*AgentConfig().allow, "REFER", *(("SUBSCRIBE",) if refreshes else ()))
    config = AgentConfig(allow=allow, subscription_s=60 if refreshes else 200)
    server = await net.server("bob", config, following)
    async with net.phone("alice") as alice:
        asking = asyncio.ensure_future(alice.refer(server.uri, "sip:carol@192.0.2.77", timeout=300))
        await asyncio.sleep(150)
        (notifier,) = server.notes
        notifier.terminate("noresource", sipfrag(200), now=server.now())
        server.transport.flush()
        await asking
        asked = [one for one in net.requests("SUBSCRIBE") if one.headers.get("Event")]
        assert len(asked) >= 2 if refreshes else len(asked) == 1
        await quiet(alice)


def following(event: object, server: Server) -> None:
    """Take a REFER, and say that it is being tried."""
    if isinstance(event, ReferReceived):
        server.notes.append(event.notifier)
        event.notifier.accept(
            contact=server.contact, body=sipfrag(100), content_type=SIPFRAG, now=server.now()
        )
