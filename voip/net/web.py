"""Sound from the web: http and https only, read as it is played, in the thread that serves it."""

from __future__ import annotations

import io
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import IO, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from voip.errors import AudioFileError

__all__ = ["TIMEOUT_S", "WebSound", "open_url"]

TIMEOUT_S: Final = 5.0
"""How long a server may say nothing, at the beginning and in the middle."""
MAX_REDIRECTS: Final = 5
_SCHEMES: Final = ("http", "https")


class _Redirects(HTTPRedirectHandler):
    """Follows a few, never to another scheme, nor from https to http."""

    max_redirections = MAX_REDIRECTS

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: object, newurl: str
    ) -> Request | None:
        """Return the request that follows a redirection; raises where it is not followed."""
        scheme = urlsplit(newurl).scheme.lower()
        if scheme not in _SCHEMES or (req.type == "https" and scheme != "https"):
            raise HTTPError(newurl, code, f"a redirection to {newurl}", headers, fp)  # type: ignore[arg-type]
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


class WebSound(io.RawIOBase):
    """An answer as a file that can only be read on. Certificates are checked."""

    def __init__(self, response: HTTPResponse, url: str) -> None:
        self.name = url
        self._response = response

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It cannot go back."""
        return False

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` octets, b"" at the end; `AudioFileError` where the server fails."""
        try:
            data = self._response.read1(size if size > 0 else 1 << 16)
            if not data and self._response.length:  # read1 does not look whether that was all
                raise IncompleteRead(data, self._response.length)
            return data
        except (OSError, HTTPException) as error:
            raise AudioFileError(f"{self.name} broke off: {error or 'nothing more came'}") from None

    def close(self) -> None:
        """Close the connection."""
        self._response.close()
        super().close()


def open_url(url: str, timeout_s: float = TIMEOUT_S) -> WebSound:
    """Ask for `url`; raises `AudioFileError` for any other scheme, and where it cannot be had."""
    if urlsplit(url).scheme.lower() not in _SCHEMES:
        raise AudioFileError(f"{url} cannot be played", hint="http:// or https://")
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        _Redirects(),
        HTTPDefaultErrorHandler(),
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "voip"), ("Accept", "audio/*, */*;q=0.5")]
    try:
        response = opener.open(url, timeout=timeout_s)
    except HTTPError as error:
        with error:
            reason = f"{error.code} {error.reason}"
        raise AudioFileError(f"{url} cannot be had: {reason}") from None
    except (URLError, OSError, HTTPException, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise AudioFileError(f"{url} cannot be had: {why}") from None
    return WebSound(response, url)
