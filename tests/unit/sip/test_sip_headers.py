"""Header lines and typed values against RFC 3261 sections 7.3, 20 and 25.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import SipError
from voip.sip.grammar import (
    format_params,
    parse_params,
    quote_string,
    split_list,
    unquote_string,
)
from voip.sip.headers import ContentType, CSeq, Headers, NameAddr, parse_seconds
from voip.sip.via import Via, _sent_by

pytestmark = pytest.mark.rfc("3261", "20")


def lines(*pairs: tuple[str, str]) -> Headers:
    return Headers(pairs)


def _one_name(name: str, other: str) -> bool:
    names = {"v": "via"}
    return names.get(name.lower(), name.lower()) == names.get(other.lower(), other.lower())


class TestHeaders:
    def test_names_are_one_in_any_case_and_in_compact_form(self) -> None:
        headers = lines(("v", "1"), ("VIA", "2"), ("Via", "3"), ("vIA", "4"))
        assert headers.get_all("via") == ["1", "2", "3", "4"]
        assert headers.get("V") == "1"
        assert "Via" in headers
        assert [name for name, _ in headers] == ["v", "VIA", "Via", "vIA"]

    def test_a_line_may_be_set_to_what_another_one_of_its_name_says(self) -> None:
        headers = lines(("Route", "a"), ("To", "t"), ("Route", "b"), ("Route", "b"), ("X", "x"))
        headers.set("Route", "b")
        assert list(headers) == [("Route", "b"), ("To", "t"), ("X", "x")]
        headers.set("Route", "c")
        assert headers.get_all("Route") == ["c"]

    @pytest.mark.parametrize(
        ("short", "name"),
        [
            ("i", "Call-ID"),
            ("m", "Contact"),
            ("e", "Content-Encoding"),
            ("l", "Content-Length"),
            ("c", "Content-Type"),
            ("f", "From"),
            ("s", "Subject"),
            ("k", "Supported"),
            ("t", "To"),
            ("v", "Via"),
            ("o", "Event"),
            ("r", "Refer-To"),
            ("b", "Referred-By"),
            ("x", "Session-Expires"),
            ("u", "Allow-Events"),
        ],
    )
    def test_compact_forms_of_the_registry(self, short: str, name: str) -> None:
        assert lines((short, "x")).get(name) == "x"
        assert lines((name.lower(), "x")).get(short.upper()) == "x"

    def test_order_is_kept_and_prepending_comes_first(self) -> None:
        headers = lines(("Via", "a"), ("To", "t"), ("Via", "b"))
        headers.prepend("Via", "new")
        assert list(headers) == [("Via", "new"), ("Via", "a"), ("To", "t"), ("Via", "b")]
        assert headers.get_all("Via") == ["new", "a", "b"]

    def test_setting_leaves_one_line_where_the_first_one_was(self) -> None:
        headers = lines(("Via", "a"), ("To", "t"), ("v", "b"))
        headers.set("Via", "only")
        assert list(headers) == [("Via", "only"), ("To", "t")]
        headers.set("From", "f")
        assert headers.get("From") == "f"
        assert len(headers) == 3

    def test_removing_takes_all_lines_of_a_name(self) -> None:
        headers = lines(("Via", "a"), ("To", "t"), ("v", "b"))
        headers.remove("VIA")
        headers.remove("Route")
        assert list(headers) == [("To", "t")]
        assert headers.get("Via") is None
        assert headers.get_all("Via") == []

    def test_a_copy_lives_its_own_life(self) -> None:
        headers = lines(("Via", "a"))
        twin = headers.copy()
        twin.add("Via", "b")
        twin.set("To", "t")
        assert list(headers) == [("Via", "a")]
        assert headers.get_all("Via") == ["a"]
        assert twin != headers

    def test_values_take_lists_apart_over_all_lines(self) -> None:
        headers = lines(
            ("Route", '<sip:a,b@c;lr>, "Last, First \\", x" <sip:d@e>;p="1,2"'),
            ("route", " <sip:f>"),
        )
        assert headers.values("Route") == [
            "<sip:a,b@c;lr>",
            '"Last, First \\", x" <sip:d@e>;p="1,2"',
            "<sip:f>",
        ]

    @pytest.mark.parametrize("value", ['"open, x', "<sip:a, x", 'a, "b\\"'])
    def test_a_list_with_an_open_quote_or_bracket_is_refused(self, value: str) -> None:
        with pytest.raises(SipError) as caught:
            lines(("Contact", value)).values("Contact")
        assert caught.value.status == 400

    @pytest.mark.parametrize("value", ["x\r\nEvil: y", "x\ny", "x\r"])
    def test_no_value_can_smuggle_in_another_line(self, value: str) -> None:
        headers = lines(("Subject", "fine"))
        for act in (headers.add, headers.prepend, headers.set):
            with pytest.raises(SipError):
                act("Subject", value)
        assert list(headers) == [("Subject", "fine")]

    @pytest.mark.parametrize("name", ["", "Sub ject", "Subject:", "Sübject", "a\r\nb"])
    def test_no_name_can_be_what_is_no_token(self, name: str) -> None:
        with pytest.raises(SipError):
            Headers().add(name, "x")

    def test_replacing_touches_the_first_line_alone(self) -> None:
        headers = lines(("A", "1"), ("Via", "2"), ("v", "3"), ("Via", "2"))
        headers.replace("via", "4")
        assert list(headers) == [("A", "1"), ("via", "4"), ("v", "3"), ("Via", "2")]
        assert headers.get("Via") == "4" and headers.count("Via") == 3
        headers.replace("B", "5")
        assert headers.get_all("b") == ["5"]

    def test_picked_lines_are_spelled_as_asked(self) -> None:
        headers = Headers.read("v: 1\r\nFrom:2\r\nvia : 3\r\nX: 4")[0]
        picked = headers.pick(("From", "Via", "To"))
        assert list(picked) == [("From", "2"), ("Via", "1"), ("Via", "3")]
        picked.set("Via", "5")
        assert headers.get_all("Via") == ["1", "3"]

    def test_lines_go_as_they_came(self) -> None:
        text = "X-Odd:  a  \r\nv:b\r\nTO : c\r\nX-Odd:\r\n"
        headers, bad = Headers.read(text.removesuffix("\r\n"))
        assert bad is None
        assert headers.to_text() == text
        assert list(headers) == [("X-Odd", "a"), ("v", "b"), ("TO", "c"), ("X-Odd", "")]

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(("add", "prepend", "replace", "set", "remove")),
                st.sampled_from(("Via", "v", "To", "X-Y", "x-y")),
                st.sampled_from(("1", "2")),
            ),
            max_size=14,
        )
    )
    def test_whatever_is_done_the_lines_are_those_of_a_plain_list(
        self, actions: list[tuple[str, str, str]]
    ) -> None:
        headers, model = Headers(), list[tuple[str, str]]()
        for action, name, value in actions:
            same = [i for i, (other, _) in enumerate(model) if _one_name(other, name)]
            if action == "remove":
                headers.remove(name)
                model = [item for i, item in enumerate(model) if i not in same]
                continue
            getattr(headers, action)(name, value)
            if action == "prepend":
                model.insert(0, (name, value))
            elif action == "add" or not same:
                model.append((name, value))
            else:
                model[same[0]] = (name, value)
                if action == "set":
                    model = [item for i, item in enumerate(model) if i not in same[1:]]
        assert list(headers) == list(headers.copy()) == model
        assert len(headers) == len(model)
        for name in ("Via", "To", "X-Y"):
            values = [value for other, value in model if _one_name(other, name)]
            assert headers.get_all(name) == headers.pick([name]).get_all(name) == values
            assert headers.count(name) == len(values)
            assert headers.get(name) == (values[0] if values else None)

    def test_repr_shows_names_only(self) -> None:
        assert "hash" not in repr(lines(("Authorization", "Digest response=hash")))

    def test_reading_unfolds_and_strips(self) -> None:
        headers, bad = Headers.read("TO :\r\n sip:a@b ;\r\n\t tag =  1  \r\nX:y\t")
        assert bad is None
        assert list(headers) == [("TO", "sip:a@b ; tag =  1"), ("X", "y")]

    @pytest.mark.parametrize(
        ("text", "bad"),
        [
            ("Via: x\r\nno colon", "no colon"),
            ("Via: x\r\nbad name: y", "bad name: y"),
            ("Via: x\r\n: y", ": y"),
            ("Via: x\nEvil: y", "Via: x\nEvil: y"),
            ("Via: x\rEvil: y", "Via: x\rEvil: y"),
            (" folded start: y", " folded start: y"),
            ("Via: x\r\n\r\nTo: y", ""),
        ],
    )
    def test_reading_tells_of_the_first_bad_line(self, text: str, bad: str) -> None:
        assert Headers.read(text)[1] == bad


class TestNameAddr:
    @pytest.mark.parametrize(
        ("text", "display", "uri", "tag"),
        [
            ('"A. G. Bell" <sip:agb@bell.com> ;tag=a48s', "A. G. Bell", "sip:agb@bell.com", "a48s"),
            ("sip:+1212@phone2net.com;tag=887s", "", "sip:+1212@phone2net.com", "887s"),
            (
                "Anonymous <sip:c8oq@privacy.org>;tag=hyh8",
                "Anonymous",
                "sip:c8oq@privacy.org",
                "hyh8",
            ),
            ("caller<sip:c@e.com>;Tag=3", "caller", "sip:c@e.com", "3"),
            ('"\\"q\\" \\\\" <sip:a@b;x?y=z>', '"q" \\', "sip:a@b;x?y=z", None),
            ("< sip:a@b >;x;tag = 7 ;y", "", "sip:a@b", "7"),
            ("<tel:+49>", "", "tel:+49", None),
            ("Ján <sip:j@b>", "Ján", "sip:j@b", None),
            ("*", "", "*", None),
            ('a@b.c <sip:x@y>;p="a;b,c<"', "a@b.c", "sip:x@y", None),
        ],
    )
    def test_addresses_as_they_come(
        self, text: str, display: str, uri: str, tag: str | None
    ) -> None:
        address = NameAddr.parse(text)
        assert (address.display, address.uri, address.tag) == (display, uri, tag)
        assert NameAddr.parse(str(address)) == address

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "<>",
            '"Bob <sip:b@c>',
            "<sip:b@c",
            "sip:b@c>",
            "Last, First <sip:b@c>",
            "sip:user@example.com?Route=%3Csip:sip.example.com%3E",
            "sip:a@b, sip:c@d",
            "<sip:a@b>;;",
            "<sip:a@b>;=x",
            "<sip:a@b> x",
            '<sip:a@b>;p="open',
            "<sip:a b@c>",
            '"a" "b" <sip:a@b>',
        ],
    )
    def test_what_is_no_address_is_refused(self, text: str) -> None:
        with pytest.raises(SipError) as caught:
            NameAddr.parse(text)
        assert caught.value.status == 400

    def test_a_tag_is_replaced_in_a_copy(self) -> None:
        address = NameAddr.parse("<sip:a@b>;TAG=1;x=2")
        assert str(address.with_tag("9")) == "<sip:a@b>;x=2;tag=9"
        assert address.tag == "1"

    def test_header_parameters_of_a_bare_uri_are_not_the_uris(self) -> None:
        address = NameAddr.parse("sip:a@b;transport=tcp")
        assert address.sip_uri.transport is None
        assert address.param("transport") == "tcp"


class TestVia:
    def test_via_of_the_rfc(self) -> None:
        via = Via.parse(
            "SIP/2.0/UDP erlang.bell-telephone.com:5060;branch=z9hG4bK87asdks7;received=192.0.2.207"
        )
        assert (via.transport, via.host, via.port) == ("UDP", "erlang.bell-telephone.com", 5060)
        assert (via.branch, via.received, via.rport) == ("z9hG4bK87asdks7", "192.0.2.207", None)

    def test_blanks_may_stand_nearly_everywhere(self) -> None:
        via = Via.parse("SIP / 2.0 / tcp \t first.example.com : 4000 ; ttl = 16 ;maddr=224.2.0.1")
        assert str(via) == "SIP/2.0/TCP first.example.com:4000;ttl=16;maddr=224.2.0.1"

    def test_ipv6_and_rport(self) -> None:
        via = Via.parse(
            "SIP/2.0/UDP [2001:db8::9:1]:6050;received=[2001:db8::9:255];rport;branch=x"
        )
        assert (via.host, via.port) == ("2001:db8::9:1", 6050)
        assert via.wants_rport
        assert via.rport is None
        filled = via.with_params(received="2001:db8::7", rport="4711")
        assert filled.rport == 4711
        assert str(filled) == (
            "SIP/2.0/UDP [2001:db8::9:1]:6050;received=2001:db8::7;rport=4711;branch=x"
        )

    @pytest.mark.parametrize("port", ["", "x", "123456", "-1", "٣"])
    def test_an_rport_that_is_no_port_is_none(self, port: str) -> None:
        assert Via.parse(f"SIP/2.0/UDP h;rport={port}").rport is None

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0 UDP h",
            "SIP/2.0/UDP h:",
            "SIP/2.0/UDP h:99999",
            "SIP/2.0/UDP h;;",
            "SIP/2.0/UDP h;branch=a,SIP/2.0/UDP i;;",
            "SIP/2.0/UDP h i",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP 192.0.2.15;;,;,,",
        ],
    )
    def test_what_is_no_via_is_refused(self, text: str) -> None:
        with pytest.raises(SipError) as caught:
            Via.parse(text)
        assert caught.value.status == 400

    def test_another_version_stays_what_it_was(self) -> None:
        via = Via.parse("sip / 7.0 / udp h;branch=z9hG4bKx")
        assert via.protocol == "SIP/7.0"
        assert str(via) == "SIP/7.0/UDP h;branch=z9hG4bKx"
        assert Via.parse(str(via)) == via

    def test_what_is_remembered_of_neighbours_is_short_and_shows_nowhere(self) -> None:
        first = Via.parse("SIP/2.0/UDP h.example:5070;branch=z9hG4bK1;rport")
        again = Via.parse("SIP/2.0/UDP h.example:5070;branch=z9hG4bK2")
        assert again == ("UDP", "h.example", 5070, (("branch", "z9hG4bK2"),), "SIP/2.0")
        assert again.host is first.host  # read once
        _sent_by.cache_clear()
        remembered = _sent_by.cache_info().currsize
        with pytest.raises(SipError):
            Via.parse(f"SIP/2.0/UDP {'a' * 8000};branch=z9hG4bK")
        assert _sent_by.cache_info().currsize == remembered
        for number in range(1000):
            assert Via.parse(f"SIP/2.0/TCP h{number}").host == f"h{number}"
        assert _sent_by.cache_info().currsize <= 128


class TestSmallValues:
    def test_cseq(self) -> None:
        assert CSeq.parse(" 0009   INVITE ") == CSeq(9, "INVITE")
        assert str(CSeq.parse("2147483647 FOO%")) == "2147483647 FOO%"

    @pytest.mark.parametrize("text", ["", "1", "INVITE 1", "-1 BYE", "2147483648 BYE", "9" * 5000 + " BYE", "٣ BYE", "1 B YE"])  # fmt: skip  # noqa: E501
    def test_what_is_no_cseq_is_refused(self, text: str) -> None:
        with pytest.raises(SipError) as caught:
            CSeq.parse(text)
        assert caught.value.status == 400

    def test_content_type(self) -> None:
        kind = ContentType.parse('Multipart / Mixed ; boundary="a b"')
        assert kind.media_type == "multipart/mixed"
        assert kind.param("Boundary") == "a b"
        assert str(kind) == 'multipart/mixed;boundary="a b"'
        with pytest.raises(SipError):
            ContentType.parse("sdp")

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("3600", 3600),
            (" 007", 7),
            ("0", 0),
            ("120 (I'm in a meeting)", 120),
            ("18000;duration=3600", 18000),
            ("4294967296", 2**32 - 1),
            ("1" + "0" * 100, 2**32 - 1),
            ("", None),
            ("-1", None),
            ("soon", None),
            (None, None),
        ],
    )
    def test_delta_seconds(self, text: str | None, seconds: int | None) -> None:
        assert parse_seconds(text) == seconds


_tokens = st.text("abcXYZ019-.!%*_+`'~", min_size=1, max_size=8)
_quoted = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=10).map(
    quote_string
)
_params = st.lists(st.tuples(_tokens, st.none() | _tokens | _quoted), max_size=4).map(tuple)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=30))
def test_any_text_survives_quoting(text: str) -> None:
    assert unquote_string(quote_string(text)) == text


@given(_params)
def test_any_parameters_that_can_be_written_read_back(
    params: tuple[tuple[str, str | None], ...],
) -> None:
    assert parse_params(format_params(params)) == params


@given(
    st.builds(
        NameAddr,
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12),
        st.from_regex(r"[a-z]{1,5}:[a-z0-9,;?@=&]{1,20}", fullmatch=True),
        _params,
    )
)
def test_any_address_that_can_be_written_reads_back(address: NameAddr) -> None:
    assert NameAddr.parse(str(address)) == address


@given(st.lists(st.one_of(_quoted, _tokens, _tokens.map("<{}>".format)), min_size=1, max_size=6))
def test_any_list_joined_by_commas_comes_apart_again(entries: list[str]) -> None:
    assert split_list(" , ".join(entries)) == entries


@given(st.text(st.sampled_from('ab",;=<>\\: /*@\t\x00é'), max_size=60))
def test_any_text_is_a_value_or_a_sip_error(text: str) -> None:
    for parse in (NameAddr.parse, Via.parse, CSeq.parse, ContentType.parse, split_list):
        try:
            parse(text)
        except SipError as error:
            assert error.status == 400
    try:
        parse_params(text)
    except SipError as error:
        assert error.status == 400


@pytest.mark.parametrize(
    "text",
    [
        "; " * 32_000,
        ";a" * 32_000,
        ' "' * 32_000,
        '"\\' * 32_000,
        "<" * 64_000,
        "," * 64_000,
        " " * 64_000 + "x",
        "a" * 64_000,
        '"' + '\\"' * 32_000,
        "SIP/2.0/UDP " + " " * 64_000 + ":",
        "sip:a:" * 10_000,
        "1" * 64_000 + " x",
    ],
)
def test_long_nonsense_ends(text: str) -> None:
    """A quadratic reader would need minutes for one of these; the run itself is the judge."""
    for parse in (
        NameAddr.parse,
        Via.parse,
        CSeq.parse,
        ContentType.parse,
        split_list,
        parse_params,
    ):
        try:
            parse(text)
        except SipError as error:
            assert len(str(error)) < 300
