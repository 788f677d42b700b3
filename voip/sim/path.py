"""What happens to packets on their way: loss, delay, jitter, order, copies, a queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from voip.errors import ConfigError

__all__ = ["Carried", "GilbertElliott", "Link", "LinkCounts", "Path"]

IP_UDP_BYTES = 28
"""What IPv4 and UDP add to a payload: it passes the bottleneck too."""
_BLOCK = 4096
"""Packets whose fate a burst model draws at a time."""


@dataclass(frozen=True, slots=True)
class GilbertElliott:
    """A path with a good and a bad state, between which it moves after every packet.

    The model of E. N. Gilbert (Capacity of a Burst-Noise Channel, BSTJ 39, 1960) and E. O. Elliott
    (Estimates of Error Rates for Codes on Burst-Noise Channels, BSTJ 42, 1963), in the notation of
    G. Hasslinger and O. Hohlfeld (The Gilbert-Elliott Model for Packet Loss in Real Time Services
    on the Internet, MMB 2008): `p` is the probability of going from good to bad, `r` from bad to
    good; `loss_bad` is their 1-h, `loss_good` their 1-k. The bad state lasts 1/r packets in the
    mean.
    """

    p: float
    r: float
    loss_bad: float = 1.0
    loss_good: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.p <= 1 and 0 < self.r <= 1):
            raise ConfigError(
                f"p={self.p}, r={self.r} are no Gilbert-Elliott path",
                hint="0 <= p <= 1, 0 < r <= 1",
            )
        for loss in (self.loss_bad, self.loss_good):
            if not 0 <= loss <= 1:
                raise ConfigError(f"a loss of {loss} cannot be had", hint="0 to 1")

    @classmethod
    def of(cls, loss: float, burst: float) -> Self:
        """Return the path that loses the share `loss` in bursts of `burst` packets on average."""
        if not (0 <= loss < 1 and burst >= 1 and loss / (1 - loss) <= burst):
            raise ConfigError(
                f"no path loses {loss:g} in bursts of {burst:g}",
                hint="loss 0 to 1, burst 1 or more",
            )
        r = 1 / burst
        return cls(r * loss / (1 - loss), r)

    @property
    def mean_loss(self) -> float:
        """The share of packets that is lost in the long run."""
        if not self.p:
            return self.loss_good
        bad = self.p / (self.p + self.r)
        return bad * self.loss_bad + (1 - bad) * self.loss_good

    @property
    def mean_bad_packets(self) -> float:
        """How many packets the bad state lasts: with `loss_bad` 1 the mean length of a burst."""
        return 1 / self.r


@dataclass(frozen=True, slots=True)
class Path:
    """How one direction between two hosts behaves. Probabilities in [0, 1], times in seconds.

    loss: of each packet by itself; burst: losses in bursts, on top of that. jitter_s: the delay is
    drawn evenly from [delay_s, delay_s + jitter_s), and packets between the same two ports keep
    their order, unless `reorder` says that one is held back by `reorder_s` more and overtaken.
    bandwidth_bps: a bottleneck of that many bits a second, IP and UDP headers included, before
    which `queue_bytes` may wait; what comes to a full queue is lost (drop-tail).

    A stream (TCP) loses nothing: a loss there is a delay until it is sent again.
    """

    loss: float = 0.0
    burst: GilbertElliott | None = None
    delay_s: float = 0.0
    jitter_s: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 0.03
    duplicate: float = 0.0
    bandwidth_bps: float | None = None
    queue_bytes: int = 65_536

    def __post_init__(self) -> None:
        for name in ("loss", "reorder", "duplicate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)} is no probability", hint="0 to 1")
        for name in ("delay_s", "jitter_s", "reorder_s", "queue_bytes"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name}={getattr(self, name)} cannot be had", hint="0 or more")
        if self.bandwidth_bps is not None and not self.bandwidth_bps > 0:
            raise ConfigError(f"a bandwidth of {self.bandwidth_bps} carries nothing")


@dataclass(slots=True)
class LinkCounts:
    """What really happened to the packets of a path, or to what one address sent."""

    sent: int = 0
    lost: int = 0
    held_back: int = 0
    duplicated: int = 0


@dataclass(frozen=True, slots=True)
class Carried:
    """Packets that arrive, of those that were given to a path.

    which: their places in what was given, each at most once; arrival: float64, world seconds;
    held: bool, those that may be overtaken; None: none of them.
    """

    which: npt.NDArray[np.intp]
    arrival: npt.NDArray[np.float64]
    held: npt.NDArray[np.bool_] | None


class Link:
    """One direction between two hosts: a `Path`, what it remembers, and its random numbers."""

    def __init__(self, path: Path, random: np.random.Generator) -> None:
        self.counts = LinkCounts()
        self.cut_until = float("-inf")
        self._path = path
        self._random = random
        self._bad: bool | None = None
        self._burst_losses: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._free_at = float("-inf")

    @property
    def path(self) -> Path:
        """How it behaves."""
        return self._path

    @path.setter
    def path(self, path: Path) -> None:
        if path.burst != self._path.burst:
            self._burst_losses = self._burst_losses[:0]
            self._bad = None
        self._path = path

    def carry(self, now: float, lengths: npt.NDArray[np.int32]) -> list[Carried]:
        """Say what becomes of packets of `lengths` (k,) payload bytes that set out at `now`.

        Returns those that arrive, and once more those that arrive twice.
        """
        path, count = self._path, lengths.size
        self.counts.sent += count
        if now < self.cut_until:
            self.counts.lost += count
            return []
        which = np.arange(count)
        lost = self._lost(count)
        if lost is not None:
            which = np.flatnonzero(~lost)
        queued: npt.NDArray[np.float64] | None = None
        if path.bandwidth_bps is not None:
            which, queued = self._queue(now, which, lengths, path.bandwidth_bps)
        self.counts.lost += count - which.size
        if not which.size:
            return []
        waves = [self._travel(now, which, queued)]
        if path.duplicate:
            twice = self._random.random(which.size) < path.duplicate
            if twice.any():
                self.counts.duplicated += int(twice.sum())
                delay = None if queued is None else queued[twice]
                waves.append(self._travel(now, which[twice], delay))
        return waves

    def tries(self, now: float, length: int, first_s: float, limit_s: float) -> float | None:
        """Return when one segment of a stream arrives that is sent again until it does.

        The first repetition is after `first_s`, each further one after twice as long; None when
        nothing got through within `limit_s`.
        """
        size, waited, at = np.array([length], np.int32), first_s, now
        while at - now <= limit_s:
            carried = self.carry(at, size)
            if carried:
                return float(carried[0].arrival[0])
            at += waited
            waited *= 2
        return None

    def _travel(
        self, now: float, which: npt.NDArray[np.intp], queued: npt.NDArray[np.float64] | None
    ) -> Carried:
        path = self._path
        arrival = np.full(which.size, now + path.delay_s)
        if queued is not None:
            arrival += queued
        if path.jitter_s:
            arrival += self._random.random(which.size) * path.jitter_s
        held: npt.NDArray[np.bool_] | None = None
        if path.reorder:
            held = self._random.random(which.size) < path.reorder
            self.counts.held_back += int(held.sum())
            arrival[held] += path.reorder_s
        return Carried(which, arrival, held)

    # ------------------------------------------------------------ loss

    def _lost(self, count: int) -> npt.NDArray[np.bool_] | None:
        """Return which of the next packets are lost, None where nothing ever is."""
        path = self._path
        lost: npt.NDArray[np.bool_] | None = None
        if path.loss:
            lost = self._random.random(count) < path.loss
        if path.burst is not None:
            bursts = self._bursts(path.burst, count)
            lost = bursts if lost is None else lost | bursts
        return lost

    def _bursts(self, model: GilbertElliott, count: int) -> npt.NDArray[np.bool_]:
        if self._burst_losses.size < count:
            blocks = [self._burst_losses]
            for _ in range(1 + count // _BLOCK):
                blocks.append(self._draw_bursts(model))
            self._burst_losses = np.concatenate(blocks)
        taken, self._burst_losses = self._burst_losses[:count], self._burst_losses[count:]
        return taken

    def _draw_bursts(self, model: GilbertElliott) -> npt.NDArray[np.bool_]:
        """Return which of the next `_BLOCK` packets are lost: whole stays in a state at a time.

        How long a stay still lasts does not depend on how long it has lasted, so that a block may
        begin and end in the middle of one.
        """
        random = self._random
        if self._bad is None:
            total = model.p + model.r
            self._bad = bool(random.random() < model.p / total)
        bad = np.zeros(_BLOCK, np.bool_)
        at, state = 0, self._bad
        while at < _BLOCK:
            leaving = model.r if state else model.p
            stay = int(random.geometric(leaving)) if leaving else _BLOCK
            bad[at : at + stay] = state
            at += stay
            if at <= _BLOCK:
                state = not state
        self._bad = bool(state) if model.p else False
        losses: npt.NDArray[np.bool_] = random.random(_BLOCK) < np.where(
            bad, model.loss_bad, model.loss_good
        )
        return losses

    # ------------------------------------------------------------ a bottleneck

    def _queue(
        self,
        now: float,
        which: npt.NDArray[np.intp],
        lengths: npt.NDArray[np.int32],
        bandwidth_bps: float,
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """Let packets wait for the bottleneck one after the other; return those it took."""
        taken, delays = [], []
        for place in which.tolist():
            size = int(lengths[place]) + IP_UDP_BYTES
            backlog_s = max(0.0, self._free_at - now)
            if backlog_s * bandwidth_bps / 8 > self._path.queue_bytes:
                continue
            self._free_at = now + backlog_s + 8 * size / bandwidth_bps
            taken.append(place)
            delays.append(self._free_at - now)
        return np.array(taken, np.intp), np.array(delays)
