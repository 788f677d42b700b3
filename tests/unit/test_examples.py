"""The programs of examples/, run as programs, with the embedded PBX and a caller on loopback.

They run beside each other, and each test awaits its own: `under_way` starts them.
"""

from __future__ import annotations

import asyncio
import os
import re
import runpy
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from voip.config import MediaConfig
from voip.errors import CallError
from voip.harness.audio import Sound, find_offset
from voip.harness.pbx import EmbeddedPbx
from voip.phone import Softphone
from voip.sounds import asset_path

pytestmark = [pytest.mark.long, pytest.mark.realtime, pytest.mark.xdist_group("examples")]

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
LIKE = 0.3
"""Two different pieces of speech reach 0.1; one with a gap of an eighth of a second 0.6."""
PATIENCE_S = 40
AT_ONCE = 3
"""Programs that start or call beside each other: more, and they would not be heard well."""


class Program:
    """An example that runs, with the account 1002 where it answers calls."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = asyncio.ensure_future(process.communicate())

    async def ended(self) -> tuple[int | None, str, str]:
        """Return its exit status, and what it wrote to stdout and stderr."""
        async with asyncio.timeout(PATIENCE_S):
            stdout, stderr = await asyncio.shield(self.output)
        return self.process.returncode, stdout.decode(), stderr.decode()

    async def interrupted(self) -> tuple[int | None, str, str]:
        """Press Ctrl-C, and wait for its end."""
        self.process.send_signal(signal.SIGINT)
        return await self.ended()


Requirement = Callable[[EmbeddedPbx, Path], Awaitable[None]]
REQUIREMENTS: dict[str, Requirement] = {}


def requirement(scenario: Requirement) -> Requirement:
    REQUIREMENTS[scenario.__name__] = scenario
    return scenario


@asynccontextmanager
async def example(
    name: str, *arguments: object, password: str = "", **environment: str
) -> AsyncIterator[Program]:
    program = Program(
        await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "error", EXAMPLES[0].with_name(name), *map(str, arguments)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "VOIP_PASSWORD": password, **environment},
        )
    )
    try:
        yield program
    finally:
        if program.process.returncode is None:
            program.process.kill()
        await program.output


@asynccontextmanager
async def answering(
    pbx: EmbeddedPbx, name: str, *arguments: object, **environment: str
) -> AsyncIterator[Program]:
    """Run an example as user 1002; it is registered when the context begins."""
    password = pbx.password("1002")
    async with example(
        name, pbx.uri("1002"), *arguments, password=password, **environment
    ) as program:
        async with asyncio.timeout(PATIENCE_S):
            while not pbx.contacts("1002"):
                assert program.process.returncode is None, await program.ended()
                await asyncio.sleep(0.02)
        yield program


def caller(pbx: EmbeddedPbx) -> Softphone:
    return Softphone(
        pbx.uri("1001"),
        password=pbx.password("1001"),
        media=MediaConfig(jitter_min_ms=200),
        register=False,
    )


async def hears_itself(phone: Softphone, path: Path) -> None:
    """Call 1002, play the prompt, and find it in what came back."""
    with asset_path("prompt-8k.wav") as prompt:
        async with await phone.dial("1002") as call, call.record(path):
            await call.play(prompt)
            await asyncio.sleep(0.8)
        require_same(prompt, path)


def require_same(sent: Path, heard: Path) -> None:
    """The recording is of that sound; how good it is, is graded where machines are idle."""
    place = find_offset(Sound.read(sent), Sound.read(heard))
    assert place is not None and place.likeness > LIKE, place


# ---------------------------------------------------------------- the programs


def test_there_are_seven_and_each_is_short() -> None:
    assert len(EXAMPLES) == 7
    lengths = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES}
    assert max(lengths.values()) < 60, lengths


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_who_gives_no_arguments_is_told_which(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    first = "SPEECH.wav" if path.stem == "own_codec" else "sip:"
    assert f"python examples/{path.name} {first}" in str(ended.value.code)


@requirement
async def own_codec_is_registered_and_used(pbx: EmbeddedPbx, tmp_path: Path) -> None:
    with asset_path("speech-8k.wav") as speech:
        async with example("own_codec.py", speech) as program:
            status, stdout, stderr = await program.ended()
    assert (status, stderr) == (0, "")
    name, level = stdout.removesuffix(" dB\n").split(": ")
    assert (name, 20 < float(level) < 40) == ("l8/8000", True)


@requirement
async def answering_machine_keeps_what_is_said(pbx: EmbeddedPbx, tmp_path: Path) -> None:
    with (
        asset_path("enter-digits-8k.wav") as greeting,
        asset_path("prompt-8k.wav") as message,
    ):
        async with (
            answering(pbx, "answering_machine.py", greeting, tmp_path) as program,
            caller(pbx) as phone,
        ):
            async with await phone.dial("1002") as call:
                async with asyncio.timeout(PATIENCE_S):
                    while not list(tmp_path.glob("*.wav")):
                        await asyncio.sleep(0.02)
                await call.play(message)
                await asyncio.sleep(0.8)
            second = await phone.dial("1002")
            async with asyncio.timeout(PATIENCE_S):
                while len(list(tmp_path.glob("*.wav"))) < 2:
                    await asyncio.sleep(0.02)
            status, stdout, stderr = await program.interrupted()
            await second.wait_ended()
        assert (status, stderr) == (0, "")
        first, _ = sorted(tmp_path.glob("*.wav"), key=lambda path: path.stat().st_mtime)
        require_same(message, first)
    assert stdout.count(" spoke for ") == 2
    assert str(first) in stdout


@requirement
async def place_call_plays_and_records(pbx: EmbeddedPbx, tmp_path: Path) -> None:
    heard = tmp_path / "heard.wav"
    with asset_path("prompt-8k.wav") as hello:
        async with example(
            *("place_call.py", pbx.uri("1001"), "600", hello, heard),
            password=pbx.password("1001"),
        ) as program:
            status, stdout, stderr = await program.ended()
        assert (status, stderr) == (0, "")
        assert re.search(rf"recorded {re.escape(str(heard))}: MOS [1-4]", stdout)
        require_same(hello, heard)
    await pbx.idle()
    assert pbx.contacts("1001") == []


@requirement
async def place_call_says_why_there_is_no_call(pbx: EmbeddedPbx, tmp_path: Path) -> None:
    async with example(
        *("place_call.py", pbx.uri("1001"), "607", "hello.wav", tmp_path / "heard.wav"),
        password=pbx.password("1001"),
    ) as program:
        assert await program.ended() == (1, "", "busy here (486)\n")


@requirement
async def place_call_hangs_up_when_interrupted(pbx: EmbeddedPbx, tmp_path: Path) -> None:
    heard = tmp_path / "heard.wav"
    with asset_path("speech-8k.wav") as hello:
        async with example(
            *("place_call.py", pbx.uri("1001"), "600", hello, heard),
            password=pbx.password("1001"),
        ) as program:
            async with asyncio.timeout(PATIENCE_S):
                while not heard.exists():
                    await asyncio.sleep(0.02)
            status, _, stderr = await program.interrupted()
    assert (status, stderr) == (0, "")
    await pbx.idle(1.0)
    assert len(Sound.read(heard).samples) < 8 * 8000


@requirement
async def answer_and_echo(pbx: EmbeddedPbx, tmp_path: Path) -> None:
    async with answering(pbx, "answer_and_echo.py") as program, caller(pbx) as phone:
        await hears_itself(phone, tmp_path / "heard.wav")
        call = await phone.dial("1002")
        status, stdout, stderr = await program.interrupted()
        async with asyncio.timeout(10):
            await call.wait_ended()
    assert (status, stderr) == (0, "")
    assert stdout.count("calls\n") == 2
    assert "hung up by the other side" in stdout
    assert pbx.contacts("1002") == []


@requirement
async def door_opens_for_its_code_and_for_no_other(pbx: EmbeddedPbx, tmp_path: Path) -> None:
    async with (
        answering(pbx, "door.py", DOOR_CODE="2580") as program,
        caller(pbx) as phone,
        await phone.dial("1002") as right,
        await phone.dial("1002") as wrong,
    ):
        await asyncio.gather(
            right.send_dtmf("1111", duration_ms=60), wrong.send_dtmf("1111", duration_ms=60)
        )
        await right.send_dtmf("2580", duration_ms=60)
        await wrong.send_dtmf("22223333", duration_ms=60)
        assert await right.collect(1, timeout=PATIENCE_S) == "9"
        assert await wrong.collect(1, timeout=PATIENCE_S) == ""  # hung up
        assert wrong.ended is not None
        status, stdout, stderr = await program.interrupted()
    assert (status, stderr) == (0, "")
    assert sorted(line.split(maxsplit=1)[1] for line in stdout.splitlines()) == [
        "may come in",
        "stays outside",
    ]


@requirement
async def forward_puts_the_caller_through(pbx: EmbeddedPbx, tmp_path: Path) -> None:
    async with answering(pbx, "forward.py", "600") as program, caller(pbx) as phone:
        await hears_itself(phone, tmp_path / "heard.wav")
        await pbx.idle()
        status, stdout, stderr = await program.interrupted()
    assert (status, stderr) == (0, "")
    assert stdout == f"{pbx.uri('1001')} talks to {pbx.uri('600')}\n"


@requirement
async def forward_passes_refusals_on_and_stops_ringing(pbx: EmbeddedPbx, tmp_path: Path) -> None:
    async with answering(pbx, "forward.py", "607") as busy, caller(pbx) as phone:
        with pytest.raises(CallError, match=r"\(486\)"):
            await phone.dial("1002")
        status, stdout, stderr = await busy.interrupted()
        assert (status, stdout, stderr) == (0, "607: busy here (486)\n", "")
    async with answering(pbx, "forward.py", "609"), caller(pbx) as phone:
        call = await phone.dial("1002", wait="ringing")
        async with asyncio.timeout(PATIENCE_S):
            while pbx.calls() < 3:  # ours, the one to 1002, and the one that rings at 609
                await asyncio.sleep(0.02)
        await call.hangup()
        await pbx.idle()


@requirement
async def meeting_lets_callers_hear_each_other(pbx: EmbeddedPbx, tmp_path: Path) -> None:
    heard, all_of_it = tmp_path / "heard.wav", tmp_path / "all.wav"
    with asset_path("prompt-8k.wav") as prompt:
        async with answering(pbx, "meeting.py", all_of_it) as program, caller(pbx) as phone:
            async with (
                await phone.dial("1002") as one,
                await phone.dial("1002") as other,
                other.record(heard),
            ):
                await asyncio.sleep(1)  # the beep
                await one.play(prompt)
                await asyncio.sleep(0.8)
            await pbx.idle()
            status, stdout, stderr = await program.interrupted()
        assert (status, stderr) == (0, "")
        require_same(prompt, heard)
        recorded, said = Sound.read(all_of_it).samples, Sound.read(prompt).samples
    # a program that is late leaves sound out of what it records: that it is loud has to do
    assert recorded.size > said.size
    assert np.abs(recorded.astype(int)).max() > 0.9 * np.abs(said.astype(int)).max()
    lines = [line.split(maxsplit=1)[1] for line in stdout.splitlines()]
    assert lines[:2] == ["comes in, 1 are there", "comes in, 2 are there"]
    # both hang up in one breath: a program that is late sees both gone when it tells of the first
    assert lines[2:] in (
        ["leaves, 1 are there", "leaves, 0 are there"],
        ["leaves, 0 are there"] * 2,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def under_way(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    """Every requirement, each with a PBX and a directory of its own."""

    turn = asyncio.Semaphore(AT_ONCE)

    async def carry_out(scenario: Requirement, directory: Path) -> None:
        async with turn, EmbeddedPbx() as pbx:
            await scenario(pbx, directory)

    tasks = {
        name: asyncio.create_task(carry_out(scenario, tmp_path_factory.mktemp(name)))
        for name, scenario in REQUIREMENTS.items()
    }
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("scenario", REQUIREMENTS)
async def test_example(under_way: dict[str, asyncio.Task[None]], scenario: str) -> None:
    await under_way[scenario]
