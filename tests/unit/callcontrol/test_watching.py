"""Watching and being watched, by the public API (RFC 3842, 3856, 4235, 6665)."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from typing import Any

import pytest
from callers import answering
from phone_scene import Network, Server, flow, in_virtual_time, losing, quiet, uri

from voip.errors import ConfigError, SubscriptionError
from voip.events import CallState, MessageWaiting
from voip.sip.config import AgentConfig
from voip.sip.events import NotifierEnded, SubscribeReceived
from voip.sip.notifier import Notifier
from voip.sip.packages.message_summary import CONTENT_TYPE, MessageCount, MessageSummary
from voip.sip.packages.presence import CONTENT_TYPE as PIDF
from voip.sip.packages.presence import Presence, PresenceTuple
from voip.watching import WatchRequest

NOTIFYING = AgentConfig(
    allow=(*AgentConfig().allow, "SUBSCRIBE", "NOTIFY"),
    events=("message-summary", "presence"),
)


def mail(new: int, old: int = 0) -> bytes:
    counts = (MessageCount("voice-message", new, old),)
    return MessageSummary(new > 0, "sip:alice@vm.example", counts).to_bytes()


def notifying(body: bytes, kind: str) -> Any:
    """A server that tells everybody the same at first; its notes are the subscriptions."""

    def react(event: Any, server: Server) -> None:
        if isinstance(event, SubscribeReceived):
            server.notes.append(event.notifier)
            event.notifier.accept(
                contact=server.contact, body=body, content_type=kind, now=server.now()
            )
        elif isinstance(event, NotifierEnded):
            server.notes.remove(event.notifier)

    return react


@flow
async def test_F102_a_mailbox_is_watched_and_the_phone_told(net: Network) -> None:
    server = await net.server("vm", NOTIFYING, notifying(mail(2, 8), CONTENT_TYPE))
    async with net.phone("alice") as alice:
        async with await alice.watch(server.uri, "message-summary", expires_s=600) as watch:
            assert watch.state == "active"
            assert watch.latest.value.of() == MessageCount("voice-message", 2, 8)
            await asyncio.sleep(3000)  # it is kept
            assert watch.state == "active"
            server.notes[-1].notify(mail(3, 8), now=server.now())
            server.transport.flush()
            await asyncio.sleep(20)
            assert watch.latest.value.of().new == 3
        assert watch.state == "terminated"
        told = [event for event in alice._events if isinstance(event, MessageWaiting)]
        assert told[0] == MessageWaiting(True, 2, 8, "sip:alice@vm.example")
        assert told[-1].new == 3
        await quiet(alice)
        assert server.notes == []


@pytest.mark.parametrize("crossed", [False, True], ids=["", "another word crosses the SUBSCRIBE"])
@flow
async def test_F102_a_watch_that_is_closed_is_over_though_its_last_word_is_lost(
    net: Network, crossed: bool
) -> None:
    """RFC 6665 section 4.1.2.3: a last NOTIFY is waited for, up to Timer N, by nobody's call."""
    server = await net.server("vm", NOTIFYING, notifying(mail(2), CONTENT_TYPE))
    async with net.phone("alice") as alice:
        watch = await alice.watch(server.uri, "message-summary", expires_s=6000)
        await asyncio.sleep(40)
        losing(
            server,
            lambda message: "terminated" in (message.headers.get("Subscription-State") or ""),
        )
        if crossed:
            server.notes[-1].notify(mail(3), now=server.now())
            server.transport.flush()
        await watch.close()
        assert watch.state == "terminated"
        told = len([one async for one in watch.notifications()])
        await quiet(alice)  # before the time of the subscription has come
        assert watch.state == "terminated"
        assert len([one async for one in watch.notifications()]) == told
        assert len([one for one in net.requests("SUBSCRIBE") if one.to.tag is not None]) == 1


@flow
async def test_F102_mail_that_nobody_asked_about_is_told_all_the_same(net: Network) -> None:
    server = await net.server("vm", NOTIFYING, lambda event, server: None)
    phone = net.phone("alice")
    phone.network = replace(phone.network, trusted=(server.uri.partition("@")[2],))
    async with phone as alice:
        host = alice.network.bind_host
        server.agent.request(
            "NOTIFY", uri(alice), flow=await server.transport.flow_to(host, 5060),
            from_=server.contact, to=f"<{uri(alice)}>", body=mail(1), content_type=CONTENT_TYPE,
            headers=[("Event", "message-summary"), ("Subscription-State", "terminated")],
            now=server.now(),
        )  # fmt: skip
        server.transport.flush()
        await asyncio.sleep(40)
        told = [event for event in alice._events if isinstance(event, MessageWaiting)]
        assert told == [MessageWaiting(True, 1, 0, "sip:alice@vm.example")]
        await quiet(alice)


@flow
async def test_F103_somebody_s_presence_is_watched(net: Network) -> None:
    def pidf(is_open: bool) -> bytes:
        return Presence("sip:bob@x", (PresenceTuple("t", is_open),)).to_bytes()

    server = await net.server("bob", NOTIFYING, notifying(pidf(True), PIDF))
    async with net.phone("alice") as alice:
        async with await alice.watch(server.uri, "presence") as watch:
            server.notes[0].notify(pidf(False), now=server.now())
            server.transport.flush()
            await asyncio.sleep(20)
            seen = [n.value.open async for n in _until(watch, 2)]
            assert seen == [True, False]
        await quiet(alice)


async def _until(watch: Any, count: int) -> Any:
    async for notification in watch.notifications():
        yield notification
        count -= 1
        if not count:
            return


@flow
async def test_F104_a_lost_subscription_is_asked_for_again_and_the_watch_goes_on(
    net: Network,
) -> None:
    server = await net.server("vm", NOTIFYING, notifying(mail(1), CONTENT_TYPE))
    async with net.phone("alice") as alice:
        async with await alice.watch(server.uri, "message-summary") as watch:
            await asyncio.sleep(100)
            server.notes[0].terminate("deactivated", now=server.now())
            server.transport.flush()
            await asyncio.sleep(100)
            assert watch.state == "active"
        await quiet(alice)


@flow
async def test_F104_what_cannot_be_watched_says_why(net: Network) -> None:
    server = await net.server("vm", NOTIFYING, lambda event, server: None)
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        with pytest.raises(SubscriptionError, match=r"Bad Event \(489\)"):
            await alice.watch(server.uri, "dialog")
        with pytest.raises(SubscriptionError, match=r"Forbidden \(403\)"):
            await alice.watch(uri(bob), "dialog")  # nobody may, unless a handler says so
        with pytest.raises(ConfigError, match="nothing is known of 'weather'"):
            await alice.watch(server.uri, "weather")
        with pytest.raises(SubscriptionError, match="Bad Event"):
            await alice.watch(server.uri, "weather", accept=["text/plain"])
        with pytest.raises(SubscriptionError, match=r"\(408\)"):
            await alice.watch(server.uri, "presence")  # it says nothing at all
        await quiet(alice, bob)


@flow
async def test_F104_a_phone_s_calls_are_watched_by_whom_it_lets(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_bob = answering(bob, after=10)
        asked: list[WatchRequest] = []
        bob.on_watch(lambda request: asked.append(request) or True)
        async with await carol.watch(uri(bob), "dialog", expires_s=600) as watch:
            await asyncio.sleep(20)
            assert watch.state == "active"
            assert asked == [WatchRequest(uri(carol), "dialog")]
            assert watch.dialogs == []
            dialling = asyncio.ensure_future(alice.dial(uri(bob), timeout=60))
            await asyncio.sleep(9)
            if not net.loss:
                (ringing,) = watch.dialogs
                assert (ringing.state, ringing.direction) == ("early", "recipient")
                assert ringing.remote == uri(alice)
            call = await dialling
            theirs = await to_bob.get()
            await asyncio.sleep(35)
            (seen,) = watch.dialogs
            dialog = theirs._session.dialog
            assert (seen.state, seen.call_id) == ("confirmed", dialog.call_id)
            assert (seen.local_tag, seen.remote_tag) == (dialog.local.tag, dialog.remote.tag)
            await call.hangup()
            await asyncio.sleep(35)
            assert watch.dialogs == []
            await asyncio.sleep(2000)
            assert watch.state == "active"
        await quiet(alice, bob, carol)


@flow
async def test_F104_a_phone_that_closes_says_goodbye_to_its_watchers(net: Network) -> None:
    async with net.phone("carol") as carol:
        bob = net.phone("bob")
        async with bob:
            bob.on_watch(lambda request: True)
            watch = await carol.watch(uri(bob), "dialog", expires_s=600)
            await asyncio.sleep(20)
        net.silence(bob.network.bind_host)
        await asyncio.sleep(60)
        if not net.loss:  # a goodbye that is lost is noticed when the time is over
            assert watch.state in ("waiting", "notify-wait")
        await watch.close()
        await quiet(carol)


def test_F104_a_watcher_that_is_refused_later_is_told_so() -> None:
    async def run(net: Network) -> None:
        async with net.phone("bob") as bob, net.phone("carol") as carol:

            @bob.on_watch
            async def later(request: WatchRequest) -> bool:
                await asyncio.sleep(40)
                return False

            watch = await carol.watch(uri(bob), "dialog")
            assert watch.state == "pending"
            await asyncio.sleep(60)
            assert watch.state == "terminated"
            await quiet(bob, carol)

    in_virtual_time(run)


def test_a_phone_announces_what_it_does() -> None:
    async def run(net: Network) -> None:
        async with net.phone("alice") as alice, net.phone("bob") as bob:
            found = await alice.options(uri(bob))
            assert found.allow_events == ("refer", "dialog", "conference")
            assert {"replaces", "norefersub"} <= set(found.supported)
            assert {"SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "INFO"} <= set(found.allow)
            assert "PUBLISH" not in found.allow  # that is sent, and not taken
            call = await alice.dial(uri(bob), wait="started")
            await asyncio.sleep(1)
            assert call.state is CallState.ENDED

    in_virtual_time(run)


def test_F104_nothing_is_kept_of_a_watcher_that_has_gone() -> None:
    async def run(net: Network) -> None:
        async with net.phone("alice") as alice, net.phone("bob") as bob:
            bob.on_watch(lambda request: True)
            for _ in range(3):
                async with await alice.watch(uri(bob), "dialog"):
                    await asyncio.sleep(5)
                    call = await bob.dial(uri(alice), wait="started")
                    await asyncio.sleep(0.01)  # bob tells of it, and hears that nobody watches
                await call.hangup()
            await quiet(alice, bob)
            gc.collect()
            assert [one for one in gc.get_objects() if type(one) is Notifier] == []

    in_virtual_time(run)
