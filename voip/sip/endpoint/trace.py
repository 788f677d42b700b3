"""Who may look on: a trace for people, without credentials, and a tap for capture files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from voip.sip.flow import Flow

__all__ = ["SipTap", "SipTrace", "SipTraceRecord"]


@dataclass(frozen=True, slots=True)
class SipTraceRecord:
    """One message as it crossed the wire, credentials masked. `wall_s` is the time of day."""

    wall_s: float
    sent: bool
    flow: Flow
    data: bytes


SipTrace = Callable[[SipTraceRecord], None]
SipTap = Callable[[bool, Flow, bytes], None]
"""(sent, flow, message), nothing masked: for a capture file."""
