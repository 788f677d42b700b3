"""PASSporT: a signed statement of who calls whom and when (RFC 8225, RFC 8588).

A JSON Web Token of its own kind: ES256, keys in alphabetical order, no blanks, so that both ends
can write the very text that was signed. Needs `cryptography` (the extra `stir`).
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from voip.errors import ConfigError, SipError
from voip.sip.tel import TelUri
from voip.sip.uri import SipUri

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import (
        decode_dss_signature,
        encode_dss_signature,
    )
    from cryptography.hazmat.primitives.hashes import SHA256
except ImportError as error:
    raise ConfigError(
        "signing and verifying callers needs the package cryptography",
        hint="pip install 'voip-softphone[stir]'",
    ) from error

__all__ = ["Attestation", "Passport", "Who", "verify_signature"]

_HALF: Final = 32
"""Bytes of each of the two numbers of an ES256 signature."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]*")
_NUMBER: Final = re.compile(r"\+?[0-9*#][0-9*#.()-]*")
_END_OF_TIME: Final = 1 << 36
_MAX_DEST: Final = 32


class Attestation(Enum):
    """What a provider says of a call it signs (RFC 8588 section 4)."""

    FULL = "A"
    """It knows the caller, and that the number is the caller's."""
    PARTIAL = "B"
    """It knows the caller, not whether the number is."""
    GATEWAY = "C"
    """It knows where the call entered its network, and no more."""


@dataclass(frozen=True, slots=True)
class Who:
    """A caller or callee as it is signed: `tn` (digits) or `uri` (RFC 8224 section 8.3, 8.5)."""

    kind: str
    value: str

    @classmethod
    def of(cls, text: str) -> Who:
        """Read a number, a tel: or a SIP URI; SipError (400 or 416) when it is none of them.

        A SIP URI that stands for a number is one: `user=phone`, or a user of + and digits.
        """
        if text[:4].lower() == "tel:":
            return cls("tn", _digits(TelUri.parse(text).digits))
        if _NUMBER.fullmatch(text):
            return cls("tn", _digits(text))
        uri = SipUri.parse(text)
        number = TelUri.from_sip(uri)
        if number is not None:
            return cls("tn", _digits(number.digits))
        user = "" if uri.user is None else f"{uri.user}@"
        return cls("uri", f"{uri.scheme}:{user}{uri.host.lower()}")


@dataclass(frozen=True, slots=True)
class Passport:
    """The statement. `iat`: when it was signed, Unix seconds; `x5u`: where the certificate is.

    `attest` and `origid` (which customer or gateway, for the provider to trace) make it a
    "shaken" one (RFC 8588); without them it says no more than who called whom.
    """

    orig: Who
    dest: tuple[Who, ...]
    iat: int
    x5u: str
    attest: Attestation | None = None
    origid: str | None = None

    @classmethod
    def parse(cls, token: str) -> tuple[Passport, str, bytes]:
        """Take a full form apart: the statement, the text that was signed, the signature.

        SipError (438) when it is no PASSporT, or of a kind that is not understood.
        """
        head, claims, signature = _three(token)
        header, payload = _read_json(head), _read_json(claims)
        ppt = header.get("ppt")
        if header.get("typ") != "passport" or header.get("alg") != "ES256":
            raise _invalid("not an ES256 PASSporT")
        if ppt not in (None, "shaken"):
            raise _invalid(f"a PASSporT of the kind {str(ppt)[:40]!r}")
        origs = _people(payload.get("orig"))
        dests = _people(payload.get("dest"))
        iat, x5u = payload.get("iat"), header.get("x5u")
        if len(origs) != 1 or not dests or not isinstance(x5u, str):
            raise _invalid("a PASSporT that does not say who calls whom")
        if isinstance(iat, bool) or not isinstance(iat, int) or not 0 <= iat < _END_OF_TIME:
            raise _invalid("a PASSporT that does not say when it was signed")
        attest = origid = None
        if ppt == "shaken":
            attest, origid = _shaken(payload)
        passport = cls(origs[0], tuple(dests), iat, x5u, attest, origid)
        return passport, f"{head}.{claims}", _decode(signature)

    def signing_input(self) -> str:
        """Return the text to be signed: `header.claims`, each in base64url."""
        header: dict[str, Any] = {"alg": "ES256", "typ": "passport", "x5u": self.x5u}
        claims: dict[str, Any] = {
            "dest": _grouped(self.dest),
            "iat": self.iat,
            "orig": {self.orig.kind: self.orig.value},
        }
        if self.attest is not None:
            header["ppt"] = "shaken"
            claims |= {"attest": self.attest.value, "origid": self.origid or ""}
        return f"{_write_json(header)}.{_write_json(claims)}"

    def sign(self, key: ec.EllipticCurvePrivateKey) -> str:
        """Return the full form, signed."""
        text = self.signing_input()
        # deterministic (RFC 6979): no randomness is needed, and the same call gives the same bytes
        der = key.sign(text.encode(), ec.ECDSA(SHA256(), deterministic_signing=True))
        r, s = decode_dss_signature(der)
        return f"{text}.{_encode(r.to_bytes(_HALF, 'big') + s.to_bytes(_HALF, 'big'))}"


def verify_signature(text: str, signature: bytes, key: ec.EllipticCurvePublicKey) -> bool:
    """Whether `signature` (two numbers of 32 bytes, RFC 7518 section 3.4) is that of `text`."""
    if len(signature) != 2 * _HALF:
        return False
    r, s = (int.from_bytes(half, "big") for half in (signature[:_HALF], signature[_HALF:]))
    try:
        key.verify(encode_dss_signature(r, s), text.encode(), ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _digits(text: str) -> str:
    """Return a number as it is signed: digits, * and # (RFC 8224 section 8.3)."""
    return re.sub(r"[^0-9*#]", "", text)


def _three(token: str) -> tuple[str, str, str]:
    parts = token.split(".")
    if len(parts) != 3 or not all(map(_TOKEN.fullmatch, parts)):
        raise _invalid("not three parts of base64url")
    return parts[0], parts[1], parts[2]


def _shaken(payload: Mapping[str, Any]) -> tuple[Attestation, str]:
    origid = payload.get("origid")
    try:
        attest = Attestation(payload.get("attest"))
    except ValueError:
        raise _invalid("a PASSporT with an attestation nobody knows") from None
    if not isinstance(origid, str):
        raise _invalid("a shaken PASSporT without an origination identifier")
    return attest, origid


def _people(claim: Any) -> list[Who]:
    """Read `{"tn": "1215..."}` or `{"tn": [...], "uri": [...]}`; what is no name is left out."""
    found: list[Who] = []
    if isinstance(claim, dict):
        for kind in ("tn", "uri"):
            values = claim.get(kind, ())
            for value in [values] if isinstance(values, str) else values:
                if isinstance(value, str):
                    found.append(Who(kind, value))
    return found[:_MAX_DEST]


def _grouped(people: Iterable[Who]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for who in people:
        grouped.setdefault(who.kind, []).append(who.value)
    return grouped


def _write_json(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _encode(text.encode())


def _read_json(part: str) -> dict[str, Any]:
    try:
        value = json.loads(_decode(part))
    except (ValueError, RecursionError):
        raise _invalid("a part that is no JSON") from None
    if not isinstance(value, dict):
        raise _invalid("a part that is no JSON object")
    return value


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise _invalid("a part that is no base64url") from None


def _invalid(message: str) -> SipError:
    return SipError(message, status=438)
