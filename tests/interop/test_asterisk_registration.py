"""Registering at Asterisk, being known to it, and being forgotten."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from callers import answering
from peers.asterisk import Asterisk
from phones import echo_of, ended, require_speech, shipped, softphone
from stalls import repeated_after_stalls

from voip.errors import AuthenticationError
from voip.events import EndedBy, Registered, RegistrationFailed, Unregistered
from voip.harness.audio import Sound


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_F001_F004_asterisk_knows_us_while_we_are_registered(
    asterisk: Asterisk, artifacts: Path, transport: str
) -> None:
    async with softphone(
        asterisk, "1001", artifacts, register=True, transport=transport, expires_s=60
    ) as phone:
        assert phone.registered
        (contact,) = asterisk.contacts("1001")
        assert re.match(r"sip:1001@127\.0\.0\.1:\d+", contact)
        if transport == "udp":
            assert contact == f"sip:1001@127.0.0.1:{phone.port}"
        else:
            assert "transport=tcp" in contact.lower()

        assert (await phone.register()).expires_s == pytest.approx(60, abs=1)
        assert asterisk.contacts("1001") == [contact]

        await phone.unregister()
        assert not phone.registered
        assert asterisk.contacts("1001") == []

        await phone.register()
        assert asterisk.contacts("1001") == [contact]
    assert asterisk.contacts("1001") == []
    told = [type(event) for event in [event async for event in phone.events()]]
    assert told == [Registered, Registered, Unregistered, Registered, Unregistered]


async def test_the_interval_is_the_one_asterisk_grants(asterisk: Asterisk, artifacts: Path) -> None:
    async with softphone(asterisk, "1001", artifacts, register=True, expires_s=5) as phone:
        assert (await phone.register()).expires_s == pytest.approx(10, abs=1)


async def test_F005_a_wrong_password_is_not_registered(asterisk: Asterisk, artifacts: Path) -> None:
    phone = softphone(asterisk, "1001", artifacts, register=True, password="secret1002")
    with pytest.raises(AuthenticationError, match="401 twice: wrong password for 1001@") as no:
        await phone.start()
    assert no.value.status == 401
    assert asterisk.contacts("1001") == []
    failure, *rest = [event async for event in phone.events()]
    assert isinstance(failure, RegistrationFailed)
    assert (failure.status, failure.retry_in_s) == (401, None)
    assert rest == [Unregistered()]


@pytest.mark.parametrize(
    ("user", "offered", "taken"),
    [("1003", ["SHA-256"], "SHA-256"), ("1004", ["SHA-512-256", "SHA-256", "MD5"], "SHA-512-256")],
)
async def test_F115_the_digest_that_asterisk_names_first(
    asterisk: Asterisk, artifacts: Path, user: str, offered: list[str], taken: str
) -> None:
    if not asterisk.knows_sha256():
        pytest.skip(f"{asterisk.version()} knows no SHA-256")
    mark = asterisk.mark()
    async with softphone(asterisk, user, artifacts, register=True) as phone:
        assert len(asterisk.contacts(user)) == 1
        async with await phone.dial("600"):
            pass
    log = asterisk.log_since(mark)
    asked = re.findall(r"^WWW-Authenticate: Digest .*algorithm=([\w-]+)", log, re.MULTILINE)
    assert asked[: len(offered)] == offered
    sent = re.findall(r"^Authorization: Digest .*", log, re.MULTILINE)
    assert len(sent) >= 3
    assert all(f"algorithm={taken}," in f"{header}," for header in sent), sent


@repeated_after_stalls
async def test_a_phone_that_registered_over_tcp_is_called_by_that_connection(
    asterisk: Asterisk, artifacts: Path
) -> None:
    prompt = shipped("prompt-8k.wav")
    async with (
        softphone(asterisk, "1001", artifacts, register=True, transport="tcp") as alice,
        softphone(asterisk, "1002", artifacts) as bob,
    ):
        answered = answering(alice)
        outgoing = await bob.dial("1001")
        incoming = await answered.get()
        async with incoming.record(artifacts / "heard.wav"):
            await echo_of(outgoing, prompt, artifacts / "nothing.wav")
        await outgoing.hangup()
        assert (await ended(incoming)).by is EndedBy.REMOTE
    require_speech(prompt, Sound.read(artifacts / "heard.wav"))
