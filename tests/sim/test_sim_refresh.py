"""Half an hour of a call whose session is refreshed (RFC 4028) over 3 % of loss in bursts.

Bursts are counted in packets, and signalling alone sends few: of a hundred bursts of 4 on average
four outlast all repetitions of a refresh, and the call has to end (section 10). They are of 2 here.
"""

from __future__ import annotations

import asyncio

import pytest
from callers import answering

from voip import Softphone
from voip.call import Call
from voip.config import CallConfig, MediaConfig, NetworkConfig
from voip.events import CallState, EndedBy
from voip.sim import GilbertElliott, Host, Path, World
from voip.sip.endpoint.trace import SipTraceRecord
from voip.sip.message import Request, parse_message
from voip.types import Address

PATH = Path(burst=GilbertElliott.of(0.03, 2), delay_s=0.04, jitter_s=0.01)
MINUTES = 30
EXPIRES_S = 180

pytestmark = pytest.mark.rfc("4028", "7-10")


def phone(
    host: Host, seen: list[Request], expires_s: int = EXPIRES_S, **calling: object
) -> Softphone:
    def trace(record: SipTraceRecord) -> None:
        message = parse_message(record.data)
        if record.sent and isinstance(message, Request):
            seen.append(message)

    return Softphone(
        f"sip:bob@{host.address}",
        register=False,
        network=NetworkConfig(bind_host=host.address, bind_port=5060),
        media=MediaConfig(elsewhere=Address(host.address, 40000)),
        calling=CallConfig(session_expires_s=expires_s, **calling),  # type: ignore[arg-type]
        trace=trace,
    )


def refreshes(seen: list[Request]) -> int:
    """How many different requests have refreshed the session."""
    found = {
        (message.method, message.cseq.number)
        for message in seen
        if message.method in ("UPDATE", "INVITE")
        and message.to.tag is not None
        and "Session-Expires" in message.headers
    }
    return len(found)


@pytest.mark.parametrize("refresher", ["us", "them"])
def test_F096_a_call_lasts_half_an_hour_because_it_is_refreshed(refresher: str) -> None:
    lost = [half_an_hour(refresher, seed) for seed in range(1, 21)]
    assert sum(lost) > 10
    assert sum(map(bool, lost)) > 3


def half_an_hour(refresher: str, seed: int) -> int:
    """Have such a call; return how many datagrams were lost in it."""
    world = World(seed, path=PATH)
    hosts = [world.host("10.0.0.1", drift_ppm=100), world.host("10.0.0.2", drift_ppm=-100)]
    ours: list[Request] = []
    theirs: list[Request] = []
    taken: list[Call] = []

    async def main() -> None:
        with hosts[1].here():
            bob = phone(hosts[1], theirs)

            @bob.on_incoming
            async def answer(call: Call) -> None:
                taken.append(call)
                await call.answer()
                await call.wait_ended()

            await bob.start()
        await hosts[0].run(talk())
        assert (await taken[0].wait_ended()).by is EndedBy.REMOTE
        await asyncio.sleep(40)
        assert bob._agent.timers == len(bob._agent.dialogs) == bob._agent.transactions == 0
        await bob.close()

    async def talk() -> None:
        async with phone(hosts[0], ours, refresher=refresher) as alice:
            call = await alice.dial("sip:bob@10.0.0.2")
            await asyncio.sleep(60 * MINUTES)
            assert call.state is CallState.ACTIVE
            assert taken[0].state is CallState.ACTIVE
            await call.hangup()

    world.run(main())
    least = 60 * MINUTES // EXPIRES_S
    does, does_not = (ours, theirs) if refresher == "us" else (theirs, ours)
    assert refreshes(does) >= least
    assert refreshes(does_not) == 0
    counts = [world.network.counts_of(address) for address in world.network.senders()]
    return sum(one.lost for one in counts)


def test_F096_a_call_whose_other_side_has_vanished_ends_when_the_session_expires() -> None:
    world = World(1, path=PATH)
    hosts = [world.host("10.0.0.1"), world.host("10.0.0.2")]
    ended: list[float] = []

    async def main() -> None:
        with hosts[1].here():
            bob = phone(hosts[1], [])

            @bob.on_incoming
            async def answer(call: Call) -> None:
                await call.answer()
                end = await call.wait_ended()
                assert end.by is EndedBy.FAILURE
                ended.append(world.elapsed)

            await bob.start()
        await hosts[0].run(talk())
        await bob.close()

    async def talk() -> None:
        async with phone(hosts[0], [], refresher="us") as alice:
            await alice.dial("sip:bob@10.0.0.2")
            await asyncio.sleep(10)
            world.cut(hosts[0], hosts[1])
            while not ended:
                await asyncio.sleep(1)

    world.run(main())
    assert EXPIRES_S / 2 < ended[0] <= EXPIRES_S + 1


def test_F096_who_refreshes_waits_for_the_answer_until_the_session_is_over() -> None:
    """A session of 90 s; nothing comes back for 20 s from its refresh on."""
    world = World(1, path=Path(delay_s=0.04))
    hosts = [world.host("10.0.0.1"), world.host("10.0.0.2")]

    async def main() -> None:
        with hosts[1].here():
            bob = phone(hosts[1], [], 90)
            answering(bob)
            await bob.start()
        await hosts[0].run(talk())
        await bob.close()

    async def talk() -> None:
        async with phone(hosts[0], [], 90, refresher="us") as alice:
            call = await alice.dial("sip:bob@10.0.0.2")
            await asyncio.sleep(44)
            world.network.cut(hosts[1], hosts[0], world.time() + 20)
            await asyncio.sleep(200)
            assert call.state is CallState.ACTIVE
            await call.hangup()

    world.run(main())
