"""`voip register`: once, refused, and nobody there; staying is tested with Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from voip_program import Done, PbxThread

Voip = Callable[..., Done]


def test_once_leaves_the_binding_where_it_is(voip: Voip, pbx: PbxThread) -> None:
    done = voip("register", pbx.uri("1001"), "--once", "--expires", "60", "--json")
    assert (done.status, done.stderr) == (0, "")
    assert done.json == {"registered": True, "uri": pbx.uri("1001"), "expires_s": 60.0}
    assert pbx.methods == ["REGISTER", "REGISTER"]  # the first is challenged
    (contact,) = pbx.contacts("1001")
    assert contact.startswith("sip:1001@127.0.0.1:")


def test_people_are_told_in_one_line(voip: Voip, pbx: PbxThread) -> None:
    done = voip("register", pbx.uri("1001"), "--once", "--transport", "tcp")
    assert done == Done(0, f"registered {pbx.uri('1001')} for 300 s\n", "")


def test_an_interval_that_is_too_brief_is_what_the_registrar_wants(
    voip: Voip, pbx: PbxThread
) -> None:
    done = voip("register", pbx.uri("1001"), "--once", "--expires", "1", "--json")
    assert (done.status, done.json["expires_s"]) == (0, 10.0)


@pytest.mark.parametrize(
    ("uri", "complaint", "code", "status"),
    [
        (
            "sip:1002@{address}",  # with the password of 1001
            "401 twice: wrong password for 1002@{address}",
            "authentication",
            401,
        ),
        ("sip:1001@127.0.0.1:9", "nobody listens at 127.0.0.1:9", "unreachable", None),
        ("sip:", "not a SIP URI: 'sip:' (such as sip:alice@pbx.example)", "config", None),
    ],
)
def test_a_refusal_is_one_line_and_one_object(
    voip: Voip, pbx: PbxThread, uri: str, complaint: str, code: str, status: int | None
) -> None:
    uri, complaint = (text.format(address=pbx.server.address) for text in (uri, complaint))
    done = voip("register", uri, "--json")
    assert (done.status, done.complaint.partition(" (check")[0]) == (1, complaint)
    assert done.json["registered"] is False
    assert done.json["error"] == done.complaint
    assert done.json["code"] == code
    if status is not None:
        assert done.json["status"] == status


def test_a_silent_registrar_ends_with_the_timeout(voip: Voip) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        uri = f"sip:x@127.0.0.1:{deaf.getsockname()[1]}"
        done = voip("register", uri, "--timeout", "0.2", "--json")
    assert done.status == 1
    assert done.complaint == f"no answer to REGISTER {uri} in 0.2 s (check the address)"
    assert (done.json["registered"], done.json["code"]) == (False, "registration")
