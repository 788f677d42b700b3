"""Two clocks and a bridge: nothing is lost, nothing clicks, and the drift is known."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize_scalar

from voip.devices.bridge import ClockBridge, Meter
from voip.dsp.drift import DriftResampler
from voip.errors import ConfigError
from voip.media.rings import AudioRing, RingArena

Pcm = npt.NDArray[np.int16]

TONE_HZ = 440.0
AMPLITUDE = 8000


def tone(first: int, samples: int, rate_hz: int) -> Pcm:
    at = np.arange(first, first + samples)
    return np.rint(AMPLITUDE * np.sin(2 * np.pi * TONE_HZ / rate_hz * at)).astype(np.int16)


def rings(rate_hz: int) -> tuple[AudioRing, AudioRing]:
    arena = RingArena()
    return tuple(arena.ring(arena.allocate(rate_hz, rate_hz)) for _ in range(2))  # type: ignore[return-value]


@dataclass
class Desk:
    """An engine that ticks every 20 ms by the true clock, and a device whose clock drifts."""

    drift_ppm: float
    device_hz: int = 16000
    engine_hz: int = 8000
    block_s: float = 0.01
    latency_s: float = 0.03
    played: list[Pcm] = field(default_factory=list)
    sent: list[Pcm] = field(default_factory=list)
    fills: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.heard, self.said = rings(self.engine_hz)
        self.bridge = ClockBridge(
            self.device_hz, self.device_hz, self.heard, self.said, self.latency_s
        )
        self._block = round(self.block_s * self.device_hz)
        self._ticks = self._blocks = 0

    def run(self, seconds: float, *, engine: bool = True, device: bool = True) -> None:
        step = self.engine_hz // 50
        period = self.block_s / (1 + self.drift_ppm * 1e-6)
        until = self._ticks + round(seconds * 50)
        while self._ticks < until:
            now = self._ticks * 0.02
            while self._blocks * period <= now:
                captured = tone(self._blocks * self._block, self._block, self.device_hz)
                if device:
                    self.bridge.capture(captured, self._blocks * period)
                    self.played.append(self.bridge.play(self._block, self._blocks * period))
                self._blocks += 1
            if engine:
                self.heard.overwrite(tone(self._ticks * step, step, self.engine_hz))
                self.sent.append(self.said.read(step))
                self.fills.append((self.heard.available, self.said.available))
            self._ticks += 1


def purity_db(pcm: Pcm, rate_hz: int, about_hz: float) -> tuple[float, float]:
    """Return how far what is no sine lies below the sine in `pcm`, and the sine's frequency."""
    wanted = pcm.astype(float)
    n = np.arange(pcm.size)

    def rest(frequency: float) -> float:
        turns = 2 * np.pi * frequency / rate_hz * n
        basis = np.stack((np.sin(turns), np.cos(turns)))
        found = np.linalg.solve(basis @ basis.T, basis @ wanted)  # by least squares
        return float(((wanted - found @ basis) ** 2).mean())

    lobe_hz = 0.5 * rate_hz / pcm.size  # half of what a sine so long is wide
    grid = np.arange(about_hz - 0.5, about_hz + 0.5, lobe_hz)
    near = min(grid, key=rest)
    best = minimize_scalar(rest, bounds=(near - lobe_hz, near + lobe_hz), method="bounded").x
    return 10 * np.log10((wanted**2).mean() / rest(best)), float(best)


MORE = pytest.mark.long
DRIFTS = (*(pytest.param(ppm, marks=MORE) for ppm in (-500.0, 0.0, 200.0)), 500.0)


@pytest.mark.parametrize("drift_ppm", DRIFTS)
def test_two_clocks_are_bridged_without_a_click_and_the_drift_is_told(drift_ppm: float) -> None:
    desk = Desk(drift_ppm)
    desk.run(150)
    bridge = desk.bridge
    assert (bridge.played.slips, bridge.captured.slips) == (0, 0)
    assert (bridge.played.short_s, {pcm.size for pcm in desk.sent[2:]}) == (0.0, {160})
    for way in (bridge.played, bridge.captured):
        assert way.ppm == pytest.approx(drift_ppm, abs=10)
    late = desk.fills[-1000:]
    for mean_ms in np.mean(late, axis=0) / 8:
        assert mean_ms == pytest.approx(30, abs=15), "the delay neither grows nor falls"
    # the last seconds are one sine, whose frequency is that of the other clock
    sent = np.concatenate(desk.sent[-250:])
    clean, frequency = purity_db(sent, 8000, TONE_HZ)
    assert clean > 40
    assert frequency == pytest.approx(TONE_HZ * (1 + drift_ppm * 1e-6), abs=0.01)
    played = np.concatenate(desk.played[-500:])
    clean, frequency = purity_db(played, 16000, TONE_HZ)
    assert clean > 40
    assert frequency == pytest.approx(TONE_HZ / (1 + drift_ppm * 1e-6), abs=0.01)


def test_the_latency_is_what_was_asked_for() -> None:
    means = []
    for latency_s in (0.02, 0.05, 0.1):
        desk = Desk(100.0, latency_s=latency_s)
        desk.run(25)
        means.append(np.mean([fill[0] for fill in desk.fills[-500:]]) / 8)
    assert means == sorted(means)
    assert means[2] - means[0] == pytest.approx(80, abs=8)


def test_an_engine_or_a_device_that_stood_still_is_caught_up_with() -> None:
    desk = Desk(50.0)
    desk.run(10)
    desk.run(2, engine=False)  # nothing is said to anybody, and nothing heard
    assert desk.said.available < 8000 * 0.3, "what is said meanwhile does not pile up"
    desk.run(10)
    desk.run(2, device=False)
    desk.run(30)
    bridge = desk.bridge
    assert 1 <= bridge.captured.slips <= 4
    assert 1 <= bridge.played.slips <= 4
    mean_ms = np.mean(desk.fills[-200:], axis=0) / 8
    assert (mean_ms < 80).all()
    assert purity_db(np.concatenate(desk.sent[-50:]), 8000, TONE_HZ)[0] > 40
    assert purity_db(np.concatenate(desk.played[-100:]), 16000, TONE_HZ)[0] > 40


def test_meters_show_how_loud_both_ways_are() -> None:
    desk = Desk(0.0)
    desk.run(5)
    level = 20 * np.log10(AMPLITUDE / 32768)
    for meter in (desk.bridge.heard_meter, desk.bridge.said_meter):
        assert meter.peak_dbfs == pytest.approx(level, abs=0.5)
        assert meter.rms_dbfs == pytest.approx(level - 3.01, abs=0.5)
    assert Meter().rms_dbfs == Meter().peak_dbfs == -100


@pytest.mark.parametrize(("rate_in", "rate_out"), [(48000, 8000), (8000, 48000), (44100, 16000)])
@pytest.mark.parametrize("ppm", [-300.0, 0.0, 300.0])
def test_the_resampler_keeps_a_tone_whatever_the_blocks(
    rate_in: int, rate_out: int, ppm: float
) -> None:
    whole, pieces, pulled = (DriftResampler(rate_in, rate_out) for _ in range(3))
    pcm = (np.sin(2 * np.pi * TONE_HZ / rate_in * np.arange(rate_in)) / 2).astype(np.float32)
    for one in (whole, pieces, pulled):
        one.ppm = ppm
    at_once = whole.process(pcm)
    cuts = np.cumsum(np.random.default_rng(1).integers(0, 900, 400))
    parts = [pieces.process(part) for part in np.split(pcm, cuts[cuts < pcm.size])]
    np.testing.assert_allclose(np.concatenate(parts), at_once, atol=2e-5)
    assert at_once.size == pytest.approx(rate_out * (1 + ppm * 1e-6), abs=1)
    taken = 0

    def read(count: int) -> npt.NDArray[np.float32]:
        nonlocal taken
        taken += count
        return pcm[taken - count : taken]

    by_block = np.concatenate([pulled.pull(rate_out // 100, read) for _ in range(90)])
    np.testing.assert_allclose(by_block, at_once[: by_block.size], atol=2e-5)
    settled = np.rint(at_once[rate_out // 10 :] * 32767).astype(np.int16)
    clean, frequency = purity_db(settled, rate_out, TONE_HZ)
    assert clean > 70
    assert frequency == pytest.approx(TONE_HZ / (1 + ppm * 1e-6), abs=0.002)


def test_what_lies_above_the_lower_rate_is_removed() -> None:
    resampler = DriftResampler(48000, 8000)
    pcm = np.sin(2 * np.pi * 5000 / 48000 * np.arange(48000)).astype(np.float32)
    out = resampler.process(pcm)[200:]
    assert 10 * np.log10(2 * (out**2).mean()) < -65


def test_rates_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 Hz"):
        DriftResampler(8000, 0)
