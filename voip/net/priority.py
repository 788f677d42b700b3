"""What a process that must be in time asks of the scheduler. It is given what it may have."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from contextlib import suppress
from typing import Final

__all__ = ["be_in_time"]

SLICE_S: Final = 0.0001
"""How long it wants to run at a time, the least there is: who wants little is let in sooner.

Linux 6.12 and newer, anybody; older ones do not look at it.
"""
_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
"""The number of sched_setattr(2), for which the C library has no function."""


def be_in_time(nice: int | None) -> None:
    """Let this process run soon after it is woken, though others want the processor, too.

    nice: the priority to ask for, as of nice(1); None: none. Needs CAP_SYS_NICE or LimitNICE=. One
    that somebody has chosen for us already is left alone.
    """
    if nice is not None and os.getpriority(os.PRIO_PROCESS, 0) == 0:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, nice)
    number = _SETATTR.get(platform.machine())
    if number is not None and hasattr(os, "sched_getscheduler"):
        with suppress(OSError, AttributeError):
            now = os.getpriority(os.PRIO_PROCESS, 0)
            # struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period
            fields = (48, os.SCHED_OTHER, 0, now, 0, int(1e9 * SLICE_S), 0, 0)
            attributes = struct.pack("=IIQiIQQQ", *fields)
            ctypes.CDLL(None).syscall(number, 0, attributes, 0)
