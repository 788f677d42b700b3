"""What event packages say: the RFCs' own documents, ours, and what must not be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import SipError
from voip.sip.packages.dialog_info import MAX_DIALOGS, DialogInfo, DialogTable, WatchedDialog
from voip.sip.packages.message_summary import MessageCount, MessageSummary
from voip.sip.packages.presence import Presence, PresenceTuple
from voip.sip.packages.reg import (
    MAX_BINDINGS,
    RegContact,
    RegInfo,
    RegTable,
    WatchedRegistration,
)
from voip.sip.packages.xml import MAX_DEPTH, MAX_ELEMENTS, parse_xml
from voip.sip.replaces import Replaces


def printed(data: Path, rfc: int, start: str, end: str) -> list[bytes]:
    """The documents an RFC prints, page breaks taken out."""
    text = (data / "rfc-text" / f"rfc{rfc}.txt").read_text(encoding="utf-8", errors="replace")
    text = re.sub(r"\n+[^\n]*\[Page \d+\]\n\f?[^\n]*\n\n*", "\n", text)
    found = re.findall(rf"[ \t]*{start}.*?{end}", text, re.DOTALL)
    return [re.sub(r"\n +", "\n", one).strip().encode() for one in found]


# ---------------------------------------------------------------- message-summary


@pytest.mark.reference
def test_F102_the_summaries_rfc_3842_prints(reference_data: Path) -> None:
    bodies = printed(reference_data, 3842, "Messages-Waiting: yes", r"Voice-Message: [^\n]*\n")
    summaries = [MessageSummary.parse(body) for body in bodies]
    voice = [summary.of() for summary in summaries if summary.account is not None]
    assert len(voice) >= 4
    assert MessageCount("voice-message", 2, 8, 0, 2) in voice
    assert MessageCount("voice-message", 4, 8, 1, 2) in voice
    assert {s.account for s in summaries if s.account} >= {"sip:alice@vmail.example.com"}


def test_F102_a_summary_is_written_as_it_is_read() -> None:
    summary = MessageSummary(
        True,
        "sip:alice@vmail.example.com",
        (MessageCount("voice-message", 2, 8, 0, 2), MessageCount("fax-message", 0, 1)),
    )
    assert MessageSummary.parse(summary.to_bytes()) == summary
    assert b"Voice-Message: 2/8 (0/2)\r\n" in summary.to_bytes()


def test_F102_summaries_are_read_without_regard_to_case_and_counts_have_a_limit() -> None:
    body = b"MESSAGES-WAITING:NO\nvoice-message : 99999999999/0\n\nTo: <x>\nVoice-Message: 1/1"
    summary = MessageSummary.parse(body)
    assert summary == MessageSummary(False, None, (MessageCount("voice-message", 2**32 - 1, 0),))
    assert summary.of("fax-message") == MessageCount("fax-message")


@pytest.mark.parametrize("body", [b"", b"Voice-Message: 1/2", b"Messages-Waiting: perhaps"])
def test_F102_what_does_not_say_whether_mail_waits_is_no_summary(body: bytes) -> None:
    with pytest.raises(SipError):
        MessageSummary.parse(body)


# ---------------------------------------------------------------- dialog


@pytest.mark.reference
def test_F104_the_documents_rfc_4235_prints(reference_data: Path) -> None:
    bodies = printed(
        reference_data, 4235, r"<\?xml version=\"1.0\"\?>\s*<dialog-info", "</dialog-info>"
    )
    read, torn = [], []
    for body in bodies:
        try:
            read.append(DialogInfo.parse(body))
        except SipError:
            torn.append(body)
    # one is an extract, and one closes an element twice: that is no XML
    assert ["..." in body.decode() for body in torn] == [True, False]
    assert b'/>\n<param pname="+sip.rendering" pval="no"/>\n</target>' in torn[1]
    assert len(read) >= 9
    states = {dialog.state for info in read for dialog in info.dialogs}
    assert states >= {"trying", "early", "confirmed", "terminated"}
    named = [dialog for info in read for dialog in info.dialogs if dialog.call_id]
    assert len(named) >= 5
    assert {dialog.call_id for dialog in named} >= {"a84b4c76e66710"}
    for info in read:
        assert DialogInfo.parse(info.to_bytes()) == info


def test_F104_dialog_documents_are_put_together_by_their_versions() -> None:
    table = DialogTable()
    one, two = WatchedDialog("1", "early"), WatchedDialog("2", "confirmed")
    assert table.take(DialogInfo("sip:a@x", 5, True, (one,)))
    assert table.take(DialogInfo("sip:a@x", 6, False, (two,)))
    assert table.dialogs == [one, two]
    assert table.take(DialogInfo("sip:a@x", 6, False, (WatchedDialog("2", "terminated"),)))
    assert table.dialogs == [one, two]  # an old one
    assert not table.take(DialogInfo("sip:a@x", 9, False, (WatchedDialog("1", "terminated"),)))
    assert table.dialogs == [two]
    assert table.take(DialogInfo("sip:a@x", 0, True, ()))  # the notifier has begun anew
    assert table.dialogs == []


def test_F032_a_watched_dialog_names_what_is_to_be_replaced() -> None:
    dialog = WatchedDialog("1", "early", "c@x", "ours", "theirs", "recipient")
    assert dialog.replaces() == Replaces("c@x", "ours", "theirs")
    assert dialog.replaces_at_peer(early_only=True) == Replaces("c@x", "theirs", "ours", True)
    with pytest.raises(SipError):
        WatchedDialog("1", "early").replaces()


# ---------------------------------------------------------------- presence and reg


def test_F103_presence_is_written_as_it_is_read() -> None:
    presence = Presence(
        "pres:alice@example.com",
        (
            PresenceTuple("t1", True, "sip:alice@192.0.2.1", "at the <desk> & awake"),
            PresenceTuple("t2", False),
            PresenceTuple("t3", None),
        ),
        "back soon",
    )
    assert Presence.parse(presence.to_bytes()) == presence
    assert presence.open
    assert not Presence("pres:bob@example.com").open


def test_F103_presence_of_others_with_what_we_do_not_know_is_read() -> None:
    body = b"""<?xml version="1.0" encoding="UTF-8"?>
    <p:presence xmlns:p="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:x" entity="pres:bob@x">
      <p:tuple id="a"><p:status><p:basic>open</p:basic><dm:more x="1"><dm:in/></dm:more></p:status>
      <p:contact priority="0.8">sip:bob@192.0.2.2</p:contact></p:tuple>
      <dm:person id="p1"><dm:activities/></dm:person>
    </p:presence>"""
    assert Presence.parse(body).tuples == (PresenceTuple("a", True, "sip:bob@192.0.2.2"),)


@pytest.mark.reference
def test_documents_that_go_on_and_on_fill_a_table_no_further() -> None:
    dialogs, contacts = DialogTable(), RegTable()
    for version in range(30):
        names = [f"{version}-{at}" for at in range(100)]
        dialogs.take(
            DialogInfo("sip:a@x", version, False, tuple(WatchedDialog(n, "early") for n in names))
        )
        some = tuple(RegContact(n, f"sip:{n}@x", "active", "registered") for n in names)
        one = WatchedRegistration("1", f"sip:{version % 7}@x", "active", some)
        contacts.take(RegInfo(version, False, (one,)))
    assert len(dialogs.dialogs) == MAX_DIALOGS
    assert sum(len(contacts.contacts(f"sip:{of}@x")) for of in range(7)) == MAX_BINDINGS
    left = WatchedRegistration("1", "sip:0@x", "terminated")
    before = len(contacts.contacts("sip:0@x"))
    contacts.take(RegInfo(30, False, (left,)))
    one = WatchedRegistration("1", "sip:0@x", "active", some)
    contacts.take(RegInfo(31, False, (one,)))  # there is room again
    assert len(contacts.contacts("sip:0@x")) == 100 < before


def test_F104_the_documents_rfc_3680_prints(reference_data: Path) -> None:
    bodies = printed(reference_data, 3680, r"<\?xml version=\"1.0\"\?>\s*<reginfo", "</reginfo>")
    read = [RegInfo.parse(body) for body in bodies]
    assert len(read) >= 3
    table = RegTable()
    flow = [info for info in read if info.registrations[0].aor == "sip:joe@example.com"]
    assert [table.take(info) for info in flow] == [True] * len(flow)
    assert [c.uri for c in table.contacts("sip:joe@example.com")] == ["sip:joe@pc34.example.com"]
    first = next(i for i in read if i.registrations[0].aor == "sip:user@example.com")
    assert [(c.state, c.event) for c in first.registrations[0].contacts] == [
        ("active", "registered"),
        ("terminated", "expired"),
    ]


# ---------------------------------------------------------------- hostile documents

BOMB = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>
<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="&b;"/>"""
ROOT = '<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="x">'


@pytest.mark.parametrize(
    "body",
    [
        BOMB,
        b'<!DOCTYPE presence SYSTEM "file:///etc/passwd"><presence/>',
        (ROOT + "<a>" * MAX_DEPTH + "</a>" * MAX_DEPTH + "</presence>").encode(),
        (ROOT + "<a/>" * MAX_ELEMENTS + "</presence>").encode(),
        (ROOT + "<a " + " ".join(f"b{n}='1'" for n in range(65)) + "/></presence>").encode(),
        b"",
        b"<presence",
        b"<presence/>",
        b'<presence xmlns="urn:ietf:params:xml:ns:pidf"/>',
        b'<?xml version="1.0" encoding="nonsense"?><presence/>',
        b"\xff\xfe<\x00",
        (ROOT + "&undeclared;</presence>").encode(),
    ],
)
def test_hostile_documents_are_refused(body: bytes) -> None:
    with pytest.raises(SipError) as refused:
        Presence.parse(body)
    assert refused.value.status == 400


@given(st.binary(max_size=300))
def test_no_body_makes_a_reader_raise_anything_else(body: bytes) -> None:
    for read in (MessageSummary.parse, DialogInfo.parse, RegInfo.parse, Presence.parse):
        try:
            read(body)
        except SipError:
            continue


def test_a_document_as_deep_as_allowed_is_read() -> None:
    inside = MAX_DEPTH - 1
    body = (ROOT + "<a>" * inside + "</a>" * inside + "</presence>").encode()
    assert parse_xml(body, "{urn:ietf:params:xml:ns:pidf}presence") is not None
