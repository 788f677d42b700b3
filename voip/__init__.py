"""A headless softphone, a call-control API for asyncio, and a laboratory for testing PBXes.

The names below are loaded when they are first asked for: `import voip.codecs` loads neither SIP
nor asyncio.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voip.account import Account
    from voip.answering import Answering
    from voip.call import Call
    from voip.conference import Conference
    from voip.config import CallConfig, MediaConfig, NetworkConfig, TlsConfig
    from voip.errors import (
        AudioFileError,
        AuthenticationError,
        CallError,
        CallStateError,
        ConfigError,
        MediaError,
        NoAnswerError,
        RegistrationError,
        RequestError,
        SubscriptionError,
        TransportError,
        UnreachableError,
        VoipError,
    )
    from voip.events import CallEnded, CallState
    from voip.media.record.plan import Beep
    from voip.metrics import Metrics
    from voip.phone import Softphone
    from voip.quality.report import QualityReport
    from voip.registrars import RegistrationStatus
    from voip.rtp.srtp.keys import SrtpKeys
    from voip.sip.digest import Credentials

__all__ = [
    "Account",
    "Answering",
    "AudioFileError",
    "AuthenticationError",
    "Beep",
    "Call",
    "CallConfig",
    "CallEnded",
    "CallError",
    "CallState",
    "CallStateError",
    "Conference",
    "ConfigError",
    "Credentials",
    "MediaConfig",
    "MediaError",
    "Metrics",
    "NetworkConfig",
    "NoAnswerError",
    "QualityReport",
    "RegistrationError",
    "RegistrationStatus",
    "RequestError",
    "Softphone",
    "SrtpKeys",
    "SubscriptionError",
    "TlsConfig",
    "TransportError",
    "UnreachableError",
    "VoipError",
]

# a library is silent unless it is asked (`voip.logs.log_to`)
logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "Account": "voip.account",
    "Answering": "voip.answering",
    "Beep": "voip.media.record.plan",
    "Call": "voip.call",
    "CallConfig": "voip.config",
    "CallEnded": "voip.events",
    "CallState": "voip.events",
    "Conference": "voip.conference",
    "Credentials": "voip.sip.digest",
    "MediaConfig": "voip.config",
    "Metrics": "voip.metrics",
    "NetworkConfig": "voip.config",
    "QualityReport": "voip.quality.report",
    "RegistrationStatus": "voip.registrars",
    "Softphone": "voip.phone",
    "SrtpKeys": "voip.rtp.srtp.keys",
    "TlsConfig": "voip.config",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'voip' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "voip.errors")), name)


def __dir__() -> list[str]:
    return __all__
