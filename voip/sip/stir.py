"""Signed caller identity: the Identity header, made and judged (RFC 8224, RFC 8588).

Nothing is fetched here: certificates come from a function of the application's, which has a cache
and a time limit of its own. Needs `cryptography` (the extra `stir`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeAlias

from voip.errors import ConfigError, SipError
from voip.sip.grammar import find_param, parse_params
from voip.sip.headers import Headers, NameAddr
from voip.sip.identity import asserted
from voip.sip.passport import Attestation, Passport, Who, verify_signature

# after `passport`, which says what to do where it is missing
from cryptography import x509  # isort: skip
from cryptography.hazmat.primitives.asymmetric import ec  # isort: skip
from cryptography.hazmat.primitives.serialization import load_pem_private_key  # isort: skip
from cryptography.x509.verification import (  # isort: skip
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

__all__ = ["Fetch", "Signer", "Verification", "Verifier"]

Fetch: TypeAlias = Callable[[str], bytes | None]
"""URL of a certificate chain to its PEM, the signer's first; None: it cannot be had."""

FRESH_S: Final = 60.0
"""How far the time of signing may be from now (RFC 8224 section 12.1)."""
MAX_IDENTITIES: Final = 4
"""Identity headers of one request that are looked at: each may cost a fetch."""
MAX_CHAIN: Final = 6

_FAILURES: Final = (403, 438, 437, 436, 428)
"""What is told where several headers fail, the one that came furthest first."""


class Signer:
    """Signs calls with a P-256 private key (PEM); `x5u`: where others find its certificate."""

    def __init__(self, key: bytes, x5u: str, *, password: bytes | None = None) -> None:
        try:
            loaded = load_pem_private_key(key, password)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"not a private key: {error}", hint="PEM, PKCS #8") from error
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.curve.name != "secp256r1":
            raise ConfigError("calls are signed with ES256", hint="a key on the curve P-256")
        self._key = loaded
        self._x5u = x5u

    def identity(
        self,
        orig: str,
        dest: str | Iterable[str],
        *,
        wall: float,
        attest: Attestation | None = None,
        origid: str | None = None,
    ) -> str:
        """Return an Identity header for a call of `orig` to `dest` at `wall` (Unix seconds).

        Both are numbers, tel: or SIP URIs, as From (or P-Asserted-Identity) and To have them.
        `attest` needs `origid`, a UUID, and makes it a "shaken" one.
        """
        if (attest is None) != (origid is None):
            raise ConfigError("attest and origid go together", hint="give both, or none")
        passport = Passport(
            Who.of(orig),
            tuple(map(Who.of, [dest] if isinstance(dest, str) else dest)),
            int(wall),
            self._x5u,
            attest,
            origid,
        )
        kind = ';ppt="shaken"' if attest is not None else ""
        return f"{passport.sign(self._key)};info=<{self._x5u}>;alg=ES256{kind}"


@dataclass(frozen=True, slots=True)
class Verification:
    """What came out. `status` is 200, or what a request may be refused with; `reason` says why.

    `passport` is the statement that holds, only where the status is 200.
    """

    status: int
    reason: str
    passport: Passport | None = None

    @property
    def valid(self) -> bool:
        """Whether the caller is who is signed for."""
        return self.passport is not None

    @property
    def attest(self) -> Attestation | None:
        """How sure the signer was; None for a statement that says nothing of that."""
        return self.passport.attest if self.passport else None


class Verifier:
    """Judges the Identity headers of requests; `roots`: certificates (PEM) that are trusted."""

    def __init__(self, roots: bytes, fetch: Fetch) -> None:
        try:
            self._store = Store(x509.load_pem_x509_certificates(roots))
        except ValueError as error:
            raise ConfigError(f"no certificates to trust: {error}", hint="PEM") from error
        self._fetch = fetch

    @staticmethod
    def urls(headers: Headers) -> list[str]:
        """Return where certificates will be asked for, to be fetched beforehand."""
        found = (_info(params) for _, params in _identities(headers))
        return [url for url in dict.fromkeys(found) if url]

    def verify(self, headers: Headers, wall: float) -> Verification:
        """Judge a request by its headers at `wall` (Unix seconds): the first that holds counts.

        428: nothing is signed in a way we know; 436: no certificate; 437: none we trust; 438: not
        a valid statement about this call; 403: too old, or from the future.
        """
        failures: list[Verification] = []
        for token, params in _identities(headers):
            ppt = find_param(params, "ppt")
            if ppt not in (None, "shaken"):
                failures.append(Verification(428, "Use Supported PASSporT Format"))
                continue
            try:
                return Verification(200, "OK", self._judge(token, params, headers, wall))
            except SipError as error:
                failures.append(Verification(error.status or 438, error.message))
        return min(
            failures,
            key=lambda failure: _FAILURES.index(failure.status),
            default=Verification(428, "Use Identity Header"),
        )

    def _judge(
        self, token: str, params: tuple[tuple[str, str | None], ...], headers: Headers, wall: float
    ) -> Passport:
        if token.startswith(".."):
            token = f"{_reconstructed(params, headers).signing_input()}.{token[2:]}"
        passport, text, signature = Passport.parse(token)
        if _info(params) != passport.x5u:
            raise SipError("the certificate is not the one that was signed for", status=438)
        if (find_param(params, "ppt") is not None) != (passport.attest is not None):
            raise SipError("another kind of statement than the header says", status=438)
        _check_people(passport, headers)
        if abs(wall - passport.iat) > FRESH_S:
            raise SipError("Stale Date", status=403)
        if not verify_signature(text, signature, self._key(passport.x5u, wall)):
            raise SipError("Invalid Identity Header: the signature is wrong", status=438)
        return passport

    def _key(self, url: str, wall: float) -> ec.EllipticCurvePublicKey:
        pem = self._fetch(url) if url.startswith("https://") else None
        if pem is None:
            raise SipError("Bad Identity Info: no certificate to be had", status=436)
        try:
            leaf, *others = x509.load_pem_x509_certificates(pem)[:MAX_CHAIN]
            key = leaf.public_key()
        except (ValueError, TypeError):
            raise SipError("Unsupported Credential: no certificate", status=437) from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise SipError("Unsupported Credential: not a key for ES256", status=437)
        self._check_chain(leaf, others, wall)
        return key

    def _check_chain(
        self, leaf: x509.Certificate, others: Sequence[x509.Certificate], wall: float
    ) -> None:
        # A STIR certificate names numbers or a provider, no host (RFC 8226): nothing is asked of
        # the extensions of the leaf; those above it are certificate authorities as in any PKI.
        policy = (
            PolicyBuilder()
            .store(self._store)
            .time(datetime.fromtimestamp(wall, UTC))
            .max_chain_depth(MAX_CHAIN)
            .extension_policies(
                ca_policy=ExtensionPolicy.webpki_defaults_ca(),
                ee_policy=ExtensionPolicy.permit_all(),
            )
        )
        try:
            policy.build_client_verifier().verify(leaf, list(others))
        except VerificationError:
            raise SipError("Unsupported Credential: nobody trusted signed it", status=437) from None


def _identities(headers: Headers) -> list[tuple[str, tuple[tuple[str, str | None], ...]]]:
    """Return tokens and parameters of the headers that can be taken apart."""

    def read(value: str) -> tuple[str, tuple[tuple[str, str | None], ...]]:
        token, semicolon, params = value.partition(";")
        return token.strip(" \t"), parse_params(semicolon + params)

    return headers.readable("Identity", read, MAX_IDENTITIES)


def _info(params: tuple[tuple[str, str | None], ...]) -> str:
    return (find_param(params, "info") or "").strip("<>")


def _check_people(passport: Passport, headers: Headers) -> None:
    """Raise SipError (438) unless the statement is about this caller and this callee."""
    caller, callee = _people(headers)
    if passport.orig not in caller:
        raise SipError("signed for another caller", status=438)
    if callee not in passport.dest:
        raise SipError("signed for another callee", status=438)


def _people(headers: Headers) -> tuple[list[Who], Who]:
    """Return the caller, as asserted if so (RFC 8588 section 7) and else as From says; and To."""
    try:
        named = asserted(headers) or [NameAddr.parse(headers.get("From") or "")]
        return [Who.of(who.uri) for who in named], Who.of(
            NameAddr.parse(headers.get("To") or "").uri
        )
    except SipError as error:
        raise SipError(
            f"nobody can be told from the request: {error.message}", status=438
        ) from error


def _reconstructed(params: tuple[tuple[str, str | None], ...], headers: Headers) -> Passport:
    """Return the statement of a compact form, which the request itself makes (section 4.1.2)."""
    callers, callee = _people(headers)
    try:
        date = parsedate_to_datetime(headers.get("Date") or "")
    except ValueError:
        raise SipError("a compact form without a Date", status=438) from None
    iat = int(date.replace(tzinfo=date.tzinfo or UTC).timestamp())
    return Passport(callers[0], (callee,), iat, _info(params))
