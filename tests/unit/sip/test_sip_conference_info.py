"""What the conference package says (RFC 4575): the RFC's own documents, ours, and hostile ones."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import SipError
from voip.sip.packages.conference_info import (
    MAX_OF_USER,
    MAX_USERS,
    ConferenceEndpoint,
    ConferenceInfo,
    ConferenceMedia,
    ConferenceTable,
    ConferenceUser,
    changes,
)

pytestmark = pytest.mark.rfc("4575", "4-5")

ROOM = "sip:room@x"
ALICE = ConferenceUser(
    "sip:alice@x",
    'Alice "& <friends>',
    ("participant",),
    (
        ConferenceEndpoint(
            "sip:alice@192.0.2.1",
            "connected",
            "dialed-in",
            media=(ConferenceMedia("1", "audio", "sendrecv"),),
        ),
    ),
)
BOB = ConferenceUser("sip:bob@x", endpoints=(ConferenceEndpoint("sip:bob@192.0.2.2", "on-hold"),))


def some(version: int, *users: ConferenceUser, users_state: str = "partial") -> ConferenceInfo:
    return ConferenceInfo(ROOM, version, users, "partial", users_state)


@pytest.fixture
def table() -> ConferenceTable:
    table = ConferenceTable()
    assert table.take(ConferenceInfo(ROOM, 1, (ALICE, BOB)))
    return table


@pytest.mark.reference
def test_the_documents_rfc_4575_prints(reference_data: Path) -> None:
    text = (reference_data / "rfc-text" / "rfc4575.txt").read_text(errors="replace")
    text = re.sub(r"\n+[^\n]*\[Page \d+\]\n\f?[^\n]*\n\n*", "\n", text)
    bodies = re.findall(r"<\?xml version[^>]*>\s*<conference-info.*?</conference-info>", text, re.S)
    basic, rich = (ConferenceInfo.parse(body.encode()) for body in bodies)
    assert (basic.entity, basic.version, basic.state) == ("sips:conf233@example.com", 1, "full")
    assert (basic.user_count, basic.subject) == (33, "Agenda: This month's goals")
    assert basic.users is not None
    bob, alice = basic.users
    assert (bob.name, bob.endpoints[0].status) == ("Bob Hoskins", "disconnected")
    assert bob.endpoints[0].left == "departed"
    assert (alice.endpoints[0].joined, alice.endpoints[0].media) == (
        "dialed-out", (ConferenceMedia("1", "audio", "sendrecv"),),
    )  # fmt: skip
    assert (rich.state, rich.version, rich.user_count) == ("partial", 5, 32)
    assert rich.users is not None
    assert rich.users[0].roles == ("participant",)
    assert rich.users[0].endpoints[0].left == "booted"
    for info in (basic, rich):
        assert ConferenceInfo.parse(info.to_bytes()) == info


def test_a_document_is_written_as_it_is_read() -> None:
    gone = ConferenceUser("sip:carol@x", state="deleted")
    for info in (
        ConferenceInfo(ROOM, 1, (ALICE, BOB), user_count=2, subject="sales"),
        replace(some(2, gone, replace(ALICE, state="partial")), user_count=1),
        ConferenceInfo(ROOM, 3, state="deleted"),
    ):
        assert ConferenceInfo.parse(info.to_bytes()) == info


def test_what_a_full_document_must_have_is_there() -> None:
    """Section 5.2: a description and users; the description has the address to call (5.3.1)."""
    body = ConferenceInfo(ROOM, 1, ()).to_bytes()
    assert b"<conf-uris><entry><uri>sip:room@x</uri><purpose>participation</purpose>" in body
    assert b'<users state="full"' in body


# ---------------------------------------------------------------- putting documents together


def test_what_has_changed_is_put_in_its_place(table: ConferenceTable) -> None:
    carol = ConferenceUser("sip:carol@x")
    assert table.take(some(2, carol, replace(BOB, state="deleted")))
    assert table.users == [ALICE, carol]
    muted = ConferenceEndpoint(
        "sip:alice@192.0.2.1",
        "muted-via-focus",
        media=(ConferenceMedia("1", "audio", "recvonly"),),
        state="partial",
    )
    second = ConferenceEndpoint("sip:alice@192.0.2.9", "alerting", state="partial")
    assert table.take(some(3, ConferenceUser("sip:alice@x", None, (), (muted, second), "partial")))
    alice = table.users[0]
    assert (alice.name, alice.roles) == (ALICE.name, ALICE.roles)
    assert [(one.status, one.joined) for one in alice.endpoints] == [
        ("muted-via-focus", "dialed-in"), ("alerting", None),
    ]  # fmt: skip
    assert alice.endpoints[0].media == (ConferenceMedia("1", "audio", "recvonly"),)
    left = replace(second, state="deleted")
    assert table.take(some(4, ConferenceUser("sip:alice@x", endpoints=(left,), state="partial")))
    assert len(table.users[0].endpoints) == 1
    assert table.take(some(5, replace(ALICE, name=None)))  # "full" forgets what is not said
    assert table.users[0].name is None
    assert {user.state for user in table.users} == {"full"}
    assert table.take(replace(some(6), users=None))
    assert len(table.users) == 2
    assert table.take(some(7, BOB, users_state="full"))  # all that there are
    assert table.users == [BOB]


def test_old_documents_are_passed_over_and_missed_ones_asked_for(table: ConferenceTable) -> None:
    assert table.take(some(1, replace(BOB, state="deleted")))
    assert table.take(ConferenceInfo(ROOM, 0, ()))
    assert table.users == [ALICE, BOB]
    assert not table.take(some(3, replace(BOB, state="deleted")))
    assert table.users == [ALICE, BOB]  # until all is told again
    assert table.take(ConferenceInfo(ROOM, 4, (ALICE,)))
    assert table.users == [ALICE]
    table.begin_anew()  # another subscription, another count
    assert not table.take(some(1, BOB))
    assert table.take(ConferenceInfo(ROOM, 1, (BOB,)))
    assert table.users == [BOB]
    assert table.take(ConferenceInfo(ROOM, 2, state="deleted"))
    assert table.over and table.users == []


def test_a_table_does_not_grow_for_ever(table: ConferenceTable) -> None:
    at = 2
    for _ in range(3):
        many = [ConferenceUser(f"sip:{at}-{n}@x") for n in range(MAX_USERS // 2)]
        assert table.take(some(at, *many))
        at += 1
    assert len(table.users) == MAX_USERS
    for _ in range(3):
        media = tuple(ConferenceMedia(f"{at}-{n}") for n in range(MAX_OF_USER))
        endpoints = (
            ConferenceEndpoint("sip:alice@192.0.2.1", media=media, state="partial"),
            *(ConferenceEndpoint(f"sip:{at}-{n}@x") for n in range(MAX_OF_USER)),
        )
        row = ConferenceUser("sip:alice@x", endpoints=endpoints, state="partial")
        assert table.take(some(at, row))
        at += 1
    assert len(table.users[0].endpoints) == MAX_OF_USER
    assert len(table.users[0].endpoints[0].media) == MAX_OF_USER


_entities = st.sampled_from(["sip:a@x", "sip:b@x", "sip:c@x", "sip:d@x"])
_rosters = st.dictionaries(_entities, st.sampled_from(["connected", "on-hold"]), max_size=4).map(
    lambda users: {
        entity: ConferenceUser(entity, endpoints=(ConferenceEndpoint(entity, status),))
        for entity, status in users.items()
    }
)


@given(st.lists(_rosters, min_size=1, max_size=6))
def test_changes_come_to_what_there_is(rosters: list[dict[str, ConferenceUser]]) -> None:
    table = ConferenceTable()
    told = rosters[0]
    assert table.take(ConferenceInfo(ROOM, 1, tuple(told.values())))
    for version, now in enumerate(rosters[1:], 2):
        info = some(version, *changes(told, now))
        assert table.take(ConferenceInfo.parse(info.to_bytes()))
        told = now
        assert {user.entity: user for user in table.users} == now


# ---------------------------------------------------------------- hostile documents

_HEAD = '<conference-info xmlns="urn:ietf:params:xml:ns:conference-info" entity="sip:r@x"'


@pytest.mark.parametrize(
    "body",
    [
        f"<!DOCTYPE x [<!ENTITY a 'b'>]>{_HEAD} version='1'>&a;</conference-info>",
        f"{_HEAD}/>",
        f"{_HEAD} version='one'/>",
        f"{_HEAD} version='1' state='most'/>",
        f"{_HEAD} version='1'><users state='no'/></conference-info>",
        f"{_HEAD} version='1'><users><user/></users></conference-info>",
        f"{_HEAD} version='1'><users><user entity='a'><endpoint/></user></users></conference-info>",
        f"{_HEAD} version='1'><users><user entity='a'><endpoint entity='b'><media/></endpoint>"
        "</user></users></conference-info>",
        f"{_HEAD} version='1'>{'<users>' * 40}{'</users>' * 40}</conference-info>",
        f"{_HEAD} version='1'>{'<users/>' * 5000}</conference-info>",
        "<conference-info version='1' entity='sip:r@x'/>",
    ],
)
def test_what_is_no_conference_document_is_refused(body: str) -> None:
    with pytest.raises(SipError) as refused:
        ConferenceInfo.parse(body.encode())
    assert refused.value.status == 400


@given(st.binary(max_size=300))
def test_no_body_raises_anything_else(body: bytes) -> None:
    try:
        ConferenceInfo.parse(body)
    except SipError as error:
        assert error.status == 400
