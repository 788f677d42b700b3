"""Commands applied to the stream table, each by one function. Runs at the start of a tick."""

from __future__ import annotations

from voip.errors import CodecError, MediaError
from voip.media.commands import (
    AddSink,
    CloseStream,
    Command,
    ConnectStream,
    MuteStream,
    Opened,
    OpenStream,
    ReadStats,
    RemoveSink,
    RouteStream,
    SendDtmf,
    SetSource,
    StreamStats,
)
from voip.media.io import PacketIO
from voip.media.reports import Reporter
from voip.media.rings import RingArena
from voip.media.stats import stream_stats
from voip.media.table import EVENT, UNKNOWN, StreamTable
from voip.media.transmit import MAX_PTIME_MS
from voip.rtp.telephone_event import EventSender
from voip.types import Random

__all__ = ["Control"]


class Control:
    """Applies commands; the only writer of what a session description decides."""

    def __init__(
        self,
        table: StreamTable,
        io: PacketIO,
        reporter: Reporter,
        arena: RingArena,
        random: Random,
    ) -> None:
        self._table = table
        self._io = io
        self._reporter = reporter
        self._arena = arena
        self._random = random

    def apply(self, command: Command, now: float) -> Opened | StreamStats | None:
        """Apply one command and return its result; raises `VoipError` when it cannot be done."""
        match command:
            case OpenStream():
                return self._open(command)
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
            case SetSource():
                self._set_source(command)
            case AddSink():
                self._add_sink(command)
            case RemoveSink():
                self._remove_sink(command)
            case SendDtmf():
                self._send_dtmf(command)
        return None

    def _open(self, command: OpenStream) -> Opened:
        table = self._table
        row = table.add(command.stream)
        try:
            rtp, rtcp = self._io.open(row, command.host)
        except Exception:
            table.remove(row)
            raise
        table.cname[row] = command.cname
        table.symmetric[row] = command.symmetric
        table.playout.minimum[row] = command.jitter_min_ms / 1000
        table.playout.maximum[row] = max(command.jitter_max_ms, command.jitter_min_ms) / 1000
        table.transmitter.open(
            row,
            ssrc=self._random.below(1 << 32),
            sequence=self._random.below(1 << 15),
            timestamp=self._random.below(1 << 31),
        )
        self._reporter.open(row)
        return Opened(rtp, rtcp)

    def _connect(self, command: ConnectStream, now: float) -> None:
        table = self._table
        row = table.row(command.stream)
        if not 10 <= command.ptime_ms <= MAX_PTIME_MS or command.ptime_ms % 10:
            raise MediaError(
                f"a packet time of {command.ptime_ms} ms cannot be sent",
                hint=f"10 to {MAX_PTIME_MS} ms, in steps of 10",
            )
        meaning = {item.payload_type: UNKNOWN for item in command.receive_formats}
        for item in command.receive_formats:
            code = table.lane.code(item.name, item.clock_rate, item.channels)
            if code is not None:
                meaning[item.payload_type] = code
        codes = self._send_code(command)
        table.meaning[row] = UNKNOWN
        for payload_type, code in meaning.items():
            table.meaning[row, payload_type] = code
        for payload_type in command.receive_dtmf:
            table.meaning[row, payload_type] = EVENT

        if command.rtp != table.negotiated.get(row) or command.rtp is None:
            table.remote[row] = command.rtp
            table.rtcp_remote[row] = command.rtcp
            if row in table.learners:
                table.learners[row].restart()
        table.negotiated[row] = command.rtp
        table.rtcp_negotiated[row] = command.rtcp
        table.described[row] = now
        self._io.connect(row, table.remote[row], table.rtcp_remote[row])
        table.connected[row] = True
        if table.listening[row] and not command.receive:
            table.playout.stop(row)
        table.listening[row] = command.receive

        sender = table.transmitter
        if codes is not None and command.send_format is not None:
            sender.code[row] = codes
            sender.payload_type[row] = command.send_format.payload_type
            sender.full[row] = command.ptime_ms * table.lane.rate_hz // 1000
            sender.filled[row] = 0
            table.codec[row] = command.send_format.name
        if command.send and codes is not None and command.rtp is not None:
            sender.sending[row] = True
        else:
            sender.pause(row)
        if command.send_dtmf is None:
            table.event_format.pop(row, None)
        else:
            event = command.send_dtmf
            table.event_format[row] = (event.payload_type, event.clock_rate)
        table.schedule(row, 10 if command.ptime_ms % 20 else 20, now)
        self._reporter.connect(row, now)

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
        return code

    def _close(self, command: CloseStream, now: float) -> StreamStats:
        table = self._table
        row = table.row(command.stream)
        stats = self._stats(command.stream)
        self._reporter.close(row, now)
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
        self._table.source[row] = source
        self._table.feed.clear(row)

    def _set_source(self, command: SetSource) -> None:
        row = self._table.row(command.stream)
        if command.ring is None:
            self._table.pcm_source.pop(row, None)
        else:
            self._arena.ring(command.ring)
            self._table.pcm_source[row] = command.ring

    def _add_sink(self, command: AddSink) -> None:
        row = self._table.row(command.stream)
        self._arena.ring(command.ring)
        self._table.sinks.setdefault(row, []).append((command.ring, command.sent))

    def _remove_sink(self, command: RemoveSink) -> None:
        row = self._table.row(command.stream)
        left = [sink for sink in self._table.sinks.get(row, []) if sink[0] != command.ring]
        if left:
            self._table.sinks[row] = left
        else:
            self._table.sinks.pop(row, None)

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
