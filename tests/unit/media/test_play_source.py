"""What is played gets into a ring without a gap, from arrays, files of many kinds, tones, lists."""

from __future__ import annotations

import shutil
import subprocess
import threading
import wave
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pytest

from voip.dsp.cadence import parse
from voip.errors import AudioFileError, ConfigError
from voip.media.files import Octets
from voip.media.play.opening import Playable, ToneItem, check
from voip.media.play.source import PlaySource, Program
from voip.media.record.encoders import encoder
from voip.media.record.formats import RecordFormat
from voip.media.rings import AudioRing
from voip.net.web import open_url

Pcm = npt.NDArray[np.int16]
RATE = 8000


def ring_of(samples: int, rate: int = RATE) -> AudioRing:
    ring = AudioRing(memoryview(bytearray(64 + 2 * samples)))
    ring.rate_hz = rate
    return ring


def no_web(url: str) -> Octets:
    raise AudioFileError(f"no web for {url}")


def played(
    *items: Playable, rate: int = RATE, limit_s: float = 30, web: object = no_web, **program: object
) -> Pcm:
    """All that comes out of a ring of a quarter of a second, read 20 ms at a time."""
    ring = ring_of(rate // 4, rate)
    source = PlaySource(ring, Program(list(items), **program), web)  # type: ignore[arg-type]
    pieces = []
    for step in range(int(limit_s * 50)):
        source.service(0.02 * step)
        pieces.append(ring.read(rate // 50))
        if ring.closed and not ring.available:
            break
    source.close()
    return np.concatenate(pieces)


def ramp(samples: int, start: int = 0) -> Pcm:
    return (np.arange(start, start + samples) % 30_000).astype(np.int16)


def tone(hertz: float, seconds: float, rate: int = RATE) -> Pcm:
    t = np.arange(round(seconds * rate)) / rate
    return (8000 * np.sin(2 * np.pi * hertz * t)).astype(np.int16)


def wav(path: Path, pcm: Pcm, rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tobytes())
    return path


# ---------------------------------------------------------------- arrays and lists


def test_an_array_is_sent_once_and_closes_its_ring() -> None:
    pcm = ramp(5000)
    assert np.array_equal(played(pcm), pcm)


def test_an_array_in_a_loop_is_sent_over_and_over_without_a_seam() -> None:
    pcm = ramp(701)
    assert np.array_equal(played(pcm, times=None, limit_s=2), np.resize(pcm, 2 * RATE))
    assert np.array_equal(played(pcm, times=3), np.tile(pcm, 3))


def test_nothing_in_a_loop_ends_at_once() -> None:
    assert played(np.zeros(0, np.int16), times=None).size == 0


def test_a_list_is_played_without_a_gap(tmp_path: Path) -> None:
    """Files of other rates among them: each as long as it is, to the sample."""
    first, second, third = ramp(1234), ramp(2345, 1234), tone(440, 1.0, 16_000)
    sound = played(
        wav(tmp_path / "a.wav", first), second, wav(tmp_path / "c.wav", third, 16_000), first
    )
    assert sound.size == 1234 + 2345 + RATE + 1234
    assert np.array_equal(sound[:3579], np.concatenate((first, second)))
    middle = sound[3579:-1234].astype(int)
    assert np.abs(middle - tone(440, 1.0)).max() < 300  # resampled, in place
    assert np.array_equal(sound[-1234:], first)


def test_a_list_begins_where_it_is_told_to() -> None:
    first, second = ramp(RATE), ramp(2 * RATE, 500)
    sound = played(first, second, item=1, start_s=0.5)
    assert np.array_equal(sound, second[RATE // 2 :])


def test_a_fade_in_rises_evenly() -> None:
    sound = played(np.full(RATE, 10_000, np.int16), fade_s=0.5)
    assert np.abs(sound[: RATE // 2] - np.arange(RATE // 2) * 10_000 / (RATE // 2)).max() <= 1
    assert (sound[RATE // 2 :] == 10_000).all()


def test_it_knows_what_is_heard_and_where_in_it() -> None:
    ring = ring_of(RATE)
    source = PlaySource(ring, Program([ramp(4000), ramp(6000)], times=2), no_web)
    places = []
    for _ in range(20):
        source.service(0.0)
        places.append(source.position())
        ring.read(1000)
    # 0.5 s of the first, 0.75 s of the second, and both again
    assert [item for item, _ in places] == [0] * 4 + [1] * 6 + [0] * 4 + [1] * 6
    assert [seconds for _, seconds in places[:11]] == pytest.approx(
        [n / 8 for n in (0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 0)]
    )
    assert source.durations == {0: 0.5, 1: 0.75}


def test_a_tone_lasts_as_long_as_it_is_asked_to() -> None:
    assert played(ToneItem(parse("425:0.5 0:0.5"), 2.25)).size == 18_000
    assert played(ToneItem(parse("425:0.2 0:0.1 425:0.2 |"))).size == 4000


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("kind", ["flac", "opus", "mp3"])
@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
def test_files_that_ffmpeg_decodes_are_whole_and_in_place(
    tmp_path: Path, kind: str, rate: int
) -> None:
    pytest.importorskip("av")
    pcm = tone(700, 3.0, rate)
    path = tmp_path / f"sound.{kind}"
    made = encoder(path, RecordFormat(kind), rate, 1)
    made.write(pcm[:, None])
    made.close()
    sound = played(path)
    assert sound.size == 3 * RATE
    expected = tone(700, 3.0).astype(float)
    assert np.corrcoef(sound[800:-800], expected[800:-800])[0, 1] > (
        0.9 if kind != "flac" else 0.999
    )
    twice = played(path, times=2)
    assert np.array_equal(twice[: sound.size], sound) and twice.size == 2 * sound.size


def test_a_stereo_file_is_heard_as_the_mean_of_both(tmp_path: Path) -> None:
    pytest.importorskip("av")
    path = tmp_path / "two.flac"
    made = encoder(path, RecordFormat.FLAC, 8000, 2)
    made.write(np.stack((ramp(8000), ramp(8000, 100)), axis=1))
    made.close()
    mean = (ramp(8000).astype(int) + ramp(8000, 100)) / 2
    assert np.abs(played(path) - mean).max() <= 1


@pytest.mark.parametrize("kind", ["wav", "flac", "opus", "mp3"])
def test_a_file_may_begin_in_the_middle(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("av")
    steps = np.concatenate([tone(300 + 100 * n, 1.0) for n in range(10)])
    path = tmp_path / f"steps.{kind}"
    made = encoder(path, RecordFormat(kind), RATE, 1)
    made.write(steps[:, None])
    made.close()
    sound = played(path, start_s=6.25)
    assert abs(sound.size - 3.75 * RATE) <= (0 if kind in ("wav", "flac") else 1300)
    spectrum = np.abs(np.fft.rfft(sound[800:4800].astype(float)))
    assert round(int(spectrum.argmax()) * 2 / 10) * 10 == 900
    if kind in ("wav", "flac"):
        assert np.array_equal(sound, steps[50_000:])
    assert played(path, start_s=100).size == 0


@pytest.mark.parametrize("start_s", [0.0, 0.25, 0.5, 1.0])
def test_a_file_without_a_place_to_begin_with_begins_in_the_middle(
    tmp_path: Path, start_s: float, missing: Callable[[str], NoReturn]
) -> None:
    """FFmpeg finds none in the first half second of a short FLAC file of SoX's."""
    pytest.importorskip("av")
    if shutil.which("sox") is None:
        missing("SoX is not installed (make peers)")
    path = wav(tmp_path / "short.wav", ramp(10_000))
    subprocess.run(["sox", path, tmp_path / "short.flac"], check=True)
    sound = played(tmp_path / "short.flac", start_s=start_s)
    assert np.array_equal(sound, ramp(10_000)[int(start_s * RATE) :])


def test_wav_that_we_do_not_read_is_read_by_ffmpeg(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "adpcm.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("adpcm_ima_wav", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(500, 2)[None], format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    sound = played(path)
    assert abs(sound.size - 16_000) < 2100
    assert np.corrcoef(sound[:12_000], tone(500, 1.5))[0, 1] > 0.95


def hostile(directory: Path) -> Iterator[tuple[str, Path]]:
    """Files that are not what they say, and that name others."""
    secret = wav(directory / "secret.wav", ramp(8000))
    for name, text in [
        ("concat", f"ffconcat version 1.0\nfile {secret.name}\n"),
        ("hls", f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"),
        ("sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n"),
        ("text", "hello, this is no sound at all\n" * 50),
        ("empty", ""),
    ]:
        path = directory / f"{name}.mp4"
        path.write_text(text)
        yield name, path
    path = directory / "random.ogg"
    path.write_bytes(np.random.default_rng(3).integers(0, 256, 200_000, np.uint8).tobytes())
    yield "random", path
    path = directory / "cut.wav"
    path.write_bytes(secret.read_bytes()[:30])
    yield "cut", path


def test_hostile_files_are_refused_and_lead_nowhere(tmp_path: Path) -> None:
    pytest.importorskip("av")
    refused = []
    for name, path in hostile(tmp_path):
        try:
            sound = played(path, limit_s=5)
        except AudioFileError:
            refused.append(name)
        else:
            assert name == "random" and sound.size < 5 * RATE
    assert set(refused) >= {"concat", "hls", "sdp", "text", "empty", "cut"}


@pytest.mark.parametrize("kind", ["opus", "flac"])
def test_a_damaged_file_plays_what_is_left_of_it(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("av")
    path = tmp_path / f"sound.{kind}"
    made = encoder(path, RecordFormat(kind), RATE, 1)
    made.write(tone(700, 8.0)[:, None])
    made.close()
    octets = bytearray(path.read_bytes())
    octets[8000:8300] = bytes(300)
    path.write_bytes(octets)
    assert 5 * RATE < played(path).size <= 8 * RATE


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path, why in [
        (tmp_path / "none.wav", "cannot be read"),
        (tmp_path, "is no file"),
        (Path("/dev/zero"), "is no file"),
    ]:
        with pytest.raises(AudioFileError, match=why):
            played(path)


# ---------------------------------------------------------------- the web


class Server(BaseHTTPRequestHandler):
    """Serves a file as /sound, sends elsewhere from /moved, /file, /loop, and is slow as /slow."""

    octets = b""

    def do_GET(self) -> None:
        where = {"/moved": "/sound", "/file": "file:///etc/passwd", "/loop": "/loop"}
        if self.path in where:
            self.send_response(302)
            self.send_header("Location", where[self.path])
            self.end_headers()
        elif self.path in ("/sound", "/cut"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.octets)))
            self.end_headers()
            self.wfile.write(self.octets if self.path == "/sound" else self.octets[:5000])
        elif self.path == "/slow":
            self.server.wait.wait(5)  # type: ignore[attr-defined]
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("av")
    path = tmp_path / "sound.mp3"
    made = encoder(path, RecordFormat.MP3, RATE, 1)
    made.write(tone(700, 3.0)[:, None])
    made.close()
    Server.octets = path.read_bytes()
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        running.wait = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.wait.set()  # type: ignore[attr-defined]
        running.shutdown()
        thread.join()


def test_a_url_is_played_through_redirections(server: str) -> None:
    for path in ("/sound", "/moved"):
        sound = played(f"{server}{path}", web=open_url)
        assert abs(sound.size - 3 * RATE) < 1300
        assert np.corrcoef(sound[4000:8000], tone(700, 3)[4000:8000])[0, 1] > 0.9


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/none", "404"),
        ("/file", "Redirection to url 'file:"),
        ("/loop", "302"),
        ("/slow", "timed out"),
    ],
)
def test_a_url_that_cannot_be_had_says_why(server: str, path: str, says: str) -> None:
    with pytest.raises(AudioFileError, match=says):
        played(f"{server}{path}", web=lambda url: open_url(url, timeout_s=0.2))


def test_an_answer_that_breaks_off_is_no_end(server: str) -> None:
    with pytest.raises(AudioFileError, match="broke off"):
        played(f"{server}/cut", web=open_url)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "concat:a|b://x", "ftp://host/x", "data://text", "http://", "rtp://h:5"],
)
def test_no_other_schemes_are_played(url: str) -> None:
    with pytest.raises(ConfigError, match="nothing is played from"):
        check(url)
    with pytest.raises(AudioFileError):
        open_url(url)
