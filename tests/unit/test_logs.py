"""Log lines as JSON and text, and secrets masked in them whoever wrote them."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import ConfigError
from voip.logs import CallLog, JsonFormatter, Limit, Redaction, TextFormatter, log_to, redact
from voip.logs.formats import MAX_VALUE

KEY = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"
SECRETS = [
    ('Authorization: Digest username="a", response="0123abcd", nonce="n0nce"', "0123abcd", "n0nce"),
    ("proxy-authorization: Basic YWxpY2U6c2VjcmV0", "YWxpY2U6c2VjcmV0"),
    ("{'Authorization': 'Digest response=0123abcd'}", "0123abcd"),
    ('WWW-Authenticate: Digest realm="r", nonce="n0nce"', "n0nce"),
    ('Authentication-Info: nextnonce="n0nce", rspauth="0123abcd"', "n0nce", "0123abcd"),
    (
        'a header with response="0123abcd" and cnonce="n0nce", opaque=x1y2',
        "0123abcd",
        "n0nce",
        "x1y2",
    ),
    (f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20", KEY),
    (f"the key inline:{KEY} was seen", KEY),
    (f"-----BEGIN PRIVATE KEY-----\n{KEY}\n{KEY}\n-----END PRIVATE KEY-----", KEY),
    (f"-----BEGIN EC PRIVATE KEY-----\\n{KEY}", KEY),
    ("password=hunter2", "hunter2"),
    ("Password: hunter2,3", "hunter2", ",3"),
    ('{"password": "hunter2 and more"}', "hunter2", "more"),
    ("Credentials(username='alice', password='hunter2')", "hunter2"),
    ("password=b'hunter2'", "hunter2"),
    ('password="hunter2 cut', "hunter2", "cut"),
    ("api_key: 12345 and secret=67890", "12345", "67890"),
    ("sip:alice:hunter2@pbx.example", "hunter2"),
    ("<sips:alice:hunter2@pbx.example>;tag=1", "hunter2"),
    ("http://alice:hunter2@pbx.example/", "hunter2"),
    ("Signal=7\r\nDuration=250", "=7"),
    ("signal = #", "#"),
    ("dtmf=4711 digits: 0815", "4711", "0815"),
]
HARMLESS = [
    "calling sip:600@pbx.example:5060 by way of udp 192.0.2.9:5060",
    "no response from sip:bob@pbx.example",
    "401 twice: wrong password for alice@pbx.example",
    "registered for 300 s",
    "busy here (486)",
    "the other side describes the session anew",
    "<sip:600@10.0.0.1:5060>, <sip:601@10.0.0.1:5061>",
    "the certificate of pbx.example is not signed by anybody we trust",
]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged by `voip` and `app`."""
    stream = io.StringIO()
    handler = log_to(stream, level="debug", as_json=True, loggers=("voip", "app"))
    yield stream
    for name in ("voip", "app"):
        logging.getLogger(name).removeHandler(handler)
        logging.getLogger(name).setLevel(logging.NOTSET)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    found = logging.LogRecord("voip.x", logging.INFO, __file__, 1, message, args, None)
    vars(found).update(extra)
    return found


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize("case", SECRETS, ids=lambda case: case[0][:30])
def test_a_secret_is_masked_wherever_it_stands(stream: io.StringIO, case: tuple[str, ...]) -> None:
    text, *secrets = case
    app = logging.getLogger("app")
    app.info(text.replace("%", "%%"))
    app.info("it says: %s", text)
    app.info("it says", extra={"said": text, "several": [text], "raw": text.encode()})
    try:
        raise ValueError(text)
    except ValueError:
        app.exception("it broke", stack_info=True)
    assert len(lines(stream)) == 4
    for secret in secrets:
        assert secret not in stream.getvalue()
    assert stream.getvalue().count("***") >= 5


@pytest.mark.parametrize("name", ["password", "ha1", "srtp_key", "private_key", "digits", "token"])
def test_a_field_with_the_name_of_a_secret_is_masked(stream: io.StringIO, name: str) -> None:
    logging.getLogger("app").info("x", extra={name: "hunter2", "keys_sent": 4})
    (line,) = lines(stream)
    assert (line[name], line["keys_sent"]) == ("***", 4)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert redact(text) == text


def test_other_formatters_and_later_handlers_have_no_secrets_either() -> None:
    found = record("password=%s", "hunter2", token="t0ken")
    assert Redaction().filter(found)
    plain = logging.Formatter("%(message)s %(token)s").format(found)
    assert plain == "password=*** ***"
    assert "hunter2" not in repr(vars(found))


def test_arguments_that_do_not_fit_are_told_without_them() -> None:
    found = record("%d keys", "4711")
    assert Redaction().filter(found)
    assert JsonFormatter().format(found).count("%d keys") == 1


@pytest.mark.parametrize(
    "piece",
    [
        "-----BEGIN PRIVATE KEY-----", "password=", "password", "sip:", "sip:a:", "sip:" + "a" * 99,
        "a=crypto:", "inline:", "Authorization", "signal ", "response=\"", " ", "proxy-", "-",
    ],
)  # fmt: skip
def test_masking_is_linear_in_its_input(piece: str) -> None:
    """By counting what the masks have looked at: a quadratic one would not end."""
    text = piece * (200_000 // len(piece))
    assert len(redact(text)) <= 3 * len(text) + 100


@given(st.lists(st.sampled_from([case[0] for case in SECRETS] + HARMLESS), max_size=5))
def test_secrets_beside_each_other_are_all_masked(texts: list[str]) -> None:
    masked = redact("\n".join(texts))
    for case in SECRETS:
        for secret in case[1:]:
            assert len(secret) < 4 or secret not in masked


# ---------------------------------------------------------------- lines


def test_a_line_is_an_object_in_ascii_with_time_level_and_logger(stream: io.StringIO) -> None:
    logging.getLogger("voip.sip").warning("Žofie\nis \x1b[31mred", extra={"peer": "sip:\u202ebob"})
    assert stream.getvalue().isascii()
    (line,) = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "warning",
        "logger": "voip.sip",
        "message": "Žofie\nis \x1b[31mred",
        "peer": "sip:\u202ebob",
    }


def test_a_line_of_text_cannot_be_made_to_look_like_two() -> None:
    found = record(
        "the reason: %s", "x\r\n2026 INFO voip: all is well", call_id="1", event="call_ended"
    )
    text = TextFormatter().format(found)
    assert text.isprintable()
    assert re.fullmatch(r"\S+Z INFO voip\.x: the reason: x.+ call_id=1 event=call_ended", text)
    spoken = TextFormatter().format(record("x", said="two words", nothing=""))
    assert spoken.endswith('x said="two words" nothing=""')


def test_values_have_an_end() -> None:
    found = record("x" * 10_000, said="y" * 10_000)
    line = json.loads(JsonFormatter().format(found))
    assert len(line["message"]) == len(line["said"]) == MAX_VALUE + 3


def test_lines_of_a_call_carry_it_and_what_was_learned_of_it(stream: io.StringIO) -> None:
    log = CallLog(peer="sip:bob@pbx.example")
    log.know(call_id="1")
    log.info("first", extra={"more": 2})
    log.know(sip_call_id="abc")
    log.event(logging.INFO, "call_answered", "answered by %s", "Bob", codec="pcmu")
    first, second = lines(stream)
    assert (first["call_id"], first["peer"], first["more"]) == ("1", "sip:bob@pbx.example", 2)
    assert "sip_call_id" not in first
    assert (second["call_id"], second["sip_call_id"]) == ("1", "abc")
    assert (second["event"], second["codec"]) == ("call_answered", "pcmu")
    assert second["message"] == "answered by Bob"


def test_the_other_side_cannot_fill_the_log(stream: io.StringIO) -> None:
    clock = 5.0
    log = CallLog(Limit(lambda: clock), call_id="1")
    for _ in range(500):
        log.event(logging.INFO, "session_change_by_peer", "again")
    assert len(lines(stream)) == 200
    log.event(logging.INFO, "call_ended", "told all the same")
    log.info("and so is what the application says")
    clock += 0.5
    for _ in range(50):
        log.event(logging.INFO, "session_change_by_peer", "again")
    written = lines(stream)
    assert len(written) == 212
    assert [line["left_out"] for line in written if "left_out" in line] == [301]
    assert written[200]["event"] == "call_ended"


def test_lines_written_about_a_call_by_others_carry_it_too(stream: io.StringIO) -> None:
    log, other, app = CallLog(call_id="1"), CallLog(call_id="2"), logging.getLogger("app")
    with log.current():
        app.info("one")
        with other.current():
            app.info("two")
        app.info("one", extra={"call_id": "mine"})
        other.info("two")
    app.info("none")
    assert [line.get("call_id") for line in lines(stream)] == ["1", "2", "mine", "2", None]


def test_the_level_is_a_threshold_and_has_to_be_one(stream: io.StringIO) -> None:
    quiet = io.StringIO()
    handler = log_to(quiet, level="error")
    logging.getLogger("voip.sip").warning("x")
    logging.getLogger("voip.sip").error("y")
    logging.getLogger("voip").removeHandler(handler)
    assert re.fullmatch(r"\S+ ERROR voip.sip: y\n", quiet.getvalue())
    assert len(lines(stream)) == 2  # others hear no less
    with pytest.raises(ConfigError, match="no log level 'loud'"):
        log_to(level="loud")


def test_a_library_is_silent_unless_it_is_asked() -> None:
    program = "import voip, logging; logging.getLogger('voip.call').error('something')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, check=True, text=True
    )
    assert (done.stdout, done.stderr) == ("", "")
