"""What is alive: of phones and a proxy by their tables, of the process by its objects."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

from voip.phone import Softphone
from voip.proxy import SipProxy

__all__ = [
    "forget_what_is_kept_for_speed",
    "heap_kb",
    "held_by_media",
    "keep_heap_compact",
    "left_in_phone",
    "left_in_proxy",
    "living",
    "rss_mb",
    "small_blocks",
    "taken_kb",
]

_LARGE_BYTES: Final = 16384
_M_MMAP_THRESHOLD: Final = -3  # malloc.h
_RESIDENT, _DATA = 1, 5
"""Places in statm (proc(5))."""

MORTAL: Final = frozenset(
    {
        "Call",
        "CallSession",
        "MediaSession",
        "ClientInvite",
        "ClientRequest",
        "ClientTransaction",
        "Dialog",
        "Forking",
        "InviteUsage",
        "Notifier",
        "Reinvite",
        "ReliableResponses",
        "ServerInvite",
        "ServerRequest",
        "ServerTransaction",
        "SessionTimer",
        "Subscription",
        "Update",
        "Watch",
    }
)
"""Objects of which none is there when there is no call."""


def left_in_phone(phone: Softphone) -> dict[str, int]:
    """Return what a phone without calls still holds: nothing, if all is well."""
    core = phone._agent._core
    held = {
        "calls": len(phone.calls),
        "sessions": len(phone._sessions.sessions),
        "handles of sessions": len(phone._stack.sessions),
        "watchers": len(phone._stack.watchers),
        "tasks": len(phone._tasks),
        "transactions": phone._agent.transactions,
        "INVITEs without a dialog": phone._agent.dialling,
        "dialogs": len(phone._agent.dialogs),
        "subscriptions": len(phone._agent.subscriptions),
        "unacknowledged responses": len(core.reliable),
        "timers": phone._agent.timers,
    }
    return {what: count for what, count in held.items() if count}


def held_by_media(phone: Softphone) -> dict[str, int]:
    """Return what a phone's media engine holds: streams, and rings of applications and files."""
    held = {"streams": phone.driver.figures().streams, "rings": len(phone._stack.arena)}
    return {what: count for what, count in held.items() if count}


def left_in_proxy(proxy: SipProxy) -> dict[str, int]:
    """Return what a proxy through which nothing goes still holds."""
    held = {
        "transactions": len(proxy.agent.core.transactions),
        "timers": len(proxy.agent.core.timers),
        "searches": len(proxy._searches),
    }
    return {what: count for what, count in held.items() if count}


def living() -> dict[str, int]:
    """Return how many objects of a call are alive, by their class, garbage collected first."""
    gc.collect()
    found = Counter(type(one).__name__ for one in gc.get_objects() if type(one).__name__ in MORTAL)
    return dict(found)


def forget_what_is_kept_for_speed() -> None:
    """Empty all caches of functions, which fill to a limit, and collect garbage."""
    gc.collect()
    for one in gc.get_objects():
        if isinstance(one, functools._lru_cache_wrapper):
            one.cache_clear()
    gc.collect()


def small_blocks() -> int:
    """Return how many objects of up to 512 octets the interpreter has given out."""
    return sys.getallocatedblocks()


def heap_kb() -> float | None:
    """Return what is taken of the C library's heap: arrays, and what is larger than 512 octets.

    Memory that was given back counts no more, unlike in `rss_mb`. None where the library does not
    say: glibc does, since 2.33.
    """
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return None
    ask.restype = _MallInfo2
    info = ask()
    return float(info.uordblks + info.hblkhd) / 1000


def taken_kb(*, children: bool = False) -> float:
    """Return how much memory for data this process has taken from the system (VmData, proc(5)).

    Resident or not, used or free: no more than that of it can be resident. With that of its
    children, where asked for.
    """
    return _pages(_DATA, children=children) * os.sysconf("SC_PAGE_SIZE") / 1000


class _MallInfo2(ctypes.Structure):
    """`struct mallinfo2` (mallinfo(3))."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def keep_heap_compact() -> None:
    """Let the C library take all that is larger from the system, and give it back at once.

    By default what glibc deems large grows with what was freed, and lies in its heap then: the
    holes between look like memory that calls have left. For this process, and those it begins.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(_LARGE_BYTES)
    with suppress(AttributeError, OSError):  # another library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def rss_mb(*, children: bool = False) -> float:
    """Return the resident memory of this process; with that of its children, where asked for."""
    return _pages(_RESIDENT, children=children) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _pages(which: int, *, children: bool) -> int:
    whose = ["self"]
    if children:
        for task in Path("/proc/self/task").iterdir():
            whose += (task / "children").read_text().split()
    pages = 0
    for process in whose:
        with suppress(OSError):  # it has just ended
            pages += int(Path("/proc", process, "statm").read_text().split()[which])
    return pages
