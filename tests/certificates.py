"""Certificates made for a test: an authority, and whatever it is asked to sign."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

__all__ = ["Authority"]

TN_AUTH_LIST = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.26")
DAY = dt.timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Authority:
    """Signs; its files are written to `folder`."""

    folder: Path
    name: str = "Laboratory"

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._count = 0
        certificate = self._builder(_name(self.name), self._key, 0, 30, issued=None)
        certificate = certificate.add_extension(x509.BasicConstraints(True, None), critical=True)
        certificate = certificate.add_extension(
            x509.KeyUsage(
                digital_signature=True, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
                encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )  # fmt: skip
        self.certificate = certificate.sign(self._key, hashes.SHA256())
        self.file = self.folder / f"{self.name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(
        self,
        *names: str,
        since_days: float = -1,
        until_days: float = 20,
        self_signed: bool = False,
        common_name: str = "a telephone",
        provider: str = "",
    ) -> Path:
        """Return a file with a certificate for `names` (sip:domain, DNS names, IP) and its key.

        `provider`: the code of a telephone company, whose numbers it is for (RFC 8226 section 9).
        """
        key = ec.generate_private_key(ec.SECP256R1())
        issued = None if self_signed else self.certificate
        builder = self._builder(_name(common_name), key, since_days, until_days, issued=issued)
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(_general(names)), critical=False
            )
        if provider:
            spc = _der(0xA0, _der(0x16, provider.encode()))
            numbers = x509.UnrecognizedExtension(TN_AUTH_LIST, _der(0x30, spc))
            builder = builder.add_extension(numbers, critical=False).add_extension(
                x509.BasicConstraints(False, None), critical=True
            )
        certificate = builder.sign(key if self_signed else self._key, hashes.SHA256())
        self._count += 1
        file = self.folder / f"{self.name}-{self._count}.pem"
        file.write_bytes(
            certificate.public_bytes(Encoding.PEM)
            + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return file

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        since_days: float,
        until_days: float,
        issued: x509.Certificate | None,
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        signer = key.public_key() if issued is None else issued.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issued is None else issued.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY * 40 if issued is None else now + DAY * since_days)
            .not_valid_after(now + DAY * until_days)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False
            )
        )


def _der(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content


def _general(names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        if ":" in name and not name[0].isdigit() and not name.startswith(":"):
            found.append(x509.UniformResourceIdentifier(name))
            continue
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found
