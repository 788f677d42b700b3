"""Registration against a registrar of raw messages, in virtual time (RFC 3261 section 10)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st
from registration_world import (
    ALICE,
    CONTACT,
    FLOW,
    OTHER_FLOW,
    Ask,
    Script,
    World,
    as_asked,
    ok,
    reply,
    silence,
    with_digest,
)

from voip.errors import AuthenticationError
from voip.sip.digest import Credentials
from voip.sip.digest_server import DigestServer
from voip.sip.registration import Registered, RegistrationFailed, RegistrationState, Unregistered
from voip.types import SeededRandom

pytestmark = pytest.mark.rfc("3261", "10.2")


class TestRegistering:
    def test_a_register_says_what_section_10_2_asks(self) -> None:
        world = World(silence)
        world.start()
        (ask,) = world.asks
        assert ask.text.startswith("REGISTER sip:pbx SIP/2.0\r\n")
        assert ask.value("To") == "<sip:alice@pbx>"
        assert (ask.value("From") or "").startswith("<sip:alice@pbx>;tag=")
        assert (ask.value("Contact"), ask.expires) == (CONTACT, 300)
        assert ask.cseq == 1
        assert world.state is RegistrationState.REGISTERING
        assert world.news == []

    def test_it_is_registered_when_the_registrar_says_so(self) -> None:
        world = World(ok(120)).start()
        assert world.state is RegistrationState.REGISTERED
        assert world.news == [Registered(120.0, renewed=False)]

    def test_a_challenge_is_answered(self) -> None:
        server = DigestServer("pbx", {"alice": "secret"}, SeededRandom(5))
        world = World(with_digest(server, as_asked), ALICE).start()
        assert world.news == [Registered(300.0, renewed=False)]
        assert [ask.cseq for ask in world.asks] == [1, 2]
        assert len({ask.value("Call-ID") for ask in world.asks}) == 1
        assert all("secret" not in ask.text for ask in world.asks)

    def test_a_stale_nonce_costs_one_more_round_and_no_more(self) -> None:
        server = DigestServer("pbx", {"alice": "secret"}, SeededRandom(5), nonce_lifetime_s=10.0)
        world = World(with_digest(server, as_asked), ALICE).start().run(3600.0)
        assert all(isinstance(event, Registered) for event in world.news)
        assert len(world.news) > 10
        assert len(world.asks) == 2 * len(world.news)

    def test_starting_twice_asks_once(self) -> None:
        world = World(silence)
        world.start()
        world.start()
        assert len(world.asks) == 1

    @pytest.mark.parametrize(
        ("lines", "granted"),
        [
            (f"Contact: {CONTACT};expires=77", 77),
            (f"Contact: <sip:ALICE@192.0.2.10:5060>;expires=9, {CONTACT};expires=77", 77),
            (f"Expires: 99\r\nContact: {CONTACT};expires=77", 77),
            (f"Expires: 99\r\nContact: {CONTACT}", 99),
            (f"Contact: <sip:other@192.0.2.99>;expires=10, {CONTACT};expires=77", 77),
            ("Contact: <sip:alice@203.0.113.5:61234>;expires=66", 66),
            ("Contact: <sip:a@h>;expires=5, <sip:b@h>;expires=6", 300),
            ("Contact: <tel:+49>;expires=5, <sip:b@h>;expires=6\r\nExpires: 50", 50),
            (f"Contact: <<<, {CONTACT};expires=77, sip:x?y", 300),
            (f"Contact: ;;;, {CONTACT};expires=77, sip:x?y", 77),
            (f"Contact: {CONTACT};expires=soon", 300),
            (f"Contact: {CONTACT};expires=" + "9" * 40, 2**32 - 1),
            ("Server: x", 300),
        ],
    )
    def test_the_granted_time_is_our_contacts(self, lines: str, granted: int) -> None:
        assert World(lambda ask: f"200 OK\r\n{lines}").start().news == [
            Registered(float(granted), renewed=False)
        ]

    def test_no_time_granted_is_a_failure_that_is_tried_again(self) -> None:
        world = World(ok(0)).start()
        assert isinstance(world.last, RegistrationFailed)
        assert world.last.retry_in_s is not None
        assert "no time" in world.last.error.message

    def test_it_must_be_a_sip_address(self) -> None:
        with pytest.raises(Exception, match="SIP URI"):
            World(silence, address="<tel:+49>")


class TestTooBrief:
    def test_a_longer_interval_is_asked_for_and_kept(self) -> None:
        def script(ask: Ask) -> str:
            return as_asked(ask) if ask.expires >= 600 else "423 Too Brief\r\nMin-Expires: 600"

        world = World(script, expires_s=60).start()
        assert world.news == [Registered(600.0, renewed=False)]
        assert [ask.expires for ask in world.asks] == [60, 600]
        assert [ask.cseq for ask in world.asks] == [1, 2]
        world.run(600.0)
        assert all(ask.expires == 600 for ask in world.asks[1:])

    def test_a_registrar_that_is_never_content_is_left(self) -> None:
        world = World(lambda ask: f"423 Too Brief\r\nMin-Expires: {ask.expires + 1}").start()
        assert world.failure().status == 423
        assert len(world.asks) == 4
        world.assert_quiet()

    @pytest.mark.parametrize("lines", ["", "\r\nMin-Expires: 10", "\r\nMin-Expires: x"])
    def test_a_423_that_asks_for_nothing_longer_is_final(self, lines: str) -> None:
        world = World(lambda ask: "423 Interval Too Brief" + lines).start()
        assert world.failure().status == 423
        assert len(world.asks) == 1


class TestRenewing:
    @pytest.mark.parametrize("granted", [1, 20, 60, 120, 300, 3600, 86400])
    @pytest.mark.parametrize("seed", range(8))
    def test_it_is_renewed_in_good_time(self, granted: int, seed: int) -> None:
        world = World(ok(granted), seed=seed).start()
        at = world.registration.next_timer()
        assert at is not None
        share = (at - world.now) / granted
        assert 0.5 <= share <= 0.9
        if granted >= 80:
            assert granted - (at - world.now) >= 40.0 - 1e-6

    def test_renewals_go_on_with_one_call_id_and_rising_numbers(self) -> None:
        world = World(as_asked).start().run(24 * 3600.0)
        assert world.state is RegistrationState.REGISTERED
        assert len(world.news) > 24 * 3600 / 300
        assert world.news[0] == Registered(300.0, renewed=False)
        assert set(world.news[1:]) == {Registered(300.0, renewed=True)}
        assert [ask.cseq for ask in world.asks] == list(range(1, len(world.asks) + 1))
        assert len({ask.value("Call-ID") for ask in world.asks}) == 1
        gaps = [b.now - a.now for a, b in zip(world.asks, world.asks[1:], strict=False)]
        assert max(gaps) <= 270.0
        assert len({round(gap, 3) for gap in gaps}) > 100, "phones must not renew in step"

    def test_starting_again_renews_at_once(self) -> None:
        world = World(as_asked).start()
        world.start()
        assert world.news == [Registered(300.0, renewed=False), Registered(300.0, renewed=True)]

    def test_lost_requests_are_repeated_by_the_agent(self) -> None:
        seen = []

        def every_third(ask: Ask) -> str | None:
            seen.append(ask)
            return as_asked(ask) if len(seen) % 3 == 0 else None

        world = World(every_third).start().run(3600.0)
        assert all(isinstance(event, Registered) for event in world.news)
        assert len(world.news) > 12


class TestFailing:
    def test_silence_is_told_and_tried_again_after_half_a_minute_to_a_minute(self) -> None:
        world = World(silence)
        world.start()
        world.run(32.5)
        assert world.state is RegistrationState.FAILED
        error = world.failure()
        assert error.status == 408
        assert error.message == "pbx does not answer the REGISTER of alice@pbx"
        assert isinstance(world.last, RegistrationFailed)
        assert world.last.retry_in_s is not None
        assert 30.0 <= world.last.retry_in_s <= 60.0
        assert world.registration.next_timer() == pytest.approx(
            world.asks[0].now + 32.0 + world.last.retry_in_s
        )

    @pytest.mark.parametrize("seed", range(5))
    def test_waiting_doubles_up_to_half_an_hour_as_rfc_5626_4_5_says(self, seed: int) -> None:
        world = World(lambda ask: "503 Service Unavailable", seed=seed).start().run(24 * 3600.0)
        waits = [
            event.retry_in_s
            for event in world.news
            if isinstance(event, RegistrationFailed) and event.retry_in_s is not None
        ]
        assert len(waits) == len(world.news) == len(world.asks) > 48
        for failures, wait in enumerate(waits, 1):
            longest = min(1800.0, 30.0 * 2**failures)
            assert longest / 2 <= wait <= longest

    def test_success_forgets_the_failures(self) -> None:
        answers = ["500 x", "500 x", "500 x", None, "500 x"]

        def script(ask: Ask) -> str:
            answer = answers.pop(0) if answers else None
            return answer or f"200 OK\r\nContact: {CONTACT};expires=60"

        world = World(script).start().run(700.0)
        kinds = [type(event).__name__ for event in world.news[:6]]
        assert kinds == ["RegistrationFailed"] * 3 + [
            "Registered",
            "RegistrationFailed",
            "Registered",
        ]
        assert world.news[3] == Registered(60.0, renewed=False)
        assert isinstance(world.news[4], RegistrationFailed)
        assert (world.news[4].retry_in_s or 0) <= 60.0
        assert world.state is RegistrationState.REGISTERED

    @pytest.mark.parametrize(("asked", "least"), [(20, 30.0), (500, 500.0), (10**9, 3600.0)])
    def test_retry_after_is_obeyed_within_reason(self, asked: int, least: float) -> None:
        world = World(lambda ask: f"503 x\r\nRetry-After: {asked} (lunch)").start()
        assert isinstance(world.last, RegistrationFailed)
        assert world.last.retry_in_s is not None
        assert least <= world.last.retry_in_s <= max(60.0, least)

    @pytest.mark.parametrize("status", [400, 402, 403, 404, 405, 416, 420, 501, 505, 600, 603])
    def test_a_refusal_is_final(self, status: int) -> None:
        world = World(lambda ask: f"{status} No way").start()
        assert world.state is RegistrationState.FAILED
        assert world.last == RegistrationFailed(world.failure(), None)
        assert world.failure().status == status
        assert world.failure().message == f"pbx does not register alice@pbx: No way ({status})"
        assert not isinstance(world.failure(), AuthenticationError)
        world.assert_quiet()
        assert len(world.asks) == 1

    def test_a_wrong_password_is_called_that(self) -> None:
        server = DigestServer("pbx", {"alice": "other"}, SeededRandom(5))
        world = World(with_digest(server, as_asked), ALICE).start()
        error = world.failure()
        assert isinstance(error, AuthenticationError)
        assert error.message == "401 twice: wrong password for alice@pbx"
        assert error.status == 401
        assert "secret" not in f"{error!r} {world.registration!r} {world.news}"
        assert len(world.asks) == 2
        world.assert_quiet()

    def test_a_missing_password_is_called_that(self) -> None:
        server = DigestServer("pbx", {}, SeededRandom(5))
        error = World(with_digest(server, as_asked)).start().failure()
        assert isinstance(error, AuthenticationError)
        assert error.message == "401 but no password was given for alice@pbx"
        assert error.hint == "pass password=, --password-file or VOIP_PASSWORD"

    def test_a_challenge_nobody_can_answer_is_called_that(self) -> None:
        script = "407 x\r\nProxy-Authenticate: NTLM realm=x"
        error = World(lambda ask: script, ALICE).start().failure()
        assert isinstance(error, AuthenticationError)
        assert error.message == "407 with no challenge that can be answered for alice@pbx"

    def test_nobody_listening_is_told_at_once(self) -> None:
        world = World(silence)
        world.start()
        world.agent.flow_failed(FLOW, "nobody listens at 192.0.2.1:5060", world.now)
        world.settle()
        assert world.failure().message == "nobody listens at 192.0.2.1:5060"
        assert world.state is RegistrationState.FAILED
        assert world.registration.next_timer() is not None

    def test_starting_again_does_not_wait(self) -> None:
        world = World(lambda ask: "403 x").start()
        world.script = as_asked
        world.start()
        assert world.last == Registered(300.0, renewed=False)


class TestLeaving:
    def test_the_binding_is_removed(self) -> None:
        world = World(as_asked).start().stop()
        assert world.state is RegistrationState.UNREGISTERED
        assert world.news == [Registered(300.0, renewed=False), Unregistered()]
        ask = world.asks[-1]
        assert (ask.expires, ask.value("Contact"), ask.cseq) == (0, CONTACT, 2)
        assert ask.value("Call-ID") == world.asks[0].value("Call-ID")
        world.assert_quiet()

    def test_stopping_before_and_again_says_nothing(self) -> None:
        world = World(as_asked).stop()
        assert (world.asks, world.news) == ([], [])
        world.start().stop()
        world.stop()
        assert len(world.asks) == len(world.news) == 2

    def test_stopping_amid_a_register_waits_for_its_answer(self) -> None:
        world = World(silence)
        world.start()
        world.stop()
        world.script = as_asked
        world.run(1.0)
        assert world.news == [Registered(300.0, renewed=False), Unregistered()]
        assert world.asks[-1].expires == 0
        world.assert_quiet()

    def test_stopping_amid_a_register_that_fails_asks_nothing_more(self) -> None:
        world = World(silence)
        world.start()
        world.stop()
        world.run(33.0)
        assert isinstance(world.last, Unregistered)
        assert world.last.error is not None
        assert world.last.error.status == 408
        assert {ask.cseq for ask in world.asks} == {1}
        world.assert_quiet()

    def test_stopping_while_waiting_to_try_again_asks_nothing(self) -> None:
        world = World(lambda ask: "503 x").start().stop()
        assert world.last == Unregistered()
        assert len(world.asks) == 1
        world.assert_quiet()

    def test_a_binding_that_could_not_be_renewed_is_removed_all_the_same(self) -> None:
        world = World(as_asked).start()
        world.script = lambda ask: "503 x"
        world.start()
        assert world.state is RegistrationState.FAILED
        world.script = as_asked
        world.stop()
        assert world.asks[-1].expires == 0
        assert world.last == Unregistered()

    @pytest.mark.parametrize("script", [silence, lambda ask: "500 x", lambda ask: "401 x"])
    def test_a_registrar_that_does_not_let_go_ends_it_too(self, script: Script) -> None:
        world = World(as_asked).start()
        world.script = script
        world.stop()
        world.run(33.0)
        assert world.state is RegistrationState.UNREGISTERED
        assert isinstance(world.last, Unregistered)
        assert world.last.error is not None
        world.assert_quiet()

    def test_removal_is_challenged_like_anything_else(self) -> None:
        server = DigestServer("pbx", {"alice": "secret"}, SeededRandom(5))
        world = World(with_digest(server, as_asked), ALICE).start().stop()
        assert world.last == Unregistered()
        assert [ask.cseq for ask in world.asks] == [1, 2, 3, 4]
        assert [ask.expires for ask in world.asks] == [300, 300, 0, 0]

    def test_starting_amid_a_removal_registers_after_it(self) -> None:
        world = World(as_asked).start()
        world.script = silence
        world.stop()
        world.start()
        world.script = as_asked
        world.run(1.0)
        assert world.news == [
            Registered(300.0, renewed=False),
            Unregistered(),
            Registered(300.0, renewed=False),
        ]
        assert world.state is RegistrationState.REGISTERED


class TestMoving:
    def test_another_contact_is_registered_at_once_by_the_other_way(self) -> None:
        world = World(as_asked).start()
        world.registration.rebind("<sip:alice@192.0.2.11:5060>", OTHER_FLOW, world.now)
        world.settle()
        assert world.asks[-1].value("Contact") == "<sip:alice@192.0.2.11:5060>"
        assert world.asks[-1].flow == OTHER_FLOW
        assert world.last == Registered(300.0, renewed=True)

    def test_a_register_under_way_is_followed_by_another(self) -> None:
        world = World(silence)
        world.start()
        world.registration.rebind("<sip:alice@192.0.2.11:5060>", OTHER_FLOW, world.now)
        world.settle()
        assert len(world.asks) == 1
        world.script = as_asked
        world.run(1.0)
        assert world.asks[-1].flow == OTHER_FLOW
        assert world.last == Registered(300.0, renewed=True)

    def test_nothing_is_sent_where_nothing_is_wanted(self) -> None:
        world = World(as_asked)
        world.registration.rebind("<sip:alice@192.0.2.11:5060>", OTHER_FLOW, world.now)
        world.settle()
        assert world.asks == []


def test_events_of_other_requests_are_not_taken() -> None:
    world = World(as_asked)
    world.agent.request(
        "OPTIONS", "sip:pbx", flow=FLOW, from_="<sip:a@b>", to="<sip:pbx>", now=world.now
    )
    ((data, _),) = world.agent.outgoing()
    world.agent.receive(reply(Ask(data.decode(), 0.0, FLOW), "200 OK"), FLOW, world.now)
    (event,) = world.agent.events()
    assert not world.registration.handle(event, world.now)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("answers", "granted"),
    [
        (["2.1/F02_401_Unauthorized_SIP_Server_Bob", "2.1/F04_200_OK_SIP_Server_Bob"], 3600.0),
        (["2.2/F02_200_OK_SIP_Server_Bob"], 3600.0),
    ],
)
def test_F001_F002_the_registrars_answers_of_rfc_3665(
    reference_data: Path, answers: list[str], granted: float
) -> None:
    left = [rfc_3665(reference_data, name) for name in answers]
    world = World(
        lambda ask: left.pop(0),
        Credentials("bob", "any"),
        registrar="sips:ss2.biloxi.example.com",
        address="Bob <sips:bob@biloxi.example.com>",
        contact="<sips:bob@client.biloxi.example.com>",
    ).start()
    assert world.news == [Registered(granted, renewed=False)]
    assert left == []


@pytest.mark.reference
def test_F005_the_refused_registration_of_rfc_3665(reference_data: Path) -> None:
    first = rfc_3665(reference_data, "2.5/F02_Unauthorized_SIP_Server_Bob")
    second = rfc_3665(reference_data, "2.5/F04_401_Unauthorized_SIP_Server_Bob")
    left = [first, second]
    world = World(lambda ask: left.pop(0), Credentials("bob", "any")).start()
    assert isinstance(world.failure(), AuthenticationError)
    assert left == []


def rfc_3665(reference_data: Path, name: str) -> str:
    """Return the status and the lines of an answer that are not copied from its request."""
    path = reference_data / "sip-flows" / "rfc3665" / f"{name}.sip"
    text = re.sub(r"\r\n[ \t]+", " ", path.read_bytes().decode())
    lines = text.split("\r\n")
    kept = [line for line in lines[1:] if line.startswith(("Contact:", "WWW-Authenticate:"))]
    return "\r\n".join([lines[0].removeprefix("SIP/2.0 "), *kept])


_answers = st.sampled_from(
    ["200 OK", "403 x", "503 x", "423 x\r\nMin-Expires: 900", "401 x", None, "200 OK\r\nExpires: 5"]
)


@examples(60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "stop", "rebind", "wait", "fail"]), _answers),
        max_size=12,
    ),
    st.integers(0, 99),
)
def test_whatever_happens_a_stop_ends_it(steps: list[tuple[str, str | None]], seed: int) -> None:
    world = World(silence, ALICE, seed=seed)
    started = False
    for action, answer in steps:
        world.script = lambda ask, answer=answer: answer  # type: ignore[misc]
        match action:
            case "start":
                world.start()
                started = True
            case "stop":
                world.stop()
            case "rebind":
                world.registration.rebind(CONTACT, OTHER_FLOW, world.now)
            case "fail":
                world.agent.flow_failed(FLOW, "lost", world.now)
            case _:
                world.run(45.0)
        world.settle()
    world.stop()
    world.script = as_asked
    world.run(70.0)
    world.assert_quiet()
    assert world.state is RegistrationState.UNREGISTERED
    assert not started or isinstance(world.last, Unregistered)
    assert [ask.cseq for ask in world.asks] == sorted(ask.cseq for ask in world.asks)
