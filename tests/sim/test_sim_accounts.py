"""A phone with several accounts, in a simulated world: each at a registrar of its own."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from accounts_scene import (
    ALICE,
    AT_HOME,
    AT_WORK,
    CAROL,
    HOME,
    LONG_S,
    WORK,
    Scene,
    bound,
    held_by,
    told,
)
from callers import answering, status_of

from voip import Account, Softphone
from voip.config import MediaConfig, NetworkConfig
from voip.errors import ConfigError, RegistrationError
from voip.events import (
    MessageReceived,
    MessageWaiting,
    Registered,
    RegistrationFailed,
    Transferred,
    Unregistered,
)
from voip.lines import PATIENCE_S
from voip.messages import Messages
from voip.sip.server_request import ServerRequest
from voip.types import Address

# ---------------------------------------------------------------- registration


def test_each_account_is_registered_and_forgotten_at_its_own_registrar() -> None:
    scene = Scene()

    async def main() -> None:
        phone = scene.phone()
        async with phone:
            assert phone.registered and phone.account == ALICE
            assert phone.accounts == [ALICE, CAROL]
            assert bound(scene.at_home, "alice") == ["sip:alice@10.0.0.1:5060"]
            assert bound(scene.at_work, "carol") == ["sip:carol@10.0.0.1:5060"]
            assert bound(scene.at_work, "alice") == []
            for account in phone.accounts:
                status = phone.registration(account)
                assert (status.account, status.registered) == (account, True)
                assert status.expires_in_s == pytest.approx(300, abs=1)
                assert status.failure is None
            assert len({one.call_id for one in scene.sent if one.method == "REGISTER"}) == 2
        assert bound(scene.at_home, "alice") == bound(scene.at_work, "carol") == []
        assert held_by(phone) == {}
        for aor in (AT_HOME, AT_WORK):
            assert told(phone, aor) == [Registered, Unregistered]
        names = {
            (re.search(r'username="(\w+)"', line)[1], one.from_.sip_uri.user)  # type: ignore[index]
            for one in scene.sent
            if (line := one.headers.get("Authorization")) is not None
        }
        assert names == {("alice", "alice"), ("carol", "carol")}

    scene.run(main)


def test_each_account_is_refreshed_and_given_up_on_its_own() -> None:
    scene = Scene()

    async def main() -> None:
        carol = Account(CAROL.uri, CAROL.password, expires_s=60)
        async with scene.phone(ALICE, carol) as phone:
            before = {user: len(scene.requests("REGISTER", user)) for user in ("alice", "carol")}
            await asyncio.sleep(3600)
            renewals = {
                user: len(scene.requests("REGISTER", user)) - count
                for user, count in before.items()
            }
            assert renewals["carol"] > 3 * renewals["alice"] > 0
            await phone.unregister(AT_WORK)
            assert bound(scene.at_work, "carol") == []
            assert phone.registered and not phone.registration(carol).registered
            count = len(scene.requests("REGISTER", "carol"))
            await asyncio.sleep(3600)
            assert len(scene.requests("REGISTER", "carol")) == count
            assert len(bound(scene.at_home, "alice")) == 1
            assert await phone.register("carol@10.0.0.9") == Registered(60.0)
            assert phone.registered
            await phone.unregister()
            assert not phone.registered
            assert bound(scene.at_home, "alice") == bound(scene.at_work, "carol") == []

    scene.run(main)


def test_an_account_that_is_refused_for_a_while_does_not_disturb_the_other() -> None:
    """503 with Retry-After at one registrar; the other goes on."""
    scene = Scene(work=False)
    refusals = 0

    def refuse(request: ServerRequest) -> None:
        nonlocal refusals
        refusals += 1
        if refusals < 3:
            request.reply(503, headers=[("Retry-After", "900")], now=busy._transport.now())
        else:
            contact = request.request.headers.get("Contact")
            request.reply(200, headers=[("Contact", f"{contact}")], now=busy._transport.now())

    with scene.work.here():
        busy = Softphone(
            network=NetworkConfig(bind_host=WORK, bind_port=5060),
            media=MediaConfig(elsewhere=Address(WORK, 40000)),
            requests={"REGISTER": refuse},
        )

    async def main() -> None:
        with scene.work.here():
            await busy.start()
        loop = asyncio.get_running_loop()
        async with scene.phone() as phone:
            opened = loop.time()
            assert not phone.registered
            assert phone.registration(ALICE).registered
            status = phone.registration(CAROL)
            assert not status.registered and status.expires_in_s is None
            assert status.failure is not None and status.failure.status == 503
            assert status.failure.aor == AT_WORK
            assert status.failure.retry_in_s is not None and status.failure.retry_in_s >= 900
            calls = answering(phone)
            bob = await scene.bob()
            async with await bob.dial("alice"):
                assert (await calls.get()).account == ALICE
            await bob.close()
            while not phone.registered:
                await asyncio.sleep(1)
            assert refusals == 3 and loop.time() - opened >= 1800
            assert phone.registration(CAROL).failure is None
            assert told(phone, AT_WORK) == [RegistrationFailed, RegistrationFailed, Registered]
            assert set(told(phone, AT_HOME)) == {Registered}
        await busy.close()

    scene.run(main)


def test_a_registrar_that_is_silent_holds_nobody_up_and_is_tried_again() -> None:
    scene = Scene()

    async def main() -> None:
        scene.world.cut(scene.here, scene.work)
        began = asyncio.get_running_loop().time()
        async with scene.phone() as phone:
            assert asyncio.get_running_loop().time() - began < PATIENCE_S + 1
            assert phone.registration(ALICE).registered and not phone.registered
            await asyncio.sleep(3600)
            assert len(bound(scene.at_home, "alice")) == 1
            failed = told(phone, AT_WORK)
            assert len(failed) > 2 and set(failed) == {RegistrationFailed}
            scene.world.restore(scene.here, scene.work)
            await asyncio.sleep(3600)
            assert phone.registered and len(bound(scene.at_work, "carol")) == 1
        assert bound(scene.at_home, "alice") == bound(scene.at_work, "carol") == []

    scene.run(main)


def test_a_registrar_that_no_way_leads_to_is_looked_for_again() -> None:
    scene = Scene(work=False)

    async def main() -> None:
        carol = Account(CAROL.uri, CAROL.password, transport="tcp")
        async with scene.phone(ALICE, carol) as phone:
            failure = phone.registration(carol).failure
            assert failure is not None and failure.status is None
            assert failure.retry_in_s is not None and 30 <= failure.retry_in_s <= 60
            await scene.open_work()
            await asyncio.sleep(60)
            assert phone.registered
            assert bound(scene.at_work, "carol") == ["sip:carol@10.0.0.1:5060;transport=tcp"]
            assert phone.registration(carol).failure is None

    scene.run(main)


def test_closing_does_not_wait_for_a_registrar_that_is_being_looked_for() -> None:
    scene = Scene()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        scene.world.cut(scene.here, scene.work)
        carol = Account(CAROL.uri, CAROL.password, transport="tcp")
        began = loop.time()
        async with scene.phone(ALICE, carol) as phone:
            assert loop.time() - began < PATIENCE_S + 1
            assert phone.registration(ALICE).registered
            closing = loop.time()
        assert loop.time() - closing < 1
        assert bound(scene.at_home, "alice") == []

    scene.run(main)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_who_waits_for_a_registration_is_told_that_the_phone_was_closed(transport: str) -> None:
    scene = Scene()

    async def main() -> None:
        accounts = [
            Account(one.uri, one.password, proxy=[HOME, WORK], transport=transport)
            for one in (ALICE, CAROL)
        ]
        async with scene.phone(*accounts, register=False) as phone:
            scene.world.cut(scene.here, scene.home)
            scene.world.cut(scene.here, scene.work)
            waiting = asyncio.create_task(phone.register())
            await asyncio.sleep(1)
            phone.unregister_on_close = False
        with pytest.raises(RegistrationError, match="the phone was closed"):
            await waiting

    scene.run(main)


def test_giving_up_an_account_that_no_way_leads_to_ends_the_search() -> None:
    scene = Scene(work=False)

    async def main() -> None:
        carol = Account(CAROL.uri, CAROL.password, transport="tcp")
        async with scene.phone(ALICE, carol) as phone:
            await phone.unregister(carol)
            assert phone.registered
            await asyncio.sleep(3600)
            assert told(phone, AT_WORK) == [RegistrationFailed]

    scene.run(main)


def test_a_phone_that_nobody_registers_is_not_opened() -> None:
    scene = Scene()

    async def main() -> None:
        wrong = [Account(one.uri, "wrong") for one in (ALICE, CAROL)]
        phone = scene.phone(*wrong)
        with pytest.raises(RegistrationError, match="wrong password for alice"):
            await phone.start()
        assert held_by(phone) == {}
        assert told(phone, AT_WORK) == [RegistrationFailed, Unregistered]

    scene.run(main)


def test_accounts_of_one_registrar_share_its_connection_and_keep_it_alive() -> None:
    scene = Scene()

    async def main() -> None:
        bob = Account(f"sip:bob@{HOME}", "builder")
        tcp = NetworkConfig(bind_host="10.0.0.1", bind_port=5060, transport="tcp")
        async with scene.phone(ALICE, bob, network=tcp) as phone:
            assert phone._transport._streams.count == 1
            assert len(phone._transport._keeper) == 1
            await phone.unregister(ALICE)
            assert len(phone._transport._keeper) == 1
            await asyncio.sleep(LONG_S)
            assert len(bound(scene.at_home, "bob")) == 1
            await phone.unregister(bob)
            assert len(phone._transport._keeper) == 0

    scene.run(main)


def test_an_account_need_not_register() -> None:
    scene = Scene()

    async def main() -> None:
        carol = Account(CAROL.uri, CAROL.password, register=False)
        async with scene.phone(ALICE, carol) as phone:
            assert phone.registered and bound(scene.at_work, "carol") == []
            dave = await scene.dave()
            async with await phone.dial("dave", account=carol) as call:
                assert call.account == carol
            await dave.close()
            await phone.register(carol)
            assert len(bound(scene.at_work, "carol")) == 1
        assert bound(scene.at_work, "carol") == []

    scene.run(main)


# ---------------------------------------------------------------- calls


def test_a_call_goes_out_as_the_account_that_is_named_with_its_name_and_password() -> None:
    scene = Scene()

    async def main() -> None:
        bob, dave = await scene.bob(), await scene.dave()
        async with scene.phone() as phone:
            async with await phone.dial("bob") as call:
                assert call.account == ALICE
                assert bob.calls[0].remote == AT_HOME
            for account in (CAROL, AT_WORK):
                async with await phone.dial("dave", account=account) as call:
                    assert call.account == CAROL
                    assert call.dialled == f"sip:dave@{WORK}"
                    (heard,) = dave.calls
                    assert (heard.remote, heard.remote_name) == (AT_WORK, "Carol")
                    await heard.wait_answered()
                    assert heard._session.dialog.remote_target == "sip:carol@10.0.0.1:5060"
            invites = scene.requests("INVITE", "carol")
            assert all(one.from_.uri == AT_WORK for one in invites)
            shown = [one.headers.get("Proxy-Authorization") for one in invites]
            assert any(shown) and all('username="carol"' in one for one in shown if one)
            async with await phone.dial(f"sip:dave@{WORK}"):  # strangers are not asked there
                assert dave.calls[0].remote == AT_HOME
            with pytest.raises(ConfigError, match="is no account of this phone"):
                await phone.dial("bob", account="sip:erin@elsewhere.example")
        await bob.close()
        await dave.close()

    scene.run(main)


def test_a_call_that_comes_tells_which_account_it_came_for() -> None:
    scene = Scene()

    async def main() -> None:
        bob, dave = await scene.bob(), await scene.dave()
        async with scene.phone() as phone:
            calls = answering(phone)
            for caller, target, account in [(bob, "alice", ALICE), (dave, "carol", CAROL)]:
                async with await caller.dial(target) as call:
                    taken = await calls.get()
                    assert taken.account == account
                    user = account.user
                    assert call._session.dialog.remote_target == f"sip:{user}@10.0.0.1:5060"
            assert bob.calls == dave.calls == []
        await bob.close()
        await dave.close()

    scene.run(main)


def test_two_accounts_with_the_same_user_are_told_apart() -> None:
    scene = Scene()
    other = Account(f"sip:alice@{WORK}", "another")

    async def main() -> None:
        bob, dave = await scene.bob(), await scene.dave()
        async with scene.phone(ALICE, other) as phone:
            assert bound(scene.at_home, "alice") == ["sip:alice@10.0.0.1:5060"]
            assert bound(scene.at_work, "alice") == ["sip:alice@10.0.0.1:5060;line=2"]
            calls = answering(phone)
            for caller, account in [(bob, ALICE), (dave, other)]:
                async with await caller.dial("alice"):
                    assert (await calls.get()).account == account
            # one that has lost the parameter comes from its registrar's host all the same
            pbx = await scene.stranger(scene.work)
            async with await pbx.dial("sip:alice@10.0.0.1"):
                assert (await calls.get()).account == other
            await pbx.close()
        await bob.close()
        await dave.close()

    scene.run(main)


def test_who_is_a_stranger_to_all_accounts_is_refused() -> None:
    scene = Scene()

    async def main() -> None:
        async with scene.phone() as phone:
            answering(phone)
            for host, alice, carol, nobody in [
                (scene.home, 200, 404, 200),
                (scene.work, 404, 200, 200),
                (scene.there, 404, 404, 404),
            ]:
                caller = await scene.stranger(host)
                statuses = [
                    await status_of(caller, f"sip:{whom}10.0.0.1")
                    for whom in ("alice@", "carol@", "", "erin@")
                ]
                assert statuses == [alice, carol, nobody, 404], host.address
                await caller.close()
            assert phone.calls == []

    scene.run(main)


def test_a_transfer_is_followed_as_the_account_whose_call_it_is() -> None:
    scene = Scene()

    async def main() -> None:
        bob, dave = await scene.bob(), await scene.dave()
        erin = await scene.other(f"sip:alice@{WORK}", "another")
        async with scene.phone() as phone:
            calls = answering(phone)
            call = await dave.dial("carol")
            taken = await calls.get()
            await call.transfer("alice")
            (new,) = [event.call for event in taken._events if isinstance(event, Transferred)]
            assert new.account == CAROL and erin.calls[0].remote == AT_WORK
            await new.hangup()
        for other in (bob, dave, erin):
            await other.close()

    scene.run(main)


# ---------------------------------------------------------------- beside calls


def test_texts_go_as_an_account_and_come_for_one() -> None:
    scene = Scene()

    async def main() -> None:
        dave = await scene.dave()
        async with scene.phone() as phone:
            await phone.message("dave", "hello", account=CAROL)
            (heard,) = [event for event in dave._events if isinstance(event, MessageReceived)]
            assert (heard.sender, heard.aor) == (AT_WORK, f"sip:dave@{WORK}")
            await dave.message("carol", "hello yourself")
            (answer,) = [event for event in phone._events if isinstance(event, MessageReceived)]
            assert answer.aor == AT_WORK
            assert (await phone.options("dave", account=AT_WORK)).status == 200
        await dave.close()

    scene.run(main)


def test_mail_that_waits_is_told_for_the_account_it_waits_for() -> None:
    scene = Scene()

    async def main() -> None:
        async with scene.phone() as phone:
            for user, host in (("carol", scene.work), ("alice", scene.home)):
                pbx = await scene.stranger(host)
                await Messages(pbx._desk).request(
                    "NOTIFY",
                    f"sip:{user}@10.0.0.1",
                    headers={"Event": "message-summary", "Subscription-State": "active"},
                    body=b"Messages-Waiting: yes\r\nVoice-Message: 2/1\r\n",
                    content_type="application/simple-message-summary",
                )
                await pbx.close()
            waiting = [event for event in phone._events if isinstance(event, MessageWaiting)]
            assert [(one.new, one.old, one.aor) for one in waiting] == [
                (2, 1, AT_WORK),
                (2, 1, AT_HOME),
            ]

    scene.run(main)


def test_who_watches_one_account_is_told_of_its_calls_only() -> None:
    scene = Scene()

    async def main() -> None:
        bob, dave = await scene.bob(), await scene.dave()
        async with scene.phone() as phone:
            phone.on_watch(lambda request: True)
            async with await dave.watch("carol", "dialog") as watch:
                await asyncio.sleep(5)
                assert watch.latest is not None and watch.latest.value.entity == AT_WORK
                told = len(list(watch._log))
                async with await phone.dial("bob"):
                    await asyncio.sleep(5)
                    assert len(list(watch._log)) == told and not watch.dialogs
                async with await phone.dial("dave", account=CAROL):
                    await asyncio.sleep(5)
                    assert [one.state for one in watch.dialogs] == ["confirmed"]
                await asyncio.sleep(5)
                assert not watch.dialogs
        await bob.close()
        await dave.close()

    scene.run(main)


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"accounts": [ALICE, Account(f"alice@{HOME}", "another")]}, "twice"),
        ({"uri": "sip:bob@pbx.example", "accounts": [ALICE]}, "one beside them"),
        ({"password": "secret", "accounts": [ALICE]}, "one beside them"),
        ({"proxy": "sip:proxy.example", "accounts": [ALICE]}, "one beside them"),
        ({"register": True}, "nothing to register"),
        ({"register": True, "accounts": [Account("a@b", register=False)]}, "nothing to register"),
    ],
)
def test_what_accounts_cannot_be(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Softphone(**arguments)


def test_an_account_has_several_proxies() -> None:
    first, second = "sip:edge1.pbx.example", "sip:edge2.pbx.example"
    account = Account("sip:alice@pbx.example", proxy=[first, second])
    assert account == Account("sip:alice@pbx.example", proxy=(first, second))
    assert account.proxies == (first, second)
    assert account.route() == ["<sip:edge1.pbx.example;lr>"]
    assert Account("sip:alice@pbx.example", proxy=first).proxies == (first,)
    assert Account("sip:alice@pbx.example").proxies == ()
