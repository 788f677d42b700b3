"""What phones are doing now, call by call, as plain values for JSON: `GET /calls`.

Names are those of the public API: `Call`, `StreamStats`, `QualityReport`. Nothing is counted for
this; figures of open calls are at most a second old. What is not known is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from voip.call import Call
from voip.events import MediaTrouble, OneWayAudio, TroubleOver
from voip.media.answers import StreamStats
from voip.metrics.tally import direction_of

__all__ = ["SCHEMA", "call_json"]

_STATS: Final = tuple(
    field.name
    for field in fields(StreamStats)
    if field.name not in ("stream", "codec", "strangers", "sources", "remote")
)
"""Figures that are numbers."""

_TEXT: Final = {"type": ["string", "null"]}
_NUMBER: Final = {"type": ["number", "null"]}
_FLAG: Final = {"type": "boolean"}
_CALL: Final = {
    "id": {"type": "string"},
    "sip_call_id": _TEXT,
    "direction": {"enum": ["incoming", "outgoing"]},
    "state": {"type": "string"},
    "remote": {"type": "string"},
    "account": _TEXT,
    "codec": _TEXT,
    "rate_hz": {"type": "integer"},
    "media_remote": _TEXT,
    "in_conference": _FLAG,
    "mos": _NUMBER,
    "troubles": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"kind": {"type": "string"}, "reason": {"type": "string"}},
            "required": ["kind", "reason"],
            "additionalProperties": False,
        },
    },
    "stats": {
        "type": "object",
        "properties": {name: {"type": ["number", "boolean", "null"]} for name in _STATS},
        "required": list(_STATS),
        "additionalProperties": False,
    },
}
SCHEMA: Final[Mapping[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Calls of the phones of one process",
    "type": "object",
    "properties": {
        "phones": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "phone": {"type": "string"},
                    "calls": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": _CALL,
                            "required": list(_CALL),
                            "additionalProperties": False,
                        },
                    },
                },
                "required": ["phone", "calls"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["phones"],
    "additionalProperties": False,
}
"""Of the answer to `GET /calls` (JSON Schema)."""


def call_json(call: Call) -> dict[str, Any]:
    """Return what one call is, and how it sounds."""
    stats, request = call.stats, call._session.invite_request
    remote = stats.remote
    return {
        "id": call.id,
        "sip_call_id": request.headers.get("Call-ID") if request is not None else None,
        "direction": direction_of(call._session),
        "state": call.state.value,
        "remote": call.remote,
        "account": str(call.account.aor) if call.account is not None else None,
        "codec": call.codec,
        "rate_hz": call.rate,
        "media_remote": str(remote) if remote is not None else None,
        "in_conference": call.conference is not None,
        "mos": _number(call.quality.mos),
        "troubles": _troubles(call),
        "stats": {name: _number(getattr(stats, name)) for name in _STATS},
    }


def _troubles(call: Call) -> list[dict[str, str]]:
    """Return what is wrong with the sound now, as the call's events tell."""
    there: dict[str, MediaTrouble] = {}
    for event in call._events:
        if isinstance(event, TroubleOver):
            there.pop(_kind(event.trouble), None)
        elif isinstance(event, MediaTrouble):
            there[_kind(event)] = event
    return [{"kind": kind, "reason": event.reason} for kind, event in there.items()]


def _kind(trouble: MediaTrouble) -> str:
    name = type(trouble).__name__
    return f"{name} {trouble.direction}" if isinstance(trouble, OneWayAudio) else name


def _number(value: float | bool | None) -> float | bool | None:
    """Return a figure as JSON has it: what is no number is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
