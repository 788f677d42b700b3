"""tel: URIs (RFC 3966): a telephone number as a name, wherever it may be reached."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from voip.errors import SipError
from voip.sip.uri import SipUri, parse_host_port

__all__ = ["TelUri"]

_SEPARATORS: Final = str.maketrans("", "", "-.()")
_GLOBAL: Final = re.compile(r"\+[0-9]++")
_LOCAL: Final = re.compile(r"[0-9A-Fa-f*#]++")
_ESCAPED: Final = re.compile(r"[A-Za-z0-9!$&'()*+.:/\[\]_~%-]*+")
_PARAM_NAME: Final = re.compile(r"[A-Za-z0-9-]++")

MAX_NUMBER_CHARS: Final = 64
"""Digits and separators; E.164 has 15 digits at most."""


@dataclass(frozen=True, slots=True)
class TelUri:
    """A telephone number as it was written, with visual separators, and its parameters.

    A number that begins with + is global; any other needs a `phone-context` parameter that says
    where it holds. A parameter without `=` has the value None.
    """

    number: str
    params: tuple[tuple[str, str | None], ...] = ()

    @classmethod
    def parse(cls, text: str) -> TelUri:
        """Read a URI; SipError (416 for another scheme, else 400) when it is none."""
        scheme, colon, rest = text.partition(":")
        if not colon or scheme.lower() != "tel":
            raise SipError(f"not a tel: URI: {text[:80]!r}", status=416)
        number, *parts = rest.split(";")
        digits = number.translate(_SEPARATORS)
        if len(number) > MAX_NUMBER_CHARS or not (
            _GLOBAL.fullmatch(digits) or _LOCAL.fullmatch(digits)
        ):
            raise _not_a_number(text)
        params: list[tuple[str, str | None]] = []
        for part in parts:
            name, equals, value = part.partition("=")
            if not _PARAM_NAME.fullmatch(name) or not _ESCAPED.fullmatch(value):
                raise _not_a_number(text)
            if name.lower() in (known.lower() for known, _ in params):
                raise _not_a_number(text)
            params.append((name, value if equals else None))
        uri = cls(number, tuple(params))
        if not uri.is_global:
            _check_context(uri.param("phone-context"), text)
        return uri

    def __str__(self) -> str:
        params = (
            f";{name}" if value is None else f";{name}={value}" for name, value in self.params
        )
        return f"tel:{self.number}{''.join(params)}"

    @property
    def is_global(self) -> bool:
        """Whether the number holds everywhere."""
        return self.number.startswith("+")

    @property
    def digits(self) -> str:
        """The number without visual separators, + included."""
        return self.number.translate(_SEPARATORS).lower()

    def param(self, name: str) -> str | None:
        """Return a parameter's value: "" when it stands without one, None when it is not there."""
        wanted = name.lower()
        for key, value in self.params:
            if key.lower() == wanted:
                return value or ""
        return None

    def equivalent(self, other: TelUri) -> bool:
        """Whether both mean the same number (section 4)."""
        return self.digits == other.digits and self._folded() == other._folded()

    def to_sip(self, domain: SipUri) -> SipUri:
        """Return the SIP URI by which this number is called at `domain` (RFC 3261 19.1.6).

        Separators fall off, letters become small and parameters are sorted, so that equal numbers
        become equal URIs.
        """
        folded = sorted(self._folded().items(), key=lambda item: (_place(item[0]), item[0]))
        params = (f";{name}={value}" if value else f";{name}" for name, value in folded)
        user = f"{self.digits}{''.join(params)}"
        return SipUri(domain.scheme, user, None, domain.host, domain.port, (("user", "phone"),))

    @classmethod
    def from_sip(cls, uri: SipUri) -> TelUri | None:
        """Return the number a SIP URI stands for: `user=phone`, or + and digits; None: none."""
        user = uri.user or ""
        if uri.param("user") != "phone" and not _GLOBAL.fullmatch(user.translate(_SEPARATORS)):
            return None
        try:
            return cls.parse(f"tel:{user}")
        except SipError:
            return None

    def _folded(self) -> dict[str, str]:
        """Return the parameters for comparison: without case, numbers without separators."""
        folded = {}
        for name, value in self.params:
            key, text = name.lower(), (value or "").lower()
            if key == "ext" or (key == "phone-context" and text.startswith("+")):
                text = text.translate(_SEPARATORS)
            folded[key] = text
        return folded


def _place(name: str) -> int:
    """Return where a parameter goes: the subaddress and what is dialled after it come first."""
    return ("isub", "postd").index(name) if name in ("isub", "postd") else 2


def _check_context(context: str | None, text: str) -> None:
    if context is None:
        raise SipError(
            f"a local number says where it holds: {text[:80]!r}",
            status=400,
            hint="begin it with +, or add ;phone-context=",
        )
    if not _GLOBAL.fullmatch(context.translate(_SEPARATORS)):
        parse_host_port(context, None)


def _not_a_number(text: str) -> SipError:
    return SipError(
        f"not a telephone number: {text[:80]!r}", status=400, hint="such as tel:+441632960123"
    )
