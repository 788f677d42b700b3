"""Digits of the rows, heard and sent as RFC 4733 telephone-events, and heard in their sound.

Only rows that hear or send digits cost anything: each has an object of its own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.dsp.dtmf_ear import DtmfEar, hear_step
from voip.media.answers import DtmfReceived, DtmfSent, EngineEvent
from voip.media.columns import Rows, some, where
from voip.media.io import PacketIO
from voip.media.table import StreamTable
from voip.rtp.telephone_event import Digit, EventPacket, EventReceiver

__all__ = ["Digits"]


class Digits:
    """Reads and writes the event receivers and senders of the table."""

    def __init__(self, table: StreamTable, io: PacketIO) -> None:
        self._table = table
        self._io = io
        self._hearing: set[int] = set()  # rows in the middle of a digit
        self._news: list[EngineEvent] = []

    # ------------------------------------------------------------ heard

    def hear(
        self,
        row: int,
        payload_type: int,
        timestamp: int,
        payload: bytes,
        arrival: float,
        *,
        marker: bool,
    ) -> list[EngineEvent]:
        """Take one packet of telephone-event; return the digits that ended by it."""
        receivers, events = self._table.event_receivers, []
        clock = self._table.event_clocks[row][payload_type]
        receiver = receivers.get(row)
        if receiver is None or receiver.clock_rate != clock:
            events += self.forget(row)
            receiver = receivers[row] = EventReceiver(clock)
        return events + self._told(row, receiver.feed(timestamp, marker, payload, arrival))

    def poll(self, now: float) -> list[EngineEvent]:
        """Return the digits from which nothing has come for long, and those sent no further."""
        events, self._news = self._news, []
        for row in list(self._hearing):
            events += self._told(row, self._table.event_receivers[row].poll(now))
        return events

    def forget(self, row: int) -> list[EngineEvent]:
        """Begin anew with `row`, whose source has changed; return the digit it was hearing."""
        receiver = self._table.event_receivers.get(row)
        return self._told(row, receiver.reset()) if receiver else []

    def close(self, row: int) -> None:
        """Hear no more on `row`."""
        self._hearing.discard(row)

    def _told(self, row: int, digits: list[Digit]) -> list[EngineEvent]:
        if self._table.event_receivers[row].next_timer() is None:
            self._hearing.discard(row)
        else:
            self._hearing.add(row)
        stream, relayed = int(self._table.stream[row]), self._table.relayed_digits.get(row, ())
        return [
            DtmfReceived(stream, digit.digit, digit.duration_ms, digit.timestamp in relayed)
            for digit in digits
        ]

    def listen(self, rows: Rows, heard: npt.NDArray[np.float32]) -> list[EngineEvent]:
        """Hear what `rows` (k,) of one rate have heard in a step, float32 (k, samples).

        Returns the digits that were in the sound, when they are over.
        """
        table = self._table
        at = where(table.hears_tones[rows])
        if not at.size:
            return []
        rate, ears = int(table.playout.rate[rows[0]]), []
        mine = rows[at].tolist()
        for row in mine:
            ear = table.tone_ears.get(row)
            if ear is None or ear.rate_hz != rate:
                ear = table.tone_ears[row] = DtmfEar.at(rate)
            ears.append(ear)
        events: list[EngineEvent] = []
        for place, digit in hear_step(ears, heard[at]):
            row = mine[place]
            goes_on = some(table.source == row)
            duration_ms = round(1000 * digit.duration_s, 3)
            stream = int(table.stream[row])
            events.append(DtmfReceived(stream, digit.digit, duration_ms, goes_on, in_band=True))
        return events

    # ------------------------------------------------------------ sent

    def replace(self, rows: Rows) -> tuple[Rows, list[EngineEvent]]:
        """Send digits instead of the full packets of `rows` (k,), where there are any.

        Returns the rows whose packet is still to be sent.
        """
        table = self._table
        events: list[EngineEvent] = []
        if not table.event_senders:
            return rows, events
        audible = np.ones(rows.size, np.bool_)
        for at, row in enumerate(rows.tolist()):
            if row in table.event_senders:
                start, samples = self._event_time(row)
                packet = None
                if row in table.event_format:
                    packet = table.event_senders[row].next_packet(start & 0xFFFFFFFF, samples)
                audible[at] = not self._send(row, packet)
                events += self._sent(row, start + samples)
        return rows[audible], events

    def _event_time(self, row: int) -> tuple[int, int]:
        """Return when the packet in hand begins and how long it is, by the clock of the events.

        That is the sound's, but for peers who have events of another clock only.
        """
        sender = self._table.transmitter
        start, clock = int(sender.start[row]), int(sender.clock[row])
        length = int(sender.span[row] if self._table.coded[row] else sender.filled[row])
        events = self._table.event_format.get(row, (0, clock))[1]
        return start * events // clock, length * events // clock

    def interrupt(self, row: int, now: float) -> None:
        """End the digit that `row`, which is to send no more for now, has on the wire."""
        sender = self._table.event_senders.get(row)
        if sender is not None and row in self._table.event_format:
            whole = self._table.transmitter.timestamp(row, now)
            clock = int(self._table.transmitter.clock[row])
            timestamp = whole * self._table.event_format[row][1] // clock & 0xFFFFFFFF
            self._send(row, sender.interrupt(timestamp))
            self._news += self._sent(row, timestamp)

    def _send(self, row: int, packet: EventPacket | None) -> bool:
        if packet is None:
            return False
        payload_type = self._table.event_format[row][0]
        whole = self._table.transmitter.single(
            row, payload_type, packet.timestamp, packet.payload, marker=packet.marker
        )
        self._io.send_one(row, whole, rtcp=False)
        return True

    def _sent(self, row: int, timestamp: int) -> list[EngineEvent]:
        table = self._table
        sender = table.event_senders[row]
        sent = sender.take_sent()
        if sender.finished(timestamp & 0xFFFFFFFF):
            del table.event_senders[row]
        return [DtmfSent(int(table.stream[row]), sent)] if sent else []
