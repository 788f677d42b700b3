"""Signed callers: RFC 8225's printed token, another JWT library, and everything that may lie."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import ConfigError, SipError
from voip.sip.headers import Headers
from voip.sip.passport import Attestation, Passport, Who, verify_signature
from voip.sip.stir import Signer, Verifier

pytestmark = [pytest.mark.rfc("8224", "4"), pytest.mark.rfc("8225", "5")]

WALL = 1_784_000_000.0
URL = "https://cert.example.org/passport.cer"
ORIGID = "123e4567-e89b-12d3-a456-426655440000"
CALLER, CALLEE = "tel:+12155550121", "sip:+12155550131@pbx.example;user=phone"
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
NONE = serialization.NoEncryption()


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(PEM, PKCS8, NONE)


class Authority:
    """A certificate authority and what it has signed."""

    def __init__(self, name: str = "root") -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._certificate(self.name, self.key, ca=True)

    def issue(
        self, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, until: float = WALL + 86400
    ) -> bytes:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SHAKEN 1234")])
        return self._certificate(name, key, ca=False, until=until).public_bytes(PEM)

    def _certificate(self, name, key, *, ca, until=WALL + 86400):  # type: ignore[no-untyped-def]
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        usage = x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.fromtimestamp(WALL - 86400, UTC))
            .not_valid_after(datetime.fromtimestamp(until, UTC))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(own, critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(usage, critical=True)
            .sign(self.key, SHA256())
        )


class World:
    """A caller's provider, a callee's, and the certificates between them."""

    def __init__(self) -> None:
        self.root = Authority()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.signer = Signer(pem(self.key), URL)
        self.shop: dict[str, bytes | None] = {URL: self.root.issue(self.key)}
        self.asked: list[str] = []
        self.verifier = Verifier(self.root.certificate.public_bytes(PEM), self._fetch)

    def _fetch(self, url: str) -> bytes | None:
        self.asked.append(url)
        return self.shop.get(url)

    def sign(self, orig: str = CALLER, dest: str = CALLEE, wall: float = WALL) -> str:
        return self.signer.identity(orig, dest, wall=wall, attest=Attestation.FULL, origid=ORIGID)

    def judge(self, *identities: str, more: tuple[tuple[str, str], ...] = (), wall: float = WALL):  # type: ignore[no-untyped-def]
        headers = Headers([("From", f"<{CALLER}>;tag=1"), ("To", f"<{CALLEE}>"), *more])
        for identity in identities:
            headers.add("Identity", identity)
        return self.verifier.verify(headers, wall)


@pytest.fixture(scope="module")
def _world() -> World:
    return World()


@pytest.fixture
def world(_world: World) -> World:
    _world.asked.clear()
    _world.shop = {URL: _world.root.issue(_world.key)}
    return _world


def parts(identity: str) -> tuple[dict[str, object], dict[str, object]]:
    token = identity.partition(";")[0]
    head, claims, _ = (urlsafe_b64decode(part + "==") for part in token.split("."))
    return json.loads(head), json.loads(claims)


class TestPrinted:
    @pytest.mark.reference
    def test_F131_the_token_of_rfc_8225_appendix_a(self, reference_data: Path) -> None:
        text = (reference_data / "rfc-text" / "rfc8225.txt").read_text()
        text = text[text.rindex("Appendix A.  Example ES256-Based") :]
        keys = re.findall(r"-----BEGIN P.*?-----END P[A-Z]+ KEY-----", text, re.DOTALL)
        private, public = (re.sub(r"\n +", "\n", key).encode() for key in keys)
        shown = text[text.index("Step 8") : text.index("A.1.  X.509")]
        token = "".join(re.findall(r"^   ([A-Za-z0-9_-]{20,}|\.)$", shown, re.MULTILINE))
        passport, signed, signature = Passport.parse(token)
        assert passport == Passport(
            Who("tn", "12155551212"), (Who("uri", "sip:alice@example.com"),), 1471375418, URL
        )
        assert passport.signing_input() == signed
        loaded = serialization.load_pem_private_key(private, None)
        other = serialization.load_pem_public_key(public)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        assert isinstance(other, ec.EllipticCurvePublicKey)
        # The printed signature is of neither printed key, and they are no pair: so says PyJWT too.
        for key in (loaded.public_key(), other):
            assert not verify_signature(signed, signature, key)
            with pytest.raises(jwt.InvalidSignatureError):
                jwt.decode(token, key, algorithms=["ES256"])
        _, again, ours = Passport.parse(passport.sign(loaded))
        assert again == signed
        assert verify_signature(again, ours, loaded.public_key())

    def test_F131_the_claims_of_rfc_8588_section_6(self, world: World) -> None:
        identity = world.signer.identity(
            "12155550121", "12155550131", wall=1443208345, attest=Attestation.FULL, origid=ORIGID
        )
        head, claims = parts(identity)
        assert head == {"alg": "ES256", "typ": "passport", "ppt": "shaken", "x5u": URL}
        assert claims == {
            "attest": "A",
            "dest": {"tn": ["12155550131"]},
            "iat": 1443208345,
            "orig": {"tn": "12155550121"},
            "origid": ORIGID,
        }
        assert identity.endswith(f';info=<{URL}>;alg=ES256;ppt="shaken"')


class TestAgainstPyJwt:
    def test_F131_it_accepts_what_we_sign(self, world: World) -> None:
        token = world.sign().partition(";")[0]
        claims = jwt.decode(
            token, world.key.public_key(), algorithms=["ES256"], options={"verify_iat": False}
        )
        assert claims["orig"] == {"tn": "12155550121"}
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.decode(
                token, ec.generate_private_key(ec.SECP256R1()).public_key(), algorithms=["ES256"]
            )

    def test_F131_we_accept_what_it_signs(self, world: World) -> None:
        token = jwt.encode(
            {"origid": ORIGID, "orig": {"tn": "12155550121"}, "iat": int(WALL), "attest": "B",
             "dest": {"tn": ["12155550199", "12155550131"]}},
            world.key, "ES256", {"typ": "passport", "ppt": "shaken", "x5u": URL},
        )  # fmt: skip
        result = world.judge(f"{token};info=<{URL}>;ppt=shaken")
        assert (result.status, result.attest) == (200, Attestation.PARTIAL)
        assert result.passport is not None
        assert result.passport.origid == ORIGID


class TestWho:
    @pytest.mark.parametrize(
        ("text", "who"),
        [
            ("+1 (215) 555-0121".replace(" ", ""), Who("tn", "12155550121")),
            ("tel:+1-215-555-0121", Who("tn", "12155550121")),
            ("sip:+12155550121@example.com;user=phone", Who("tn", "12155550121")),
            ("sip:+12155550121@example.com", Who("tn", "12155550121")),
            ("sip:12155550121@example.com;user=phone", Who("uri", "sip:12155550121@example.com")),
            ("sips:Alice@Example.COM:5061;transport=tcp", Who("uri", "sips:Alice@example.com")),
        ],
    )
    def test_F131_canonical_names(self, text: str, who: Who) -> None:
        assert Who.of(text) == who


class TestVerifying:
    def test_F131_a_signed_caller_is_who_it_is(self, world: World) -> None:
        result = world.judge(world.sign())
        assert (result.status, result.attest, result.valid) == (200, Attestation.FULL, True)
        assert world.asked == [URL]

    def test_F131_the_same_call_is_signed_the_same(self, world: World) -> None:
        assert world.sign() == world.sign()

    def test_F131_without_attestation(self, world: World) -> None:
        identity = world.signer.identity(CALLER, CALLEE, wall=WALL)
        assert "ppt" not in identity
        result = world.judge(identity)
        assert (result.valid, result.attest) == (True, None)

    def test_F131_the_compact_form_is_put_together_from_the_request(self, world: World) -> None:
        identity = world.signer.identity(CALLER, CALLEE, wall=WALL)
        compact = ".." + identity.split(".", 2)[2]
        date = format_datetime(datetime.fromtimestamp(WALL, UTC), usegmt=True)
        assert world.judge(compact, more=(("Date", date),)).valid
        later = format_datetime(datetime.fromtimestamp(WALL + 1, UTC), usegmt=True)
        assert world.judge(compact, more=(("Date", later),)).status == 438
        assert world.judge(compact).status == 438

    def test_F131_the_asserted_caller_is_the_one_that_is_signed_for(self, world: World) -> None:
        identity = world.sign("tel:+12155550177")
        asserted = (("P-Asserted-Identity", "<tel:+12155550177>"),)
        assert world.judge(identity, more=asserted).valid
        assert world.judge(identity).status == 438

    def test_F131_428_where_nothing_we_know_is_signed(self, world: World) -> None:
        assert world.judge().status == 428
        result = world.judge(f'{world.sign().partition(";")[0]};info=<{URL}>;ppt="div"')
        assert (result.status, result.reason) == (428, "Use Supported PASSporT Format")

    def test_F131_436_where_there_is_no_certificate(self, world: World) -> None:
        world.shop = {}
        assert world.judge(world.sign()).status == 436

    def test_nothing_is_fetched_but_by_https(self, world: World) -> None:
        signer = Signer(pem(world.key), "http://cert.example.org/x")
        assert world.judge(signer.identity(CALLER, CALLEE, wall=WALL)).status == 436
        assert world.asked == []

    def test_F131_437_for_a_certificate_nobody_trusts(self, world: World) -> None:
        for chain in (
            Authority("another").issue(world.key),
            world.root.issue(world.key, until=WALL - 1),
            world.root.issue(ec.generate_private_key(ec.SECP384R1())),
            world.root.issue(rsa.generate_private_key(65537, 2048)),
            b"no certificate",
            b"",
        ):
            world.shop[URL] = chain
            assert world.judge(world.sign()).status == 437

    def test_F131_an_intermediate_authority_is_followed(self, world: World) -> None:
        middle = Authority("middle")
        middle.certificate = world.root._certificate(middle.name, middle.key, ca=True)
        leaf = middle.issue(world.key)
        world.shop[URL] = leaf
        assert world.judge(world.sign()).status == 437
        world.shop[URL] = leaf + middle.certificate.public_bytes(PEM)
        assert world.judge(world.sign()).valid

    def test_F131_438_for_another_key_caller_or_callee(self, world: World) -> None:
        other = Signer(pem(ec.generate_private_key(ec.SECP256R1())), URL)
        assert world.judge(other.identity(CALLER, CALLEE, wall=WALL)).status == 438
        assert world.judge(world.sign(orig="tel:+1900")).reason == "signed for another caller"
        assert world.judge(world.sign(dest="tel:+1900")).reason == "signed for another callee"
        token, params = world.sign().split(";", 1)
        assert world.judge(f"{token};{params.replace('cert.', 'evil.')}").status == 438

    def test_F131_438_for_a_statement_that_was_changed(self, world: World) -> None:
        token, params = world.sign().split(";", 1)
        head, claims, signature = token.split(".")
        better = json.loads(urlsafe_b64decode(claims + "==")) | {"origid": "x"}
        forged = urlsafe_b64encode(json.dumps(better).encode()).rstrip(b"=").decode()
        assert world.judge(f"{head}.{forged}.{signature};{params}").status == 438
        assert world.judge(f"{head}.{claims}.{signature[:-4]};{params}").status == 438

    def test_F131_403_for_what_is_too_old_or_of_tomorrow(self, world: World) -> None:
        assert world.judge(world.sign(), wall=WALL + 59).valid
        for wall in (WALL + 62, WALL - 61):
            result = world.judge(world.sign(), wall=wall)
            assert (result.status, result.reason) == (403, "Stale Date")

    def test_one_that_holds_is_enough(self, world: World) -> None:
        bad = world.sign(orig="tel:+1900")
        assert world.judge(bad, world.sign()).valid
        assert world.judge(*[bad] * 4, world.sign()).status == 438  # no more than four are read

    def test_certificates_can_be_fetched_beforehand(self, world: World) -> None:
        headers = Headers([("Identity", world.sign()), ("Identity", "x;info=<https://b>;ppt=y")])
        assert Verifier.urls(headers) == [URL, "https://b"]

    @pytest.mark.parametrize(
        ("head", "claims"),
        [
            ({"alg": "none"}, {}), ({"alg": "HS256"}, {}), ({"typ": "JWT"}, {}), ({"x5u": 7}, {}),
            ({}, {"iat": "1"}), ({}, {"iat": True}), ({}, {"iat": 10**300}), ({}, {"iat": 1e300}),
            ({}, {"orig": {}}), ({}, {"orig": {"tn": ["1", "2"]}}), ({}, {"dest": []}),
            ({}, {"attest": "D"}), ({}, {"origid": 5}), ({}, {"attest": None}),
        ],
    )  # fmt: skip
    def test_other_statements_are_refused(
        self, world: World, head: dict[str, object], claims: dict[str, object]
    ) -> None:
        full_head = {"alg": "ES256", "typ": "passport", "ppt": "shaken", "x5u": URL} | head
        full_claims = {"attest": "A", "dest": {"tn": ["12155550131"]}, "iat": int(WALL),
                       "orig": {"tn": "12155550121"}, "origid": ORIGID} | claims  # fmt: skip
        encoded = (
            urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
            for part in (full_head, full_claims)
        )
        with pytest.raises(SipError) as caught:
            Passport.parse(f"{'.'.join(encoded)}.{'A' * 86}")
        assert caught.value.status == 438

    @given(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=200)
           | st.text("ey[{}].;-_A", max_size=300)
           | st.integers(1, 3000).map(lambda n: urlsafe_b64encode(b"[" * n).decode().rstrip("=")
                                      + ".e30.e30;info=<https://x>"))  # fmt: skip
    def test_any_text_is_judged_and_nothing_is_believed(self, text: str) -> None:
        verifier = Verifier(ROOT, lambda url: None)
        headers = Headers([("From", "<tel:+1>"), ("To", "<tel:+2>"), ("Identity", text)])
        assert verifier.verify(headers, WALL).status in (428, 436, 438)


ROOT = Authority().certificate.public_bytes(PEM)


def test_what_signs_is_checked_where_it_is_given(world: World) -> None:
    p384 = pem(ec.generate_private_key(ec.SECP384R1()))
    for key in (b"", b"-----BEGIN PRIVATE KEY-----", p384):
        with pytest.raises(ConfigError):
            Signer(key, URL)
    with pytest.raises(ConfigError):
        Verifier(b"", world.shop.get)
    with pytest.raises(ConfigError):
        world.signer.identity(CALLER, CALLEE, wall=WALL, attest=Attestation.FULL)
