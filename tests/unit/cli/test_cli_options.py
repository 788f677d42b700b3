"""What the options of `call`, `answer` and `register` make of a phone, without starting one."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from voip.cli.program import app
from voip.config import CallConfig, NetworkConfig
from voip.errors import VoipError
from voip.phone import Softphone

URI = "sip:alice@pbx.example"
COMMANDS: dict[str, tuple[str, ...]] = {
    "call": ("sip:bob@pbx.example",),
    "answer": ("--from", URI),
    "register": (URI,),
}
Started = Callable[..., dict[str, Any]]


class Stop(VoipError):  # noqa: N818 (nothing is wrong)
    """A phone would have been started now."""


@pytest.fixture(params=COMMANDS)
def started(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Started:
    """Run a command with options; return what it would have started a phone with."""
    command: str = request.param
    seen: list[dict[str, Any]] = []

    def phone(**settings: Any) -> Softphone:
        _ = Softphone(**settings)  # it can be made of them
        seen.append(settings)
        raise Stop("enough")

    monkeypatch.setattr(f"voip.cli.{command}.Softphone", phone)
    monkeypatch.setattr(gc, "freeze", lambda: None)

    def start(*arguments: str) -> dict[str, Any]:
        result = CliRunner().invoke(app, [command, *COMMANDS[command], *arguments])
        assert result.exit_code == 1 and len(seen) == 1, result.output
        return seen[0]

    return start


def test_without_options_nothing_is_other_than_usual(started: Started) -> None:
    settings = started()
    usual = NetworkConfig(bind_port=settings["network"].bind_port)
    assert settings["network"] == usual
    assert not settings.get("outbound") and settings.get("instance") is None
    assert settings["proxy"] == ()
    assert settings.get("calling", CallConfig()) == CallConfig()


def test_dns_servers_and_proxies_may_be_several(started: Started) -> None:
    settings = started(
        *("--dns", "192.0.2.53", "--dns", "[2001:db8::53]:5353"),
        *("--proxy", "sip:one.example", "--proxy", "sip:two.example"),
    )
    assert settings["network"].dns_servers == ("192.0.2.53", "[2001:db8::53]:5353")
    assert settings["proxy"] == ("sip:one.example", "sip:two.example")


def test_websockets_are_answered_and_asked_for(started: Started) -> None:
    network = started(
        *("--ws-port", "8080", "--wss-port", "8443", "--tls-cert", "us.pem", "--ws-path", "/sip")
    )["network"]
    assert network.streams() == {"ws": 8080, "wss": 8443, "tls": network.streams()["tls"]}
    assert network.ws_path == "/sip"


@pytest.mark.parametrize("started", ["answer", "register"], indirect=True)
@pytest.mark.parametrize("instance", ["f81d4fae-7dec-11d0-a765-00a0c91e6bf6", None])
def test_a_flow_is_registered_for_this_very_phone(started: Started, instance: str | None) -> None:
    settings = started(*(("--outbound",) if instance is None else ("--instance", instance)))
    assert settings["outbound"] is True and settings["instance"] == instance


@pytest.mark.parametrize("started", ["call", "answer"], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "media_timeout_s", "ping_s"),
    [
        ((), 60.0, None),
        (("--media-timeout", "0"), None, None),
        (("--media-timeout", "12.5", "--ping", "30"), 12.5, 30.0),
        (("--ping", "0"), 60.0, None),
    ],
)
def test_how_long_silence_may_last_is_said(
    started: Started,
    arguments: tuple[str, ...],
    media_timeout_s: float | None,
    ping_s: float | None,
) -> None:
    calling = started(*arguments)["calling"]
    assert (calling.media_timeout_s, calling.ping_s) == (media_timeout_s, ping_s)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--media-timeout", "1"), "--media-timeout 1 cannot be kept (2 to 86400 seconds, or 0)"),
        (("--ping", "1e6"), "--ping 1e+06 cannot be kept (5 to 86400 seconds, or 0)"),
    ],
)
@pytest.mark.parametrize("command", ["call", "answer"])
def test_a_silence_that_cannot_be_measured_is_refused(
    command: str, arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "freeze", lambda: None)
    result = CliRunner().invoke(app, [command, *COMMANDS[command], *arguments])
    assert result.exit_code == 1
    assert f"voip: {says}\n" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--wss-port", "8443"), "--wss-port needs a certificate (--tls-cert F)"),
        (("--ws-path", "sip"), "--ws-path sip is no path (such as /ws)"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_cannot_be_is_said(
    command: str, arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "freeze", lambda: None)
    result = CliRunner().invoke(app, [command, *COMMANDS[command], *arguments])
    assert result.exit_code == 1
    assert f"voip: {says}\n" in result.output


def test_a_call_registers_nothing_and_has_no_option_for_it() -> None:
    result = CliRunner().invoke(app, ["call", "sip:bob@pbx.example", "--outbound"])
    assert result.exit_code == 2
