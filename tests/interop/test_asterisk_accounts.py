"""One phone with two of Asterisk's accounts: registered as both, called and calling as either."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from callers import answering
from peers.asterisk import Asterisk
from phones import ended

from voip import Account, Softphone
from voip.errors import RegistrationError
from voip.events import EndedBy


async def test_two_accounts_of_one_phone_are_registered_and_call_each_other(
    asterisk: Asterisk, artifacts: Path
) -> None:
    first, second = (
        Account(asterisk.uri(user), asterisk.password(user)) for user in ("1001", "1002")
    )
    mark = asterisk.mark()
    async with Softphone(accounts=[first, second], pcap=artifacts / "both.pcap") as phone:
        assert phone.registered
        for user in ("1001", "1002"):
            assert asterisk.contacts(user) == [f"sip:{user}@127.0.0.1:{phone.port}"]

        answered = answering(phone)
        outgoing = await phone.dial("1001", account=second)
        incoming = await answered.get()
        assert (outgoing.account, incoming.account) == (second, first)
        assert re.match(r"sip:1002@", incoming.remote)
        await outgoing.hangup()
        assert (await ended(incoming)).by is EndedBy.REMOTE

        outgoing = await phone.dial("1002")
        incoming = await answered.get()
        assert (outgoing.account, incoming.account) == (first, second)
        assert re.match(r"sip:1001@", incoming.remote)
        await outgoing.hangup()
        assert (await ended(incoming)).by is EndedBy.REMOTE

        await phone.unregister(second)
        assert asterisk.contacts("1002") == []
        assert len(asterisk.contacts("1001")) == 1
    assert asterisk.contacts("1001") == []
    invites = re.findall(r"^INVITE .*?\n\s*\n", asterisk.log_since(mark), re.MULTILINE | re.DOTALL)
    shown = {
        (claimed[1], proven[1])
        for one in invites
        if (claimed := re.search(r"^From: .*?sip:(\d+)@", one, re.MULTILINE))
        and (proven := re.search(r'^Authorization: .*username="(\d+)"', one, re.MULTILINE))
    }
    assert shown == {("1001", "1001"), ("1002", "1002")}


async def test_an_account_comes_and_goes_while_the_phone_is_open(
    asterisk: Asterisk, artifacts: Path
) -> None:
    first, second = (
        Account(asterisk.uri(user), asterisk.password(user)) for user in ("1001", "1002")
    )
    async with Softphone(accounts=[first], pcap=artifacts / "both.pcap") as phone:
        assert asterisk.contacts("1002") == []
        granted = await phone.add_account(second)
        assert granted is not None and granted.aor == str(second.aor)
        assert asterisk.contacts("1002") == [f"sip:1002@127.0.0.1:{phone.port}"]

        answered = answering(phone)
        outgoing = await phone.dial("1002")
        incoming = await answered.get()
        assert (outgoing.account, incoming.account) == (first, second)
        await phone.remove_account(second)
        assert (await ended(incoming)).by is EndedBy.LOCAL
        assert (await ended(outgoing)).by is EndedBy.REMOTE  # as Asterisk says
        assert asterisk.contacts("1002") == []
        assert len(asterisk.contacts("1001")) == 1
        assert phone.accounts == [first] and phone.registered

        with pytest.raises(RegistrationError):
            await phone.add_account(Account(asterisk.uri("1002"), "wrong"))
        assert asterisk.contacts("1002") == [] and phone.accounts == [first]
        await phone.add_account(second)  # and back again
        outgoing = await phone.dial("1002")
        incoming = await answered.get()
        assert incoming.account == second
        await outgoing.hangup()
        assert (await ended(incoming)).by is EndedBy.REMOTE
    assert asterisk.contacts("1001") == asterisk.contacts("1002") == []
