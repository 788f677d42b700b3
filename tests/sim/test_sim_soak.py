"""The soak in short: random calls of every kind, and nothing left of them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from voip import Softphone
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.events import CallState
from voip.harness.soak.plan import Deed, Trouble, plan
from voip.harness.soak.run import MEAN_GAP_S, SoakReport, Tenth, soak
from voip.sim import Host, Path, World
from voip.types import Address

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("soak")]
"""One job has all of them: each would soak for itself."""

CALLS = 200
FIRST = 40


@pytest.fixture(scope="module")
def report() -> SoakReport:
    return soak(CALLS, seed=1, first=FIRST)


def test_every_call_ends_as_it_may_and_nothing_is_left_of_it(report: SoakReport) -> None:
    assert report.wrong == []
    assert report.surprises == 0
    assert [tenth.left for tenth in report.tenths] == [{}] * 10
    assert report.passed
    assert report.calls == CALLS
    assert 2 * CALLS * 0.9 < report.legs < 3 * CALLS
    assert sum(n for what, n in report.outcomes.items() if what.split()[0] in ENDS) == report.legs


ENDS = ("local", "remote", "failure")


def test_everything_that_may_happen_to_a_call_was_among_it(report: SoakReport) -> None:
    plans = [plan(1, number, MEAN_GAP_S) for number in range(FIRST, FIRST + CALLS)]
    assert {one.deed for one in plans} == set(Deed)
    assert {one.trouble for one in plans} == {None, *Trouble}
    assert report.crashes and report.cuts
    assert report.virtual_days > CALLS * MEAN_GAP_S / 86_400 * 0.7
    statuses = {int(what.split()[1]) for what in report.outcomes if what.split()[1].isdigit()}
    assert {200, 302, 486, 487} <= statuses


def test_a_call_s_plan_follows_from_the_seed_and_its_number_alone() -> None:
    plans = [plan(1, number, MEAN_GAP_S) for number in range(1000)]
    assert plans == [plan(1, number, MEAN_GAP_S) for number in range(1000)]
    assert plans != [plan(2, number, MEAN_GAP_S) for number in range(1000)]
    assert sum(one.gap_s for one in plans) / 1000 == pytest.approx(MEAN_GAP_S, rel=0.1)
    assert all(len({one.caller, one.callee, one.third}) == 3 for one in plans)


def test_what_is_left_what_is_logged_and_what_grows_does_not_pass() -> None:
    sizes = [60.0, 61.0, 61.0, 61.0]
    tenths = [Tenth(n, 1.0, 1.0, size, {}) for n, size in enumerate(sizes)]
    assert SoakReport(1, 0, calls=10, tenths=tenths).passed
    assert not SoakReport(1, 0, calls=0, tenths=tenths).passed
    assert not SoakReport(1, 0, calls=10, surprises=1, tenths=tenths).passed
    leak = Tenth(9, 1.0, 1.0, 61.0, {"u1": {"dialogs": 1}})
    assert not SoakReport(1, 0, calls=10, tenths=[*tenths, leak]).passed
    grown = Tenth(9, 1.0, 1.0, 70.0, {})
    assert not SoakReport(1, 0, calls=10, tenths=[*tenths, grown]).passed


def test_a_soak_takes_an_error_in_the_log_for_a_surprise(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Softphone.start

    async def starts_badly(self: Softphone) -> None:
        await start(self)
        logging.getLogger("voip.phone").error("something is wrong")

    monkeypatch.setattr(Softphone, "start", starts_badly)
    report = soak(1, seed=1)
    assert report.surprises == 8
    assert "something is wrong" in report.wrong[0]
    assert not report.passed


# ---------------------------------------------------------------- what it has shown


def signalling_phone(host: Host) -> Softphone:
    return Softphone(
        f"sip:bob@{host.address}",
        register=False,
        network=NetworkConfig(bind_host=host.address, bind_port=5060),
        media=MediaConfig(elsewhere=Address(host.address, 40000)),
    )


def test_F059_a_change_that_waits_for_an_ack_does_not_take_the_ack_for_its_answer() -> None:
    """Bob's hold comes while his answer to Alice's is on its way, and waits for her ACK."""
    world = World(1, path=Path(delay_s=0.05))
    hosts = [world.host("10.0.0.1"), world.host("10.0.0.2")]
    states: list[CallState] = []

    async def main() -> None:
        with hosts[1].here():
            bob = signalling_phone(hosts[1])

            @bob.on_incoming
            async def taken(call: Call) -> None:
                await call.answer()
                await asyncio.sleep(1.0)
                await call.hold()
                states.append(call.state)
                await call.resume()
                await call.wait_ended()

            await bob.start()
        await hosts[0].run(talk())
        await bob.close()

    async def talk() -> None:
        async with signalling_phone(hosts[0]) as alice:
            call = await alice.dial("sip:bob@10.0.0.2")
            await asyncio.sleep(0.05 + 0.93)  # bob was up 0.05 s later; his hold meets the ACK
            await call.hold()
            await asyncio.sleep(1.0)
            await call.resume()
            assert call.state is CallState.ACTIVE
            await call.hangup()

    world.run(main())
    assert states == [CallState.HELD]
