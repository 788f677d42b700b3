"""FFmpeg's SRTP, in this process: what PyAV's wheel brings sends, and PyAV itself hears.

PyAV gives no options to the protocol it writes to, so that is opened by FFmpeg's own functions.
"""

from __future__ import annotations

import base64
import ctypes
import threading
from pathlib import Path

import av

from voip.rtp.srtp.keys import SrtpKeys

_WRITE = 2  # AVIO_FLAG_WRITE


def _library(name: str) -> ctypes.CDLL:
    folder = Path(av.__file__).parent.parent / "av.libs"
    (file,) = folder.glob(f"{name}-*.so*")
    return ctypes.CDLL(str(file))


def inline(keys: SrtpKeys) -> str:
    """Keys as FFmpeg and SDP have them."""
    return base64.b64encode(keys.key + keys.salt).decode()


class FfmpegSender:
    """Sends RTP packets from one port of 127.0.0.1 to another by `srtp://`."""

    def __init__(self, port: int, keys: SrtpKeys, local_port: int) -> None:
        util, self._format = _library("libavutil"), _library("libavformat")
        options = ctypes.c_void_p()
        for name, value in (
            ("srtp_out_suite", keys.suite),
            ("srtp_out_params", inline(keys)),
            ("pkt_size", "1472"),
        ):
            util.av_dict_set(ctypes.byref(options), name.encode(), value.encode(), 0)
        self._context = ctypes.c_void_p()
        url = f"srtp://127.0.0.1:{port}?localrtpport={local_port}".encode()
        opened = self._format.avio_open2(
            ctypes.byref(self._context), url, _WRITE, None, ctypes.byref(options)
        )
        if opened < 0:
            raise OSError(f"FFmpeg does not open {url!r}: {opened}")
        left = util.av_dict_count(options)
        util.av_dict_free(ctypes.byref(options))
        if left > 1:  # pkt_size may be one of another protocol's
            raise OSError(f"FFmpeg did not take {left} options")

    def send(self, packet: bytes) -> None:
        """Let FFmpeg encrypt and send an RTP packet."""
        self._format.avio_write(self._context, packet, len(packet))
        self._format.avio_flush(self._context)

    def close(self) -> None:
        """Close the socket."""
        self._format.avio_closep(ctypes.byref(self._context))


class FfmpegListener(threading.Thread):
    """Hears PCMU on a port of 127.0.0.1, by a session description that has the keys."""

    def __init__(self, port: int, keys: SrtpKeys, folder: Path, packets: int) -> None:
        super().__init__(daemon=True)
        self._packets = packets
        self.heard: list[bytes] = []
        self._sdp = folder / "srtp.sdp"
        self._sdp.write_text(
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=audio {port} RTP/SAVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
            f"a=crypto:1 {keys.suite} inline:{inline(keys)}\r\n"
        )

    def run(self) -> None:
        """Hear so many packets."""
        options = {
            "protocol_whitelist": "file,udp,rtp,srtp",
            "analyzeduration": "0",
            "probesize": "32",
        }
        with av.open(str(self._sdp), options=options, timeout=20) as container:
            for packet in container.demux(audio=0):
                self.heard.append(bytes(packet))
                if len(self.heard) >= self._packets:
                    break
