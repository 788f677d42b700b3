"""Ctrl-C, pressed on `voip` as a process: everything ends as it should on the wire."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest
from voip_program import PATIENCE_S, SECRETS, PbxThread, Program, seconds_of

pytestmark = [
    pytest.mark.long,
    pytest.mark.realtime,
    pytest.mark.xdist_group("cli_programs"),
    pytest.mark.usefixtures("demonstration"),  # of test_cli_demo.py: it goes on beside these
]


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOIP_PASSWORD", SECRETS["1001"])


def test_in_a_call_it_says_bye(pbx: PbxThread, tmp_path: Path) -> None:
    heard = tmp_path / "heard.wav"
    with Program(*("call", pbx.uri("601"), *pbx.account(), "--record", heard, "--json")) as program:
        pbx.until(lambda: heard.exists() and seconds_of(heard) > 0)
        done = program.interrupted()
    assert (done.status, done.stderr) == (0, "")
    assert (done.json["answered"], done.json["ended_by"]) == (True, "local")
    assert pbx.methods == ["INVITE", "ACK", "INVITE", "ACK", "BYE"]
    assert seconds_of(heard) > 0
    pbx.do(pbx.server.idle())


@contextmanager
def at_the_end_of_the_terminal(do: signal.Handlers) -> Iterator[None]:
    """Have programs that are started meanwhile do this at SIGHUP, whatever we do ourselves."""
    usual = signal.signal(signal.SIGHUP, do)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, usual)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_when_it_is_ended_or_its_terminal_is_it_says_bye(
    pbx: PbxThread, number: signal.Signals
) -> None:
    with at_the_end_of_the_terminal(signal.SIG_DFL):
        program = Program("call", pbx.uri("601"), *pbx.account(), "--json")
    with program:
        pbx.until(lambda: pbx.methods.count("ACK") == 2)
        program.process.send_signal(number)
        done = program.ended()
    assert (done.status, done.json["ended_by"]) == (0, "local")
    assert pbx.methods[-1] == "BYE"
    pbx.do(pbx.server.idle())


def test_nohup_keeps_the_call(pbx: PbxThread) -> None:
    with at_the_end_of_the_terminal(signal.SIG_IGN):
        program = Program("call", pbx.uri("601"), *pbx.account(), "--json")
    with program:
        pbx.until(lambda: pbx.methods.count("ACK") == 2)
        program.process.send_signal(signal.SIGHUP)
        program.process.send_signal(signal.SIGHUP)
        done = program.interrupted()
    assert (done.status, done.json["ended_by"]) == (0, "local")


def test_while_it_rings_it_cancels(pbx: PbxThread) -> None:
    with Program("call", pbx.uri("609"), *pbx.account(), "--json", "--trace") as program:
        pbx.until(lambda: pbx.server.calls() == 1)
        done = program.interrupted()
    assert done.status == 130
    assert done.stderr.splitlines()[-1] == "voip: given up before the answer"
    assert done.json["answered"] is False
    assert (done.json["code"], done.json["error"]) == ("interrupted", "given up before the answer")
    assert pbx.methods == ["INVITE", "ACK", "INVITE", "CANCEL", "ACK"]
    pbx.do(pbx.server.idle())


def test_a_call_that_was_taken_is_hung_up_and_reported(pbx: PbxThread) -> None:
    async def call_and_wait() -> str:
        await pbx.registered("1002")
        async with pbx.phone() as phone:
            call = await phone.dial("1002")
            pressed.append("up")
            return (await call.wait_ended()).by.value

    pressed: list[str] = []
    ended = pbx.soon(call_and_wait())
    with Program(
        *("answer", *pbx.account("1002"), "--echo", "--json"), VOIP_PASSWORD=SECRETS["1002"]
    ) as program:
        pbx.until(lambda: pressed)
        done = program.interrupted()
    assert ended(PATIENCE_S) == "remote"
    assert done.status == 0
    assert done.json["answered"] == 1
    assert done.json["calls"][0]["ended_by"] == "local"
    assert pbx.contacts("1002") == []


def test_a_registration_is_removed(pbx: PbxThread) -> None:
    with Program("register", pbx.uri("1001")) as program:
        pbx.do(pbx.registered("1001"))
        done = program.interrupted()
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout == f"registered {pbx.uri('1001')} for 300 s\n"
    assert pbx.contacts("1001") == []


def test_a_registrar_that_is_silent_is_not_waited_for() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.settimeout(PATIENCE_S)
        uri = f"sip:x@127.0.0.1:{deaf.getsockname()[1]}"
        with Program("register", uri, "--json") as program:
            assert deaf.recv(65536).startswith(b"REGISTER sip:127.0.0.1")
            done = program.interrupted()
    assert (done.status, done.complaint) == (130, "given up before the registrar answered")
    assert done.json["registered"] is False


def test_while_the_program_is_loaded_it_ends_without_a_word() -> None:
    pressed = "import os, signal, sys; from voip.cli.main import main\n" + dedent("""
        class Pressed:
            def find_spec(self, name, *_):
                if name == "voip.phone":
                    os.kill(os.getpid(), signal.SIGINT)

        sys.meta_path.insert(0, Pressed())
        main()
    """)
    done = subprocess.run([sys.executable, "-c", pressed], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
