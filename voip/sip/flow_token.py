"""What a proxy writes into Record-Route and Path to know its own again (RFC 5626 section 5.2).

A flow, where only that flow reaches the other side, and the call: so that nobody can use a proxy as
a relay by writing its name into a Route. Sealed with a key; nothing has to be remembered. A flow of
a Path may be called by whom the registrar tells of it, one of a Record-Route in its call alone.
"""

from __future__ import annotations

import hmac
from base64 import b32decode, b32encode
from binascii import Error
from hashlib import blake2s
from typing import Final

from voip.sip.flow import Flow
from voip.types import Address, Random

__all__ = ["FlowTokens"]

_SEAL_BYTES: Final = 10
_KIND: Final = {False: b"flow", True: b"path"}


class FlowTokens:
    """Writes and reads tokens of one proxy."""

    def __init__(self, random: Random) -> None:
        self._key = random.token(32).encode()

    def of_call(self, call_id: str) -> str:
        """Return what marks a call as one that came this way."""
        return self._seal(b"call", call_id.encode("utf-8", "surrogateescape")).hex()

    def is_of_call(self, token: str, call_id: str) -> bool:
        """Whether `of_call` said so."""
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.of_call(call_id).encode())

    def of_flow(self, flow: Flow, *, path: bool = False) -> str:
        """Return a flow as text of [a-z2-7], for a Record-Route or for a Path."""
        fields = (flow.transport, flow.local.host, flow.local.port, flow.remote.host)
        data = "|".join(map(str, (*fields, flow.remote.port, flow.domain))).encode()
        return b32encode(self._seal(_KIND[path], data) + data).decode().rstrip("=").lower()

    def flow(self, token: str, *, path: bool = False) -> Flow | None:
        """Return the flow, None for what we have not written there."""
        try:
            sealed = b32decode(token.upper() + "=" * (-len(token) % 8))
        except (Error, ValueError):
            return None
        seal, data = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(_KIND[path], data)):
            return None
        transport, local, local_port, remote, remote_port, domain = data.decode().split("|")
        here, there = Address(local, int(local_port)), Address(remote, int(remote_port))
        return Flow(transport, here, there, domain)

    def _seal(self, kind: bytes, data: bytes) -> bytes:
        return blake2s(data, key=self._key, person=kind, digest_size=_SEAL_BYTES).digest()
