"""SIPp registers at our registrar: the flows of RFC 3665 section 2, by the list it is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from peers.sipp import Sipp
from sipp_flow import answered, scenario

from voip.proxy import SipProxy

StartSipp = Callable[..., Awaitable[Sipp]]
USERS = {"1001": "secret1001"}
ONE, TWO = "<sip:1001@192.0.2.1>", "<sip:1001@192.0.2.2;transport=tcp>"


def register(number: int, *lines: str, password: str = "secret1001") -> str:
    """A REGISTER with credentials, for the challenge that came last."""
    return (
        '<send retrans="500"><![CDATA[\n\n'
        + "\n".join(
            (
                "REGISTER sip:[remote_ip]:[remote_port] SIP/2.0",
                "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]",
                "Max-Forwards: 70",
                "From: <sip:1001@[remote_ip]:[remote_port]>;tag=[call_number]",
                "To: <sip:1001@[remote_ip]:[remote_port]>",
                "Call-ID: [call_id]",
                f"CSeq: {number} REGISTER",
                *lines,
                f"[authentication username=1001 password={password}]",
                "Content-Length: 0",
            )
        )
        + "\n\n]]></send>"
    )


def challenged(*lines: str) -> tuple[str, ...]:
    """The first REGISTER, without credentials, and what it is asked for."""
    first = register(1, *lines)
    bare = "\n".join(line for line in first.split("\n") if "[authentication" not in line)
    return bare, '<recv response="401" auth="true"/>'


def told(*contacts: str, gone: str = "") -> str:
    """A 200 with these bindings and their seconds; without `gone`."""
    lines = "".join(f".*Contact: {one};expires=[0-9]+" for one in contacts)
    checks = f'<ereg regexp="{lines or "Call-ID"}" search_in="msg" check_it="true" assign_to="20"/>'
    if gone:
        checks += f'<ereg regexp="{gone}" search_in="msg" check_it_inverse="true" assign_to="21"/>'
    return answered(200, more=checks.replace("<sip", "&lt;sip").replace(">;e", "&gt;;e"))


async def run(sipp: StartSipp, artifacts: Path, *steps: str) -> SipProxy:
    async with SipProxy(USERS, known_hosts=["127.0.0.1"]) as proxy:
        path = scenario(artifacts, "registers", *steps)
        one = await sipp(path, remote=proxy.address, calls=1)
        (await one.finished()).require(1)
    return proxy


async def test_F001_F002_F003_F004_a_list_of_contacts_grows_is_asked_for_and_goes(
    sipp: StartSipp, artifacts: Path
) -> None:
    await run(
        sipp,
        artifacts,
        *challenged(f"Contact: {ONE}", "Expires: 600"),
        register(2, f"Contact: {ONE}", "Expires: 600"),
        told(ONE),
        register(3, f"Contact: {TWO}", "Expires: 600"),
        told(ONE, TWO),
        register(4),
        told(ONE, TWO),
        register(5, f"Contact: {ONE};expires=0"),
        told(TWO, gone="192.0.2.1>"),
        register(6, "Contact: *", "Expires: 0"),
        told(gone="Contact:"),
        register(7),
        told(gone="Contact:"),
    )


async def test_F005_a_wrong_password_registers_nothing(sipp: StartSipp, artifacts: Path) -> None:
    proxy = await run(
        sipp,
        artifacts,
        *challenged(f"Contact: {ONE}"),
        register(2, f"Contact: {ONE}", password="wrong"),
        answered(401, ("WWW-Authenticate:", "Digest")),
    )
    assert proxy.location.bindings("1001", 0.0) == []
