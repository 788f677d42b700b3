"""The clock of a simulated host: the world's time, a little fast or slow."""

from __future__ import annotations

__all__ = ["HostClock"]


class HostClock:
    """A clock that runs `drift_ppm` millionths fast (negative: slow) since `epoch`.

    `epoch`: world seconds at which it showed the same as the world; `wall_offset_s`: what to add
    to its time for the time of day.
    """

    __slots__ = ("_epoch", "_rate", "_wall_offset_s", "drift_ppm")

    def __init__(self, epoch: float, wall_offset_s: float, drift_ppm: float = 0.0) -> None:
        self.drift_ppm = drift_ppm
        self._epoch = epoch
        self._rate = 1.0 + drift_ppm * 1e-6
        self._wall_offset_s = wall_offset_s

    def local(self, world_s: float) -> float:
        """Return what this clock shows at a time of the world."""
        if not self.drift_ppm:
            return world_s
        return self._epoch + (world_s - self._epoch) * self._rate

    def world(self, local_s: float) -> float:
        """Return the time of the world at which this clock shows `local_s`."""
        if not self.drift_ppm:
            return local_s
        return self._epoch + (local_s - self._epoch) / self._rate

    def wall(self, world_s: float) -> float:
        """Return the time of day on this clock, seconds since 1970-01-01 UTC."""
        return self.local(world_s) + self._wall_offset_s
