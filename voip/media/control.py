"""Commands applied to the stream table, each by one function. Runs at the start of a tick."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.codecs.core import CodecFormat
from voip.codecs.registry import Registry
from voip.errors import MediaError
from voip.media import mix_control as mixing
from voip.media.answers import Answer, Opened, StreamStats
from voip.media.commands import (
    AddPairSink,
    AddSink,
    Announce,
    CloseStream,
    Command,
    ConnectStream,
    LinkIn,
    LinkOut,
    LogJitter,
    MixStream,
    MuteStream,
    OpenMix,
    OpenStream,
    PayloadFormat,
    ProtectStream,
    ReadJitterLog,
    ReadStats,
    RemoveSink,
    RouteStream,
    SendApp,
    SendDtmf,
    SendXr,
    SetBeep,
    SetSource,
    ShapeMix,
    Unlink,
    WatchStream,
)
from voip.media.digits import Digits
from voip.media.extensions import Layout
from voip.media.io import PacketIO
from voip.media.jitter_log import JitterLog
from voip.media.keepalive import KeepAlive
from voip.media.links import set_link
from voip.media.pairs import add_pair_sink, remove_pair_sink, set_beep
from voip.media.protection import Protection
from voip.media.red_sender import MAX_GENERATIONS
from voip.media.reports import Reporter
from voip.media.rings import RingArena
from voip.media.stats import stream_stats
from voip.media.table import EVENT, NOISE, RED, UNKNOWN, StreamTable
from voip.media.transmit import MAX_PTIME_MS
from voip.media.voices import FIRST_CODE, PLAIN, Voice
from voip.rtp.telephone_event import EventSender
from voip.types import Random

__all__ = ["MAX_DELAY_MS", "MAX_GAIN", "Control"]

MAX_DELAY_MS = 600
"""The most a jitter buffer may be asked to hold: what its slots have room for at 10 ms a packet."""

MAX_GAIN = 10.0
"""How much louder a stream may be made in a mix: 20 dB."""
_NOISE_TYPE, _NOISE_CLOCK = 13, 8000
"""What RFC 3551 calls comfort noise."""


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
        codecs: Registry,
        keep_alive: KeepAlive,
        protection: Protection,
    ) -> None:
        self._table = table
        self._io = io
        self._reporter = reporter
        self._digits = digits
        self._arena = arena
        self._random = random
        self._codecs = codecs
        self._keep_alive = keep_alive
        self._protection = protection

    def apply(self, command: Command, now: float) -> Answer:
        """Apply one command and return its result; raises `VoipError` when it cannot be done."""
        match command:
            case OpenStream():
                return self._open(command, now)
            case ConnectStream():
                self._connect(command, now)
            case ProtectStream():
                self._protection.apply(command, now)
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
            case ShapeMix():
                mixing.shape(self._table.mixer, command)
            case Announce():
                mixing.announce(self._table.mixer, command, self._arena)
            case SetSource():
                self._set_source(command)
            case AddSink():
                self._add_sink(command)
            case AddPairSink():
                add_pair_sink(self._table, self._arena, command)
            case SetBeep():
                set_beep(self._table, command)
            case RemoveSink():
                self._remove_sink(command)
            case SendDtmf():
                self._send_dtmf(command)
            case SendXr() | SendApp():
                self._reporter.queue(self._table.row(command.stream), command)
            case WatchStream():
                self._watch(command, now)
            case LogJitter():
                row = self._table.row(command.stream)
                self._table.jitter_logs.pop(row, None)
                if command.events:
                    self._table.jitter_logs[row] = JitterLog(command.events)
            case ReadJitterLog():
                return self._table.jitter_log(command.stream).lines(command.stream, command.since)
            case LinkOut() | LinkIn() | Unlink():
                set_link(self._table, self._arena, command)
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
        if command.keepalive_s is not None and not 1 <= command.keepalive_s < float("inf"):
            raise MediaError(
                f"a keep-alive packet every {command.keepalive_s} s cannot be sent",
                hint="1 s or more, or None",
            )
        row = table.add(command.stream)
        self._reporter.open(row)
        self._keep_alive.open(row, command.keepalive_s, now)
        try:
            rtp, rtcp = self._io.open(row, command.host)
        except Exception:
            table.remove(row)
            raise
        table.cname[row] = command.cname
        table.symmetric[row] = command.symmetric
        table.troubles[row] = command.troubles
        table.playout.bound(row, low / 1000, high / 1000, command.jitter_allowance)
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
        repeats = _payload_type(
            command.send_redundancy.payload_type if command.send_redundancy else 0
        )
        extended = Layout.of(command.extensions)
        voice = self._voice(command, self._table.voices.get(row))
        meaning = self._meaning(command, voice)
        remote, rtcp_remote = command.rtp, command.rtcp
        if command.rtp is not None and command.rtp == table.negotiated.get(row):
            remote = table.remote[row]  # perhaps learned since, and still believed
        if command.rtcp is not None and command.rtcp == table.rtcp_negotiated.get(row):
            rtcp_remote = table.rtcp_remote[row]
        self._io.connect(row, remote, rtcp_remote)

        was_coded = bool(table.coded[row])
        self._speak_by(row, voice)
        table.meaning[row] = meaning
        table.redundant.discard(row)
        if command.receive_redundancy:
            table.redundant.add(row)
        generations = command.redundancy if command.send_redundancy else 0
        table.transmitter.red.repeat(row, min(max(0, generations), MAX_GENERATIONS), repeats)
        table.transmitter.extensions.agree(row, extended)
        table.told.agree(row, command.extensions.receive_level, voice=command.extensions.voice)
        table.event_clocks[row] = {
            item.payload_type: item.clock_rate for item in command.receive_dtmf
        }
        table.remote[row], table.rtcp_remote[row] = remote, rtcp_remote
        table.negotiated[row], table.rtcp_negotiated[row] = command.rtp, command.rtcp
        table.described[row] = now
        table.connected[row] = True
        if row in table.learners:
            table.learners[row].restart()
        table.hears_tones[row] = command.hear_tones and command.receive
        table.needs_tones[row] = table.hears_tones[row] and command.decode_for_tones
        if not table.hears_tones[row]:
            table.tone_ears.pop(row, None)
        if not command.receive:
            table.playout.stop(row)
        table.listening[row] = command.receive
        ptime_ms = self._send_as(row, command, now)
        table.schedule(row, 10 if ptime_ms % 20 else 20, now)
        if table.coded[row] and not was_coded:
            table.spread(row)
        self._reporter.connect(row, command, now)

    def _voice(self, command: ConnectStream, known: Voice | None) -> Voice | None:
        """Return what the row hears and speaks by beside the tables; None: by these alone.

        It goes on where nothing of it has changed. Raises CodecError for what cannot be sent.
        """
        send = None
        if command.send_format is not None:
            _payload_type(command.send_format.payload_type)
            send = _format(command.send_format)
        receive = tuple(
            format_
            for item in command.receive_formats
            if (format_ := _format(item)) in self._codecs
        )
        if all(format_.key in PLAIN for format_ in (*receive, *(() if send is None else (send,)))):
            return None
        same = (send, receive, command.ptime_ms)
        if known is not None and (known.send, known.receive, known.ptime_ms) == same:
            return known
        return Voice(self._codecs, send, receive, command.ptime_ms)

    def _speak_by(self, row: int, voice: Voice | None) -> None:
        """Let a row be heard and sent by a voice of its own from now on; None: by the tables."""
        table = self._table
        known = table.voices.get(row)
        if voice is known:
            return
        rate = 8000 if voice is None else voice.rate_hz
        coded = voice is not None and not voice.is_plain
        if coded or table.coded[row]:  # what waits was counted, or coded, otherwise
            table.playout.stop(row)
            table.transmitter.filled[row] = 0
            table.feed.clear(row)
        table.voices.pop(row, None)
        table.playout.voicing.reset(row)
        if voice is not None:
            table.voices[row] = voice
        table.coded[row] = coded
        if voice is not None and coded:
            table.playout.voicing.speak_by(row, voice)
        table.playout.count_by(row, rate)
        if not coded and table.receiver.clock[row] != rate:
            table.receiver.count_by(row, rate)

    def _meaning(self, command: ConnectStream, voice: Voice | None) -> npt.NDArray[np.uint8]:
        """Return what each of the 128 payload types stands for: uint8 (128,)."""
        meaning = np.full(128, UNKNOWN, np.uint8)
        for item in command.receive_formats:
            format_ = _format(item)
            code = PLAIN.get(format_.key)
            if (
                voice is not None
                and format_ in voice.receive
                and not (voice.is_plain and code is not None)
            ):
                code = FIRST_CODE + voice.receive.index(format_)
            if code is not None:
                meaning[_payload_type(item.payload_type)] = code
        for item in command.receive_dtmf:
            meaning[_payload_type(item.payload_type)] = EVENT
        self._note_noise(meaning, command)
        for item in command.receive_redundancy:
            meaning[_payload_type(item.payload_type)] = RED
        if command.rtcp_mux:
            meaning[64:96] = UNKNOWN  # they cannot be told from RTCP (RFC 5761, section 4)
        return meaning

    def _note_noise(self, meaning: npt.NDArray[np.uint8], command: ConnectStream) -> None:
        """Note which payload types are comfort noise: its own is, whoever has agreed on it.

        Gateways send it unasked for. It means nothing where no sound counts by its clock.
        """
        numbers = [_payload_type(item.payload_type) for item in command.receive_noise]
        if meaning[_NOISE_TYPE] == UNKNOWN and any(
            item.clock_rate == _NOISE_CLOCK for item in command.receive_formats
        ):
            numbers.append(_NOISE_TYPE)
        meaning[numbers] = NOISE

    def _send_as(self, row: int, command: ConnectStream, now: float) -> int:
        """Send as a description says; return the packet time in ms."""
        table, sender = self._table, self._table.transmitter
        item, ptime_ms = command.send_format, command.ptime_ms
        sends = command.send and item is not None and command.rtp is not None
        if not sends:
            self._digits.interrupt(row, now)
            sender.pause(row)
            table.feed.clear(row)
        sender.sending[row] = sends
        if item is not None:
            code = PLAIN.get(_format(item).key, 0)
            voice = table.voices.get(row)
            if voice is not None and voice.encoding is not None and table.coded[row]:
                ptime_ms = int(voice.encoding.ptime_ms)
                sender.span[row] = voice.encoding.span
            full = ptime_ms * int(table.playout.rate[row]) // 1000
            if (sender.code[row], sender.full[row]) != (code, full):
                sender.filled[row] = 0
            sender.code[row] = code
            sender.full[row] = full
            sender.payload_type[row] = item.payload_type
            if sender.clock[row] != item.clock_rate:
                sender.count_by(row, item.clock_rate, now)
            table.codec[row] = item.name
        table.event_format.pop(row, None)
        event = command.send_dtmf
        if event is not None:
            table.event_format[row] = (event.payload_type, event.clock_rate)
        noise = command.send_noise
        table.silences.agree(
            row,
            None if noise is None else _payload_type(noise.payload_type),
            dtx=command.dtx,
            rate_hz=int(table.playout.rate[row]),
            listens=command.extensions.send_level > 0 and command.extensions.voice,
        )
        return ptime_ms

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
        self._keep_alive.close(row)
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
        self._table.route(row, source, relays=command.relay)

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
            table.mixer.audience.limit(row, command.heard_by, command.listens_to)

    def _rings(self, stream: int) -> tuple[int, dict[int, int], dict[int, list[tuple[int, bool]]]]:
        """Return where the rings of a stream, or of a mix, are kept: key, sources, sinks."""
        table = self._table
        if table.mixer.is_open(stream):
            return stream, table.mixer.pcm_source, table.mixer.sinks
        return table.row(stream), table.pcm_source, table.sinks

    def _set_source(self, command: SetSource) -> None:
        mixing.check_rate(self._table.mixer, command.stream, command.ring, self._arena)
        key, sources, _ = self._rings(command.stream)
        if key in sources:
            self._table.forget_converter(key, sources[key])
        if command.ring is None:
            sources.pop(key, None)
        else:
            self._arena.ring(command.ring)
            sources[key] = command.ring

    def _add_sink(self, command: AddSink) -> None:
        mixing.check_rate(self._table.mixer, command.stream, command.ring, self._arena)
        if command.part is not None:
            mixing.add_part(self._table.mixer, command)
            return
        key, _, sinks = self._rings(command.stream)
        self._arena.ring(command.ring)
        sinks.setdefault(key, []).append((command.ring, command.sent))

    def _remove_sink(self, command: RemoveSink) -> None:
        if self._table.mixer.is_open(command.stream):
            self._table.mixer.rings.remove(command.stream, command.ring)
            return
        key, _, sinks = self._rings(command.stream)
        self._table.forget_converter(key, command.ring)
        if key in self._table.pair_sinks:
            remove_pair_sink(self._table, key, command.ring)
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


def _format(item: PayloadFormat) -> CodecFormat:
    return CodecFormat(item.name, item.clock_rate, item.channels, item.fmtp)
