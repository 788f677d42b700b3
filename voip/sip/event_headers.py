"""Event and Subscription-State: what is watched, and how a subscription stands (RFC 6665 8.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from voip.errors import SipError
from voip.sip.grammar import TOKEN, Params, find_param, format_params, is_token, parse_params
from voip.sip.headers import parse_seconds
from voip.sip.message import Request, Response

__all__ = ["EventType", "SubscriptionState", "SubscriptionStatus", "event_of", "state_of"]

_TOKEN_AND_PARAMS: Final = re.compile(rf"[ \t]*+({TOKEN})[ \t]*+(;.*+)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class EventType:
    """An event package ("message-summary", "presence.winfo"), and `id` where one is not enough.

    Compared byte by byte, as section 8.2.1 asks.
    """

    package: str
    id: str | None = None

    @classmethod
    def parse(cls, text: str) -> EventType:
        """Read an Event value; SipError (489) when it is none."""
        match = _TOKEN_AND_PARAMS.fullmatch(text)
        if match is None:
            raise SipError(f"not an event: {text[:80]!r}", status=489)
        return cls(match[1], find_param(parse_params(match[2] or ""), "id") or None)

    def __str__(self) -> str:
        return self.package if self.id is None else f"{self.package};id={self.id}"


def event_of(message: Request | Response) -> EventType:
    """Return what a SUBSCRIBE, NOTIFY or PUBLISH is about; SipError (489) without a word on it."""
    value = message.headers.get("Event")
    if value is None:
        raise SipError("no Event header", status=489)
    return EventType.parse(value)


class SubscriptionStatus(Enum):
    """How a subscription stands (RFC 6665 figure 1, and WAITING)."""

    NOTIFY_WAIT = "notify-wait"
    """Asked for; no NOTIFY has come yet."""
    PENDING = "pending"
    """Known to the notifier, who has not been told yet whether we may."""
    ACTIVE = "active"
    WAITING = "waiting"
    """Over, and asked for anew in a while."""
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class SubscriptionState:
    """What a NOTIFY says of its subscription: "active", "pending", "terminated" or a newer word.

    `expires_s` is how long it lasts; `reason`, a token, and `retry_after_s` say why it is over and
    when it may be asked for again.
    """

    value: str
    expires_s: int | None = None
    reason: str | None = None
    retry_after_s: int | None = None

    @classmethod
    def parse(cls, text: str) -> SubscriptionState:
        """Read a Subscription-State value; SipError (400) when it is none."""
        match = _TOKEN_AND_PARAMS.fullmatch(text)
        if match is None:
            raise SipError(f"not a subscription state: {text[:80]!r}", status=400)
        params = parse_params(match[2] or "")
        reason = find_param(params, "reason")
        return cls(
            match[1].lower(),
            parse_seconds(find_param(params, "expires")),
            reason.lower() if reason and is_token(reason) else None,
            parse_seconds(find_param(params, "retry-after")),
        )

    def __str__(self) -> str:
        said = (
            ("reason", self.reason),
            ("expires", self.expires_s),
            ("retry-after", self.retry_after_s),
        )
        params: Params = tuple((name, str(value)) for name, value in said if value is not None)
        return f"{self.value}{format_params(params)}"

    @property
    def terminated(self) -> bool:
        """Whether the subscription is over."""
        return self.value == "terminated"


def state_of(notify: Request) -> SubscriptionState:
    """Return what a NOTIFY says of its subscription; SipError (400) when it says nothing."""
    value = notify.headers.get("Subscription-State")
    if value is None:
        raise SipError("no Subscription-State header", status=400)
    return SubscriptionState.parse(value)
