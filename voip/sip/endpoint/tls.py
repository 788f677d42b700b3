"""TLS for SIP: whom to trust, and whether a certificate is that of a domain (RFC 5922).

OpenSSL judges the chain and the dates. The name is judged here: SIP knows URIs in certificates, and
no wildcards.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Final

from voip.config import TlsConfig
from voip.errors import ConfigError, SipError, TransportError
from voip.ip import literal
from voip.sip.uri import SipUri
from voip.types import Address

__all__ = ["check_domain", "client_context", "identities", "refusal", "server_context"]

_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_SELF_SIGNED: Final = 18
_UNKNOWN_ISSUER: Final = (19, 20, 21)
"""Codes of openssl-verify(1)."""

_TRUST_HINT: Final = "name the authority that signed it, if you trust it: ca_file=, --tls-ca"


def client_context(config: TlsConfig) -> ssl.SSLContext:
    """Return what connections of ours are opened with; raises `ConfigError` for files unread."""
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except OSError as error:
        raise ConfigError(
            f"{config.ca_file} has no certificate of an authority: {_words(error)}",
            hint="a file in PEM format",
        ) from error
    context.check_hostname = False  # see `check_domain`
    if config.insecure:
        context.verify_mode = ssl.CERT_NONE
    _present(context, config)
    return context


def server_context(config: TlsConfig) -> ssl.SSLContext:
    """Return what others' connections are accepted with: our certificate, and whose we ask for.

    Raises `ConfigError` where there is none, or a file cannot be read.
    """
    if config.certificate is None:
        raise ConfigError(
            "nobody can call by TLS without a certificate", hint="certificate=, --tls-cert"
        )
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=config.ca_file)
    except OSError as error:
        raise ConfigError(f"cannot read {config.ca_file}: {_words(error)}") from error
    if config.client_certificates:
        context.verify_mode = ssl.CERT_REQUIRED
        if config.ca_file is None:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    _present(context, config)
    return context


def identities(certificate: Mapping[str, Any]) -> list[str]:
    """Return the SIP domains a certificate is for, in lower case (RFC 5922 section 7.1).

    `certificate` is what `SSLSocket.getpeercert` returns. URIs `sip:domain` count, and DNS names
    only where there is no such URI; addresses count as themselves. The subject's common name does
    not: nobody has issued such certificates for many years.
    """
    uris, names, addresses = [], [], []
    for kind, value in certificate.get("subjectAltName", ()):
        if kind == "URI":
            domain = _sip_domain(value)
            if domain is not None:
                uris.append(domain)
        elif kind == "DNS":
            names.append(value.lower().removesuffix("."))
        elif kind == "IP Address":
            addresses.append(literal(value.strip()) or value)
    return (uris or names) + addresses


def check_domain(certificate: Mapping[str, Any], domain: str, remote: Address) -> None:
    """Raise `TransportError` unless the certificate is for `domain`, in full (section 7.2)."""
    found = identities(certificate)
    wanted = literal(domain) or domain.lower().removesuffix(".")
    if wanted in found:
        return
    whose = f"for {_some(found)}" if found else "for no SIP domain at all"
    raise TransportError(
        f"the certificate of {remote} is {whose}, not for {domain}",
        hint="wildcards and common names do not count in SIP" if _nearly(found) else "",
    )


def refusal(error: ssl.SSLError, domain: str, remote: Address) -> TransportError:
    """Say why TLS with `remote` did not come about."""
    whose = f"the certificate of {domain} at {remote}" if domain else f"the certificate of {remote}"
    if not isinstance(error, ssl.SSLCertVerificationError):
        reason = (error.reason or str(error)).lower().replace("_", " ")
        return TransportError(f"no TLS with {remote}: {reason}", hint="does it speak TLS there?")
    match error.verify_code:
        case code if code == _EXPIRED:
            return TransportError(f"{whose} has expired", hint="its owner must renew it")
        case code if code == _NOT_YET_VALID:
            return TransportError(f"{whose} is not valid yet", hint="is the clock right?")
        case code if code == _SELF_SIGNED:
            return TransportError(f"{whose} is self-signed", hint=_TRUST_HINT)
        case code if code in _UNKNOWN_ISSUER:
            return TransportError(
                f"{whose} is signed by an authority that is not trusted here", hint=_TRUST_HINT
            )
    return TransportError(f"{whose} is not accepted: {error.verify_message}")


def _present(context: ssl.SSLContext, config: TlsConfig) -> None:
    if config.certificate is None:
        return
    try:
        context.load_cert_chain(config.certificate, config.private_key, password=_no_password)
    except OSError as error:
        files = " and ".join(filter(None, (config.certificate, config.private_key)))
        raise ConfigError(
            f"no certificate with its key can be read from {files}: {_words(error)}",
            hint="PEM files; the key without a password",
        ) from error


def _no_password() -> str:
    """Answer OpenSSL, which would ask at the terminal otherwise."""
    return ""


def _sip_domain(text: str) -> str | None:
    scheme, _, rest = text.partition(":")
    if scheme.lower() != "sip" or "@" in rest:
        return None
    try:
        return SipUri.parse(f"sip:{rest}").host.lower().removesuffix(".")
    except SipError:
        return None


def _nearly(found: Iterable[str]) -> bool:
    return not found or any(name.startswith("*.") for name in found)


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (" and more" if len(names) > 4 else "")


def _words(error: OSError) -> str:
    return error.strerror or str(error)
