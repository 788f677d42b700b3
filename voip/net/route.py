"""Which address of ours a peer sees, and which addresses a name has."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor

from voip.errors import TransportError, hint_for_files
from voip.ip import is_loopback, is_wildcard
from voip.net.address import family_of
from voip.sip.endpoint.tasks import is_cancelled

__all__ = ["Resolver", "local_address_toward"]

_ANY_PORT = 9  # "discard": connecting a UDP socket sends nothing


def local_address_toward(host: str) -> str:
    """Return the address the kernel would send from to reach the IP literal `host`.

    Never a wildcard, and a loopback address only for a peer on this machine. Raises
    `TransportError` where there is no route.
    """
    try:
        with socket.socket(family_of(host), socket.SOCK_DGRAM) as probe:
            probe.connect((host, _ANY_PORT))
            found: str = probe.getsockname()[0]
    except OSError as error:
        raise TransportError(
            f"there is no route to {host}: {error.strerror}",
            hint=hint_for_files(error) or "check the network",
        ) from error
    if is_wildcard(found) or (is_loopback(found) and not _is_here(host)):
        raise TransportError(f"there is no route to {host}", hint="check the network")
    return found


def _is_here(host: str) -> bool:
    """Whether `host` is an address of this machine: only those can be bound."""
    if is_loopback(host):
        return True
    with contextlib.suppress(OSError), socket.socket(family_of(host), socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        return True
    return False


class Resolver:
    """Looks names up in one thread of its own, so that nothing of it is left after `close`."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None

    async def addresses(self, name: str) -> list[str]:
        """Return the IP addresses of `name`, best first; raises `TransportError` for none."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="voip-resolver")
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._executor, _look_up, name)
        except (OSError, UnicodeError) as error:
            raise TransportError(
                f"the name {name!r} has no address", hint="check its spelling and your DNS"
            ) from error
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            raise TransportError(f"closed before {name!r} was found") from None
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """End the thread; a look-up under way is left to end by itself."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None


def _look_up(name: str) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(name, 0, type=socket.SOCK_DGRAM)]
