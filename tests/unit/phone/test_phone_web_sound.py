"""Sound from the web in a real call: it is heard, and who stalls keeps nothing waiting."""

from __future__ import annotations

import asyncio
import io
import threading
import time
import wave
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voip.config import NetworkConfig
from voip.errors import AudioFileError
from voip.harness.audio import Sound, dominant_tone
from voip.phone import Softphone

HERE = NetworkConfig(bind_host="127.0.0.1")
RATE = 8000


def a_tone(seconds: float) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        t = np.arange(int(seconds * RATE)) / RATE
        file.writeframes((8000 * np.sin(2 * np.pi * 700 * t)).astype("<i2").tobytes())
    return out.getvalue()


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        octets = a_tone(2)
        self.send_response(200)
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        if self.path == "/stalls":
            self.server.go_on.wait(20)  # type: ignore[attr-defined]
            return
        self.wfile.write(octets)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    pytest.importorskip("av")
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        running.go_on = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.go_on.set()  # type: ignore[attr-defined]
        running.shutdown()
        thread.join()


@pytest.mark.long
@pytest.mark.realtime
async def test_a_url_is_heard_and_one_that_stalls_holds_up_no_file(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voip.net.io_thread.open_url", _patient)
    async with Softphone(network=HERE) as alice, Softphone(network=HERE) as bob:

        @bob.on_incoming
        async def answer(call: Any) -> None:
            await call.answer()
            await call.echo()
            await call.wait_ended()

        call = await alice.dial(f"sip:bob@127.0.0.1:{bob.port}")
        async with call.record(tmp_path / "heard.wav"):
            waiting = asyncio.create_task(call.play(f"{server}/stalls"))
            await asyncio.sleep(0.5)
            waiting.cancel()
            began = time.monotonic()
            await asyncio.gather(waiting, return_exceptions=True)
            assert time.monotonic() - began < 0.5, "who gives up does not wait for the server"
            await call.play(f"{server}/tone.wav")
            await asyncio.sleep(0.3)
        with pytest.raises(AudioFileError, match="timed out"):
            await call.play(f"{server}/stalls")
    heard = Sound.read(tmp_path / "heard.wav")
    loud = np.flatnonzero(np.abs(heard.samples.astype(int)) > 2000)
    assert 1.6 * RATE < loud[-1] - loud[0] < 2.4 * RATE
    piece = Sound(heard.samples[loud[0] : loud[-1]], RATE)
    assert dominant_tone(piece).frequency_hz == pytest.approx(700, abs=5)


def _patient(url: str) -> object:
    from voip.net.web import open_url

    return open_url(url, timeout_s=1.0)
