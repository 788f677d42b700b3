"""SIPp as notifier, in scenarios that others wrote: its exit status is the verdict.

Of the same collection are left out: NOTIFY with a multipart body (415 here: none is read), a
NOTIFY after a refresh that timed out (481 is wanted there; the subscription lives on by RFC 6665
section 4.1.2.2), and what subscribes to our presence (403: a phone publishes it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from direct import desk
from peers.sipp import Sipp

StartSipp = Callable[..., Awaitable[Sipp]]

pytestmark = pytest.mark.reference


@pytest.fixture
def scenarios(reference_data: Path) -> Path:
    return reference_data / "sipp-pjproject" / "scripts-sipp"


async def test_F102_mail_is_told_twice_and_then_no_more(
    sipp: StartSipp, artifacts: Path, scenarios: Path
) -> None:
    server = await sipp(scenarios / "uas-mwi.xml", calls=1)
    async with desk(artifacts) as us:
        watch = await us.phone.watch(server.uri, "message-summary")
        told = [note async for note in watch.notifications()]
        assert [note.state for note in told] == ["active", "terminated"]
        assert all(note.value is not None for note in told)
        (await server.finished()).require(1)
        await asyncio.sleep(0.2)
        assert watch.state == "terminated"  # noresource: not asked for again


async def test_F102_mail_is_told_once_and_the_subscription_ended(
    sipp: StartSipp, artifacts: Path, scenarios: Path
) -> None:
    server = await sipp(scenarios / "uas-mwi-0.xml", calls=1)
    async with desk(artifacts) as us:
        watch = await us.phone.watch(server.uri, "message-summary")
        assert watch.latest is not None
        assert watch.latest.state == "terminated"
        assert watch.state == "waiting"  # for a reason that is not known: tried again later
        (await server.finished()).require(1)
        await watch.close()


async def test_F104_a_refresh_that_is_refused_by_481_is_asked_for_anew(
    sipp: StartSipp, artifacts: Path, scenarios: Path
) -> None:
    server = await sipp(scenarios / "uas-subscribe-refresh-481.xml", calls=1)
    async with desk(artifacts) as us:
        watch = await us.phone.watch(server.uri, "presence")
        assert watch.state == "active"
        (await server.finished()).require(1)  # the refresh has come, and was refused
        await watch.close()
    subscribes = [line for line in us.ladder.lines if line == "> SUBSCRIBE"]
    assert len(subscribes) >= 2


async def test_F104_a_subscription_on_probation_is_asked_for_again_when_it_may(
    sipp: StartSipp, artifacts: Path, scenarios: Path
) -> None:
    server = await sipp(scenarios / "uas-subscribe-terminated-retry.xml", calls=2)
    async with desk(artifacts) as us:
        watch = await us.phone.watch(server.uri, "presence")
        (await server.finished()).require(2)
        assert [note.state for note in list(watch._log)] == ["active", "terminated"] * 2
        await watch.close()
