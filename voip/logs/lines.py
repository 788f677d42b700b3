"""Lines about one call: each carries the call's id, whatever task or callback writes it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from voip.logs.limit import Limit

__all__ = ["CallLog", "CurrentCall", "event"]

_CALLS: Final = logging.getLogger("voip.call")
_ONCE: Final = frozenset(("call_incoming", "call_answered", "call_ended"))
"""What happens once in a call, and is told whatever else there was."""
_CURRENT: ContextVar[CallLog | None] = ContextVar("voip_call", default=None)
"""The call that the running handler or callback of the application is about."""


class CallLog(logging.LoggerAdapter[logging.Logger]):
    """The logger `voip.call` for one call. Fields that are known later are set by `know`.

    Its lines have `call_id` (`Call.id`), `direction` and `peer`; `account` where the phone has one;
    `sip_call_id`, the Call-ID of its messages, from the INVITE on. limit: of the lines of `event`,
    which the other side may cause; after some were left out the next one says how many.
    """

    def __init__(self, limit: Limit | None = None, **fields: object) -> None:
        self.fields: dict[str, object] = {"call_id": "", **fields}
        self._limit = limit
        super().__init__(_CALLS, self.fields)

    def know(self, **fields: object) -> None:
        """Have further lines carry these too."""
        self.fields.update(fields)

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        """Add the call's fields to those of the line."""
        kwargs["extra"] = {**self.fields, **(kwargs.get("extra") or {})}
        return msg, kwargs

    def event(
        self, level: int, name: str, message: str, /, *given: object, **fields: object
    ) -> None:
        """Write that something happened: its name, a sentence with its `given`, and fields."""
        limit = self._limit
        if not self.isEnabledFor(level) or not (limit is None or limit.admit() or name in _ONCE):
            return
        if limit is not None and limit.left_out:
            fields["left_out"], limit.left_out = limit.left_out, 0
        more = {"event": name, **fields}
        self.log(level, message, *given, extra=more, stacklevel=2)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Let all lines written inside be of this call: see `CurrentCall`."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)


def event(
    log: logging.Logger, level: int, name: str, message: str, /, *given: object, **fields: object
) -> None:
    """Write that something happened which concerns no call."""
    if log.isEnabledFor(level):
        log.log(level, message, *given, extra={"event": name, **fields}, stacklevel=2)


class CurrentCall(logging.Filter):
    """Gives lines that name no call the fields of the one whose handler or callback wrote them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record."""
        call = _CURRENT.get()
        if call is not None and not hasattr(record, "call_id"):
            for name, value in call.fields.items():
                if not hasattr(record, name):
                    setattr(record, name, value)
        return True
