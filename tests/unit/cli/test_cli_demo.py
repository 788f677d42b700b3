"""`voip demo`, run as a program: what it prints, writes and answers with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dissector import fields
from voip_program import Done, begin_early, start_demo

from voip.cli import demo
from voip.harness.audio import Sound
from voip.harness.grade import Bar, grade_waveform
from voip.media.wav import WavWriter
from voip.sounds import asset_path

pytestmark = [pytest.mark.realtime, pytest.mark.xdist_group("cli_programs")]

KEYS = [
    *("answered", "codec", "setup_ms", "packets_sent", "packets_received", "packets_lost"),
    *("jitter_ms", "rtt_ms", "mos", "dtmf_sent", "dtmf_heard", "recording"),
]


@dataclass
class Run:
    """A demonstration that is over."""

    status: int
    stdout: str
    stderr: str
    directory: Path

    @property
    def report(self) -> dict[str, Any]:
        """Return the one JSON object on stdout."""
        assert self.stdout.count("\n") == 1, self.stdout
        report: dict[str, Any] = json.loads(self.stdout)
        assert list(report)[: len(KEYS)] == KEYS and set(report) - set(KEYS) <= {"error"}
        return report

    @property
    def pcap(self) -> Path:
        return self.directory / "demo.pcap"


@pytest.fixture(scope="module", autouse=True)
def begun(request: pytest.FixtureRequest) -> None:
    """Let the demonstration go on beside the other tests."""
    begin_early(request, "whole", "demonstration")


def finish(process: subprocess.Popen[str], directory: Path) -> Run:
    try:
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    return Run(process.returncode, stdout, stderr, directory)


@pytest.fixture(scope="module")
def whole(demonstration: tuple[subprocess.Popen[str], Path]) -> Run:
    """A demonstration from its beginning to its end."""
    return finish(*demonstration)


@pytest.fixture
def until_it_speaks(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a demonstration and return it when its recording has begun."""
    started: list[subprocess.Popen[str]] = []

    def begin(*options: str) -> subprocess.Popen[str]:
        process = start_demo(tmp_path, *options)
        started.append(process)
        deadline = time.monotonic() + 30
        while not (tmp_path / "voip-demo.wav").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "no recording was begun"
            time.sleep(0.05)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.long
def test_ctrl_c_hangs_up(
    until_it_speaks: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = until_it_speaks("--json", "--pcap", "demo.pcap")
    process.send_signal(signal.SIGINT)
    run = finish(process, tmp_path)

    assert (run.status, run.stderr) == (130, "voip: interrupted\n")
    assert run.report["answered"] is True
    assert run.report["dtmf_sent"] is None
    assert run.report["error"] == "interrupted"
    sip = run.pcap.read_bytes()
    assert sip.count(b"BYE sip:") == 1
    assert sip.rindex(b"REGISTER sip:") > sip.rindex(b"BYE sip:")


@pytest.mark.parametrize("option", ["--record", "--pcap"])
def test_a_file_that_cannot_be_written_is_said_in_one_line(
    voip: Callable[..., Done], tmp_path: Path, option: str
) -> None:
    done = voip("demo", "--json", option, "no/such/directory/file")

    assert done.status == 1
    assert "no/such/directory/file" in done.complaint
    assert done.json["error"] == done.complaint
    assert "No such file or directory" in done.complaint
    assert list(done.json) == [*KEYS, "error", "code"]
    assert done.json["recording"] is None
    assert list(tmp_path.glob("**/file")) == []


# ---------------------------------------------------------------- the judgement


def recording_of(path: Path, *pieces: np.ndarray) -> Path:
    with WavWriter(path, 8000) as writer:
        for piece in pieces:
            writer.write(piece.astype(np.int16))
    return path


def outcome(recording: Path | None, heard: str = "4711#") -> demo._Outcome:
    return demo._Outcome(dtmf_sent="4711#", dtmf_heard=heard, recording=recording)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    with asset_path("speech-8k.wav") as path:
        return Sound.read(path).samples


def test_speech_that_came_back_late_and_softer_is_the_speech(
    tmp_path: Path, speech: np.ndarray
) -> None:
    path = recording_of(tmp_path / "heard.wav", np.zeros(1500), 0.7 * speech)

    assert demo._faults(outcome(path)) == []


@pytest.mark.parametrize("kind", ["silence", "noise", "other speech", "the first half", "nothing"])
def test_anything_else_is_not_the_speech(tmp_path: Path, speech: np.ndarray, kind: str) -> None:
    with asset_path("prompt-8k.wav") as prompt:
        pieces = {
            "silence": np.zeros(speech.size),
            "noise": np.random.default_rng(1).normal(0, 2000, speech.size),
            "other speech": np.resize(Sound.read(prompt).samples, speech.size),
            "the first half": speech[: speech.size // 2],
            "nothing": np.zeros(0),
        }
    path = recording_of(tmp_path / "heard.wav", pieces[kind])

    (fault,) = demo._faults(outcome(path))

    assert fault.startswith(f"the speech is not in {path}: ")


def test_other_digits_and_no_recording_are_faults() -> None:
    assert demo._faults(outcome(None, "471")) == [
        "4711# was pressed, and the PBX heard 471",
        "no recording",
    ]


def test_the_recording_goes_elsewhere_where_the_directory_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert demo._default_recording() == tmp_path / "voip-demo.wav"

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    elsewhere = demo._default_recording()
    assert elsewhere.name == "voip-demo.wav"
    assert elsewhere.parent.parent == tmp_path / "temporary"


# ---------------------------------------------------------------- the whole of it


@pytest.mark.long
def test_the_call_is_made_heard_and_measured(whole: Run) -> None:
    assert (whole.status, whole.stderr) == (0, "")
    report = whole.report
    assert report["answered"] is True
    assert report["codec"] == "pcmu"
    assert report["dtmf_sent"] == report["dtmf_heard"] == "4711#"
    assert report["packets_sent"] > 400
    assert report["packets_received"] > 300
    assert report["packets_lost"] >= 0
    for figure in ("setup_ms", "jitter_ms", "rtt_ms"):
        assert 0 <= report[figure] < 5000
    assert 1 <= report["mos"] <= 4.5


@pytest.mark.long
def test_the_recording_is_the_speech_in_the_current_directory(whole: Run) -> None:
    recording = Path(whole.report["recording"])

    assert recording == whole.directory / "voip-demo.wav"
    with asset_path("speech-8k.wav") as speech:
        grade = grade_waveform(Sound.read(speech), Sound.read(recording), bar=Bar(allowed=0.3))
    assert grade.require().windows > 50


@pytest.mark.long
@pytest.mark.peer
@pytest.mark.usefixtures("dissector")
def test_wireshark_reads_all_of_the_capture(whole: Run) -> None:
    def packets(display_filter: str, field: str = "frame.number") -> list[str]:
        return [one for (one,) in fields(whole.pcap, field, options=("-Y", display_filter))]

    everything = packets("frame")
    assert len(everything) > 800
    assert packets("_ws.malformed || _ws.expert.severity >= error") == []
    assert packets("!sip && !rtp && !rtcp") == []

    methods = packets("sip.Request-Line", "sip.Method")
    assert methods == [
        *("REGISTER", "REGISTER", "INVITE", "ACK", "INVITE", "ACK", "BYE"),
        "REGISTER",  # with the nonce that the answer to the first one named
    ]
    assert len(packets("sip.Status-Code == 401")) == 2
    assert len(packets("rtp && !rtpevent", "rtp.ssrc")) > 700
    assert len(set(packets("rtp && !rtpevent", "rtp.ssrc"))) == 2
    ends = packets("rtpevent.end_of_event == 1", "rtpevent.event_id")
    assert ends == [digit for digit in ("4", "7", "1", "1", "11") for _ in range(3)]
    assert len(packets("rtcp.pt == 200")) >= 2
