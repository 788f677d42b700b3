"""GRUUs as our registrar grants them, and as our proxy finds whom they name (RFC 5627)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_sip_registrar import Wire, refusal, told

from voip.errors import SipError
from voip.sip.events import RequestDone, RequestFailed
from voip.sip.gruu import Gruus
from voip.sip.headers import Headers, NameAddr
from voip.sip.location import Binding, Location, by_preference
from voip.sip.message import Request
from voip.sip.uri import SipUri
from voip.types import SeededRandom

pytestmark = pytest.mark.rfc("5627", "5")

DESK = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
MOBILE = "urn:uuid:00000000-0000-4000-8000-000a95a0e128"
SUPPORTED = [("Supported", "path, gruu")]


@pytest.fixture
def wire() -> Wire:
    return Wire()


def contact(instance: str = DESK, host: str = "192.0.2.1", more: str = "") -> str:
    return f'<sip:alice@{host}>;+sip.instance="<{instance}>"{more}'


def granted(done: RequestDone | RequestFailed, host: str = "192.0.2.1") -> tuple[str, str]:
    """Return the public and the temporary GRUU that a 200 gives to the contact at a host."""
    assert isinstance(done, RequestDone), done
    for value in done.response.headers.values("Contact"):
        it = NameAddr.parse(value)
        if it.sip_uri.host == host:
            return it.param("pub-gruu") or "", it.param("temp-gruu") or ""
    raise AssertionError(done.response)


def found(wire: Wire, gruu: str) -> list[str]:
    """Return the hosts that a GRUU leads to, or the status that refuses it."""
    try:
        there = wire.gruus.bindings(SipUri.parse(gruu), wire.location, wire.now)
    except SipError as error:
        return [str(error.status)]
    return [binding.uri.host for binding in there]


def test_F112_who_asks_for_them_gets_both_kinds(wire: Wire) -> None:
    public, hidden = granted(wire.register(contact(), more=SUPPORTED))
    assert public == f"sip:alice@192.0.2.9;gr={DESK}"
    assert hidden.startswith("sip:tgruu.")
    assert hidden.endswith("@192.0.2.9;gr")
    assert "alice" not in hidden
    assert found(wire, public) == found(wire, hidden) == ["192.0.2.1"]


def test_F112_who_does_not_ask_or_has_no_instance_gets_none(wire: Wire) -> None:
    assert granted(wire.register(contact())) == ("", "")
    done = wire.register("<sip:alice@192.0.2.2>", more=SUPPORTED)
    assert granted(done, "192.0.2.2") == ("", "")
    assert granted(done)[0]  # whoever asks is told those of the other phones


def test_F112_a_phone_cannot_name_itself(wire: Wire) -> None:
    mine = ';pub-gruu="sip:bob@192.0.2.9;gr=x";temp-gruu="sip:tgruu.a@192.0.2.9;gr"'
    done = wire.register(contact(more=mine), more=SUPPORTED)
    assert isinstance(done, RequestDone)
    (value,) = done.response.headers.values("Contact")
    assert value.count("pub-gruu") == value.count("temp-gruu") == 1
    assert granted(done)[0] == f"sip:alice@192.0.2.9;gr={DESK}"


def test_F112_each_names_one_phone_of_several(wire: Wire) -> None:
    desk = granted(wire.register(contact(), more=SUPPORTED, call_id="desk"))
    there = wire.register(contact(MOBILE, "192.0.2.2"), more=SUPPORTED, call_id="mobile")
    mobile = granted(there, "192.0.2.2")
    assert [found(wire, gruu) for gruu in desk] == [["192.0.2.1"]] * 2
    assert [found(wire, gruu) for gruu in mobile] == [["192.0.2.2"]] * 2


def test_F112_every_temporary_name_is_another_and_all_hold_while_the_phone_is_registered(
    wire: Wire,
) -> None:
    """A day of refreshes: nothing is kept for any of them."""
    names = []
    for _ in range(100):
        names.append(granted(wire.register(contact(), expires=600, more=SUPPORTED))[1])
        wire.now += 500
    assert len(set(names)) == 100
    assert {tuple(found(wire, name)) for name in names} == {("192.0.2.1",)}
    assert len(wire.location.bindings("alice", wire.now)) == 1
    wire.now += 200
    assert {tuple(found(wire, name)) for name in names} == {("404",)}


def test_F112_a_phone_that_begins_anew_takes_back_its_temporary_names(wire: Wire) -> None:
    public, hidden = granted(wire.register(contact(), more=SUPPORTED, call_id="one"))
    more = SUPPORTED
    _, later = granted(
        wire.register(contact(host="192.0.2.5"), more=more, call_id="two"), "192.0.2.5"
    )
    assert found(wire, hidden) == ["404"]
    assert found(wire, public)[-1] == found(wire, later)[-1] == "192.0.2.5"  # the newest


def test_F112_another_flow_of_the_phone_leaves_its_temporary_names(wire: Wire) -> None:
    more = [("Supported", "path, gruu, outbound")]
    _, hidden = granted(wire.register(contact(more=";reg-id=1"), more=more, call_id="one"))
    second = contact(host="192.0.2.5", more=";reg-id=2")
    wire.register(second, more=more, call_id="two")
    assert found(wire, hidden) == ["192.0.2.1", "192.0.2.5"]
    wire.register(second, more=more, call_id="three")
    assert found(wire, hidden) == ["404"]


def test_F112_a_public_name_of_a_phone_that_is_away_is_480_and_comes_back(wire: Wire) -> None:
    public, hidden = granted(wire.register(contact(), more=SUPPORTED))
    wire.register(contact(), expires=0)
    assert (found(wire, public), found(wire, hidden)) == (["480"], ["404"])
    assert granted(wire.register(contact(), more=SUPPORTED))[0] == public
    assert (found(wire, public), found(wire, hidden)) == (["192.0.2.1"], ["404"])


@pytest.mark.parametrize(
    "itself",
    ["sip:alice@192.0.2.9", f"sip:alice@192.0.2.9;gr={MOBILE}", "sip:tgruu.x@192.0.2.9;gr"],
)
def test_F112_a_name_that_would_lead_to_itself_is_refused(wire: Wire, itself: str) -> None:
    done = wire.register(f'<{itself}>;+sip.instance="<{DESK}>"', more=SUPPORTED)
    assert refusal(done).status == 403
    assert told(wire.register()) == {}


def test_F112_a_phone_at_another_port_of_the_registrar_s_host_is_no_loop(wire: Wire) -> None:
    """To has no port, the registrar is at 5070 and the phone at the usual one."""
    phone = "sip:alice@192.0.2.9"
    assert told(wire.register(f"<{phone}>", expires=60, uri="sip:192.0.2.9:5070")) == {phone: 60}
    itself = wire.register("<sip:alice@192.0.2.9:5070>", uri="sip:192.0.2.9:5070")
    assert refusal(itself).status == 403


def test_F112_temporary_names_do_not_tell_whose_they_are(wire: Wire) -> None:
    """Names of one phone have no more in common than those of two (section 5.1, property 2)."""
    gruus = Gruus(SeededRandom(9))
    lines = Headers([("To", "<sip:someone@192.0.2.9>")])
    register = Request("REGISTER", "sip:192.0.2.9:5070", lines)

    def name(user: str, series: str) -> bytes:
        binding = Binding(NameAddr("", "sip:x@y"), None, 1.0, "c", 1, instance="i", series=series)
        hidden = NameAddr.parse(f"<sip:x@y>;{'='.join(gruus.granted(register, user, binding)[1])}")
        uri = SipUri.parse(hidden.param("temp-gruu") or "")
        assert uri.port == 5070  # where the registrar is
        return (uri.user or "").removeprefix("tgruu.").encode()

    one, other = gruus.new_series(), gruus.new_series()
    same = [name("alice", one) for _ in range(200)]
    others = [name("bob", other) for _ in range(200)]
    assert len({len(text) for text in (*same, *others)}) == 1

    def alike(pairs: Any) -> float:
        counts = [sum(a == b for a, b in zip(x, y, strict=True)) for x, y in pairs]
        return sum(counts) / len(counts) / len(same[0])

    within = alike(itertools.combinations(same, 2))
    between = alike(itertools.product(same, others))
    # one of 32 characters is the same by chance; the last one has less to say
    assert 0.02 < between < 0.06, between
    assert abs(within - between) < 0.005, (within, between)


@given(st.text(max_size=120), st.sampled_from([";gr", ";gr=", f";gr={DESK}"]))
def test_F112_what_nobody_has_given_is_nobody_s(text: str, gr: str) -> None:
    gruus, location = Gruus(SeededRandom(1)), Location()
    uri = SipUri("sip", f"tgruu.{text}", None, "here.example", None, (("gr", gr[4:]),))
    with pytest.raises(SipError) as refused:
        gruus.bindings(uri, location, 0.0)
    assert refused.value.status in (404, 480)


def test_F112_a_name_that_was_changed_is_nobody_s(wire: Wire) -> None:
    _, hidden = granted(wire.register(contact(), more=SUPPORTED))
    head, tail = len("sip:tgruu."), hidden.index("@")
    for place in range(head, tail - 1):  # the last character has bits that say nothing
        other = "a" if hidden[place] != "a" else "b"
        assert found(wire, hidden[:place] + other + hidden[place + 1 :]) == ["404"]
    other = Gruus(SeededRandom(5))
    with pytest.raises(SipError):
        other.bindings(SipUri.parse(hidden), wire.location, wire.now)


def test_F112_of_several_contacts_of_one_phone_the_newest_is_called(wire: Wire) -> None:
    wire.register(contact(), call_id="one")
    wire.register(contact(host="192.0.2.5"), call_id="two")
    wire.register(contact(MOBILE, "192.0.2.2"), call_id="mobile")
    (group,) = by_preference(wire.location.bindings("alice", wire.now))
    assert {binding.uri.host for binding in group} == {"192.0.2.5", "192.0.2.2"}
