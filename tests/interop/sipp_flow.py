"""Call flows for SIPp, written step by step: what it sends, and what it demands.

SIPp's own verdict is the judge: a message that it does not await, or one that lacks what is asked
of it, fails its call.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

CONTACT = "Contact: <sip:sipp@[local_ip]:[local_port]>"
TAG = "[peer_tag_param]"
"""Behind the To of what it sends within a call."""
OURS = ";tag=[call_number]"
"""Behind the To of its first response to us."""
TARGET = "sip:desk@[remote_ip]:[remote_port]"


def described(port: int | str, at: str = "IN IP4 127.0.0.1") -> tuple[str, ...]:
    """What `lines` end with that say where sound is to go: to this port, at this address."""
    said = ("v=0", "o=- 7 1 IN IP4 127.0.0.1", "s=-", f"c={at}", "t=0 0")
    return "Content-Type: application/sdp", "", *said, f"m=audio {port} RTP/AVP 0"


DESCRIBED = described(9)
"""Its sound goes to nobody."""
SDP = "".join(f"{line}\r\n" for line in DESCRIBED[2:])
SPEAKS = described("[rtpstream_audio_port]")
"""It sends sound from where it wants it; `plays` begins."""
_KEPT = ("Via:", "From:", "To:", "CSeq:")


def sent(
    method: str,
    number: int,
    *lines: str,
    tag: str = "",
    again: bool = True,
    branch: str = "[branch]",
    call_id: str = "[call_id]",
    via: str = "[local_ip]:[local_port]",
    own_tag: str = "[call_number]",
    uri: str = TARGET,
    to: str = "<sip:desk@[remote_ip]:[remote_port]>",
    sender: str = "<sip:sipp@[local_ip]:[local_port]>",
) -> str:
    """A request; `lines`: headers, an empty one, the body. `again`: repeated until answered.

    `uri` and `to` have to be said where SIPp has not been told whom to call.
    """
    return _send(
        again,
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/[transport] {via};branch={branch}",
        "Max-Forwards: 70",
        f"From: {sender};tag={own_tag}",
        f"Call-ID: {call_id}",
        f"To: {to}{tag}",
        f"CSeq: {number} {method}",
        lines=lines,
    )


def replied(
    status: int,
    first: int,
    *lines: str,
    again: bool = False,
    tag: str = "",
    call_id: str = "[call_id]",
) -> str:
    """A response to the request that `asked` has kept from `first` on."""
    kept = [f"{name}[${first + number}]" for number, name in enumerate(_KEPT)]
    kept[2] += tag
    return _send(again, f"SIP/2.0 {status} -", *kept, f"Call-ID: {call_id}", lines=lines)


def echoed(status: int, *lines: str, tag: str = "", again: bool = False) -> str:
    """A response to what came last, which has been through proxies."""
    last = ("Via:", "Record-Route:", "From:", "To:", "Call-ID:", "CSeq:")
    kept = [f"[last_{name}]" for name in last]
    kept[3] += tag
    return _send(again, f"SIP/2.0 {status} -", *kept, lines=lines)


def asked(
    method: str, first: int, *checks: tuple[str, str], more: str = "", or_else: str = ""
) -> str:
    """A request that is demanded, whose headers are kept in the variables from `first` on.

    `checks`: patterns of its headers, the first of a name; of its body where the name is "", of all
    of it where that is "*". `more`: actions.
    `or_else`: the label where it goes on when this is what came; the next step may come instead.
    """
    keep = "".join(
        f'<ereg regexp=".*" search_in="hdr" header="{name}" check_it="true"'
        f' assign_to="{first + number}"/>'
        for number, name in enumerate(_KEPT)
    )
    branch = f' optional="true" next="{or_else}"' if or_else else ""
    return (
        f'<recv request="{method}"{branch}><action>{keep}{_checked(checks)}{more}</action></recv>'
    )


def answered(
    status: int,
    *checks: tuple[str, str],
    more: str = "",
    challenge: bool = False,
    routed: bool = False,
) -> str:
    """A response that is demanded. `checks`: patterns of its headers; `more`: actions.

    `challenge`: what it asks is answered by the line `[authentication]` of the next request;
    `routed`: its Record-Route is kept as `[routes]`, where to send as `[next_url]`.
    """
    kept = (' auth="true"' if challenge else "") + (' rrs="true"' if routed else "")
    return f'<recv response="{status}"{kept}><action>{_checked(checks)}{more}</action></recv>'


def maybe(status: int) -> str:
    """A response that may come."""
    return f'<recv response="{status}" optional="true"/>'


def nth_call(*labels: str) -> tuple[str, ...]:
    """Go on at the first label in the first call of a run, at the second in the second, ..."""
    tests = "".join(
        f'<test assign_to="is_{number}" variable="calls" compare="equal" value="{number}"/>'
        for number, _ in enumerate(labels, 1)
    )
    return (
        '<Global variables="calls"/>',
        f'<nop><action><add assign_to="calls" value="1"/>{tests}</action></nop>',
        *(f'<nop next="{label}" test="is_{n}"/>' for n, label in enumerate(labels, 1)),
    )


def at(label: str, *steps: str) -> tuple[str, ...]:
    """Steps that are gone to, and after which the call is over."""
    return f'<label id="{label}"/>', *steps, '<nop next="over"/>'


OVER = '<label id="over"/>'
"""The last step of a scenario that has branches."""


def invited(
    number: int,
    *lines: str,
    status: int = 200,
    checks: tuple[tuple[str, str], ...] = (),
    more: str = "",
    body: tuple[str, ...] = DESCRIBED,
    **how: str,
) -> tuple[str, ...]:
    """An INVITE that is answered. `lines`: further headers; `how`: as `sent` has it."""
    return (
        sent("INVITE", number, CONTACT, *lines, *body, **how),
        maybe(100),
        answered(status, ("CSeq:", f"{number} INVITE"), *checks, more=more),
    )


def called(number: int, *lines: str, **more: Any) -> tuple[str, ...]:
    """The same, acknowledged."""
    same = ("call_id",) if more.get("status", 200) < 300 else ("call_id", "branch")
    how = {name: more[name] for name in same if name in more}
    return (*invited(number, *lines, **more), sent("ACK", number, tag=TAG, again=False, **how))


def plays(file: Path, payload_type: int = 0) -> str:
    """It sends a file over and over, 20 ms a packet."""
    return f'<nop><action><exec rtp_stream="{file},-1,{payload_type}"/></action></nop>'


def goodbye(number: int, tag: str = TAG) -> tuple[str, str]:
    """SIPp hangs up."""
    return sent("BYE", number, tag=tag), answered(200, ("CSeq:", f"{number} BYE"))


def scenario(artifacts: Path, name: str, *steps: str) -> Path:
    """Write a call flow."""
    path = artifacts / f"{name}.xml"
    text = "\n".join(step.replace("<action></action>", "") for step in steps)
    assigned = ",".join(re.findall(r'assign_to="([\d,]+)"', text))
    used = sorted(set(re.findall(r"\d+", assigned)), key=int)
    mentioned = "".join(f'<log message="[${number}]"/>' for number in used)
    end = f"<nop><action>{mentioned}</action></nop>" if used else ""  # SIPp wants each used twice
    path.write_text(
        f'<?xml version="1.0" encoding="ISO-8859-1" ?>\n<scenario name="{name}">\n'
        f"{text}\n{end}\n</scenario>\n"
    )
    return path


def _checked(checks: tuple[tuple[str, str], ...]) -> str:
    quoted = [(header, pattern.replace('"', "&quot;")) for header, pattern in checks]
    return "".join(
        f'<ereg regexp="{pattern}" {_place(header)} check_it="true" assign_to="{90 + number}"/>'
        for number, (header, pattern) in enumerate(quoted)
    )


def _place(header: str) -> str:
    whole = {"": "body", "*": "msg"}
    if header in whole:
        return f'search_in="{whole[header]}"'
    return f'search_in="hdr" header="{header}"'


def _send(again: bool, *head: str, lines: tuple[str, ...]) -> str:
    if "" not in lines:
        lines = (*lines, "")
    headers, body = lines[: lines.index("")], lines[lines.index("") + 1 :]
    text = "\n".join((*head, *headers, "Content-Length: [len]", "", *body))
    repeat = ' retrans="500"' if again else ""
    return f"<send{repeat}><![CDATA[\n\n{text}\n\n]]></send>"


ACKED = '<recv request="ACK"/>'
HUNG_UP_ON = (asked("BYE", 80), replied(200, 80))
