"""The names of all figures, their kinds, labels and meanings.

Every label but `phone`, `proxy` and `account`, which are ours to choose, has its values from a list
of ours: what comes from the network never becomes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["FAMILIES", "Family"]


@dataclass(frozen=True, slots=True)
class Family:
    """One name of the exposition. Counters are told as `NAME_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


def _counter(name: str, meaning: str, *labels: str) -> Family:
    return Family(name, "counter", meaning, labels)


def _gauge(name: str, meaning: str, *labels: str) -> Family:
    return Family(name, "gauge", meaning, labels)


def _histogram(name: str, meaning: str, *labels: str) -> Family:
    return Family(name, "histogram", meaning, labels)


_ALL: Final = (
    _gauge("voip_calls", "Calls that are not over.", "direction", "state"),
    _counter(
        "voip_calls_ended",
        "Calls that are over, by what came of them and who ended them.",
        "direction",
        "outcome",
        "by",
    ),
    _counter("voip_calls_refused", "Calls that were refused before they were any.", "reason"),
    _histogram("voip_call_duration_seconds", "How long answered calls were up."),
    _histogram("voip_call_mos", "MOS of ended calls by the E-model (ITU-T G.107)."),
    _histogram("voip_call_loss_ratio", "Packets lost or too late, of those expected, by call."),
    _histogram("voip_call_jitter_seconds", "Interarrival jitter (RFC 3550) at the end of calls."),
    _histogram("voip_call_round_trip_seconds", "Round trip by RTCP at the end of calls."),
    _gauge("voip_registrations", "Registrations, one for each way of an account.", "state"),
    _gauge("voip_account_registered", "Whether a registrar knows the account.", "account"),
    _counter("voip_registration_failures", "Refused or unanswered, in all.", "account"),
    _counter("voip_sip_requests", "SIP requests, repetitions too.", "way", "method"),
    _counter("voip_sip_responses", "SIP responses, repetitions too.", "way", "class"),
    _counter("voip_sip_retransmissions", "Requests and responses of ours that were sent again."),
    _gauge("voip_sip_transactions", "Transactions alive.", "side"),
    _gauge("voip_sip_dialogs", "Dialogs alive, early ones too."),
    _gauge("voip_sip_subscriptions", "Subscriptions alive, ours and others'."),
    _counter("voip_sip_anomalies", "What was dropped or refused unasked, by kind.", "kind"),
    _gauge("voip_sip_guard_sources", "Sources that the guard against floods remembers."),
    _counter("voip_sip_failovers", "Servers that were left, or given up, for others."),
    _gauge("voip_sip_connections", "SIP connections that are open."),
    _counter("voip_sip_connection_anomalies", "Connections refused or cut, by kind.", "kind"),
    _gauge("voip_proxy_users", "Users who are registered at a proxy."),
    _gauge("voip_proxy_bindings", "Contacts under which they are registered."),
    _gauge("voip_proxy_searches", "Names being looked up, connections being opened."),
    _gauge("voip_media_streams", "Streams that are open.", "codec"),
    _counter("voip_rtp_packets", "RTP packets.", "way"),
    _counter("voip_rtp_bytes", "Bytes of RTP payload.", "way"),
    _counter("voip_rtp_packets_lost", "Expected and not received (RFC 3550)."),
    _counter("voip_rtp_packets_late", "Came after they should have been heard."),
    _counter("voip_rtp_packets_duplicate", "Came more than once."),
    _counter("voip_rtp_packets_recovered", "Lost, and heard from what a later one repeated."),
    _counter("voip_rtp_packets_reordered", "Came after later ones."),
    _counter("voip_rtp_packets_discarded", "No RTP, of an unknown payload type, or too long."),
    _counter("voip_rtp_packets_from_strangers", "Came from elsewhere, and were not believed."),
    _counter("voip_rtp_packets_forged", "Not made with the keys of a protected call (SRTP)."),
    _counter("voip_rtp_packets_replayed", "Of a protected call, and came before or far too late."),
    _counter("voip_rtp_packets_withheld", "Of a protected call, and not sent for want of keys."),
    _counter("voip_rtp_frames_dropped", "Thrown away by the jitter buffer."),
    _counter("voip_rtp_buffer_overruns", "Packets for which the jitter buffer had no room."),
    _gauge("voip_rtp_jitter_seconds", "Jitter of the open streams.", "figure"),
    _gauge("voip_rtp_round_trip_seconds", "Round trip of the open streams.", "figure"),
    _counter("voip_media_played_seconds", "Sound heard."),
    _counter("voip_media_concealed_seconds", "Sound made up for what was missing."),
    _counter("voip_media_accelerated_seconds", "Sound left out to shorten the delay."),
    _counter("voip_media_expanded_seconds", "Sound inserted to lengthen the delay."),
    _counter("voip_media_source_underrun_seconds", "Silence sent as nothing was there to send."),
    _counter("voip_media_noise_played_seconds", "Comfort noise heard while a peer had no sound."),
    _counter("voip_media_silence_unsent_seconds", "Sound left unsent as nobody spoke."),
    _counter("voip_media_ticks", "Ticks of the media engine."),
    _counter("voip_media_ticks_late", "Ticks not done when the next was due, or left out."),
    _counter("voip_media_ticks_failed", "Ticks that failed: faults of this software."),
    _histogram("voip_media_tick_start_delay_seconds", "How late ticks began."),
    _histogram("voip_media_tick_done_delay_seconds", "How long after they were due ticks ended."),
    _counter("voip_media_io_anomalies", "What went wrong with packets, by kind.", "kind"),
)

FAMILIES: Final = {family.name: family for family in _ALL}
"""By name, in the order in which they are told."""
