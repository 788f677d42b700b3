"""A capture of loopback while a test runs, where there is dumpcap and the test may use it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from peers.ports import SINGLE
from peers.process import leashed

FLUSH_S = 0.3  # the kernel hands packets over in blocks, at least this often
# everything a peer or the softphone listens at, and not the ephemeral ports of other programs
FILTER = f"portrange 4000-{SINGLE.stop}"
LIMIT_KB = 50_000


class Capture:
    """Writes what crosses loopback to `path` (pcapng); does nothing where it may not.

    `ports`: of these alone; else of all that a peer or the softphone may listen at.
    """

    def __init__(self, path: Path, ports: range | None = None) -> None:
        self._path = path
        self._filter = f"portrange {ports.start}-{ports.stop - 1}" if ports else FILTER
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start capturing (20 ms)."""
        dumpcap = shutil.which("dumpcap")
        if dumpcap is None or os.geteuid() != 0:
            return
        options = ["-q", "-i", "lo", "-f", self._filter, "-a", f"filesize:{LIMIT_KB}"]
        self._process = subprocess.Popen(
            leashed([dumpcap, *options, "-w", str(self._path)]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if self._process.stderr is not None:
            while line := self._process.stderr.readline():
                if line.startswith(b"File:"):
                    break

    def stop(self, *, keep: bool) -> None:
        """Stop capturing; with `keep` wait until the last packets are in the file."""
        if self._process is not None:
            if keep:
                time.sleep(FLUSH_S)
            self._process.terminate()
            self._process.communicate()
            self._process = None
