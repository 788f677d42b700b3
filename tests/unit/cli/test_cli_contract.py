"""The command line as a contract: which commands and options there are, and wrong use of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from voip_program import FURNITURE, PATIENCE_S, PROGRAM, Done

from voip.cli.program import app
from voip.cli.run import print_json, printable, run
from voip.errors import CallError, ConfigError

Voip = Callable[..., Done]
TLS = {"--tls-ca", "--tls-cert", "--tls-key", "--tls-insecure"}
WS = {"--ws-port", "--wss-port", "--ws-path"}
NETWORK = {"--proxy", "--bind", "--public-address", "--rtp-ports", "--transport", "--timeout"}
NETWORK |= {"--dns", *TLS, *WS}
FLOW = {"--outbound", "--instance"}
WATCH = {"--metrics", "--log-level", "--log-json"}
SECRET = {"--auth-user", "--password", "--password-file"}
CALL = {
    "--play",
    "--record",
    "--device",
    "--microphone",
    "--duration",
    "--codec",
    "--dtx",
    "--redundancy",
    "--header-extensions",
    "--media-timeout",
    "--ping",
}
CALL |= {"--pcap", "--trace", "--json"}
OPTIONS = {
    "call": {"--from", "--dtmf", *SECRET, *NETWORK, *CALL, *WATCH},
    "answer": {
        *("--account", "--from", "--echo", "--calls"),
        *(*FLOW, *SECRET, *NETWORK, *CALL, *WATCH),
    },
    "register": {
        "--account",
        "--expires",
        "--once",
        *FLOW,
        *SECRET,
        *NETWORK,
        *WATCH,
        "--pcap",
        "--trace",
        "--json",
    },
    "demo": {"--json", "--pcap", "--record"},
    "devices": {"--json"},
    "doctor": {"--json"},
    "jitter": {"--output", "--json"},
    "bench codecs": {"--rounds", "--compare", "--json"},
    "bench quality": {"--speech", "--seeds", "--ilbc-program", "--json"},
    "bench media": {
        "--calls",
        "--seconds",
        "--busy",
        "--rounds",
        "--engine",
        "--workers",
        "--readers",
        "--codec",
        "--profile",
        "--growth",
        "--page",
        "--srtp",
        "--compare",
        "--json",
    },
    "bench mix": {
        "--parties",
        "--codec",
        "--seconds",
        "--rounds",
        "--talking",
        "--loudest",
        "--speakers",
        "--compare",
        "--json",
    },
}


@pytest.mark.parametrize("command", OPTIONS)
def test_every_command_has_its_options_and_says_what_they_are(voip: Voip, command: str) -> None:
    done = voip(*command.split(), "--help")
    assert (done.status, done.stderr) == (0, "")
    assert not FURNITURE.search(done.stdout)
    described = dict(re.findall(r"^  (?:-[a-z], )?(--[a-z-]+)(.*)$", done.stdout, re.MULTILINE))
    assert set(described) - {"--help"} == OPTIONS[command]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_voip_alone_says_what_there_is(voip: Voip, arguments: list[str]) -> None:
    done = voip(*arguments)
    assert (done.status, done.stderr) == (0, "")
    commands = re.findall(r"^  ([a-z]+)  +\S", done.stdout.partition("Commands:")[2], re.MULTILINE)
    assert set(commands) == {command.split()[0] for command in OPTIONS}


def test_the_help_of_a_terminal_is_drawn(voip: Voip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "rich_markup_mode", "rich")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert FURNITURE.search(voip("call", "--help").stdout)


def test_the_version_is_told(voip: Voip) -> None:
    done = voip("--version")
    assert done.status == 0
    assert re.fullmatch(r"voip \d+\.\d+\S*\n", done.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ["call"],
        ["call", "sip:x@127.0.0.1", "--nonsense"],
        ["call", "sip:x@127.0.0.1", "--timeout", "soon"],
        ["call", "sip:x@127.0.0.1", "--duration", "-1"],
        ["call", "sip:x@127.0.0.1", "sip:y@127.0.0.1"],
        ["call", "sip:x@127.0.0.1", "--play"],
        ["answer", "--echo", "--play", "x.wav"],
        ["answer", "--calls", "0"],
        ["register", "sip:x@127.0.0.1", "--expires", "0"],
        ["bench"],
        ["nonsense"],
    ],
)
def test_wrong_use_is_one_line_and_status_2(voip: Voip, arguments: list[str]) -> None:
    done = voip(*arguments)
    assert (done.status, done.stdout) == (2, "")
    command = arguments[0] if arguments[0] != "nonsense" else ""
    assert done.complaint.endswith(f"({' '.join(filter(None, ('voip', command)))} --help)")
    done = voip(arguments[0], "--json", *arguments[1:])
    assert (done.status, done.json["code"]) == (2, "usage")


@pytest.mark.parametrize(
    ("figure", "work"),
    [
        ("codecs", "voip.harness.bench.codecs.run"),
        ("tick_lateness_ms", "voip.harness.bench.media.run"),
        ("parse_route_per_s", "voip.harness.bench.sip.run"),
    ],
)
def test_a_report_is_compared_by_the_benchmark_it_is_of(
    voip: Voip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, figure: str, work: str
) -> None:
    def ran(*_: object, **__: object) -> None:
        raise ConfigError(f"this is {work}")

    monkeypatch.setattr(work, ran)
    file = tmp_path / "before.json"
    file.write_text(json.dumps({figure: {}}))
    assert voip("bench", "--compare", str(file)).complaint == f"this is {work}"
    file.write_text("{}")
    done = voip("bench", "--compare", str(file), "--json")
    assert (done.status, done.json["code"]) == (1, "config")
    assert voip("bench", "--compare", str(file), "media").status == 2


def test_an_unexpected_error_is_an_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    async def broken(stop: object) -> None:
        raise ZeroDivisionError("oops")

    with pytest.raises(ZeroDivisionError):
        run(broken, as_json=True)
    stdout = capsys.readouterr().out
    assert stdout == '{"error": "ZeroDivisionError: oops", "code": "bug"}\n'


@pytest.mark.parametrize(
    ("command", "work"),
    [
        ("bench codecs", "voip.harness.bench.codecs.run"),
        ("bench mix", "voip.harness.bench.mix.run"),
        ("bench quality", "voip.harness.codec_quality.grid.run"),
        ("bench media", "voip.harness.bench.media.run"),
        ("bench sip", "voip.harness.bench.sip.run"),
        ("bench sim", "voip.harness.bench.sim.run"),
        ("devices", "voip.devices.system.SystemDevices.list"),
        ("doctor", "voip.harness.doctor.examine"),
        ("jitter x.csv", "voip.harness.jitter_plot.JitterTimeline.read"),
    ],
)
def test_ctrl_c_is_one_line_and_one_object_without_an_event_loop_too(
    voip: Voip, monkeypatch: pytest.MonkeyPatch, command: str, work: str
) -> None:
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(work, pressed)
    done = voip(*command.split(), "--json")
    assert (done.status, done.complaint) == (130, "interrupted")
    assert done.json == {"error": "interrupted", "code": "interrupted"}
    assert voip(*command.split()).complaint == "interrupted"


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    async def broken(stop: object) -> None:
        raise BrokenPipeError

    with pytest.raises(typer.Exit) as ended:
        run(broken)
    assert ended.value.exit_code == 1


def in_a_shell(redirection: str, arguments: str, before: str = "") -> Done:
    shell = ["sh", "-c", f'{before}exec "$@" {redirection}', "sh", *PROGRAM, *arguments.split()]
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        shell, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=usual
    )
    return Done(done.returncode, done.stdout, done.stderr)


MORE = pytest.mark.long
"""One more start of a program, which takes what ten other tests take."""


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param("--version", marks=MORE),
        pytest.param("call --help", marks=MORE),
        pytest.param("doctor", marks=MORE),
        "doctor --json",
    ],
)
def test_no_room_for_what_is_printed_is_one_line(arguments: str) -> None:
    done = in_a_shell(">/dev/full", arguments)
    assert (done.status, done.complaint) == (1, "No space left on device")


@pytest.mark.parametrize("limit", [5, *(pytest.param(n, marks=MORE) for n in range(6, 11))])
def test_too_few_files_are_one_line_that_says_what_to_do(limit: int) -> None:
    """Not enough for an event loop, for one and no more, for SIP and no RTP."""
    call = "call sip:x@127.0.0.1:9 --bind 127.0.0.1 --json"
    done = in_a_shell("", call, f"ulimit -n {limit}; ")
    complaint = "Too many open files (raise the limit of open files (ulimit -n))"
    assert (done.status, done.complaint.endswith(complaint)) == (1, True)
    assert done.json["error"] == done.complaint


@pytest.mark.parametrize(
    "arguments", [pytest.param(one, marks=MORE) for one in ("--help", "doctor")]
)
def test_a_closed_stdout_is_no_fault(arguments: str) -> None:
    assert in_a_shell(">&-", arguments) == Done(0, "", "")


def test_an_error_of_several_lines_is_said_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    async def failing(stop: object) -> None:
        raise CallError("no\r\n  such\tluck", hint="try\nagain")

    with pytest.raises(typer.Exit):
        run(failing)
    assert capsys.readouterr() == ("", "voip: no such luck (try again)\n")


def test_what_could_command_a_terminal_is_not_printed() -> None:
    assert printable("a\x1b[2Jb\x07\x9bc\u202ed é") == "a�[2Jb��c�d é"


def test_json_keeps_letters_of_all_alphabets(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "Žofie\n"})
    assert capsys.readouterr().out == '{"name": "Žofie\\n"}\n'
