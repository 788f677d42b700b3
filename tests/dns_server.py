"""A DNS server of a few lines, on loopback."""

from __future__ import annotations

import asyncio

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

HOST = "127.0.0.1"


class DnsServer(asyncio.DatagramProtocol):
    """Answers from `zone`: lines such as `_sip._udp.voip.test. 60 IN SRV 0 0 5060 a.voip.test.`"""

    def __init__(self, *lines: str) -> None:
        self.zone: dict[tuple[str, str], list[str]] = {}
        self.ttl: dict[tuple[str, str], int] = {}
        self.asked: list[tuple[str, str]] = []
        self.silent = False
        for line in lines:
            name, ttl, _, kind, data = line.split(maxsplit=4)
            self.zone.setdefault((name, kind), []).append(data)
            self.ttl[name, kind] = int(ttl)

    async def __aenter__(self) -> DnsServer:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, (HOST, 0))
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._transport.close()
        await asyncio.sleep(0)

    @property
    def address(self) -> str:
        return "{}:{}".format(*self._transport.get_extra_info("sockname"))

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        key = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append(key)
        if self.silent:
            return
        answer = dns.message.make_response(query)
        if key in self.zone:
            answer.answer.append(
                dns.rrset.from_text(question.name, self.ttl[key], "IN", key[1], *self.zone[key])
            )
        elif not any(name == key[0] for name, _ in self.zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), addr)  # type: ignore[attr-defined]
