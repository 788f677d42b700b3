"""A back-to-back user agent between simulated phones: what becomes of a call that one moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from flow_scene import lossy
from phone_scene import losing

from voip import Softphone
from voip.b2bua import HeaderList, connect
from voip.call import Call
from voip.config import NetworkConfig
from voip.errors import CallError
from voip.events import CallState, EndedBy
from voip.sim import Path, World
from voip.sip.uri import SipUri
from voip.transfers import TransferRequest

pytestmark = [pytest.mark.rfc("5589", "6"), pytest.mark.long]

NAMES = ("alice", "bob", "carol", "dave", "bridge")
either_side = pytest.mark.parametrize("mover", ["caller", "callee"])


class Town:
    """Phones that answer, and a bridge that connects who calls it with who is named to it."""

    def __init__(self, loss: float, seed: int = 3) -> None:
        self.world = World(seed, path=Path(delay_s=0.02, loss=loss))
        self.hosts = {
            name: self.world.host(f"10.0.0.{number}") for number, name in enumerate(NAMES, 1)
        }
        self.phones: dict[str, Softphone] = {}
        self.taken: dict[str, asyncio.Queue[Call]] = {}
        self.rings_s = dict.fromkeys(NAMES, 0.0)  # before they answer
        self.busy: set[str] = set()
        self.statuses: list[int] = []  # what became of bridges

    def uri(self, name: str) -> str:
        return f"sip:{name}@{self.hosts[name].address}"

    def by_bridge(self, name: str) -> str:
        return f"sip:{name}@{self.hosts['bridge'].address}"

    def run(self, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a test beside all phones; nothing may be left of any call at its end."""

        async def main() -> None:
            for name in NAMES:
                await self._start(name)
            await test()
            await asyncio.sleep(100)
            left = {name: phone.calls for name, phone in self.phones.items()}
            assert not any(left.values()), left
            for phone in self.phones.values():
                assert len(phone._agent.dialogs) == len(phone._agent.subscriptions) == 0
                await phone.close()

        self.world.run(self.hosts["alice"].run(main()))

    async def _start(self, name: str) -> None:
        host = self.hosts[name]
        with host.here():
            network = NetworkConfig(bind_host=host.address, bind_port=5060)
            account = None if name == "bridge" else self.uri(name)
            phone = Softphone(account, register=False, network=network)
            self.phones[name], self.taken[name] = phone, asyncio.Queue()
            phone.on_incoming(self._bridge if name == "bridge" else self._taking(name))
            await phone.start()

    async def _bridge(self, call: Call) -> None:
        async def dial(uri: str, headers: HeaderList) -> Call:
            return await self.phones["bridge"].dial(
                uri, wait="started", headers=headers, from_=call.remote
            )

        called = SipUri.parse(call.dialled).user or ""
        self.statuses.append(await connect(call, [self.uri(called)], dial))

    def _taking(self, name: str) -> Callable[[Call], Coroutine[Any, Any, None]]:
        async def take(call: Call) -> None:
            if name in self.busy:
                await call.reject(486)
                return
            await call.ring()
            await asyncio.sleep(self.rings_s[name])
            await call.answer()
            self.taken[name].put_nowait(call)
            await call.wait_ended()

        return take

    async def bridged(self, mover: str = "caller") -> tuple[Call, Call]:
        """Alice's call to Bob by way of the bridge: the end that moves, and the one that stays."""
        ends = await self.dial("alice", "bob")
        return ends if mover == "caller" else (ends[1], ends[0])

    async def dial(self, caller: str, callee: str) -> tuple[Call, Call]:
        call = await self.phones[caller].dial(self.by_bridge(callee), timeout=60)
        return call, await self.taken[callee].get()


async def one_hears(speaker: Call, listener: Call, digit: str) -> None:
    """A key that is pressed at one end is heard at the other."""
    heard, _ = await asyncio.gather(listener.collect(1, timeout=10), speaker.send_dtmf(digit))
    assert heard == digit


async def both_hear(one: Call, other: Call) -> None:
    await asyncio.sleep(25)  # what was lost has been repeated
    assert one.state is other.state is CallState.ACTIVE
    await one_hears(one, other, "5")
    await one_hears(other, one, "6")


async def until_rung(call: Call) -> None:
    """Until the target of a transfer rings, or should have."""
    await asyncio.sleep(8)
    assert call.ended is None


@lossy
def test_every_key_is_heard_once_at_the_other_side(loss: float) -> None:
    """Whether its packets are relayed or it is pressed anew: after a message it is, for a while."""
    town = Town(loss)

    async def main() -> None:
        call, bobs = await town.bridged()
        for speaker, listener in ((call, bobs), (bobs, call)):
            await asyncio.sleep(2)
            await speaker.send_dtmf("1122")
            assert await listener.collect(9, timeout=3) == "1122"
        leg = town.phones["bridge"].calls[0]
        playing = asyncio.ensure_future(leg.play(np.zeros(leg.rate * 4, np.int16)))
        await call.send_dtmf("33")
        await bobs.send_dtmf("44")
        assert await bobs.collect(9, timeout=3) == "33"
        assert await call.collect(9, timeout=3) == "44"
        await playing
        await call.hangup()
        await bobs.wait_ended()

    town.run(main)


# ---------------------------------------------------------------- transfers


@either_side
@lossy
def test_a_call_that_is_transferred_at_one_side_goes_on_with_the_other(
    loss: float, mover: str
) -> None:
    town = Town(loss)

    async def main() -> None:
        moves, stays = await town.bridged(mover)
        await one_hears(moves, stays, "1")
        await moves.transfer(town.uri("carol"))
        carols = await town.taken["carol"].get()
        await both_hear(stays, carols)
        assert moves.state is CallState.ENDED
        # the bridge is to the target who it was to the transferor (RFC 3892 section 2.2)
        assert carols.remote == (town.by_bridge("bob") if mover == "caller" else town.uri("alice"))
        assert len(town.phones["bridge"].calls) == 2
        await carols.hangup()
        assert (await stays.wait_ended()).by is EndedBy.REMOTE
        await asyncio.sleep(40)
        assert town.statuses == [200]

    town.run(main)


@lossy
def test_a_transferor_that_stays_hears_nothing_of_what_is_said_after_it(loss: float) -> None:
    """It has a while for its BYE; meanwhile the two that are connected are among themselves."""
    town = Town(loss)

    async def loudest(call: Call) -> int:
        frames = call.audio()
        return max([int(np.abs((await anext(frames)).astype(int)).max()) for _ in range(50)])

    async def main() -> None:
        moves, stays = await town.bridged()
        tone = (8000 * np.sin(np.arange(stays.rate * 60) * 0.3)).astype(np.int16)
        playing = asyncio.ensure_future(stays.play(tone))
        assert await loudest(moves) > 4000
        dialog = moves._session.dialog
        assert dialog is not None
        phone = town.phones["alice"]
        phone._agent.subscriptions.refer(
            dialog, f"<{town.uri('carol')}>", now=phone._transport.now()
        )
        phone._transport.flush()
        carols = await town.taken["carol"].get()
        assert await loudest(carols) > 4000
        if moves.ended is None:
            assert await loudest(moves) < 100
        await playing
        await stays.hangup()
        await carols.wait_ended()

    town.run(main)


@either_side
@lossy
def test_a_transfer_goes_on_where_who_asked_for_it_hangs_up_before_the_target_answers(
    loss: float, mover: str
) -> None:
    """RFC 5589 section 6: the transferor may leave as soon as its REFER is accepted."""
    town = Town(loss)
    town.rings_s["carol"] = 40

    async def main() -> None:
        moves, stays = await town.bridged(mover)
        transfer = asyncio.ensure_future(moves.transfer(town.uri("carol"), timeout=120))
        await until_rung(moves)
        await moves.hangup()
        carols = await town.taken["carol"].get()
        await transfer
        await both_hear(stays, carols)
        await stays.hangup()
        await carols.wait_ended()
        await asyncio.sleep(40)
        assert town.statuses == [200]

    town.run(main)


@either_side
@lossy
def test_who_is_left_by_a_transfer_that_fails_is_told_why_and_the_bridge_says_so(
    loss: float, mover: str
) -> None:
    town = Town(loss)

    async def main() -> None:
        moves, stays = await town.bridged(mover)
        deciding: asyncio.Event = asyncio.Event()

        @town.phones["carol"].on_incoming
        async def busy_after_a_while(call: Call) -> None:
            await call.ring()
            await deciding.wait()
            await call.reject(486)

        transfer = asyncio.ensure_future(moves.transfer(town.uri("carol"), timeout=120))
        await until_rung(moves)
        await moves.hangup()
        await asyncio.sleep(8)
        assert stays.state is CallState.ACTIVE
        deciding.set()
        end = await stays.wait_ended()
        assert end.by is EndedBy.REMOTE
        assert [reason.cause for reason in stays.end_reasons] == [486]
        with pytest.raises(CallError) as failure:
            await transfer
        assert failure.value.status == 486
        await asyncio.sleep(40)
        assert town.statuses == [486]

    town.run(main)


@either_side
@lossy
def test_a_target_rings_no_longer_when_nobody_is_left_to_speak_with(
    loss: float, mover: str
) -> None:
    """Whoever hangs up first: the transferor, and then who was to be transferred."""
    town = Town(loss)
    town.rings_s["carol"] = 100

    async def main() -> None:
        moves, stays = await town.bridged(mover)
        transfer = asyncio.ensure_future(moves.transfer(town.uri("carol"), timeout=120))
        await until_rung(moves)
        assert len(town.phones["carol"].calls) == 1
        if mover == "caller":
            await moves.hangup()
        await stays.hangup()
        with pytest.raises(CallError) as failure:
            await transfer
        assert failure.value.status == 487
        await asyncio.sleep(40)
        assert town.phones["carol"].calls == []
        assert town.phones["bridge"].calls == []
        assert town.taken["carol"].empty()

    town.run(main)


@lossy
def test_nobody_is_called_for_two_who_have_hung_up_before_the_handler_agrees(loss: float) -> None:
    town = Town(loss)

    async def main() -> None:
        moves, stays = await town.bridged()

        @town.phones["bridge"].on_transfer
        async def agree_late(request: TransferRequest) -> bool:
            await asyncio.sleep(60)
            return True

        rung = []
        town.phones["carol"].on_incoming(rung.append)
        transfer = asyncio.ensure_future(moves.transfer(town.uri("carol"), timeout=120))
        await until_rung(moves)
        await moves.hangup()
        await stays.hangup()
        with pytest.raises(CallError) as failure:
            await transfer
        assert failure.value.status == 487
        assert rung == []

    town.run(main)


@pytest.mark.parametrize("why", ["refused", "busy", "silent"])
@either_side
@lossy
def test_a_transfer_that_fails_leaves_the_two_connected(loss: float, mover: str, why: str) -> None:
    town = Town(loss)
    town.rings_s["carol"] = 400
    town.busy = {"carol"} if why == "busy" else set()

    async def main() -> None:
        moves, stays = await town.bridged(mover)
        if why == "refused":
            town.phones["bridge"].on_transfer(lambda request: False)
        with pytest.raises(CallError) as failure:
            await moves.transfer(town.uri("carol"), timeout=300)
        assert failure.value.status == {"refused": 603, "busy": 486, "silent": 487}[why]
        await both_hear(moves, stays)
        await moves.hangup()
        await stays.wait_ended()
        assert stays.end_reasons == []
        await asyncio.sleep(40)
        assert town.statuses == [200]

    town.run(main)


@lossy
def test_two_that_are_transferred_by_both_sides_at_once_are_connected(loss: float) -> None:
    town = Town(loss)
    town.rings_s["carol"] = town.rings_s["dave"] = 10

    async def main() -> None:
        call, bobs = await town.bridged()
        await asyncio.gather(
            call.transfer(town.uri("carol"), timeout=120),
            bobs.transfer(town.uri("dave"), timeout=120),
        )
        carols, daves = await town.taken["carol"].get(), await town.taken["dave"].get()
        await both_hear(carols, daves)
        assert call.state is bobs.state is CallState.ENDED
        await daves.hangup()
        await carols.wait_ended()
        await asyncio.sleep(40)
        assert town.statuses == [200]

    town.run(main)


@either_side
@lossy
def test_of_two_that_one_side_asks_for_the_first_that_answers_is_it(
    loss: float, mover: str
) -> None:
    town = Town(loss)
    town.rings_s["carol"], town.rings_s["dave"] = 60, 25

    async def main() -> None:
        moves, stays = await town.bridged(mover)
        first = asyncio.ensure_future(moves.transfer(town.uri("carol"), timeout=120))
        await until_rung(moves)
        await moves.transfer(town.uri("dave"), timeout=120)
        daves = await town.taken["dave"].get()
        await both_hear(stays, daves)
        with pytest.raises(CallError) as failure:
            await first
        assert failure.value.status == 487
        assert town.phones["carol"].calls == []
        assert town.taken["carol"].empty()
        await stays.hangup()
        await daves.wait_ended()

    town.run(main)


@either_side
@lossy
def test_hold_and_resume_while_a_transfer_is_under_way(loss: float, mover: str) -> None:
    """The transferor holds first, as most do; who stays does while the target rings."""
    town = Town(loss)
    town.rings_s["carol"] = 60

    async def main() -> None:
        moves, stays = await town.bridged(mover)
        await moves.hold()
        transfer = asyncio.ensure_future(moves.transfer(town.uri("carol"), timeout=120))
        await until_rung(moves)
        await stays.hold()
        await asyncio.sleep(1)
        await stays.resume()
        await moves.hangup()
        await stays.hold()
        await town.taken["carol"].get()
        await transfer
        await asyncio.sleep(10)
        assert stays.state is CallState.HELD
        await stays.resume()
        (carols,) = town.phones["carol"].calls
        await both_hear(stays, carols)
        await carols.hangup()
        await stays.wait_ended()

    town.run(main)


# ---------------------------------------------------------------- attended


@pytest.mark.parametrize("consulted", ["straight", "by way of the bridge"])
@either_side
@lossy
def test_an_attended_transfer_connects_who_stays_with_who_was_consulted(
    loss: float, mover: str, consulted: str
) -> None:
    attended(Town(loss), mover, consulted)


@pytest.mark.parametrize("seed", [5, 10])
def test_a_side_whose_acknowledgement_was_lost_is_followed_like_any_other(seed: int) -> None:
    """It is replaced by who was consulted before the bridge knows that it has heard the answer."""
    attended(Town(0.2, seed), "caller", "by way of the bridge")


def attended(town: Town, mover: str, consulted: str) -> None:
    async def main() -> None:
        moves, stays = await town.bridged(mover)
        await moves.hold()
        phone = town.phones["alice" if mover == "caller" else "bob"]
        uri = town.uri("carol") if consulted == "straight" else town.by_bridge("carol")
        second = await phone.dial(uri, timeout=60)
        carols = await town.taken["carol"].get()
        await moves.transfer(second, timeout=120)
        assert moves.state is second.state is CallState.ENDED
        if consulted == "straight":
            carols = await town.taken["carol"].get()
        await both_hear(stays, carols)
        await stays.hangup()
        await carols.wait_ended()
        await asyncio.sleep(40)
        assert set(town.statuses) == {200}

    town.run(main)


# ---------------------------------------------------------------- replaced


@either_side
@lossy
def test_one_whose_place_is_taken_gives_way_to_who_took_it(loss: float, mover: str) -> None:
    """The INVITE with Replaces names either leg; nobody else rings."""
    town = Town(loss)

    async def main() -> None:
        moves, stays = await town.bridged(mover)
        await one_hears(moves, stays, "1")
        carols = await town.phones["carol"].dial(moves.place, timeout=60)
        assert (await moves.wait_ended()).by is EndedBy.REMOTE
        await both_hear(stays, carols)
        daves = await town.phones["dave"].dial(carols.place, timeout=60)  # and again
        await carols.wait_ended()
        await both_hear(stays, daves)
        assert town.taken["bob"].empty()
        await stays.hangup()
        assert (await daves.wait_ended()).by is EndedBy.REMOTE
        await asyncio.sleep(40)
        assert town.statuses == [200]

    town.run(main)


@either_side
@lossy
def test_one_who_hangs_up_before_the_taker_s_ack_has_come_is_replaced_all_the_same(
    loss: float, mover: str
) -> None:
    town = Town(loss)

    async def main() -> None:
        moves, stays = await town.bridged(mover)
        until = town.world.elapsed + 6
        losing(
            town.phones["carol"],
            lambda sent: sent.cseq.method == "ACK" and town.world.elapsed < until,
        )
        carols = await town.phones["carol"].dial(moves.place, timeout=60)
        await moves.hangup()
        await both_hear(stays, carols)
        await carols.hangup()
        await stays.wait_ended()
        await asyncio.sleep(40)
        assert town.statuses == [200]

    town.run(main)


@lossy
def test_a_ringing_callee_s_call_is_picked_up_by_another(loss: float) -> None:
    """RFC 3891 section 7.1, with the bridge as originator."""
    town = Town(loss)
    town.rings_s["bob"] = 100

    async def main() -> None:
        dialling = asyncio.ensure_future(
            town.phones["alice"].dial(town.by_bridge("bob"), timeout=60)
        )
        await asyncio.sleep(8)
        (ringing,) = town.phones["bob"].calls
        early = ringing._session.current_dialog
        assert early is not None
        names = f"{early.call_id};to-tag={early.remote.tag};from-tag={early.local.tag}"
        carols = await town.phones["carol"].dial(
            town.by_bridge("bob"), headers={"Replaces": f"{names};early-only"}, timeout=60
        )
        await both_hear(await dialling, carols)
        assert ringing.ended is not None
        await carols.hangup()
        await (await dialling).wait_ended()
        await asyncio.sleep(40)
        assert town.statuses == [200]

    town.run(main)
