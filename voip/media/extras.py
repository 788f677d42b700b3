"""RTCP beside the reports: APP and XR (RFC 3611) that go with a row's next report, or came.

What is asked for by a reference time is answered by itself; all else goes to whoever listens, so
much a second of each row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from voip.errors import MediaError, RtpError
from voip.media.answers import AppReceived, EngineEvent, XrReceived
from voip.media.commands import SendApp, SendXr
from voip.rtp import ntp
from voip.rtp.rtcp import App, ExtendedReport, RtcpPacket, build_compound
from voip.rtp.xr import DelaySinceReference, ReferenceDelay, ReferenceTime, XrBlock

__all__ = ["EARLY_S", "MAX_EVENTS_PER_S", "MAX_WAITING_OCTETS", "Extras", "delays_on"]

MAX_WAITING_OCTETS = 1000
"""What may wait for a row's next report: it must fit a datagram with it."""
MAX_EVENTS_PER_S = 10
"""Packets of APP and XR that a row's peer may send and be heard with."""
EARLY_S = 1.0
"""Reduced-size packets (RFC 5506) of a row are so far apart."""


@dataclass(slots=True)
class _Waiting:
    """What goes with the next report of a row."""

    packets: list[App | ExtendedReport] = field(default_factory=list)
    octets: int = 0
    reference: tuple[int, int, float] | None = None  # to be answered: ssrc, middle, arrival


class Extras:
    """What waits to be sent, and how much was heard, by row: few rows have any."""

    def __init__(self) -> None:
        self._waiting: dict[int, _Waiting] = {}
        self._heard: dict[int, tuple[int, int]] = {}  # second, and packets in it
        self._early: dict[int, float] = {}  # when the last one went
        self.dropped = 0
        """Packets that nobody was told of: there were too many."""

    def forget(self, row: int) -> None:
        """Start a row afresh."""
        for part in (self._waiting, self._heard, self._early):
            part.pop(row, None)

    # ------------------------------------------------------------ what is sent

    def queue(self, row: int, command: SendXr | SendApp) -> None:
        """Let something go with the next report; raises `MediaError` for what cannot be sent."""
        packet: App | ExtendedReport
        if isinstance(command, SendXr):
            packet = ExtendedReport(0, command.blocks)
        else:
            packet = App(0, command.name, command.data, command.subtype)
        try:
            octets = len(build_compound([packet], reduced_size=True))
        except RtpError as error:
            raise MediaError(error.message, hint=error.hint) from error
        waiting = self._waiting.get(row, _Waiting())
        if waiting.octets + octets > MAX_WAITING_OCTETS:
            raise MediaError(
                f"more than {MAX_WAITING_OCTETS} octets of RTCP would wait for the next report",
                hint="send less, or later",
            )
        waiting.packets.append(packet)
        waiting.octets += octets
        self._waiting[row] = waiting

    @property
    def rows(self) -> list[int]:
        """Rows for which anything waits but answers, which have time."""
        return [row for row, waiting in self._waiting.items() if waiting.packets]

    def may_go_early(self, row: int, now: float) -> bool:
        """Whether a packet of reduced size may go now; it is taken to have gone then."""
        if now - self._early.get(row, float("-inf")) < EARLY_S:
            return False
        self._early[row] = now
        return True

    def take(self, row: int, ssrc: int, now: float, wall: float | None, *, ask: bool) -> bytes:
        """Return what goes with a row's report, as from `ssrc`; ask: for a reference time.

        `wall` None: the last words, in which nothing is asked.
        """
        waiting = self._waiting.pop(row, None)
        packets: list[RtcpPacket] = []
        blocks: list[XrBlock] = []
        if waiting is not None:
            packets = [_signed(one, ssrc, wall) for one in waiting.packets]
            if waiting.reference is not None:
                theirs, middle, arrival = waiting.reference
                delay = min(round((now - arrival) * 65536), 0xFFFFFFFF)
                blocks.append(DelaySinceReference((ReferenceDelay(theirs, middle, delay),)))
        if ask and wall is not None:
            blocks.append(ReferenceTime(ntp.from_wall(wall)))
        if blocks:
            packets.insert(0, ExtendedReport(ssrc, tuple(blocks)))
        return build_compound(packets, reduced_size=True) if packets else b""

    # ------------------------------------------------------------ what came

    def hear(
        self, row: int, stream: int, packet: App | ExtendedReport, arrival: float
    ) -> list[EngineEvent]:
        """Take a packet of a row's peer; return what it tells."""
        if isinstance(packet, ExtendedReport):
            for block in packet.blocks:
                if isinstance(block, ReferenceTime):
                    waiting = self._waiting.setdefault(row, _Waiting())
                    waiting.reference = (packet.ssrc, ntp.middle(block.ntp), arrival)
        second, count = self._heard.get(row, (0, 0))
        count = count + 1 if second == int(arrival) else 1
        self._heard[row] = (int(arrival), count)
        if count > MAX_EVENTS_PER_S:
            self.dropped += 1
            return []
        if isinstance(packet, ExtendedReport):
            return [XrReceived(stream, packet.ssrc, packet.blocks)]
        return [AppReceived(stream, packet.ssrc, packet.name, packet.data, packet.subtype)]


def delays_on(ssrc: int, blocks: Iterable[XrBlock]) -> list[ReferenceDelay]:
    """Return the answers among `blocks` to reference times of `ssrc`."""
    return [
        delay
        for block in blocks
        if isinstance(block, DelaySinceReference)
        for delay in block.delays
        if delay.ssrc == ssrc
    ]


def _signed(packet: App | ExtendedReport, ssrc: int, wall: float | None) -> App | ExtendedReport:
    if isinstance(packet, App):
        return replace(packet, ssrc=ssrc)
    stamp = ntp.from_wall(wall or 0.0)
    blocks = tuple(
        ReferenceTime(stamp) if block == ReferenceTime() else block for block in packet.blocks
    )
    return ExtendedReport(ssrc, blocks)
