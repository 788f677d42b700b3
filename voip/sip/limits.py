"""What SIP messages may cost at most. Every parser of this room is linear in its input besides.

SIP's own grammar does not nest (quoted strings and angle brackets hold no others); what does are
multipart bodies. Other bodies are carried, not read.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "MAX_BOUNDARY_CHARS",
    "MAX_CSEQ",
    "MAX_DEPTH",
    "MAX_HEADERS",
    "MAX_LINE_CHARS",
    "MAX_MESSAGE_BYTES",
    "MAX_PARTS",
    "MAX_PART_HEADERS",
    "MAX_PINGS",
    "MAX_SECONDS",
]

MAX_MESSAGE_BYTES: Final = 65_536
"""Longest message taken, body included: what a UDP datagram can carry (513 otherwise)."""

MAX_HEADERS: Final = 256
"""Header lines in one message, beside Content-Length, which whoever passes it on has to write."""

MAX_LINE_CHARS: Final = 8_192
"""Characters in one header line after unfolding, and in the start line."""

MAX_CSEQ: Final = 2**31 - 1
"""Largest CSeq number (RFC 3261 section 8.1.1.5)."""

MAX_SECONDS: Final = 2**32 - 1
"""Largest delta-seconds (RFC 3261 section 20.19); larger ones count as this."""

MAX_PINGS: Final = 16
"""Keep-alive pings of one stream remembered for an answer; a flood of them is answered so often."""

MAX_PARTS: Final = 32
"""Parts of one body, or of one part (400 otherwise)."""

MAX_DEPTH: Final = 4
"""Multiparts inside each other."""

MAX_PART_HEADERS: Final = 32
"""Header lines of one part."""

MAX_BOUNDARY_CHARS: Final = 70
"""Characters between parts (RFC 2046 section 5.1.1)."""
