"""What protects the packets of one stream: keys that change, and may be named by an MKI.

`Outbound` and `Inbound` are one direction each. Without keys nothing gets through: who asks for
protection and has no keys (yet) is not to send or hear what is not protected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TypeAlias

from voip.errors import MediaError
from voip.rtp.srtp.context import FORGED, REFUSED, Receiver, Sender
from voip.rtp.srtp.keys import SrtpKeys

__all__ = [
    "OLD_KEYS_S",
    "OVERLAP_S",
    "Inbound",
    "Outbound",
    "has_library",
    "make_receiver",
    "make_sender",
    "require",
]

OLD_KEYS_S = 32.0
"""How long keys are good for after others were agreed on, while nothing comes by these: as long as
the answer to an offer may take (RFC 3261, 64 T1)."""
OVERLAP_S = 2.0
"""How long they are after something came by the new ones: what is still on its way."""
_MOST_KEYS = 3

_Positions: TypeAlias = tuple[Mapping[int, int], Mapping[int, int]]  # of RTP and of RTCP, by SSRC


class Outbound:
    """Protects what one stream sends. `library`: see `make_sender`."""

    def __init__(self, *, library: bool | None = None) -> None:
        self._library = library
        self._left_off: _Positions = ({}, {})
        self.keys: SrtpKeys | None = None
        self.sender: Sender | None = None
        """The `Sender` by the present keys, which knows nothing of MKIs."""

    def rekey(self, keys: SrtpKeys | None, *, library: bool | None = None) -> None:
        """Use these keys from the next packet on; None: nothing is to be sent.

        Indexes go on. The same keys again change nothing. library: for these keys, other than for
        all. Raises `MediaError` where what the suite needs is not installed; then nothing has
        changed.
        """
        if keys == self.keys:
            return
        if self.sender is not None:
            self._left_off = self.sender.indexes, self.sender.rtcp_indexes
        library = self._library if library is None else library
        self.sender = None if keys is None else make_sender(keys, *self._left_off, library)
        self.keys = keys

    def protect(self, packet: memoryview, length: int, *, rtcp: bool) -> int:
        """Protect a packet in place; return its length, or `REFUSED`: it must not be sent.

        packet: writable, with `ROOM_BYTES` behind `length`.
        """
        sender = self.sender
        if sender is None or self.keys is None:
            return REFUSED
        mki = self.keys.mki
        length = sender.protect_rtcp(packet, length) if rtcp else sender.protect(packet, length)
        if mki and length != REFUSED:
            place = length - _after_mki(self.keys, rtcp=rtcp)
            packet[place : length + len(mki)] = mki + bytes(packet[place:length])
            length += len(mki)
        return length


@dataclass(slots=True)
class _Known:
    """Keys that packets may come by, until then."""

    keys: SrtpKeys
    receiver: Receiver
    until: float = float("inf")


class Inbound:
    """Takes what comes for one stream. `library`: see `make_sender`.

    After a change of keys the ones before are good for a while. Which of them a packet came by is
    told by its MKI, and found by trying where it has none.
    """

    def __init__(self, *, library: bool | None = None) -> None:
        self._library = library
        self._known: list[_Known] = []  # the present keys first
        self._left_off: tuple[dict[int, int], dict[int, int]] = ({}, {})  # of RTP and of RTCP
        self.keys: SrtpKeys | None = None

    def rekey(self, keys: SrtpKeys | None, now: float, *, library: bool | None = None) -> None:
        """Accept what comes by these keys; None: nothing, not even by the ones before.

        The same keys again change nothing. library: for these keys, other than for all. Raises
        `MediaError` where what the suite needs is not installed; then nothing has changed.
        """
        if keys == self.keys:
            return
        for one in self._known:
            self._remember(one)
        if keys is None:
            self._known.clear()
        else:
            before = next((one.receiver for one in self._known if one.keys == keys), None)
            if before is None or (before.indexes, before.rtcp_indexes) != self._left_off:
                # keys that come back go on where the others left off, which have counted meanwhile
                library = self._library if library is None else library
                before = make_receiver(keys, *self._left_off, library)
            if self._known:
                self._known[0].until = min(self._known[0].until, now + OLD_KEYS_S)
            others = [one for one in self._known if one.keys != keys]
            self._known = [_Known(keys, before), *others][:_MOST_KEYS]
        self.keys = keys

    def _remember(self, known: _Known) -> None:
        """Note how far a source has come by some keys: none of it is to come again by others."""
        receiver = known.receiver
        for left_off, indexes in zip(
            self._left_off, (receiver.indexes, receiver.rtcp_indexes), strict=True
        ):
            for ssrc, index in indexes.items():
                left_off[ssrc] = max(index, left_off.get(ssrc, index))

    @property
    def receiver(self) -> Receiver | None:
        """The `Receiver` by the only keys, which knows nothing of MKIs; None: there are several."""
        return self._known[0].receiver if len(self._known) == 1 else None

    def unprotect(self, packet: memoryview, length: int, now: float, *, rtcp: bool) -> int:
        """Authenticate and decrypt a packet in place; return its length, `FORGED` or `REPLAYED`.

        Whatever the octets are, nothing is raised.
        """
        known = self._known
        if len(known) > 1 and known[-1].until <= now:
            for one in known[1:]:
                self._remember(one)
            known[1:] = [one for one in known[1:] if one.until > now]
        if len(known) == 1:
            return _unprotect(known[0], packet, length, rtcp=rtcp)
        verdict = FORGED
        before = bytes(packet[:length])
        for number, one in enumerate(known):
            if number:
                packet[:length] = before  # who failed may have written to it
            result = _unprotect(one, packet, length, rtcp=rtcp)
            if result >= 0:
                if number == 0:
                    for old in known[1:]:
                        old.until = min(old.until, now + OVERLAP_S)
                return result
            verdict = min(verdict, result)
        return verdict


def _unprotect(known: _Known, packet: memoryview, length: int, *, rtcp: bool) -> int:
    mki, receiver = known.keys.mki, known.receiver
    if mki:
        end = length - _after_mki(known.keys, rtcp=rtcp)
        place = end - len(mki)
        if place < 0 or packet[place:end] != mki:
            return FORGED
        packet[place : length - len(mki)] = bytes(packet[end:length])
        length -= len(mki)
    if rtcp:
        return receiver.unprotect_rtcp(packet, length)
    return receiver.unprotect(packet, length)


def _after_mki(keys: SrtpKeys, *, rtcp: bool) -> int:
    """Return how many octets come behind the MKI (RFC 3711, 3.1 and 3.4; RFC 7714, 8.1, 9.2)."""
    suite = keys.transform
    return suite.rtcp_tag_after_mki if rtcp else suite.tag_after_mki


# ---------------------------------------------------------------- which implementation


@cache
def has_library() -> bool:
    """Whether pylibsrtp is there, and what is used of it; loads it."""
    try:
        import voip.rtp.srtp.library
    except (ImportError, AttributeError):  # not installed, or another release's
        return False
    return bool(voip.rtp.srtp.library.suites())


def make_sender(
    keys: SrtpKeys,
    indexes: Mapping[int, int],
    rtcp_indexes: Mapping[int, int],
    library: bool | None = None,
) -> Sender:
    """Return a `Sender`; `MediaError` where nothing installed has the suite.

    library: whether libsrtp is used, which is faster; None: where it is there and has the suite.
    It is not, either, where it takes too long to come to where an earlier key left off.
    """
    if _by_library(keys, library):
        from voip.rtp.srtp.library import LibrarySender, can_go_on

        if can_go_on(indexes, rtcp_indexes):
            return LibrarySender(keys, indexes, rtcp_indexes)
    require(keys, False)
    from voip.rtp.srtp.own import OwnSender

    return OwnSender(keys, indexes, rtcp_indexes)


def make_receiver(
    keys: SrtpKeys,
    indexes: Mapping[int, int],
    rtcp_indexes: Mapping[int, int],
    library: bool | None = None,
) -> Receiver:
    """Return a `Receiver`, likewise."""
    if _by_library(keys, library):
        from voip.rtp.srtp.library import LibraryReceiver, can_go_on

        if can_go_on(indexes, rtcp_indexes):
            return LibraryReceiver(keys, indexes, rtcp_indexes)
    require(keys, False)
    from voip.rtp.srtp.own import OwnReceiver

    return OwnReceiver(keys, indexes, rtcp_indexes)


def _by_library(keys: SrtpKeys, library: bool | None) -> bool:
    if library is False or not has_library():
        return False
    from voip.rtp.srtp.library import suites

    return keys.suite in suites() and not keys.encrypted_extensions


def require(keys: SrtpKeys, library: bool | None = None) -> None:
    """Raise `MediaError` where nothing installed has the suite."""
    if not _by_library(keys, library) and find_spec("cryptography") is None:
        raise MediaError(
            f"{keys.suite} cannot be done here: cryptography is not installed",
            hint="pip install 'voip-softphone[srtp]'",
        )
