"""Who calls, who sent the call on, and why: by the examples the RFCs print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import SipError
from voip.sip.call_info import Geolocation, alert_info, call_info
from voip.sip.headers import Headers, NameAddr
from voip.sip.identity import Identity, Privacy
from voip.sip.message import Request
from voip.sip.reason import Reason
from voip.sip.retargeting import Diversion, HistoryEntry, diversions, history, retargeted
from voip.sip.uri import SipUri

pytestmark = pytest.mark.rfc("3325", "9")

ANYBODY = ("From", '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=9802748')
CULLEN = "sip:fluffy@cisco.com"


def invite(*headers: tuple[str, str]) -> Request:
    return Request("INVITE", "sip:bob@example.com", Headers([ANYBODY, *headers]))


def printed(reference_data: Path, rfc: str, name: str) -> list[str]:
    """All values of a header that an RFC prints in messages, folded lines joined."""
    text = (reference_data / "rfc-text" / f"{rfc}.txt").read_text()
    text = re.sub(r"\n\n+[^\n]*\[Page [0-9]+\]\n.*?\n\n", "\n", text, flags=re.DOTALL)
    text = re.sub(r"\\\n\s+", "", text)
    return [v.strip() for v in re.findall(rf"^[ |]*{name}: (.*?)[ |]*$", text, re.MULTILINE)]


class TestIdentity:
    @pytest.mark.reference
    def test_F129_the_identities_rfc_3325_prints(self, reference_data: Path) -> None:
        values = printed(reference_data, "rfc3325", "P-Asserted-Identity")
        found = [Identity.of(invite(("P-Asserted-Identity", v)), trusted=True) for v in values]
        assert {identity.best.uri for identity in found} == {
            CULLEN,
            "tel:+14085264000",
            "sip:fluffy@vovida.org",
        }
        assert len(values) >= 6

    def test_F129_what_nobody_vouches_for_is_a_claim(self) -> None:
        message = invite(("P-Asserted-Identity", f'"Cullen Jennings" <{CULLEN}>'))
        outside = Identity.of(message, trusted=False)
        assert outside.best.uri == "sip:anonymous@anonymous.invalid"
        assert not outside.proven
        assert outside.asserted[0].uri == CULLEN
        inside = Identity.of(message, trusted=True)
        assert (inside.best.display, inside.best.uri) == ("Cullen Jennings", CULLEN)
        assert inside.proven

    def test_one_name_and_one_number_and_no_more(self) -> None:
        """RFC 3325 section 9.1."""
        identity = Identity.of(
            invite(
                ("P-Asserted-Identity", f"<{CULLEN}>, <tel:+14085264000>"),
                ("P-Asserted-Identity", "<sip:mallory@evil.example>, <http://x>, "),
                ("P-Asserted-Identity", "<tel:+2>, <"),
                ("P-Asserted-Identity", "<tel:+1>"),
                ("P-Preferred-Identity", "<sip:me@here>"),
            ),
            trusted=True,
        )
        assert [a.uri for a in identity.asserted] == [CULLEN, "tel:+14085264000"]
        assert [a.uri for a in identity.preferred] == ["sip:me@here"]

    @pytest.mark.parametrize(
        ("text", "hides"),
        [("id", True), ("Header; USER", True), ("id;critical", True), ("none", False),
         ("session", False), ("critical", False), ("id,session", True)],
    )  # fmt: skip
    def test_F129_privacy(self, text: str, hides: bool) -> None:
        assert Privacy.parse(text).hides_identity is hides
        assert Privacy.parse(str(Privacy.parse(text))) == Privacy.parse(text)

    def test_privacy_that_cannot_be_read_is_kept_all_the_same(self) -> None:
        assert Privacy.of(Headers([("Privacy", "i d;;")])).hides_identity
        assert not Privacy.of(Headers()).hides_identity


class TestReason:
    @pytest.mark.reference
    def test_the_reasons_rfc_3326_prints(self, reference_data: Path) -> None:
        values = printed(reference_data, "rfc3326", "Reason")
        assert [Reason.parse(value) for value in values[:4]] == [
            Reason("SIP", 200, "Call completed elsewhere"),
            Reason("Q.850", 16, "Terminated"),
            Reason("SIP", 600, "Busy Everywhere"),
            Reason("SIP", 580, "Precondition Failure"),
        ]

    def test_several_of_them(self) -> None:
        headers = Headers([("Reason", 'SIP;cause=200;text="a, \\"b\\"", Q.850;cause=16'),
                           ("Reason", "x y"), ("Reason", "SIP;cause=-1"),
                           ("Reason", "X")])  # fmt: skip
        found = Reason.of(headers)
        assert found == [Reason("SIP", 200, 'a, "b"'), Reason("Q.850", 16), Reason("X")]
        assert [Reason.parse(str(reason)) for reason in found] == found


class TestDiversion:
    def test_F130_parts(self) -> None:
        headers = Headers([
            ("Diversion", '"Bob" <sip:bob@P2.com>;reason=User-Busy;counter=2;limit=5;'
                          "privacy=full;screen=yes;x=y"),
            ("Diversion", "<tel:+1>;counter=x, <sip:carol@C>"),
        ])  # fmt: skip
        bob, carol = diversions(headers)
        assert bob == Diversion(NameAddr("Bob", "sip:bob@P2.com"), "user-busy", 2, 5, "full", True)
        assert carol == Diversion(NameAddr("", "sip:carol@C"))
        assert [Diversion.parse(str(entry)) for entry in (bob, carol)] == [bob, carol]


class TestHistory:
    @pytest.mark.reference
    def test_F130_the_history_rfc_7044_prints(self, reference_data: Path) -> None:
        values = printed(reference_data, "rfc7044", "History-Info")
        read = 0
        for value in values:
            for entry in history(Headers([("History-Info", value.rstrip(","))])):
                read += 1
                assert HistoryEntry.parse(str(entry)) == entry
        assert read >= len(values) > 15  # some end in the middle of a line

    def test_F130_parts(self) -> None:
        """RFC 7044 section 5's example."""
        headers = Headers([
            ("History-Info",
             "<sip:UserA@ims.example.com?Reason=SIP%3Bcause%3D302>;index=1.1,"
             "<sip:UserB@example.com?Privacy=history&Reason=SIP%3Bcause%3D486>;index=1.2;mp=1.1,"
             "<sip:45432@192.168.0.3>;index=1.3;rc=1.2"),
        ])  # fmt: skip
        a, b, c = history(headers)
        assert (a.address.uri, a.index) == ("sip:UserA@ims.example.com", (1, 1))
        assert a.reasons == (Reason("SIP", 302),)
        assert b.reasons == (Reason("SIP", 486),)
        assert "history" in b.privacy
        assert (b.mp, c.rc, c.mp, c.np) == ((1, 1), (1, 2), None, None)
        assert [HistoryEntry.parse(str(entry)) for entry in (a, b, c)] == [a, b, c]

    def test_F130_a_call_that_is_sent_on_has_one_entry_more(self) -> None:
        first = retargeted((), "sip:bob@example.com")
        assert [str(entry) for entry in first] == ["<sip:bob@example.com>;index=1"]
        second = retargeted(first, "sip:carol@example.com", reason=Reason("SIP", 486))
        assert [str(entry) for entry in second] == [
            "<sip:bob@example.com?Reason=SIP%3Bcause%3D486>;index=1",
            "<sip:carol@example.com>;index=1.1;mp=1",
        ]

    @pytest.mark.parametrize("text", ["<sip:a@b>", "<sip:a@b>;index=x", "<sip:a@b>;index=1.", "<"])
    def test_no_entry(self, text: str) -> None:
        with pytest.raises(SipError):
            HistoryEntry.parse(text)


def test_F132_where_the_caller_is() -> None:
    headers = Headers([
        ("Geolocation", "<cid:target123@atlanta.example.com>"),
        ("Geolocation", "<sips:target123@server5.atlanta.example.com>, <"),
        ("Geolocation-Routing", "Yes"),
    ])  # fmt: skip
    # The second line cannot be taken apart.
    assert Geolocation.of(headers) == Geolocation(("cid:target123@atlanta.example.com",), True)
    here = Geolocation(("cid:target123@atlanta.example.com", "https://lis.example/1"))
    assert Geolocation.of(Headers(here.headers())) == here
    assert not Geolocation.of(Headers()).routing


def test_references_that_go_with_a_call() -> None:
    headers = Headers([
        ("Call-Info", "<http://wwww.example.com/alice/photo.jpg> ;purpose=icon, "
                      "<http://www.example.com/alice/> ;purpose=info"),
        ("Alert-Info", "<http://127.0.0.1>;info=alert-autoanswer;delay=0"),
    ])  # fmt: skip
    assert [entry.param("purpose") for entry in call_info(headers)] == ["icon", "info"]
    [alert] = alert_info(headers)
    assert (alert.uri, alert.param("info")) == ("http://127.0.0.1", "alert-autoanswer")


@given(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=80))
def test_any_text_is_read_or_passed_over(text: str) -> None:
    headers = Headers([(name, text) for name in (
        "P-Asserted-Identity", "P-Preferred-Identity", "Privacy", "Reason", "Diversion",
        "History-Info", "Geolocation", "Call-Info", "Alert-Info")])  # fmt: skip
    Identity.of(Request("INVITE", "sip:x", Headers([ANYBODY, *headers])), trusted=True)
    Reason.of(headers)
    diversions(headers)
    history(headers)
    Geolocation.of(headers)
    call_info(headers)
    assert SipUri.parse("sip:x").host == "x"
