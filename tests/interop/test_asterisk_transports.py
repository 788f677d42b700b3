"""Asterisk over what is neither UDP nor TCP: registered, called, and called by it."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from callers import answering
from peers.asterisk import Asterisk
from phones import TAIL_S, ended, require_speech, shipped, softphone
from stalls import repeated_after_stalls

from voip.config import MediaConfig, NetworkConfig, TlsConfig
from voip.errors import TransportError
from voip.events import CallEnded, EndedBy
from voip.harness.audio import Sound
from voip.phone import Softphone
from voip.sip.endpoint.trace import SipTraceRecord


def phone_of(
    asterisk: Asterisk, user: str, transport: str, scheme: str = "sip", **settings: object
) -> Softphone:
    """A phone that knows Asterisk by its certificate."""
    tls = settings.pop("tls", TlsConfig(ca_file=str(asterisk.ca_file)))
    assert isinstance(tls, TlsConfig)
    return Softphone(
        f"{scheme}:{user}@{asterisk.address_of(transport)}",
        password=asterisk.password(user),
        network=NetworkConfig(transport=transport, tls=tls),
        media=MediaConfig(jitter_min_ms=200.0, jitter_policy="fixed"),
        **settings,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("transport", "scheme", "contact"),
    [
        ("tls", "sip", r"sip:1001@127\.0\.0\.1:\d+"),
        ("tls", "sips", r"sips:1001@127\.0\.0\.1:\d+"),
        ("ws", "sip", r"sip:1001@"),
        ("wss", "sip", r"sip:1001@"),
    ],
)
@repeated_after_stalls
async def test_F134_F135_registered_and_called_both_ways(
    asterisk: Asterisk, artifacts: Path, transport: str, scheme: str, contact: str
) -> None:
    seen: list[SipTraceRecord] = []
    async with (
        phone_of(asterisk, "1001", transport, scheme, trace=seen.append) as alice,
        softphone(asterisk, "1002", artifacts, register=True) as bob,
    ):
        (registered,) = asterisk.contacts("1001")
        assert re.match(contact, registered)
        calls = answering(bob)
        async with await alice.dial("1002") as call:
            await calls.get()
            await call.hold()
            await call.resume()
        assert call.ended == CallEnded(EndedBy.LOCAL, "hung up", 200)
        rung = answering(alice)
        async with await bob.dial("1001") as call:
            await (await rung.get()).hangup()
            await ended(call)
    assert {record.flow.transport for record in seen} == {transport}
    assert len({record.flow.remote for record in seen}) == 1  # Asterisk used our connection
    assert any(record.data.startswith(b"INVITE") for record in seen if not record.sent)
    vias = {re.search(rb"Via: SIP/2.0/(\w+)", record.data)[1] for record in seen}  # type: ignore[index]
    assert vias == {transport.upper().encode()}


@repeated_after_stalls
async def test_F134_two_phones_over_tls_hear_each_other_through_asterisk(
    asterisk: Asterisk, artifacts: Path
) -> None:
    speech, prompt = shipped("speech-8k.wav"), shipped("prompt-8k.wav")
    seen: list[SipTraceRecord] = []
    async with (
        phone_of(asterisk, "1001", "tls", trace=seen.append) as alice,
        phone_of(asterisk, "1002", "tls", trace=seen.append) as bob,
    ):
        calls = answering(bob)
        outgoing = await alice.dial("1002")
        incoming = await calls.get()
        async with (
            outgoing.record(artifacts / "alice.wav"),
            incoming.record(artifacts / "bob.wav"),
        ):
            await asyncio.gather(outgoing.play(speech.samples), incoming.play(prompt.samples))
            await asyncio.sleep(TAIL_S)
        await incoming.hangup()
        assert (await ended(outgoing)).by is EndedBy.REMOTE
    assert {record.flow.transport for record in seen} == {"tls"}
    require_speech(speech, Sound.read(artifacts / "bob.wav"), what="Bob hears")
    require_speech(prompt, Sound.read(artifacts / "alice.wav"), what="Alice hears")


async def test_F134_asterisk_is_not_believed_without_its_authority(asterisk: Asterisk) -> None:
    phone = phone_of(asterisk, "1001", "tls", tls=TlsConfig())
    with pytest.raises(TransportError, match="authority that is not trusted here"):
        await phone.start()
    assert asterisk.contacts("1001") == []


async def test_voip_call_over_tls_from_the_command_line(asterisk: Asterisk, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text(asterisk.password("1001"))
    call = (
        *(str(Path(sys.executable).with_name("voip")), "call"),
        *(f"sips:610@{asterisk.address_of('tls')}", "--json"),
        *("--from", f"sips:1001@{asterisk.address_of('tls')}"),
        *("--password-file", str(tmp_path / "secret.txt")),
    )
    status, told = await output_of(*call, "--tls-ca", str(asterisk.ca_file))
    assert (status, told["answered"], told["ended_by"]) == (0, True, "remote")
    status, told = await output_of(*call)
    assert (status, told["answered"]) == (1, False)
    assert "authority that is not trusted here" in told["error"]
    status, told = await output_of(*call, "--tls-insecure")
    assert (status, told["answered"]) == (0, True)


async def output_of(*command: str) -> tuple[int | None, dict[str, Any]]:
    """Run a command to its end; its status and the object it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(30):
        stdout, _ = await process.communicate()
    told = json.loads(stdout)
    assert isinstance(told, dict)
    return process.returncode, told
