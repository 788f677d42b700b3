"""What a phone does with calls before anybody is asked: refuse, send on, answer by itself.

RFC 5359 sections 2.7 to 2.9 and 2.12; RFC 5373 and the intercom headers in use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from voip.errors import ConfigError
from voip.sip.call_info import alert_info, call_info
from voip.sip.message import Request

__all__ = ["Answering", "Intercom", "intercom"]

MAX_ANSWER_AFTER_S: Final = 60
_WORDS: Final = ("auto answer", "autoanswer", "auto-answer", "intercom", "ring answer")
_SECONDS: Final = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class Answering:
    """How a phone answers.

    do_not_disturb: every call is refused (486). forward_always, forward_busy, forward_no_answer:
    where calls are sent (302) at once, while `busy_at` calls are under way (486 without it), or
    when nobody has answered for `no_answer_s`. auto_answer: whether callers may have the phone
    answer by itself (intercom); otherwise it rings as for everybody.
    """

    do_not_disturb: bool = False
    forward_always: str | None = None
    forward_busy: str | None = None
    forward_no_answer: str | None = None
    no_answer_s: float = 20.0
    busy_at: int | None = None
    auto_answer: bool = False

    def __post_init__(self) -> None:
        if self.busy_at is not None and self.busy_at < 1:
            raise ConfigError(f"busy_at={self.busy_at} would be always", hint="1 or more")
        if self.no_answer_s <= 0:
            raise ConfigError(f"no_answer_s={self.no_answer_s} is no time", hint="such as 20")


@dataclass(frozen=True, slots=True)
class Intercom:
    """A caller wants the phone to answer by itself after `after_s`.

    `required`: it does not want it to ring instead (RFC 5373).
    """

    after_s: float
    required: bool = False


def intercom(invite: Request) -> Intercom | None:
    """Return whether and how an INVITE asks to be answered by itself; None: it does not.

    Call-Info with `answer-after`, Alert-Info with `info=alert-autoanswer` or the like, and
    Answer-Mode (RFC 5373).
    """
    headers = invite.headers
    for name in ("Answer-Mode", "Priv-Answer-Mode"):
        mode, _, params = (headers.get(name) or "").partition(";")
        if mode.strip().lower() == "auto":
            return Intercom(0.0, params.strip().lower() == "require")
    for reference in call_info(headers):
        after = reference.param("answer-after")
        if after is not None and _SECONDS.fullmatch(after):
            return Intercom(float(min(int(after), MAX_ANSWER_AFTER_S)))
    infos = [reference.param("info") or "" for reference in alert_info(headers)]
    # some write no URI before it, and some nothing else
    infos += [text.removeprefix("info=") for text in headers.get_all("Alert-Info")]
    if any(info.strip().lower().removeprefix("alert-") in _WORDS for info in infos):
        return Intercom(0.0)
    return None
