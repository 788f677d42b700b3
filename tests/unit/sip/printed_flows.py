"""The call flows of RFC 3665 as messages, their print mended.

In the text continuation lines have lost their indentation here and there, and some lengths do not
count the body that is printed.
"""

from __future__ import annotations

import re
from pathlib import Path

from voip.sip.message import Request, Response, parse_message


def printed(file: Path) -> Request | Response:
    """Read one printed message."""
    head, _, body = file.read_bytes().partition(b"\r\n\r\n")
    start, *lines = head.decode().split("\r\n")
    fields: list[str] = []
    for line in lines:
        if re.match(r"[A-Za-z-]+ *:", line):
            fields.append(line)
        elif not re.match(r"[0-9.]+  ", line):  # the next section's title
            fields[-1] += f" {line.strip()}"
    fields = [field for field in fields if not field.startswith("Content-Length")]
    text = "\r\n".join([start, *fields, f"Content-Length: {len(body)}"])
    return parse_message(text.encode() + b"\r\n\r\n" + body)


def call_flows(reference_data: Path) -> dict[str, list[tuple[str, Request | Response]]]:
    """All flows of section 3, by section number: (file name, message) in order."""
    folder = reference_data / "sip-flows" / "rfc3665"
    return {
        flow.name: [(file.stem, printed(file)) for file in sorted(flow.iterdir())]
        for flow in sorted(folder.glob("3.*"))
    }
