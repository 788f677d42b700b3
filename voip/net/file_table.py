"""The kernel's table of a process's open files, made large before there are any."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource

__all__ = ["allowed_files", "make_room_for_files"]


def allowed_files(count: int) -> int:
    """Return `count`, or how many files the process may have open by now if those are fewer."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return count if most == resource.RLIM_INFINITY else min(count, most)


def make_room_for_files(count: int) -> None:
    """Let the table have room for `count` open files, or as many as the process may have by now.

    It grows by itself, by doubling, and a process of several threads then waits until no processor
    looks at the old one any more: 10 to 20 ms in which an engine does not tick (`expand_fdtable`
    in Linux's fs/file.c).
    """
    with contextlib.suppress(OSError):  # then it grows when it must
        one = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.close(fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, allowed_files(count) - 1))
        finally:
            os.close(one)
