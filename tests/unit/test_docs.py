"""What README and guide show is what happens: programs, commands and their output, links.

`pbx.example` is the embedded PBX, `alice` has the password `secret`. Blocks go on beside
each other, and each test awaits its own: `under_way` starts them.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import re
import shlex
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from voip.call import Call
from voip.cli import demo
from voip.cli.program import app
from voip.cli.report import print_call
from voip.config import NetworkConfig
from voip.harness.pbx import EmbeddedPbx
from voip.phone import Softphone
from voip.sounds import asset_path

pytestmark = [pytest.mark.long, pytest.mark.realtime, pytest.mark.xdist_group("docs")]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
VOIP = (sys.executable, "-W", "error", "-c", "from voip.cli.main import main; main()")
PATIENCE_S = 60
AT_ONCE = 4
"""Blocks that are carried out beside each other."""


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::", 0))
    except OSError:
        return False
    return True


HAS_IPV6 = has_ipv6()


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page; `line` is where it stands."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(language: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, match[1], match[2]))
    return [block for block in found if block.language == language]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def under_way(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    """Everything that is shown, by the block's name: each has a PBX and a directory of its own."""

    turn = asyncio.Semaphore(AT_ONCE)

    async def carry_out(block: Block, directory: Path) -> None:
        directory.mkdir()
        furnish(directory)
        async with turn, EmbeddedPbx(users={"alice": "secret", "bob": "hidden"}) as pbx:
            await SHOWN[block.language](pbx, block, directory)

    home = tmp_path_factory.mktemp("shown")
    furnish(home)
    log = logging.getLogger("voip")  # as it was: a page shows how it is written
    level, handlers = log.level, list(log.handlers)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)  # for what is shown of a program, and runs in this process
        patch.delenv("VOIP_PASSWORD", raising=False)
        tasks = {
            block.name: asyncio.create_task(carry_out(block, home / block.name.replace(":", "-")))
            for language in SHOWN
            for block in blocks(language)
        }
        yield tasks
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    log.setLevel(level)
    log.handlers[:] = handlers


def furnish(directory: Path) -> None:
    """Put the files there that the pages name."""
    with asset_path("enter-digits-8k.wav") as hello:
        (directory / "hello.wav").write_bytes(hello.read_bytes())
    (directory / "secret.txt").write_text("secret\n")


async def output_of(*command: str, cwd: Path) -> tuple[int | None, str]:
    """Run a program to its end; return its status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            stdout, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, stdout.decode()


# ---------------------------------------------------------------- programs


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.name)
async def test_what_python_is_shown_runs(
    under_way: dict[str, asyncio.Task[None]], block: Block
) -> None:
    await under_way[block.name]


async def python_runs(pbx: EmbeddedPbx, block: Block, directory: Path) -> None:
    source = block.text.replace("pbx.example", pbx.address)
    source = source.replace("asyncio.sleep(60)", "asyncio.sleep(6)")  # runs as well
    if "asyncio.run(" in source or "world.run(" in source:
        program = (sys.executable, "-W", "error", "-c", source)
        status, printed = await output_of(*program, cwd=directory)
        assert status == 0, printed
        return
    code = compile(source, block.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    async with (
        Softphone(
            pbx.uri("alice"),
            password="secret",
            network=NetworkConfig(bind_host="127.0.0.1"),
            register=False,
        ) as phone,
        asyncio.timeout(PATIENCE_S),
    ):
        names = {"phone": phone, "call": await phone.dial("600")}
        result = eval(code, names)
        if inspect.iscoroutine(result):
            await result
        if names["phone"] is phone and "@phone.on_incoming" in source:
            await call_in(phone)


async def call_in(phone: Softphone) -> None:
    """Call a phone, and be hung up on."""
    async with Softphone(network=NetworkConfig(bind_host="127.0.0.1")) as bob:
        call: Call = await bob.dial(f"sip:alice@127.0.0.1:{phone.port}")
        assert (await call.wait_ended()).by.value == "remote"


def test_there_are_programs_on_every_page_that_is_about_them() -> None:
    shown = {block.page.name for block in blocks("python")}
    assert shown == {page.name for page in PAGES} - {"command-line.md"}


def test_the_program_of_the_readme_has_fifteen_lines() -> None:
    (block,) = (block for block in blocks("python") if block.page.name == "README.md")
    assert block.text.count("\n") <= 15


# ---------------------------------------------------------------- commands


def commands(block: Block) -> list[tuple[str, str]]:
    """Return (command, what it prints) of a console block."""
    parts = re.split(r"^\$ (.*)\n", block.text, flags=re.MULTILINE)
    assert parts[0] == ""
    return list(zip(parts[1::2], parts[2::2], strict=True))


def shape(printed: str) -> list[str]:
    """Return the lines of an output, whatever the figures; machines may be without IPv6.

    Whether a call is long enough for a round trip is for RTCP's dice to say.
    """
    lines = [line for line in printed.splitlines() if HAS_IPV6 or "[::]" not in line]
    figures = [re.sub(r"\d+(\.\d+)?", "N", line) for line in lines]
    return [re.sub(r"(round trip: )(-|N ms)$", r"\1N ms or -", line) for line in figures]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("block", blocks("console"), ids=lambda block: block.name)
async def test_what_commands_are_shown_print_that(
    under_way: dict[str, asyncio.Task[None]], block: Block
) -> None:
    await under_way[block.name]


async def commands_print(pbx: EmbeddedPbx, block: Block, directory: Path) -> None:
    shown = [item for item in commands(block) if item[0].startswith("voip ")]
    given = [shlex.split(command.replace("pbx.example", pbx.address))[1:] for command, _ in shown]
    ran = await asyncio.gather(*(output_of(*VOIP, *more, cwd=directory) for more in given))
    for (command, expected), (status, printed) in zip(shown, ran, strict=True):
        assert shape(printed.replace(pbx.address, "pbx.example")) == shape(expected), command
        failed = expected.splitlines()[-1].startswith("voip: ")
        assert status == (1 if failed else 0), command


SHOWN = {"python": python_runs, "console": commands_print}


def test_the_demonstration_in_the_readme_is_what_it_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (shown,) = (
        printed
        for block in blocks("console")
        for command, printed in commands(block)
        if command == "make demo"
    )
    rows = re.findall(r"^│ (.+?) +│ (.+?) +│$", shown, re.MULTILINE)
    print_call(demo._Outcome().report(), "")
    labels = [line.strip().split(":")[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert [label for label, _ in rows] == labels
    assert dict(rows)["digits sent"] == dict(rows)["digits heard"] == demo.DIGITS
    assert dict(rows)["recording"].endswith(f"/{demo.RECORDING}")


def test_the_readme_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    named = re.findall(r"^\| `voip (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    registered = {command.callback.__name__ for command in app.registered_commands}
    assert set(named) == registered | {group.name for group in app.registered_groups}


# ---------------------------------------------------------------- facts


def test_links_lead_somewhere() -> None:
    checked = 0
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
                checked += 1
    assert checked > 40


def test_the_peers_of_the_readme_have_the_versions_that_are_tested() -> None:
    tested = dict(
        re.findall(r"^\| (\w+) \| ([\d.]+)", (ROOT / "docs/peers.md").read_text(), re.MULTILINE)
    )
    readme = (ROOT / "README.md").read_text()
    named = dict(re.findall(r"^\| (\w+) \| ([\d.]+) \|$", readme, re.MULTILINE))
    assert set(named) == {"Asterisk", "baresip", "SIPp", "PJSIP"}
    assert named == {name: tested[name] for name in named}
    assert f"tshark {tested['tshark']}" in readme


def test_no_page_names_a_place_on_somebody_s_machine() -> None:
    for page in [*PAGES, *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]:
        found = re.findall(r"/(?:work|root|tmp)/\S*", page.read_text())
        assert not found, f"{page.name}: {found}"
