"""Commands applied to the stream table, each by one function. Runs at the start of a tick."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.errors import CodecError, MediaError
from voip.media.commands import (
    AddSink,
    CloseStream,
    Command,
    ConnectStream,
    MixStream,
    MuteStream,
    Opened,
    OpenMix,
    OpenStream,
    ReadStats,
    RemoveSink,
    RouteStream,
    SendDtmf,
    SetSource,
    StreamStats,
    WatchStream,
)
from voip.media.digits import Digits
from voip.media.io import PacketIO
from voip.media.reports import Reporter
from voip.media.rings import RingArena
from voip.media.stats import stream_stats
from voip.media.table import EVENT, UNKNOWN, StreamTable
from voip.media.transmit import MAX_PTIME_MS
from voip.rtp.telephone_event import EventSender
from voip.types import Random

__all__ = ["MAX_DELAY_MS", "MAX_GAIN", "Control"]

MAX_DELAY_MS = 600
"""The most a jitter buffer may be asked to hold: what its slots have room for at 10 ms a packet."""

MAX_GAIN = 10.0
"""How much louder a stream may be made in a mix: 20 dB."""


class Control:
    """Applies commands; the only writer of what a session description decides."""

    def __init__(
        self,
        table: StreamTable,
        io: PacketIO,
        reporter: Reporter,
        digits: Digits,
        arena: RingArena,
        random: Random,
    ) -> None:
        self._table = table
        self._io = io
        self._reporter = reporter
        self._digits = digits
        self._arena = arena
        self._random = random

    def apply(self, command: Command, now: float) -> Opened | StreamStats | None:
        """Apply one command and return its result; raises `VoipError` when it cannot be done."""
        match command:
            case OpenStream():
                return self._open(command, now)
            case ConnectStream():
                self._connect(command, now)
            case CloseStream():
                return self._close(command, now)
            case ReadStats():
                self._table.row(command.stream)  # refuses what is not open
                return self._stats(command.stream)
            case MuteStream():
                self._table.muted[self._table.row(command.stream)] = command.muted
            case RouteStream():
                self._route(command)
            case OpenMix():
                self._open_mix(command)
            case MixStream():
                self._mix(command)
            case SetSource():
                self._set_source(command)
            case AddSink():
                self._add_sink(command)
            case RemoveSink():
                self._remove_sink(command)
            case SendDtmf():
                self._send_dtmf(command)
            case WatchStream():
                self._watch(command, now)
        return None

    def _open(self, command: OpenStream, now: float) -> Opened:
        """Bind ports and take part in the ticks: what comes too early is read, and dropped."""
        table = self._table
        low, high = command.jitter_min_ms, command.jitter_max_ms
        if not 0 <= low <= high <= MAX_DELAY_MS:
            raise MediaError(
                f"a jitter buffer of {low} to {high} ms cannot be had",
                hint=f"0 <= jitter_min_ms <= jitter_max_ms <= {MAX_DELAY_MS}",
            )
        row = table.add(command.stream)
        self._reporter.open(row)
        try:
            rtp, rtcp = self._io.open(row, command.host)
        except Exception:
            table.remove(row)
            raise
        table.cname[row] = command.cname
        table.symmetric[row] = command.symmetric
        table.playout.minimum[row] = low / 1000
        table.playout.maximum[row] = high / 1000
        table.transmitter.open(
            row,
            ssrc=self._random.below(1 << 32),
            sequence=self._random.below(1 << 15),
            timestamp=self._random.below(1 << 31),
        )
        table.schedule(row, 20, now)
        return Opened(rtp, rtcp)

    def _connect(self, command: ConnectStream, now: float) -> None:
        """Apply a session description as a whole; what cannot be applied changes nothing."""
        table = self._table
        row = table.row(command.stream)
        if not 10 <= command.ptime_ms <= MAX_PTIME_MS or command.ptime_ms % 10:
            raise MediaError(
                f"a packet time of {command.ptime_ms} ms cannot be sent",
                hint=f"10 to {MAX_PTIME_MS} ms, in steps of 10",
            )
        meaning = self._meaning(command)
        code = self._send_code(command)
        remote, rtcp_remote = command.rtp, command.rtcp
        if command.rtp is not None and command.rtp == table.negotiated.get(row):
            remote = table.remote[row]  # perhaps learned since, and still believed
        if command.rtcp is not None and command.rtcp == table.rtcp_negotiated.get(row):
            rtcp_remote = table.rtcp_remote[row]
        self._io.connect(row, remote, rtcp_remote)

        table.meaning[row] = meaning
        table.remote[row], table.rtcp_remote[row] = remote, rtcp_remote
        table.negotiated[row], table.rtcp_negotiated[row] = command.rtp, command.rtcp
        table.described[row] = now
        table.connected[row] = True
        if row in table.learners:
            table.learners[row].restart()
        if not command.receive:
            table.playout.stop(row)
        table.listening[row] = command.receive
        self._send_as(row, command, code, now)
        table.schedule(row, 10 if command.ptime_ms % 20 else 20, now)
        self._reporter.connect(row, now)

    def _meaning(self, command: ConnectStream) -> npt.NDArray[np.uint8]:
        """Return what each of the 128 payload types stands for: uint8 (128,)."""
        lane = self._table.lane
        meaning = np.full(128, UNKNOWN, np.uint8)
        for item in command.receive_formats:
            code = lane.code(item.name, item.clock_rate, item.channels)
            if code is not None:
                meaning[_payload_type(item.payload_type)] = code
        for payload_type in command.receive_dtmf:
            meaning[_payload_type(payload_type)] = EVENT
        return meaning

    def _send_as(self, row: int, command: ConnectStream, code: int | None, now: float) -> None:
        table, sender = self._table, self._table.transmitter
        sends = command.send and code is not None and command.rtp is not None
        if not sends:
            self._digits.interrupt(row, now)
            sender.pause(row)
            table.feed.clear(row)
        sender.sending[row] = sends
        if command.send_format is not None and code is not None:
            full = command.ptime_ms * table.lane.rate_hz // 1000
            if (sender.code[row], sender.full[row]) != (code, full):
                sender.filled[row] = 0
            sender.code[row] = code
            sender.full[row] = full
            sender.payload_type[row] = command.send_format.payload_type
            table.codec[row] = command.send_format.name
        table.event_format.pop(row, None)
        event = command.send_dtmf
        if event is not None and event.clock_rate == table.lane.rate_hz:
            table.event_format[row] = (event.payload_type, event.clock_rate)

    def _send_code(self, command: ConnectStream) -> int | None:
        item = command.send_format
        if item is None:
            return None
        code = self._table.lane.code(item.name, item.clock_rate, item.channels)
        if code is None:
            raise CodecError(
                f"{item.name}/{item.clock_rate}/{item.channels} cannot be sent",
                hint="pcmu/8000 and pcma/8000 can",
            )
        _payload_type(item.payload_type)
        return code

    def _close(self, command: CloseStream, now: float) -> StreamStats:
        table = self._table
        if table.mixer.is_open(command.stream):
            for row in table.mixer.members_of(command.stream).tolist():
                table.leave(row)
            table.mixer.close(command.stream)
            return StreamStats(command.stream)
        stats = self._stats(command.stream)
        row = table.rows.get(command.stream)
        if row is None:
            return stats
        self._reporter.close(row, now)
        self._digits.close(row)
        self._io.close(row)
        table.remove(row)
        return stats

    def _stats(self, stream: int) -> StreamStats:
        stats = stream_stats(
            self._table, self._reporter, stream, kernel_timestamps=self._io.kernel_timestamps
        )
        return stats or StreamStats(stream)

    def _route(self, command: RouteStream) -> None:
        row = self._table.row(command.stream)
        source = -1 if command.source is None else self._table.row(command.source)
        self._table.route(row, source)

    def _open_mix(self, command: OpenMix) -> None:
        table = self._table
        if command.stream in table.rows or table.mixer.is_open(command.stream):
            raise MediaError(f"stream {command.stream} is open already")
        table.mixer.open(command.stream)

    def _mix(self, command: MixStream) -> None:
        table = self._table
        row = table.row(command.stream)
        if command.mix is None:
            table.leave(row)
        elif not 0 <= command.gain <= MAX_GAIN:
            raise MediaError(f"a gain of {command.gain} cannot be had", hint=f"0 to {MAX_GAIN}")
        else:
            table.join(row, command.mix, command.gain, hears=command.hears)

    def _rings(self, stream: int) -> tuple[int, dict[int, int], dict[int, list[tuple[int, bool]]]]:
        """Return where the rings of a stream, or of a mix, are kept: key, sources, sinks."""
        table = self._table
        if table.mixer.is_open(stream):
            return stream, table.mixer.pcm_source, table.mixer.sinks
        return table.row(stream), table.pcm_source, table.sinks

    def _set_source(self, command: SetSource) -> None:
        key, sources, _ = self._rings(command.stream)
        if command.ring is None:
            sources.pop(key, None)
        else:
            self._arena.ring(command.ring)
            sources[key] = command.ring

    def _add_sink(self, command: AddSink) -> None:
        key, _, sinks = self._rings(command.stream)
        self._arena.ring(command.ring)
        sinks.setdefault(key, []).append((command.ring, command.sent))

    def _remove_sink(self, command: RemoveSink) -> None:
        key, _, sinks = self._rings(command.stream)
        left = [sink for sink in sinks.get(key, []) if sink[0] != command.ring]
        if left:
            sinks[key] = left
        else:
            sinks.pop(key, None)

    def _watch(self, command: WatchStream, now: float) -> None:
        row = self._table.row(command.stream)
        if not 0 < command.silent_s < float("inf"):
            raise MediaError(f"no peer is silent for {command.silent_s} s", hint="above 0")
        self._table.patience[row] = command.silent_s
        self._table.watched[row], self._table.missed[row] = now, 0

    def _send_dtmf(self, command: SendDtmf) -> None:
        table = self._table
        row = table.row(command.stream)
        if row not in table.event_format:
            raise MediaError(
                "the peer takes no telephone-event (RFC 4733)", hint="it cannot be sent digits"
            )
        if not table.transmitter.sending[row]:
            raise MediaError("nothing can be sent now", hint="resume the call first")
        sender = table.event_senders.get(row)
        if sender is None:
            sender = EventSender(table.event_format[row][1])
            table.event_senders[row] = sender
        sender.queue(command.digits, command.duration_ms, command.gap_ms)


def _payload_type(number: int) -> int:
    if not 0 <= number <= 127:
        raise MediaError(f"{number} is no payload type", hint="0 to 127")
    return number
