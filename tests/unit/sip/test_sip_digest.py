"""Digest against the printed examples of RFC 7616, 2617 and 2069, and the standard library."""

from __future__ import annotations

import hashlib
import re
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import SipError
from voip.sip.digest import (
    MAX_CLIENT_NONCES,
    AuthenticationInfo,
    Challenge,
    Credentials,
    DigestClient,
    digest_response,
)
from voip.sip.digest_server import DigestServer, Verdict
from voip.types import SeededRandom

pytestmark = [pytest.mark.rfc("7616", "3"), pytest.mark.rfc("8760", "2")]

ALICE = Credentials("alice", "wonder land")
USERS = {"alice": "wonder land", "bob": "builder"}


def params(value: str) -> dict[str, str]:
    """Take a header value apart, by other means than the code under test."""
    found = re.findall(r'([a-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",\s]+))', value)
    return {name: quoted or plain for name, quoted, plain in found}


class Fixed(SeededRandom):
    """Gives the client nonce of a printed example."""

    def __init__(self, token: str) -> None:
        super().__init__(0)
        self._token = token

    def token(self, length: int = 16) -> str:
        return self._token


def server(**options: object) -> DigestServer:
    return DigestServer("pbx", USERS, SeededRandom(7), **options)  # type: ignore[arg-type]


def answer(
    challenges: list[str],
    client: DigestClient | None = None,
    who: Credentials = ALICE,
    method: str = "REGISTER",
) -> str:
    value = (client or DigestClient()).authorize(
        method, "sip:pbx", b"", challenges, who, SeededRandom(1)
    )
    assert value is not None
    return value


class TestPrintedExamples:
    @pytest.mark.reference
    @pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
    def test_rfc_7616_3_9_1(self, reference_data: Path, algorithm: str) -> None:
        text = (reference_data / "rfc-examples" / "rfc7616_3.9_digest_examples.txt").read_text()
        section = text[text.index("3.9.1.") : text.index("3.9.2.")]
        pieces = re.split(r"\n\s*\n", section)
        challenges = [
            "Digest " + re.sub(r"\s+", " ", found)
            for found in re.findall(
                r"WWW-Authenticate: Digest\s+((?:[^:]|:(?! Digest))*?)(?=\n\s+WWW|\Z)",
                next(piece for piece in pieces if "WWW-Authenticate" in piece),
            )
        ]
        assert len(challenges) == 2
        printed = next(
            piece for piece in pieces if "Authorization: D" in piece and f"={algorithm}," in piece
        )
        expected = params(re.sub(r"\n\s+(?=[0-9a-f]+\")", "", printed))
        mine = DigestClient().authorize(
            "GET",
            "/dir/index.html",
            b"",
            [text for text in challenges if f"algorithm={algorithm}," in text],
            Credentials("Mufasa", "Circle of Life", "http-auth@example.org"),
            Fixed(expected["cnonce"]),
        )
        assert mine is not None
        assert params(mine) == expected
        assert len(expected) == 10

    @pytest.mark.reference
    def test_rfc_7616_3_9_2_as_corrected_by_erratum_4897(self, reference_data: Path) -> None:
        """The printed response was made with SHA-512 cut in half, before SHA-512/256 was final."""
        text = (reference_data / "rfc-examples" / "rfc7616_3.9_digest_examples.txt").read_text()
        section = re.sub(r"\n\s+(?=[0-9a-f]+\")", "", text[text.index("3.9.2.") :])
        printed = params(section[section.rindex("Authorization: Digest") :])
        parts = {
            "username": "J\u00e4s\u00f8n Doe",
            "realm": "api@example.org",
            "password": "Secret, or not?",
            "method": "GET",
            "uri": printed["uri"],
            "nonce": printed["nonce"],
            "qop": "auth",
            "nonce_count": printed["nc"],
            "cnonce": printed["cnonce"],
        }
        corrected = "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"
        assert digest_response(algorithm="SHA-512-256", **parts) == corrected

        def half(text: str) -> str:
            return hashlib.sha512(text.encode()).hexdigest()[:64]

        secret = half(f"{parts['username']}:api@example.org:Secret, or not?")
        use = f"{parts['nonce']}:00000001:{parts['cnonce']}:auth"
        assert half(f"{secret}:{use}:{half('GET:/doe.json')}") == printed["response"]

    def test_rfc_2617_3_5(self) -> None:
        assert (
            digest_response(
                algorithm="",
                username="Mufasa",
                realm="testrealm@host.com",
                password="Circle Of Life",
                method="GET",
                uri="/dir/index.html",
                nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
                qop="auth",
                nonce_count="00000001",
                cnonce="0a4f113b",
            )
            == "6629fae49393a05397450978507c4ef1"
        )

    def test_rfc_2069_2_4_as_corrected_by_erratum_749(self) -> None:
        value = DigestClient().authorize(
            "GET",
            "/dir/index.html",
            b"",
            [
                'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
                'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
            ],
            Credentials("Mufasa", "CircleOfLife"),
            SeededRandom(0),
        )
        assert value is not None
        found = params(value)
        assert found["response"] == "1949323746fe6a43ef61f9606e7febea"
        assert found["opaque"] == "5ccc069c403ebaf9f0171e9517f40e41"
        assert not {"qop", "nc", "cnonce", "algorithm"} & found.keys()

    def test_body_hash_of_nothing_is_what_rfc_8760_2_6_prints(self) -> None:
        empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        assert hashlib.sha256(b"").hexdigest() == empty
        use = {"nonce": "n", "nonce_count": "00000001", "cnonce": "c"}
        who = {"username": "u", "realm": "r", "password": "p", "method": "BYE", "uri": "sip:x"}

        def sha(text: str) -> str:
            return hashlib.sha256(text.encode()).hexdigest()

        expected = sha(f"{sha('u:r:p')}:n:00000001:c:auth-int:{sha(f'BYE:sip:x:{empty}')}")
        assert digest_response(algorithm="SHA-256", qop="auth-int", **who, **use) == expected

    def test_session_keys_are_made_of_nonce_and_client_nonce(self) -> None:
        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        secret = md5(f"{md5('u:r:p')}:n:c")
        assert digest_response(
            algorithm="md5-Sess", username="u", realm="r", password="p", method="BYE",
            uri="sip:x", nonce="n", qop="auth", nonce_count="00000002", cnonce="c",
        ) == md5(f"{secret}:n:00000002:c:auth:{md5('BYE:sip:x')}")  # fmt: skip


class TestAgainstTheStandardLibrary:
    @given(
        st.text(
            st.characters(codec="ascii", exclude_characters='"\\', categories=["L", "N", "P"]),
            min_size=1,
        ),
        st.text(st.characters(codec="ascii"), min_size=1),
        st.sampled_from(['qop="auth", ', ""]),
    )
    def test_http_clients_and_we_understand_each_other(
        self, username: str, password: str, qop: str
    ) -> None:
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, "http://pbx/", username, password)
        handler = urllib.request.HTTPDigestAuthHandler(passwords)
        judge = DigestServer("pbx", {username: password}, SeededRandom(3), algorithms=("MD5",))
        challenge = judge.challenge(0.0)[0].replace('qop="auth", ', qop)
        request = urllib.request.Request("http://pbx/dir/index.html", method="OPTIONS")
        theirs = handler.get_authorization(request, params(challenge))
        assert theirs is not None
        assert judge.verify("OPTIONS", f"Digest {theirs}", 0.0).username == username


class TestClient:
    def test_F115_the_topmost_algorithm_we_know_wins(self) -> None:
        offers = [
            f'Digest realm="r", nonce="n{name}", qop="auth", algorithm={name}'
            for name in ("SHA-1024", "SHA-512-256", "MD5", "SHA-256")
        ]
        assert params(answer(offers))["algorithm"] == "SHA-512-256"
        assert params(answer(offers[2:]))["algorithm"] == "MD5"
        assert params(answer([offers[3], offers[2]]))["algorithm"] == "SHA-256"

    def test_what_cannot_be_answered_is_passed_over(self) -> None:
        for text in (
            'Basic realm="r"',
            'Digest realm="r"',
            'Digest nonce="n"',
            'Digest realm="r", nonce="n", qop="auth-conf"',
            'Digest realm="r", nonce="n", algorithm=AKAv1-MD5',
            'Digest realm="r", nonce="n", nonce="m"',
            'Digest realm="open',
            "",
        ):
            client = DigestClient()
            assert client.authorize("BYE", "sip:x", b"", [text], ALICE, SeededRandom(1)) is None, (
                text
            )

    def test_credentials_of_one_realm_answer_no_other(self) -> None:
        client, here = DigestClient(), 'Digest realm="here", nonce="n"'
        mine = Credentials("alice", "x", "there")
        assert client.authorize("BYE", "sip:x", b"", [here], mine, SeededRandom(1)) is None
        there = here.replace("here", "there")
        value = client.authorize("BYE", "sip:x", b"", [here, there], mine, SeededRandom(1))
        assert value is not None
        assert params(value)["realm"] == "there"

    def test_each_use_of_a_nonce_is_counted(self) -> None:
        client = DigestClient()
        one, two = (
            'Digest realm="r", nonce="1", qop="auth"',
            'Digest realm="r", nonce="2", qop="auth"',
        )
        counts = [params(answer([text], client))["nc"] for text in (one, one, two, one)]
        assert counts == ["00000001", "00000002", "00000001", "00000003"]

    def test_nonces_are_counted_for_so_many_only(self) -> None:
        client = DigestClient()
        for number in range(3 * MAX_CLIENT_NONCES):
            answer([f'Digest realm="r", nonce="{number}", qop="auth"'], client)
        assert len(client._uses) == MAX_CLIENT_NONCES

    def test_opaque_comes_back_as_it_was(self) -> None:
        assert 'opaque="a\\"b"' in answer(['Digest realm="r", nonce="n", opaque="a\\"b"'])
        assert "opaque" not in answer(['Digest realm="r", nonce="n"'])

    def test_only_the_body_is_protected_where_nothing_less_is_offered(self) -> None:
        found = params(answer(['Digest realm="r", nonce="n", qop="auth-int"']))
        assert found["qop"] == "auth-int"
        assert params(answer(['Digest realm="r", nonce="n", qop="auth-int,auth"']))["qop"] == "auth"

    def test_no_password_in_any_repr(self) -> None:
        assert "wonder" not in repr(ALICE)


class TestChallenge:
    def test_parts(self) -> None:
        text = (
            'digest  realm = "a, b" ,nonce="n==" , stale=TRUE,opaque="", domain="sip:x",'
            ' QOP="Auth, auth-int", algorithm="SHA-256",'
        )
        assert Challenge.parse(text) == Challenge(
            "a, b", "n==", "SHA-256", ("auth", "auth-int"), "", True
        )

    def test_unquoted_values_are_taken(self) -> None:
        assert Challenge.parse("Digest realm=r,nonce=a+/=,qop=auth") == Challenge(
            "r", "a+/=", "", ("auth",)
        )

    def test_another_scheme_is_none(self) -> None:
        assert Challenge.parse("Bearer x") is None

    @pytest.mark.parametrize("text", ["Digest realm", 'Digest realm="a"b', "Digest =x", "Digest"])
    def test_malformed_ones_raise(self, text: str) -> None:
        with pytest.raises(SipError):
            Challenge.parse(text)


class TestServer:
    @pytest.mark.parametrize(
        "algorithm", ["MD5", "SHA-256", "SHA-512-256", "MD5-sess", "SHA-256-sess"]
    )
    def test_the_right_password_is_accepted(self, algorithm: str) -> None:
        judge = server(algorithms=(algorithm,))
        judgement = judge.verify("REGISTER", answer(judge.challenge(10.0)), 11.0)
        assert (judgement.verdict, judgement.username) == (Verdict.ACCEPTED, "alice")

    def test_each_offered_algorithm_can_be_used(self) -> None:
        judge = server()
        for position, algorithm in enumerate(("SHA-256", "MD5")):
            challenge = judge.challenge(0.0)[position]
            assert params(challenge)["algorithm"] == algorithm
            assert params(challenge)["qop"] == "auth"
            assert judge.verify("REGISTER", answer([challenge]), 0.0).username == "alice"

    def test_users_may_be_looked_up_by_a_function(self) -> None:
        judge = DigestServer("pbx", USERS.get, SeededRandom(7))
        assert judge.verify("REGISTER", answer(judge.challenge(0.0)), 0.0).username == "alice"

    @pytest.mark.parametrize(
        ("who", "method", "verdict"),
        [
            (Credentials("alice", "wrong"), "REGISTER", Verdict.WRONG_PASSWORD),
            (Credentials("mallory", ""), "REGISTER", Verdict.UNKNOWN_USER),
            (ALICE, "INVITE", Verdict.WRONG_PASSWORD),
        ],
    )
    def test_others_are_not(self, who: Credentials, method: str, verdict: Verdict) -> None:
        judge = server()
        judgement = judge.verify(
            "REGISTER", answer(judge.challenge(0.0), who=who, method=method), 0.0
        )
        assert (judgement.verdict, judgement.username) == (verdict, None)

    def test_a_nonce_grows_old(self) -> None:
        judge = server(nonce_lifetime_s=30.0)
        challenges = judge.challenge(100.0)
        client = DigestClient()
        assert judge.verify("REGISTER", answer(challenges, client), 129.9).username == "alice"
        assert judge.verify("REGISTER", answer(challenges, client), 130.1).verdict is Verdict.STALE
        assert "stale=true" in judge.challenge(131.0, stale=True)[0]
        assert "stale" not in judge.challenge(131.0)[0]

    def test_a_nonce_nobody_issued_is_stale(self) -> None:
        judge, other = server(), DigestServer("pbx", USERS, SeededRandom(8))
        assert judge.verify("REGISTER", answer(other.challenge(0.0)), 0.0).verdict is Verdict.STALE
        nonce = params(judge.challenge(5.0)[0])["nonce"]
        for forged in ("", "x", ".", "0.0.0", "ffff" + nonce, nonce[:-1]):
            challenge = [f'Digest realm="pbx", nonce="{forged}", qop="auth", algorithm=MD5']
            assert judge.verify("REGISTER", answer(challenge), 5.0).verdict is Verdict.STALE

    def test_a_request_heard_on_the_wire_is_of_no_use(self) -> None:
        judge = server()
        value = answer(judge.challenge(0.0))
        assert judge.verify("REGISTER", value, 0.0).username == "alice"
        assert judge.verify("REGISTER", value, 0.0).verdict is Verdict.REPLAYED

    def test_counts_may_overtake_each_other_but_none_comes_twice(self) -> None:
        judge, client = server(), DigestClient()
        challenges = judge.challenge(0.0)
        values = [answer(challenges, client) for _ in range(80)]
        assert judge.verify("REGISTER", values[1], 0.0).username == "alice"
        assert judge.verify("REGISTER", values[0], 0.0).username == "alice"
        assert judge.verify("REGISTER", values[0], 0.0).verdict is Verdict.REPLAYED
        assert judge.verify("REGISTER", values[79], 0.0).username == "alice"
        assert judge.verify("REGISTER", values[78], 0.0).username == "alice"
        for late in (79, 78, 1, 5):
            assert judge.verify("REGISTER", values[late], 0.0).verdict is Verdict.REPLAYED

    def test_a_client_that_does_not_count_may_use_a_nonce_once(self) -> None:
        judge = server(algorithms=("MD5",))
        old = [judge.challenge(0.0)[0].replace('qop="auth", ', "")]
        assert judge.verify("REGISTER", answer(old), 0.0).username == "alice"
        assert judge.verify("REGISTER", answer(old), 0.0).verdict is Verdict.REPLAYED

    def test_memory_is_bounded_and_what_was_forgotten_cannot_be_replayed(self) -> None:
        judge = server(algorithms=("MD5",), max_nonces=50)
        first = answer(judge.challenge(1.0))
        assert judge.verify("REGISTER", first, 1.0).username == "alice"
        for number in range(60):
            now = 2.0 + number / 1000
            assert judge.verify("REGISTER", answer(judge.challenge(now)), now).username == "alice"
        assert len(judge._records) == 50
        assert judge.verify("REGISTER", first, 10.0).verdict is Verdict.STALE

    def test_wrong_passwords_leave_nothing_behind(self) -> None:
        judge = server()
        for _ in range(20):
            judge.verify(
                "REGISTER", answer(judge.challenge(0.0), who=Credentials("alice", "x")), 0.0
            )
        assert len(judge._records) == 0

    def test_credentials_for_another_request_are_refused_where_that_is_asked(self) -> None:
        judge = server()
        value = answer(judge.challenge(0.0))
        other = judge.verify("REGISTER", value, 0.0, uri="sip:+49900@pbx")
        assert other.verdict is Verdict.OTHER_URI
        assert judge.verify("REGISTER", value, 0.0, uri="sip:pbx").username == "alice"

    @pytest.mark.parametrize(
        ("old", "new", "verdict"),
        [
            ("Digest ", "Basic ", Verdict.MALFORMED),
            ('username="alice", ', "", Verdict.MALFORMED),
            ("nc=00000001", "nc=1", Verdict.MALFORMED),
            ("nc=00000001", "nc=0000000g", Verdict.MALFORMED),
            ("qop=auth", "qop=auth-int", Verdict.MALFORMED),
            ("algorithm=SHA-256", "algorithm=SHA-512-256", Verdict.MALFORMED),
            ('realm="pbx"', 'realm="other"', Verdict.OTHER_REALM),
            ('uri="sip:pbx"', 'uri="sip:other"', Verdict.WRONG_PASSWORD),
            ("nc=00000001", "nc=00000002", Verdict.WRONG_PASSWORD),
        ],
    )
    def test_changed_credentials_are_refused(self, old: str, new: str, verdict: Verdict) -> None:
        judge = server()
        value = answer(judge.challenge(0.0))
        assert old in value
        assert judge.verify("REGISTER", value.replace(old, new), 0.0).verdict is verdict

    def test_an_unknown_algorithm_cannot_be_offered(self) -> None:
        with pytest.raises(SipError):
            server(algorithms=("ROT13",))

    @pytest.mark.parametrize("offered", [("auth-int",), ("auth-int", "auth")])
    def test_F115_the_body_is_protected_where_that_is_asked_for(
        self, offered: tuple[str, ...]
    ) -> None:
        judge = server(qop=offered)
        challenge = Challenge.parse(judge.challenge(0.0)[0])
        assert challenge is not None
        assert challenge.qop == offered
        only = replace(challenge, qop=("auth-int",))
        value = DigestClient().authorize(
            "MESSAGE", "sip:pbx", b"pay 1", [str(only)], ALICE, SeededRandom(1)
        )
        assert value is not None
        assert params(value)["qop"] == "auth-int"
        changed = judge.verify("MESSAGE", value, 0.0, body=b"pay 1000")
        assert changed.verdict is Verdict.WRONG_PASSWORD
        assert judge.verify("MESSAGE", value, 0.0, body=b"pay 1").username == "alice"

    @pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512-256"])
    @pytest.mark.parametrize("qop", ["auth", "auth-int"])
    def test_F115_a_server_proves_that_it_knows_the_password(
        self, algorithm: str, qop: str
    ) -> None:
        """RFC 7616 section 3.5, the formula written out with the standard library's hashes."""
        judge, client = server(algorithms=(algorithm,), qop=(qop,)), DigestClient()
        value = answer(judge.challenge(0.0), client)
        told = judge.info(value, b"the response's body", 0.0)
        name = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}[algorithm]

        def digest(text: str) -> str:
            return hashlib.new(name, text.encode()).hexdigest()

        sent = params(value)
        what = ":sip:pbx" + (f":{digest('the response' + chr(39) + 's body')}" * (qop != "auth"))
        expected = digest(
            f"{digest('alice:pbx:wonder land')}:{sent['nonce']}:00000001:{sent['cnonce']}:{qop}:"
            f"{digest(what)}"
        )
        assert params(told)["rspauth"] == expected
        info = AuthenticationInfo.parse(told)
        body = b"the response's body"
        assert client.proves(value, info, body, "wonder land") is True
        assert client.proves(value, info, body, "another") is False
        assert client.proves(value, info, b"", "wonder land") is (qop == "auth")
        assert client.proves(value, replace(info, rspauth=None), body, "wonder land") is None
        assert client.proves(value, replace(info, nonce_count="00000002"), body, "wonder land") is (
            False
        )

    def test_the_nonce_for_the_next_request_is_as_good_as_a_challenge(self) -> None:
        judge, client = server(), DigestClient()
        value = answer(judge.challenge(0.0), client)
        following = AuthenticationInfo.parse(judge.info(value, b"", 100.0)).nextnonce
        challenge = Challenge.parse(judge.challenge(0.0)[0])
        assert challenge is not None
        again = answer([str(replace(challenge, nonce=following or ""))], client)
        assert judge.verify("REGISTER", again, 350.0).username == "alice"

    @given(
        st.text(max_size=60) | st.text(max_size=60).map('Digest username="alice", nonce={}'.format)
    )
    def test_any_text_is_judged_and_none_accepted(self, text: str) -> None:
        judge = server()
        assert judge.verify("REGISTER", text, 0.0).username is None

    @given(
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=12),
        st.text(max_size=12),
        st.text(
            st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), min_size=1, max_size=9
        ),
    )
    def test_any_name_password_and_realm_work(self, name: str, password: str, realm: str) -> None:
        judge = DigestServer(realm, {name: password}, SeededRandom(7))
        value = answer(judge.challenge(0.0), who=Credentials(name, password))
        assert judge.verify("REGISTER", value, 0.0).username == name
