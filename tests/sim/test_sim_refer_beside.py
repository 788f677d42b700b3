"""Transfers asked for beside the call, by who knows Target-Dialog (RFC 5589, RFC 4538)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from callers import transferred
from flow_scene import Scene, in_all_weathers
from phone_scene import without

from voip.call import Call
from voip.errors import CallError
from voip.events import CallState
from voip.sip.message import Request
from voip.sip.uri import SipUri

pytestmark = pytest.mark.rfc("4538", "3")

NAMED: dict[str, Any] = {
    name: {"outbound": True, "instance": f"f81d4fae-7dec-11d0-a765-00a0c91e6b{number:02x}"}
    for number, name in enumerate(("alice", "bob", "carol"))
}


def refers(scene: Scene) -> list[Request]:
    """The REFERs that were sent, as they were at first: repeated, with a password and forwarded."""
    found: dict[str, Request] = {}
    for message in scene.seen:
        if isinstance(message, Request) and message.method == "REFER":
            found.setdefault(message.call_id, message)
    return list(found.values())


@pytest.mark.parametrize("transferee", ["callee", "caller"])
@in_all_weathers
def test_F035_a_phone_with_a_name_of_its_own_is_referred_in_a_new_dialog(
    loss: float, seed: int, transferee: str
) -> None:
    """RFC 5589 figure 1: Target-Dialog names the call as the transferee sees it."""
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, to_bob = await scene.answering("bob", **NAMED["bob"])
        carol, to_carol = await scene.answering("carol")
        alice, _ = await scene.answering("alice", **NAMED["alice"])
        ends = await scene.up(alice, "bob", to_bob)
        mine, theirs = ends if transferee == "callee" else ends[::-1]
        there = theirs._session.dialog
        assert there is not None
        await mine.transfer("carol", timeout=120)
        new = await transferred(theirs)
        await to_carol.get()
        assert new.state is CallState.ACTIVE
        assert mine.state is CallState.ENDED
        (refer,) = refers(scene)
        assert refer.call_id != there.call_id
        assert SipUri.parse(refer.uri).param("gr")
        assert refer.to.tag is None
        assert refer.headers.get("Require") == "tdialog"
        named = f"{there.call_id};local-tag={there.local.tag};remote-tag={there.remote.tag}"
        assert refer.headers.get("Target-Dialog") == named
        assert refer.headers.get("Referred-By") == f"<{refer.from_.uri}>"
        await new.hangup()
        await scene.settled(alice, bob, carol)
        for phone in (alice, bob, carol):
            await phone.close()

    scene.run(main)


@in_all_weathers
def test_F042_an_attended_transfer_is_asked_for_beside_the_call_as_well(
    loss: float, seed: int
) -> None:
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, to_bob = await scene.answering("bob", **NAMED["bob"])
        carol, to_carol = await scene.answering("carol", **NAMED["carol"])
        async with scene.phone("alice", scene.alice) as alice:
            first, bobs = await scene.up(alice, "bob", to_bob)
            await first.hold()
            second, carols = await scene.up(alice, "carol", to_carol)
            await first.transfer(second, timeout=120)
            new = await transferred(bobs)
            taken = await to_carol.get()
            assert taken.replaces is carols
            assert new.state is taken.state is CallState.ACTIVE
            (refer,) = refers(scene)
            assert refer.to.tag is None
            assert ";gr=" in (refer.headers.get("Refer-To") or "")
            await new.hangup()
            await scene.settled(alice, bob, carol)
        await bob.close()
        await carol.close()

    scene.run(main)


@in_all_weathers
def test_F037_a_transfer_asked_for_beside_the_call_that_fails_leaves_the_call(
    loss: float, seed: int
) -> None:
    scene = Scene(loss, seed)

    async def busy(call: Call) -> None:
        await call.reject(486)

    async def main() -> None:
        bob, to_bob = await scene.answering("bob", **NAMED["bob"])
        carol = await scene.taking("carol", busy)
        async with scene.phone("alice", scene.alice) as alice:
            mine, theirs = await scene.up(alice, "bob", to_bob)
            with pytest.raises(CallError) as failure:
                await mine.transfer("carol", timeout=120)
            assert failure.value.status == 486
            await asyncio.sleep(20)
            assert mine.state is theirs.state is CallState.ACTIVE
            await mine.hangup()
            await scene.settled(alice, bob, carol)
        await bob.close()
        await carol.close()

    scene.run(main)


@pytest.mark.parametrize("lacks", ["a name of its own", "Target-Dialog"])
@in_all_weathers
def test_F036_who_lacks_either_is_referred_in_the_call(loss: float, seed: int, lacks: str) -> None:
    scene = Scene(loss, seed)

    async def answer(call: Call) -> None:
        await call.answer()
        await call.wait_ended()

    async def main() -> None:
        more = {} if lacks == "a name of its own" else NAMED["bob"]
        with scene.bob.here():
            bob: Any = scene.phone("bob", scene.bob, **more)
            bob.on_incoming(answer)
            if lacks == "Target-Dialog":
                without("tdialog", bob)
            await bob.start()
        carol, to_carol = await scene.answering("carol")
        async with scene.phone("alice", scene.alice) as alice:
            mine = await alice.dial("bob", timeout=80)
            await asyncio.sleep(20)
            (theirs,) = bob.calls
            await mine.transfer("carol", timeout=120)
            new = await transferred(theirs)
            await to_carol.get()
            (refer,) = refers(scene)
            assert "Target-Dialog" not in refer.headers
            assert refer.to.tag is not None
            await new.hangup()
            await scene.settled(alice, bob, carol)
        await bob.close()
        await carol.close()

    scene.run(main)


@in_all_weathers
def test_who_calls_without_a_name_refers_in_the_call_and_without_one(
    loss: float, seed: int
) -> None:
    """Outside of it a proxy would ask who that is; RFC 3323: no header tells the transferee."""
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, to_bob = await scene.answering("bob", **NAMED["bob"])
        carol, to_carol = await scene.answering("carol")
        alice, _ = await scene.answering("alice", **NAMED["alice"])
        mine, theirs = await scene.up(alice, "bob", to_bob, anonymous=True)
        await mine.transfer("carol", timeout=120)
        new = await transferred(theirs)
        await to_carol.get()
        (refer,) = refers(scene)
        assert refer.to.tag is not None
        for name in ("From", "Contact", "Referred-By"):
            assert "alice" not in (refer.headers.get(name) or ""), name
        await new.hangup()
        await scene.settled(alice, bob, carol)
        for phone in (alice, bob, carol):
            await phone.close()

    scene.run(main)


@in_all_weathers
def test_who_called_without_a_name_is_asked_beside_the_call_and_stays_so(
    loss: float, seed: int
) -> None:
    """Its temporary GRUU finds it, and neither the reports nor the new call tell who it is."""
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, _ = await scene.answering("bob", **NAMED["bob"])
        carol, to_carol = await scene.answering("carol")
        alice, to_alice = await scene.answering("alice")
        theirs, mine = await scene.up(bob, "alice", to_alice, anonymous=True)
        await mine.transfer("carol", timeout=120)
        new = await transferred(theirs)
        assert (await to_carol.get()).remote == "sip:anonymous@anonymous.invalid"
        (refer,) = refers(scene)
        assert refer.to.tag is None
        told = [
            str(one.headers.get("Contact"))
            for one in scene.arrived["10.0.0.1"]
            if one.cseq.method in ("REFER", "NOTIFY") and one.contacts
        ]
        assert told
        assert not [contact for contact in told if "bob" in contact]
        await new.hangup()
        await scene.settled(alice, bob, carol)
        for phone in (alice, bob, carol):
            await phone.close()

    scene.run(main)
