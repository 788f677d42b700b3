"""Our iLBC streams in FFmpeg's decoder: heard as well there as the published one.

FFmpeg decodes frames of 20 ms only loosely, so this judges that streams are understood, by PESQ.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pytest
from media_library import decoded_by_ffmpeg, speech

from voip.codecs.ilbc.codec import ilbc_codec
from voip.codecs.ilbc.mode import MODE_20, MODE_30, Mode
from voip.harness.grade import pesq_installed

pytestmark = [pytest.mark.reference, pytest.mark.rfc("3952", "3"), pytest.mark.long]

Pcm = npt.NDArray[np.int16]


@pytest.fixture(scope="module")
def pesq(missing: Callable[[str], NoReturn]) -> Callable[[Pcm, Pcm], float]:
    if not pesq_installed():
        missing("the package pesq is not installed")
    from pesq import pesq as score

    return lambda sent, heard: float(score(8000, sent[: heard.size], heard, "nb"))


def by_ffmpeg(stream: bytes, mode: Mode, missing: Callable[[str], NoReturn]) -> Pcm:
    payloads = [stream[n : n + mode.octets] for n in range(0, len(stream), mode.octets)]
    bit_rate = {20: 15_200, 30: 13_333}[mode.frame_ms]  # by which FFmpeg tells the modes apart
    return decoded_by_ffmpeg("ilbc", payloads, missing, sample_rate=8000, bit_rate=bit_rate)


def test_our_20_ms_stream_is_heard_as_the_published_one(
    reference_data: Path, pesq, missing
) -> None:
    folder = reference_data / "ilbc-rfc3951"
    published = (folder / "iLBC_20ms.BIT").read_bytes()
    sent = np.fromfile(folder / "iLBC.INP", "<i2")[: len(published) // 38 * 160]
    ours = ilbc_codec(MODE_20).encode(sent)
    assert len(ours) == len(published) == 474 * 38
    theirs, here = (pesq(sent, by_ffmpeg(s, MODE_20, missing)) for s in (published, ours))
    print(f"20 ms by FFmpeg: the published stream {theirs:.2f}, ours {here:.2f}")
    assert abs(here - theirs) < 0.05


@pytest.mark.parametrize("mode", [MODE_20, MODE_30], ids=["20ms", "30ms"])
def test_speech_is_heard_there_nearly_as_here(
    mode: Mode, reference_data: Path, pesq, missing
) -> None:
    vector = np.fromfile(reference_data / "ilbc-rfc3951" / "iLBC.INP", "<i2")
    there, here = [], []
    for sent in (vector, speech(8000)):
        sent = sent[: sent.size // mode.samples * mode.samples]
        codec = ilbc_codec(mode)
        stream = codec.encode(sent)
        there.append(pesq(sent, by_ffmpeg(stream, mode, missing)))
        here.append(pesq(sent, codec.decode(stream)))
    print(f"{mode.frame_ms} ms: by FFmpeg {np.mean(there):.2f}, by ours {np.mean(here):.2f}")
    assert np.mean(there) > 3.6
    assert abs(np.mean(there) - np.mean(here)) < 0.1
