"""Accounts that come and go while the phone is open, in a simulated world."""

from __future__ import annotations

import asyncio

import pytest
from accounts_scene import (
    ALICE,
    AT_HOME,
    AT_WORK,
    CAROL,
    LONG_S,
    WORK,
    Scene,
    bound,
    held_by,
    told,
)
from callers import answering

from voip import Account
from voip.errors import CallError, ConfigError, RegistrationError
from voip.events import (
    Registered,
    Unregistered,
)


def test_an_account_is_added_called_as_and_removed_while_the_phone_is_open() -> None:
    scene = Scene()

    async def main() -> None:
        dave = await scene.dave()
        async with scene.phone(ALICE) as phone:
            calls = answering(phone)
            granted = await phone.add_account(CAROL)
            assert granted == Registered(300.0, AT_WORK)
            assert phone.accounts == [ALICE, CAROL] and phone.registered
            assert len(bound(scene.at_work, "carol")) == 1
            with scene.there.here():
                calling = asyncio.ensure_future(dave.dial("carol"))
            async with await calling:
                assert (await calls.get()).account == CAROL
            async with await phone.dial("dave", account=CAROL):
                pass
            await phone.remove_account(AT_WORK)
            assert bound(scene.at_work, "carol") == []
            assert (phone.accounts, phone.account, phone.registered) == ([ALICE], ALICE, True)
            assert told(phone, AT_WORK) == [Registered, Unregistered]
            with pytest.raises(ConfigError, match="no account of this phone"):
                await phone.dial("dave", account=CAROL)
            await phone.add_account(CAROL)  # and once more
            assert len(bound(scene.at_work, "carol")) == 1
        assert bound(scene.at_home, "alice") == bound(scene.at_work, "carol") == []
        assert held_by(phone) == {}
        await dave.close()

    scene.run(main)


def test_what_belongs_to_an_account_ends_with_it_and_what_does_not_goes_on() -> None:
    scene = Scene()

    async def main() -> None:
        bob, dave = await scene.bob(), await scene.dave()
        for one in (bob, dave):
            one.on_watch(lambda request: True)
        async with scene.phone() as phone:
            phone.on_watch(lambda request: True)
            at_home = await phone.dial("bob")
            at_work = await phone.dial("dave", account=CAROL)
            mine = await phone.watch("bob", "dialog")
            gone = await phone.watch("dave", "dialog", account=CAROL)
            with scene.there.here():
                looking = asyncio.ensure_future(
                    asyncio.gather(bob.watch("alice", "dialog"), dave.watch("carol", "dialog"))
                )
            of_alice, of_carol = await looking
            await asyncio.sleep(1.0)
            await phone.remove_account(CAROL)
            await asyncio.sleep(1.0)
            assert at_work.ended is not None and at_home.ended is None
            assert (gone.state, mine.state) == ("terminated", "active")
            assert (of_carol.state, of_alice.state) == ("terminated", "active")
            assert bound(scene.at_work, "carol") == [] and bound(scene.at_home, "alice")
            assert len(phone._agent.subscriptions) == 2
            assert len(phone._agent.dialogs) == 3
            await asyncio.sleep(LONG_S / 12)  # nothing of it is refreshed
            assert scene.requests("REGISTER", "carol")[-1].headers.get("Expires") == "0"
            assert at_home.ended is None and mine.state == "active"
            await at_home.hangup()
            await mine.close()
        assert held_by(phone) == {}
        await bob.close()
        await dave.close()

    scene.run(main)


def test_a_call_being_placed_ends_with_its_account() -> None:
    scene = Scene()

    async def main() -> None:
        async with scene.phone() as phone:
            scene.world.cut(scene.here, scene.work)
            calling = asyncio.ensure_future(phone.dial("dave", account=CAROL))
            await asyncio.sleep(1.0)
            began = asyncio.get_running_loop().time()
            await phone.remove_account(CAROL)
            assert asyncio.get_running_loop().time() - began < 6.0  # nobody agrees
            with pytest.raises(CallError):
                await calling
            assert phone.calls == [] and phone.accounts == [ALICE]
        assert held_by(phone) == {}

    scene.run(main)


def test_an_account_that_is_refused_is_not_there() -> None:
    scene = Scene()
    wrong = Account(f"sip:carol@{WORK}", "wrong")

    async def main() -> None:
        async with scene.phone(ALICE) as phone:
            with pytest.raises(RegistrationError, match="wrong password"):
                await phone.add_account(wrong)
            assert phone.accounts == [ALICE]
            with pytest.raises(ConfigError, match="twice"):
                await phone.add_account(Account(AT_HOME, "another"))
            await phone.add_account(CAROL)
            await phone.remove_account(CAROL)
            assert await phone.add_account(Account(AT_WORK, "wrong", register=False)) is None
            with pytest.raises(RegistrationError, match="wrong password"):
                await phone.register(AT_WORK)
            assert len(phone.accounts) == 2
        with pytest.raises(CallError, match="closed"):
            await phone.add_account(CAROL)
        with pytest.raises(ConfigError, match="not started"):
            await scene.phone(ALICE).remove_account(ALICE)
        assert held_by(phone) == {}

    scene.run(main)


def test_the_first_account_is_removed_and_the_last_and_one_comes_to_a_phone_without_any() -> None:
    scene = Scene()

    async def main() -> None:
        async with scene.phone() as phone:
            calls = answering(phone)
            await phone.remove_account(ALICE)
            assert phone.account == CAROL
            async with await phone.dial(f"sip:carol@{WORK}"):  # of that account now
                assert (await calls.get()).account == CAROL
            await phone.remove_account(CAROL)
            assert (phone.accounts, phone.registered) == ([], False)
            with pytest.raises(ConfigError, match="is at no domain"):
                await phone.dial("dave")
            await phone.add_account(ALICE)
            assert phone.account == ALICE and phone.registered
            assert len(bound(scene.at_home, "alice")) == 1
        assert held_by(phone) == {}

    scene.run(main)


def test_two_accounts_of_one_user_are_told_apart_however_they_came() -> None:
    scene = Scene()
    namesake = Account(f"sip:alice@{WORK}", "another")

    async def main() -> None:
        bob, dave = await scene.bob(), await scene.dave()
        async with scene.phone(ALICE) as phone:
            calls = answering(phone)
            for _ in range(3):
                await phone.add_account(namesake)
                for caller, account in ((bob, ALICE), (dave, namesake)):
                    with scene.there.here():
                        calling = asyncio.ensure_future(caller.dial("alice"))
                    async with await calling:
                        assert (await calls.get()).account == account
                await phone.remove_account(namesake)
        await bob.close()
        await dave.close()

    scene.run(main)
