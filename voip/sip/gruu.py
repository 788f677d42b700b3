"""Names of single phones, granted by a registrar: GRUUs (RFC 5627).

A public GRUU is the address of record with the phone's instance in `gr`: it needs no table. A
temporary one tells nobody whose it is: a new one is sealed and encrypted at every registration,
and all of them stand for the phone until its last binding is gone, or it begins anew with another
Call-ID. What it names is in it, so nothing grows with their number.
"""

from __future__ import annotations

import hmac
from base64 import b32decode, b32encode
from binascii import Error
from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b, shake_256
from typing import Final

from voip.errors import SipError
from voip.sip.location import Binding, Location
from voip.sip.message import Request
from voip.sip.uri import SipUri
from voip.types import Random

__all__ = ["Gruus", "in_series", "public_gruu", "registered_aor"]

PREFIX: Final = "tgruu."
"""What the user part of a temporary GRUU begins with."""
_TAG_BYTES: Final = 16
_FIELD_BYTES: Final = 8
"""A series, and what makes each temporary GRUU another."""
_BLOCK: Final = 32
"""Names are filled up to a multiple of this, so that lengths tell little."""


class Gruus:
    """Grants GRUUs, and finds whom they name. Keys and series are of this process alone."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._seal_key = random.token(32).encode()
        self._stream_key = random.token(32).encode()

    def new_series(self) -> str:
        """Return what the temporary GRUUs of one run of registrations have in common."""
        return self._random.token(2 * _FIELD_BYTES)

    def granted(
        self, register: Request, address: str, binding: Binding
    ) -> tuple[tuple[str, str], ...]:
        """Return the Contact parameters of a 200, none for a phone without instance (5.2)."""
        if binding.instance is None or not binding.series:
            return ()
        scheme = "sip" if binding.sip_uri is None else binding.sip_uri.scheme
        name = replace(registered_aor(register), scheme=scheme)  # RFC 5630 section 5.2.1
        public = public_gruu(name, binding.instance)
        hidden = replace(name, user=self._seal(binding.series, address)).with_params(gr=None)
        return ("pub-gruu", f'"{public}"'), ("temp-gruu", f'"{hidden}"')

    def bindings(self, uri: SipUri, location: Location, now: float) -> list[Binding]:
        """Return where the phone is that `uri`, which has `gr`, names, the newest binding last.

        SipError: 404 for a temporary one that is not or no longer valid, 480 where the phone is not
        registered (section 6.1). Whether there is such a user at all is the caller's to know.
        """
        gr, user = uri.param("gr"), uri.user or ""
        if gr:
            wanted = gr.lower()
            there = location.bindings(user, now)
            found = [one for one in there if _instance(one) == wanted]
            if not found:
                raise SipError(f"this phone of {user} is not registered", status=480)
            return found
        series, address = self._open(user)
        found = [one for one in location.bindings(address, now) if one.series == series]
        if not found:
            raise SipError("a temporary name that is not valid any more", status=404)
        return found

    def _seal(self, series: str, address: str) -> str:
        """Encrypt by a stream that depends on all of the text, and on what is new in it (SIV)."""
        fresh = self._random.token(2 * _FIELD_BYTES)
        text = bytes.fromhex(fresh + series) + address.encode("utf-8", "surrogateescape")
        text = text.ljust(-len(text) // _BLOCK * -_BLOCK, b"\0")
        tag = self._tag(text)
        return PREFIX + b32encode(tag + self._crypt(tag, text)).decode().rstrip("=").lower()

    def _open(self, user: str) -> tuple[str, str]:
        """Return series and address; SipError (404) for what we have not written."""
        written = user.removeprefix(PREFIX)
        try:
            sealed = b32decode(written.upper() + "=" * (-len(written) % 8))
        except (Error, ValueError):
            sealed = b""
        tag, text = sealed[:_TAG_BYTES], self._crypt(sealed[:_TAG_BYTES], sealed[_TAG_BYTES:])
        if not user.startswith(PREFIX) or not hmac.compare_digest(tag, self._tag(text)):
            raise SipError("a name of a phone that nobody here has given", status=404)
        series, address = text[_FIELD_BYTES : 2 * _FIELD_BYTES], text[2 * _FIELD_BYTES :]
        return series.hex(), address.rstrip(b"\0").decode("utf-8", "surrogateescape")

    def _tag(self, text: bytes) -> bytes:
        return blake2b(text, key=self._seal_key, digest_size=_TAG_BYTES).digest()

    def _crypt(self, tag: bytes, text: bytes) -> bytes:
        stream = shake_256(self._stream_key + tag).digest(len(text))
        return bytes(one ^ other for one, other in zip(text, stream, strict=True))


def registered_aor(register: Request) -> SipUri:
    """Return the address of record that is registered, as it leads here.

    The port, which many leave out of To, is that of the Request-URI.
    """
    aor, here = register.to.sip_uri, SipUri.parse(register.uri)
    port = here.port if here.host.lower() == aor.host.lower() else None
    return SipUri(aor.scheme, aor.user, None, aor.host, aor.port or port)


def public_gruu(aor: SipUri, instance: str) -> SipUri:
    """Return the public GRUU of a phone: its user's address of record, and its instance."""
    return aor.with_params(gr=instance.strip("<>"))


def in_series(
    binding: Binding, others: Iterable[Binding], gruus: Gruus
) -> tuple[Binding, list[Binding]]:
    """Return a new binding and the ones beside it, in the series of temporary GRUUs they are of.

    A phone that registers the same flow with another Call-ID has begun anew: what was given to it
    before is not valid any more (section 5.1). `others`: all of the address, the newest last.
    """
    known = list(others)
    mine = [one for one in known if one.instance is not None and one.instance == binding.instance]
    if binding.instance is None or binding.sip_uri is None:
        return binding, known
    same = [one for one in mine if binding.reg_id in (None, one.reg_id)]
    if not mine or (same and same[-1].call_id != binding.call_id):
        series = gruus.new_series()
    else:
        series = mine[-1].series or gruus.new_series()
    renamed = [replace(one, series=series) if one in mine else one for one in known]
    return replace(binding, series=series), renamed


def _instance(binding: Binding) -> str | None:
    return None if binding.instance is None else binding.instance.strip("<>").lower()
