"""The interpreter's switch interval while engines run in threads.

A thread that wakes up waits for the interpreter's lock for as long as this, while another runs
Python: 5 ms by default, which is half a tick.
"""

from __future__ import annotations

import sys
import threading

__all__ = ["ENGINE_SWITCH_S", "SwitchInterval"]

ENGINE_SWITCH_S = 0.0005


class SwitchInterval:
    """Shortens the interval from the first `take` to the last `restore`; it is the process's.

    Who sets it otherwise meanwhile is not disturbed: then nothing is restored.
    """

    _lock = threading.Lock()
    _takers = 0
    _before = 0.0
    _set = 0.0

    @classmethod
    def take(cls) -> None:
        """One more engine runs in a thread."""
        with cls._lock:
            if cls._takers == 0 and sys.getswitchinterval() > ENGINE_SWITCH_S:
                cls._before = sys.getswitchinterval()
                sys.setswitchinterval(ENGINE_SWITCH_S)
                cls._set = sys.getswitchinterval()
            cls._takers += 1

    @classmethod
    def restore(cls) -> None:
        """One less does."""
        with cls._lock:
            cls._takers -= 1
            if cls._takers == 0 and cls._before:
                if sys.getswitchinterval() == cls._set:
                    sys.setswitchinterval(cls._before)
                cls._before = 0.0
