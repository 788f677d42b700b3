"""Anything into an Opus decoder is PCM of the stated length or a CodecError, and no crash."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypotheses import examples
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from voip.codecs.opus.codec import OpusCodec
from voip.codecs.opus.settings import Application, OpusSettings, RateControl, Signal
from voip.codecs.opus.toc import Bandwidth, read_packet
from voip.errors import CodecError

pytestmark = [pytest.mark.usefixtures("library"), pytest.mark.rfc("6716", "3.4")]

RATES = st.sampled_from([8000, 12000, 16000, 24000, 48000])
CHANNELS = st.sampled_from([1, 2])
BYTES = st.binary(max_size=80) | st.builds(
    # one frame of any kind, of any size, so that the decoders themselves have something to read
    lambda config, stereo, seed, size: (
        bytes([config << 3 | stereo << 2]) + np.random.default_rng(seed).bytes(size)
    ),
    st.integers(0, 31),
    st.integers(0, 1),
    st.integers(0, 2**32),
    st.integers(0, 1280),
)


def stated(payload: bytes, codec: OpusCodec) -> int | None:
    """How many samples a payload says it holds; None where it is malformed."""
    try:
        units = read_packet(payload).units
    except CodecError:
        return None
    return units * codec.info.sample_rate // 400 * codec.info.pcm_channels


class Hostile(RuleBasedStateMachine):
    """One decoder that is given everything, in any order."""

    @initialize(rate_hz=RATES, channels=CHANNELS)
    def build(self, rate_hz: int, channels: int) -> None:
        self.codec = OpusCodec(rate_hz, channels)

    @rule(payload=BYTES)
    def decode(self, payload: bytes) -> None:
        length = stated(payload, self.codec)
        try:
            assert self.codec.decode(payload).size == length
        except CodecError:
            pass
        else:
            assert length is not None

    @rule(payload=BYTES, room=st.integers(0, 12_000), float32=st.booleans())
    def decode_into(self, payload: bytes, room: int, float32: bool) -> None:
        length = stated(payload, self.codec)
        pcm = np.full(room, 77, np.float32 if float32 else np.int16)
        try:
            assert self.codec.decode_into(np.frombuffer(payload, np.uint8), pcm) == length
        except CodecError:
            return
        assert length is not None
        assert (pcm[length:] == 77).all(), "nothing behind it was touched"

    @rule(payload=BYTES, samples=st.none() | st.integers(-100, 20_000))
    def decode_fec(self, payload: bytes, samples: int | None) -> None:
        length = stated(payload, self.codec)
        try:
            got = self.codec.decode_fec(payload, samples)
        except CodecError:
            return
        assert got.size == (length if samples is None else samples)

    @rule(samples=st.integers(0, 20_000))
    def conceal(self, samples: int) -> None:
        assert self.codec.conceal(samples).size == samples


Hostile.TestCase.settings = examples(60, stateful_step_count=40)
TestHostile = Hostile.TestCase


@given(payload=st.binary(max_size=1500), rate_hz=RATES, channels=CHANNELS)
@example(payload=b"", rate_hz=8000, channels=1)
def test_well_formed_is_decoded_and_malformed_is_not(
    payload: bytes, rate_hz: int, channels: int
) -> None:
    codec = OpusCodec(rate_hz, channels)
    length = stated(payload, codec)
    if length is None:
        with pytest.raises(CodecError):
            codec.decode(payload)
    else:
        assert codec.decode(payload).shape == (length,)


def test_what_is_cut_off_or_changed_on_the_way_is_no_crash() -> None:
    rng = np.random.default_rng(11)
    encoder = OpusCodec(48000, 2, OpusSettings(64_000, expected_loss=10))
    decoder = OpusCodec(48000, 2)
    outcomes = {"decoded": 0, "refused": 0}
    for units in (1, 2, 4, 8, 16, 24, 48):
        for _ in range(60):
            pcm = np.cumsum(rng.normal(0, 900, 240 * units)).astype(np.int16)
            payload = bytearray(encoder.encode(pcm))
            payload[int(rng.integers(len(payload)))] ^= 1 << int(rng.integers(8))
            part = bytes(payload[: int(rng.integers(1, len(payload) + 1))])
            length = stated(part, decoder)
            try:
                assert decoder.decode(part).size == length
                outcomes["decoded"] += 1
            except CodecError:
                outcomes["refused"] += 1
    assert outcomes["decoded"] > 100
    assert outcomes["refused"] > 10


@given(
    rate_hz=RATES,
    channels=CHANNELS,
    units=st.sampled_from([1, 2, 4, 8, 16, 24, 32, 40, 48]),
    wanted=st.lists(
        st.builds(
            OpusSettings,
            bit_rate=st.integers(6_000, 510_000),
            rate_control=st.sampled_from(RateControl),
            complexity=st.integers(0, 10),
            fec=st.booleans(),
            expected_loss=st.integers(0, 100),
            dtx=st.booleans(),
            bandwidth=st.none() | st.sampled_from(Bandwidth),
            max_bandwidth=st.sampled_from(Bandwidth),
            channels=st.sampled_from([None, 1, 2]),
            signal=st.sampled_from(Signal),
            application=st.sampled_from(Application),
        ),
        min_size=1,
        max_size=3,
    ),
    seed=st.integers(0, 2**32),
)
@examples(60)
def test_any_settings_at_any_time_give_packets_of_the_right_length(
    rate_hz: int, channels: int, units: int, wanted: list[OpusSettings], seed: int
) -> None:
    codec = OpusCodec(rate_hz, channels)
    pcm = np.random.default_rng(seed).integers(-32768, 32767, rate_hz // 400 * channels * units)
    for setting in wanted:
        codec.configure(setting)
        payload = codec.encode(pcm.astype(np.int16))
        assert read_packet(payload).units == units
        assert codec.decode(payload).size == pcm.size


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_float32_that_is_no_sound_harms_nobody(value: float) -> None:
    """In a process of its own: what would be harmed is that."""
    program = (
        "import numpy as np; from voip.codecs.opus.codec import OpusCodec\n"
        "from voip.errors import CodecError\n"
        "for rate in (8000, 48000):\n"
        "    codec, out = OpusCodec(rate, 2), np.empty(7656, np.uint8)\n"
        "    for units in (1, 8, 24, 48) * 3:\n"
        f"        pcm = np.full(rate // 400 * units * 2, float('{value}'), np.float32)\n"
        "        try:\n"
        "            octets = codec.encode_into(pcm, out)\n"
        "        except CodecError:\n"
        "            continue\n"
        "        codec.decode(out[:octets].tobytes())\n"
        "print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
