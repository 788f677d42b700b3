"""Message-summary: whether there is mail, and how much (RFC 3842)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from voip.errors import SipError

__all__ = ["CONTENT_TYPE", "MessageCount", "MessageSummary"]

CONTENT_TYPE: Final = "application/simple-message-summary"
MAX_COUNT: Final = 2**32 - 1
MAX_KINDS: Final = 16
_LINE: Final = re.compile(r"([A-Za-z-]++)[ \t]*+:[ \t]*+(.*)")
_COUNT: Final = re.compile(
    r"([0-9]++)[ \t]*+/[ \t]*+([0-9]++)"
    r"(?:[ \t]*+\([ \t]*+([0-9]++)[ \t]*+/[ \t]*+([0-9]++)[ \t]*+\))?[ \t]*+"
)


@dataclass(frozen=True, slots=True)
class MessageCount:
    """Messages of one kind ("voice-message", "fax-message" ...), urgent ones among them."""

    kind: str
    new: int = 0
    old: int = 0
    urgent_new: int | None = None
    urgent_old: int | None = None


@dataclass(frozen=True, slots=True)
class MessageSummary:
    """The state of a mailbox. `account` is whose it is, None where that goes without saying."""

    waiting: bool
    account: str | None = None
    counts: tuple[MessageCount, ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> MessageSummary:
        """Read a body; SipError (400) without a Messages-Waiting line that says yes or no."""
        waiting: bool | None = None
        account: str | None = None
        counts: list[MessageCount] = []
        for line in body.decode("utf-8", "replace").splitlines():
            if not line.strip() and waiting is not None:
                break  # the headers of single messages follow
            match = _LINE.fullmatch(line.strip())
            if match is None:
                continue
            name, value = match[1].lower(), match[2].strip()
            if name == "messages-waiting":
                waiting = {"yes": True, "no": False}.get(value.lower(), waiting)
            elif name == "message-account":
                account = value
            elif (found := _COUNT.fullmatch(value)) and len(counts) < MAX_KINDS:
                new, old, *urgent = (_count(digits) for digits in found.groups())
                counts.append(MessageCount(name, new or 0, old or 0, *urgent))
        if waiting is None:
            raise SipError("a message summary that does not say whether mail waits", status=400)
        return cls(waiting, account, tuple(counts))

    def to_bytes(self) -> bytes:
        """Write it."""
        lines = [f"Messages-Waiting: {'yes' if self.waiting else 'no'}"]
        if self.account is not None:
            lines.append(f"Message-Account: {self.account}")
        for count in self.counts:
            urgent = ""
            if count.urgent_new is not None:
                urgent = f" ({count.urgent_new}/{count.urgent_old or 0})"
            lines.append(f"{count.kind.title()}: {count.new}/{count.old}{urgent}")
        return "".join(f"{line}\r\n" for line in lines).encode()

    def of(self, kind: str = "voice-message") -> MessageCount:
        """Return the count of a kind, nothing where it is not mentioned."""
        found = (count for count in self.counts if count.kind == kind)
        return next(found, MessageCount(kind))


def _count(digits: str | None) -> int | None:
    """Read a count; larger ones than 2**32 - 1 count as that (section 3.5)."""
    if digits is None:
        return None
    stripped = digits.lstrip("0")
    return MAX_COUNT if len(stripped) > 10 else min(int(stripped or "0"), MAX_COUNT)
