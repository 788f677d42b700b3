"""What the log says of a call's life: one line for each thing that happened, and what it came to.

Keys are secrets: of digits there is only how many.
"""

from __future__ import annotations

import logging
from typing import Final

from voip.events import (
    Answered,
    AudioOverrun,
    CallEnded,
    CallEvent,
    DeviceLost,
    DtmfReceived,
    DtmfSent,
    EarlyMedia,
    EndedBy,
    HeldByRemote,
    InfoReceived,
    MessageReceived,
    PhoneEvent,
    RecordingFailed,
    Redirected,
    Registered,
    RegistrationFailed,
    Replaced,
    ResumedByRemote,
    Ringing,
    SourceLearned,
    TransferProgress,
    Transferred,
    TransferRequested,
    Unregistered,
)
from voip.logs.lines import CallLog, event
from voip.session.figures import quality_of
from voip.session.session import CallSession

__all__ = ["Journal", "tell_of_registration"]

_PHONE: Final = logging.getLogger("voip.registration")
_PLAIN: Final = {
    Ringing: ("call_ringing", "it rings"),
    EarlyMedia: ("call_early_media", "there is sound before the answer"),
    HeldByRemote: ("call_held_by_peer", "the other side put us on hold"),
    ResumedByRemote: ("call_resumed_by_peer", "the other side took us off hold"),
}


class Journal:
    """Writes of one call."""

    def __init__(self, log: CallLog) -> None:
        self._log = log
        self._heard = 0
        self._sent = 0

    def tell(self, event: CallEvent, session: CallSession) -> None:
        """Write what happened."""
        log = self._log
        if type(event) in _PLAIN:
            log.event(logging.INFO, *_PLAIN[type(event)])
            return
        match event:
            case Answered(codec):
                log.event(logging.INFO, "call_answered", "answered", codec=codec)
            case Redirected(target):
                log.event(logging.INFO, "call_redirected", "sent on to %s", target)
            case TransferRequested(target, by):
                words = "the other side asks us to call %s instead"
                log.event(logging.INFO, "transfer_requested", words, target, referred_by=by)
            case TransferProgress(status, reason):
                words = "of the transfer it says: %s"
                log.event(logging.INFO, "transfer_progress", words, reason, status=status)
            case Transferred(call):
                words = "the other side has been transferred"
                log.event(logging.INFO, "call_transferred", words, other_call_id=call.id)
            case Replaced(call):
                words = "another call has taken its place"
                log.event(logging.INFO, "call_replaced", words, other_call_id=call.id)
            case DtmfReceived():
                self._heard += 1
                log.event(logging.DEBUG, "dtmf_received", "a key was heard")
            case DtmfSent(digits):
                self._sent += len(digits)
                log.event(logging.DEBUG, "dtmf_sent", "keys were sent", count=len(digits))
            case InfoReceived(package, _, body):
                words = "INFO of the package %s"
                log.event(logging.DEBUG, "info_received", words, package, octets=len(body))
            case SourceLearned(address):
                words = "its sound comes from %s, which it had not said"
                log.event(logging.INFO, "source_learned", words, address)
            case AudioOverrun(lost_ms):
                words = "a reader of its sound was too slow"
                log.event(logging.WARNING, "audio_overrun", words, lost_ms=lost_ms)
            case RecordingFailed(path, reason):
                words = "the recording %s ended: %s"
                log.event(logging.WARNING, "recording_failed", words, path, reason)
            case DeviceLost(device, reason):
                words = "its sound device %s is gone: %s"
                log.event(logging.WARNING, "device_lost", words, device, reason)
            case CallEnded():
                self._ended(event, session)
            case _:
                pass  # a callback that failed has been logged where it was called

    def _ended(self, end: CallEnded, session: CallSession) -> None:
        stats = session.media.stats
        quality = quality_of(stats)
        failed = end.by is EndedBy.FAILURE
        self._log.event(
            logging.WARNING if failed else logging.INFO,
            "call_ended",
            "the call broke: %s" if failed else "ended: %s",
            end.reason,
            ended_by=end.by.value,
            status=end.status,
            answered=session.up_s is not None,
            duration_s=None if session.up_s is None else round(session.up_s, 3),
            packets_sent=stats.packets_sent,
            packets_received=stats.packets_received,
            packets_lost=stats.packets_lost,
            jitter_ms=_rounded(stats.jitter_ms),
            rtt_ms=_rounded(stats.rtt_ms),
            mos=_rounded(quality.mos),
            keys_heard=self._heard,
            keys_sent=self._sent,
        )


def tell_of_registration(told: PhoneEvent) -> None:
    """Write what happened to a registration, or to a mailbox."""
    match told:
        case Registered(expires_s, aor):
            words = "registered for %g s"
            event(_PHONE, logging.INFO, "registered", words, expires_s, account=aor)
        case Unregistered(aor):
            event(_PHONE, logging.INFO, "unregistered", "not registered any more", account=aor)
        case RegistrationFailed(reason, status, retry_in_s, aor):
            event(
                _PHONE,
                logging.WARNING,
                "registration_failed",
                "registration failed: %s",
                reason,
                account=aor,
                status=status,
                retry_in_s=None if retry_in_s is None else round(retry_in_s),
            )
        case MessageReceived(sender, _, content_type, aor):
            words = "a text of %s came"
            fields = {"account": aor, "content_type": content_type}
            event(_PHONE, logging.DEBUG, "message_received", words, sender, **fields)
        case _:
            pass


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 2)
