"""What the processes of the SIP benchmark do when they are asked."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from voip.harness.bench.sip_load import CallLoad, RegistrarLoad
from voip.harness.bench.sip_side import PhoneSide, RegistrationSide
from voip.harness.bench.sip_speed import attack_ratios, bytes_per_dialog, parse_rates

__all__ = ["SipLoadRole", "SipPhoneRole", "SipSpeedRole"]

Message = dict[str, Any]


class SipPhoneRole:
    """Answers calls, or keeps accounts registered."""

    def __init__(self) -> None:
        self._phone: PhoneSide | None = None
        self._accounts: RegistrationSide | None = None

    async def __call__(self, request: Message) -> Message:
        """Do what is asked."""
        match request["do"]:
            case "open":
                self._phone = PhoneSide()
                return {"port": await self._phone.open()}
            case "mark" if self._phone is not None:
                return asdict(self._phone.mark())
            case "register":
                self._accounts = RegistrationSide(
                    request["count"], request["port"], request["expires_s"]
                )
                await self._accounts.open()
            case "registered" if self._accounts is not None:
                return asdict(self._accounts.mark())
            case "close":
                for side in (self._phone, self._accounts):
                    if side is not None:
                        await side.close()
            case other:
                return {"error": f"not now: {other}"}
        return {}


class SipLoadRole:
    """Calls, or is a registrar."""

    def __init__(self) -> None:
        self._load: CallLoad | None = None
        self._registrar: RegistrarLoad | None = None

    async def __call__(self, request: Message) -> Message:
        """Do what is asked."""
        match request["do"]:
            case "call":
                self._load = CallLoad(request["port"])
            case "run" if self._load is not None:
                return asdict(self._load.run(request["seconds"], request["window"]))
            case "hold" if self._load is not None:
                return asdict(self._load.hold(request["count"], request["window"]))
            case "hang up" if self._load is not None:
                return asdict(self._load.hang_up(request["window"]))
            case "registrar":
                self._registrar = RegistrarLoad(request["expires_s"])
                return {"port": self._registrar.port}
            case "stop" if self._registrar is not None:
                return asdict(self._registrar.close())
            case other:
                return {"error": f"not now: {other}"}
        return {}


class SipSpeedRole:
    """Parses, weighs dialogs, reads attacks."""

    async def __call__(self, request: Message) -> Message:
        """Do what is asked."""
        match request["do"]:
            case "parse":
                return {"rates": parse_rates(request["seconds"])}
            case "dialogs":
                return {"bytes": bytes_per_dialog(request["count"])}
            case "attacks":
                return {"ratios": attack_ratios(request["tries"])}
            case other:
                return {"error": f"not now: {other}"}
