"""The `voip` command at Asterisk, as a person or a script runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers.asterisk import Asterisk
from phones import echo_of, shipped, softphone, until

from voip.harness.audio import Sound
from voip.harness.grade import Bar, grade_waveform
from voip.sounds import asset_path

VOIP = Path(sys.executable).with_name("voip")
PATIENCE_S = 30.0
BUSY_MACHINE = Bar(seconds=0.4, allowed=0.4)
"""Sound is judged by what is heard, not by how punctual a machine with other tests was."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left: exit status, and what it wrote."""

    status: int
    stdout: str
    stderr: str

    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        found = json.loads(self.stdout)
        assert isinstance(found, dict)
        return found


class Command:
    """A running `voip ...`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._output = asyncio.ensure_future(process.communicate())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    async def done(self) -> Done:
        """Wait until it has ended."""
        async with asyncio.timeout(PATIENCE_S):
            stdout, stderr = await asyncio.shield(self._output)
        return Done(self._process.returncode or 0, stdout.decode(), stderr.decode())

    async def stop(self) -> None:
        """Kill it where it still runs."""
        if self._process.returncode is None:
            self._process.kill()
        await self._output


@asynccontextmanager
async def voip(*arguments: str | Path, password: str) -> AsyncIterator[Command]:
    """Run the command while the context lasts."""
    command = Command(
        await asyncio.create_subprocess_exec(
            VOIP,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "VOIP_PASSWORD": password},
        )
    )
    try:
        yield command
    finally:
        await command.stop()


async def run(*arguments: str | Path, password: str) -> Done:
    """Run the command to its end."""
    async with voip(*arguments, password=password) as command:
        return await command.done()


async def test_voip_call_hears_its_own_speech(asterisk: Asterisk, artifacts: Path) -> None:
    recording, capture = artifacts / "echo.wav", artifacts / "call.pcap"
    with asset_path("prompt-8k.wav") as prompt:
        done = await run(
            *("call", asterisk.uri("600"), "--from", asterisk.uri("1001"), "--json"),
            *("--play", prompt, "--record", recording, "--pcap", capture),
            *("--dtmf", "12*", "--codec", "pcma"),
            password=asterisk.password("1001"),
        )
    assert (done.status, done.stderr) == (0, "")
    report = done.json()
    assert report["answered"] is True
    assert report["codec"] == "pcma"
    assert report["packets_sent"] > 150
    assert report["packets_received"] > 150
    assert report["packets_lost"] == 0
    assert report["dtmf_sent"] == "12*"
    assert report["recording"] == str(recording)
    assert report["dtmf_heard"] == "12*"
    require_whole(shipped("prompt-8k.wav"), Sound.read(recording))
    captured = capture.read_bytes()
    assert b"INVITE sip:600@" in captured
    assert len(captured) > 172 * (report["packets_sent"] + report["packets_received"])


async def test_what_went_wrong_is_one_line_and_status_1(asterisk: Asterisk) -> None:
    address = asterisk.address
    expected = {
        ("607", "secret1001", "30"): "voip: busy here (486)\n",
        ("999", "secret1001", "30"): "voip: not found (404)\n",
        ("600", "secret1002", "30"): f"voip: 401 twice: wrong password for 1001@{address}\n",
        ("609", "secret1001", "0.5"): "voip: no answer in 0.5 s (nobody took the call)\n",
    }
    ended = await asyncio.gather(
        *(
            run(
                *("call", asterisk.uri(number), "--from", asterisk.uri("1001")),
                *("--timeout", timeout),
                password=password,
            )
            for number, password, timeout in expected
        )
    )
    found = dict(zip(expected, ended, strict=True))
    assert found == {case: Done(1, "", line) for case, line in expected.items()}
    await asterisk.idle()


async def test_a_failure_is_one_json_object_too(asterisk: Asterisk) -> None:
    done = await run(
        *("call", asterisk.uri("607"), "--from", asterisk.uri("1001"), "--json"),
        password=asterisk.password("1001"),
    )
    assert (done.status, done.stderr) == (1, "voip: busy here (486)\n")
    report = done.json()
    assert (report["answered"], report["status"]) == (False, 486)


async def test_ctrl_c_hangs_up(asterisk: Asterisk) -> None:
    mark = asterisk.mark()
    async with voip(
        *("call", asterisk.uri("614"), "--from", asterisk.uri("1001"), "--json"),
        password=asterisk.password("1001"),
    ) as command:
        await until(lambda: "\nACK sip:127" in asterisk.log_since(mark), "the call", PATIENCE_S)
        command.interrupt()
        done = await command.done()
    assert (done.status, done.stderr) == (0, "")
    assert done.json()["ended_by"] == "local"
    await asterisk.idle()
    assert asterisk.log_since(mark).count("\nBYE sip:") == 1


async def test_voip_register_stays_registered_until_ctrl_c(asterisk: Asterisk) -> None:
    once = await run(
        *("register", asterisk.uri("1002"), "--once", "--json", "--expires", "60"),
        password=asterisk.password("1002"),
    )
    assert (once.status, once.stderr) == (0, "")
    assert once.json()["registered"] is True
    assert len(asterisk.contacts("1002")) == 1

    async with voip(
        "register", asterisk.uri("1001"), password=asterisk.password("1001")
    ) as command:
        await until(lambda: len(asterisk.contacts("1001")) == 1, "1001", PATIENCE_S)
        command.interrupt()
        done = await command.done()
    assert (done.status, done.stderr) == (0, "")
    assert asterisk.contacts("1001") == []

    refused = await run("register", asterisk.uri("1001"), "--once", password="wrong")
    line = f"voip: 401 twice: wrong password for 1001@{asterisk.address}\n"
    assert refused == Done(1, "", line)


async def test_voip_answer_echoes_who_calls_the_account(
    asterisk: Asterisk, artifacts: Path
) -> None:
    prompt = shipped("prompt-8k.wav")
    recording = artifacts / "answered.wav"
    async with voip(
        *("answer", "--from", asterisk.uri("1002"), "--calls", "1", "--echo"),
        *("--record", recording, "--json"),
        password=asterisk.password("1002"),
    ) as command:
        await until(lambda: len(asterisk.contacts("1002")) == 1, "1002", PATIENCE_S)
        async with (
            softphone(asterisk, "1001", artifacts) as phone,
            await phone.dial("1002") as call,
        ):
            echo = await echo_of(call, prompt, artifacts / "echo.wav")
        done = await command.done()
    assert done.status == 0
    (report,) = done.json()["calls"]
    assert report["answered"] is True
    assert report["ended_by"] == "remote"
    require_whole(prompt, echo)
    require_whole(prompt, Sound.read(recording))


def require_whole(sent: Sound, heard: Sound) -> None:
    """What was sent is there as a whole.

    The command's jitter buffer is the default one, which a machine busy with other tests may
    overrun for a moment, and which then plays later; that every window is clean is proven with a
    longer one.
    """
    grade = grade_waveform(sent, heard, bar=BUSY_MACHINE).require()
    assert grade.coverage is not None and grade.coverage > 0.9
