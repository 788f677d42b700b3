"""The entry point of the `voip` program."""

from __future__ import annotations

import signal

__all__ = ["main"]


def main() -> None:
    """Load the program and run it; Ctrl-C while it is loaded ends it without a word."""
    usual = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from voip.cli.program import main as program

    signal.signal(signal.SIGINT, usual)
    program()
