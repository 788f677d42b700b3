"""On which simulated host the running code is: inherited by tasks and callbacks."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from voip.errors import SimulationError

if TYPE_CHECKING:
    from voip.sim.host import Host

__all__ = ["CURRENT_HOST", "current_host"]

CURRENT_HOST: Final[ContextVar[Host | None]] = ContextVar("voip.sim.host", default=None)


def current_host() -> Host:
    """Return the host the running code is on; raises `SimulationError` where it is on none."""
    host = CURRENT_HOST.get()
    if host is None:
        raise SimulationError(
            "this code runs on no host, and has no network",
            hint="await host.run(...), or world.run(main(), on=host)",
        )
    return host
