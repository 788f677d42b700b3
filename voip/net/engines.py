"""The media engine of a phone: where it runs, and how many there are."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from itertools import count

from voip.config import DSCP_EF, MediaConfig
from voip.errors import MediaError
from voip.media.engine import Engine
from voip.media.io import PacketTap
from voip.media.rings import RingArena
from voip.net.driver import ThreadDriver
from voip.net.packets import UdpPacketIO
from voip.net.ports import PortRange
from voip.net.process_driver import ProcessDriver
from voip.net.ring_memory import MemfdMemory
from voip.net.workers import Workers
from voip.platform import MediaPlane
from voip.types import Random

__all__ = ["media_plane"]

log = logging.getLogger(__name__)


def media_plane(
    config: MediaConfig,
    random: Random,
    ports: tuple[int, int],
    tap: PacketTap | None,
    dscp: int = DSCP_EF,
) -> MediaPlane:
    """Return the engine, or the engines behind one driver, that `config` asks for.

    Raises `MediaError` where it asks for processes and this machine has no memory that they could
    share; without being asked, all streams are a thread's then.
    """

    def in_thread(arena: RingArena) -> ThreadDriver:
        io = UdpPacketIO(random, ports=PortRange(*ports), dscp=dscp)
        io.tap = tap
        engine = Engine(io, random=random, arena=arena, clock=time.monotonic)
        return ThreadDriver(engine, release=io.close_all, counted=io.counted, wait=io.wait)

    memory = None if config.engine == "thread" else _memory(required=config.engine == "process")
    if memory is None:
        arena = RingArena()
        return MediaPlane(in_thread(arena), arena, count(1))
    shared = memory

    def process(lost: Callable[[str], None]) -> ProcessDriver:
        return ProcessDriver(
            shared, ports=ports, dscp=dscp, nice=config.engine_nice, tap=tap, lost=lost
        )

    arena = RingArena(memory=shared)
    thread = None if config.engine == "process" else in_thread(arena)
    driver = Workers(process, config.workers, arena, thread=thread, close=shared.close)
    return MediaPlane(driver, arena, count(1))


def _memory(*, required: bool) -> MemfdMemory | None:
    try:
        return MemfdMemory()
    except (OSError, AttributeError) as error:
        if required:
            raise MediaError(
                f"this machine has no memory for media engines to share: {error}",
                hint="MediaConfig(engine='thread')",
            ) from error
        log.info("all streams are a thread's: %s", error)
        return None
