"""The callees of one INVITE of ours before one of them answers: each has an exchange of its own.

An INVITE that forks makes an early dialog with everybody it reaches (RFC 3261 section 12.1), and
each of them may sound. There is one stream: it plays the last who described itself.
"""

from __future__ import annotations

import logging

from voip.errors import MediaError, SdpError
from voip.logs.lines import CallLog
from voip.session.media import MediaSession
from voip.sip.dialog import Dialog

__all__ = ["EarlyDialogs"]


class EarlyDialogs:
    """Who has said what. A description in a reliable response is for good (RFC 6337 3.1.1)."""

    def __init__(self, media: MediaSession, log: CallLog) -> None:
        self._media = media
        self._log = log
        self._answers: dict[Dialog, bytes] = {}  # who spoke last at the end
        self._sure: set[Dialog] = set()

    def agreed(self, dialog: Dialog) -> bool:
        """Whether offer and answer have met with this callee."""
        return dialog in self._sure

    @property
    def heard(self) -> Dialog | None:
        """Who is played."""
        return next(reversed(self._answers), None)

    def hear(self, dialog: Dialog, answer: bytes, *, reliable: bool) -> bool:
        """Listen to a callee; False where what it says is not new, or cannot be used.

        Then it is passed over, and the answer to the call counts.
        """
        if dialog in self._sure:
            return False
        before = self._media.followed
        self._media.follow(dialog)
        try:
            self._media.take_answer(answer)
            self._media.connect_soon()
        except (SdpError, MediaError) as error:
            words = "its early sound cannot be used: %s"
            self._log.event(logging.INFO, "early_media_unusable", words, error)
            self._media.follow(before)
            return False
        self._note(dialog, answer, reliable)
        return True

    def take_offer(self, dialog: Dialog, offer: bytes) -> bytes:
        """Take a callee's offer, and return our answer; raises `SdpError`."""
        self._media.follow(dialog)
        answer = self._media.answer(offer)
        self._media.connect_soon()
        self._note(dialog, offer, True)
        return answer

    def update(self, dialog: Dialog) -> None:
        """Take it that this callee changes what was agreed: it is the last who spoke."""
        self._media.follow(dialog)
        self._answers[dialog] = self._answers.pop(dialog, b"")

    def forget(self, dialog: Dialog) -> None:
        """Listen to somebody else, or nobody: this callee does not ring any more."""
        was_heard = dialog is self.heard
        self._answers.pop(dialog, None)
        self._sure.discard(dialog)
        other = self.heard
        if was_heard and other is not None:
            self._media.follow(other)
            self._media.connect_soon()
        elif was_heard:
            self._media.fall_silent()

    def settle(self, dialog: Dialog, body: bytes) -> bool:
        """Take what the callee who answers has agreed to; False where it has said nothing.

        `body`: what the 2xx brought. Some callees have another tag when they answer, and describe
        themselves no more: where nobody else has said anything, it must be theirs. Raises
        `SdpError`, `MediaError` where it cannot be used.
        """
        self._media.follow(dialog)
        if dialog not in self._sure:
            answers = self._answers
            lone = next(iter(answers.values())) if len(answers) == 1 else b""
            answer = body or answers.get(dialog) or lone
            if not answer:
                return False
            self._media.take_answer(answer)
        self._media.connect_soon()
        self.clear()
        return True

    def clear(self) -> None:
        """Forget them all: one has answered, or there will be other ones."""
        self._answers.clear()
        self._sure.clear()
        self._media.follow_only()

    def _note(self, dialog: Dialog, body: bytes, sure: bool) -> None:
        self._answers.pop(dialog, None)
        self._answers[dialog] = body
        if sure:
            self._sure.add(dialog)
