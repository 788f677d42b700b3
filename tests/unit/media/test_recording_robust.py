"""Recordings survive `kill -9` and a full disk: what was written can be read by others."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from recording_victim import RATE, tone

VICTIM = Path(__file__).with_name("recording_victim.py")
SUFFIXES = ("wav", "opus", *(pytest.param(one, marks=pytest.mark.long) for one in ("flac", "mp3")))
LATE = {"wav": 1.1, "flac": 1.3, "opus": 1.1, "mp3": 1.1}
"""Seconds that may be missing at the end: one of ours, and what the encoder holds."""
DELAY = {"wav": 0, "flac": 0, "opus": 40, "mp3": 1200}
"""Samples by which a cut-off file may lie elsewhere: MP3 may have lost how long its delay is."""


def decoded(path: Path) -> npt.NDArray[np.int16]:
    """What FFmpeg makes of a file, at 8 kHz, as the standard library does not: (samples, 2)."""
    import av

    resampler = av.AudioResampler(format="s16", layout="stereo", rate=RATE)
    pieces = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            pieces += [piece.to_ndarray() for piece in resampler.resample(frame)]
    pieces += [piece.to_ndarray() for piece in resampler.resample(None)]
    return np.concatenate(pieces, axis=1).reshape(-1, 2)


def assert_is_the_tone(pcm: npt.NDArray[np.int16], at_least: int, name: str) -> None:
    assert len(pcm) >= at_least > RATE, (len(pcm), at_least)
    seconds = len(pcm) // RATE
    for second in range(seconds - 1):  # each second of each channel has its own frequency, and loud
        piece = pcm[second * RATE + 400 : (second + 1) * RATE + 400]
        for channel, hertz in ((0, 500), (1, 1000)):
            spectrum = np.abs(np.fft.rfft(piece[:, channel].astype(float)))
            peak = int(spectrum.argmax())
            assert peak == hertz, (name, second, channel, peak)
            level = 20 * np.log10(spectrum[peak] / (8000 * RATE / 2))
            assert abs(level) < 1.0, (name, second, channel, level)


def assert_others_read_it(path: Path, suffix: str) -> list[str]:
    """Let programs of others read the file; return which did."""
    told = []
    if suffix in ("wav", "flac") and shutil.which("sox"):
        run = subprocess.run(["sox", path, "-n", "stat"], capture_output=True, text=True)
        assert run.returncode == 0 and "can't" not in run.stderr, run.stderr
        told.append("sox")
    if suffix == "opus" and shutil.which("opusinfo"):
        run = subprocess.run(["opusinfo", path], capture_output=True, text=True)
        words = run.stdout + run.stderr
        assert "Playback length" in words, words
        told.append("opusinfo")
    if suffix == "wav":
        with wave.open(str(path)) as file:
            assert file.getnframes() > RATE
        told.append("wave")
    return told


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_V01_a_file_is_whole_after_kill_9(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("av")
    path = tmp_path / f"out.{suffix}"
    victim = subprocess.Popen(
        [sys.executable, VICTIM, path, "600"], stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    given = 0
    for line in victim.stdout:
        given = int(line)
        if given >= 7.4 * RATE:
            break
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    victim.stdout.close()
    pcm = decoded(path)
    assert_is_the_tone(pcm, int(given - LATE[suffix] * RATE), suffix)
    start = pcm[2000:4000, 0].astype(float)  # nothing is missing at the beginning either
    shifts = range(-DELAY[suffix], DELAY[suffix] + 1)
    injected = tone(0, 8000)[:, 0].astype(float)
    best = max(shifts, key=lambda n: float(start @ injected[2000 + n : 4000 + n]))
    assert abs(best) <= DELAY[suffix]
    assert_others_read_it(path, suffix)
    told = json.loads((tmp_path / f"out.{suffix}.json").read_text())
    assert told["call_id"] == "x" and told["ended"] is None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_V01_a_file_is_whole_when_no_more_fits(tmp_path: Path, suffix: str) -> None:
    """The kernel refuses what is beyond a limit: the recording says so, what fitted is there."""
    pytest.importorskip("av")
    limit = {"wav": 200_000, "flac": 60_000, "opus": 40_000, "mp3": 60_000}[suffix]
    path = tmp_path / f"out.{suffix}"
    run = subprocess.run(
        [sys.executable, VICTIM, path, "60", str(limit)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    *given, failed, journal = run.stdout.splitlines()
    assert failed.startswith("failed: ") and "File too large" in failed
    assert "File too large" in journal
    assert path.stat().st_size <= limit
    assert_is_the_tone(decoded(path), int(int(given[-1]) - 2 * LATE[suffix] * RATE), suffix)
    assert_others_read_it(path, suffix)
    told = json.loads((tmp_path / f"out.{suffix}.json").read_text())
    assert "File too large" in told["failure"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_V01_a_file_is_whole_on_a_full_disk(tmp_path: Path, suffix: str) -> None:
    """A real file system of 192 kB, in a mount namespace of its own."""
    pytest.importorskip("av")
    disk = tmp_path / "disk"
    disk.mkdir()
    program = (
        f"mount -t tmpfs -o size=192k tmpfs {disk} || exit 77; "
        f"{sys.executable} {VICTIM} {disk}/out.{suffix} 60; cp {disk}/out.{suffix} {tmp_path}"
    )
    try:
        run = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", program],
            capture_output=True, text=True,
        )  # fmt: skip
    except OSError:
        pytest.skip("there is no unshare here")
    if run.returncode in (1, 77):
        pytest.skip(f"no file system can be mounted here: {run.stderr.strip()}")
    assert run.returncode == 0, run.stderr
    *given, failed, _ = run.stdout.splitlines()
    assert "No space left on device" in failed
    path = tmp_path / f"out.{suffix}"
    assert_is_the_tone(decoded(path), int(int(given[-1]) - 2 * LATE[suffix] * RATE), suffix)
    assert_others_read_it(path, suffix)
