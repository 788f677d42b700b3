"""Send a file of G.711 as RTP by a clock that is wrong: a program of its own, which no tick of ours
paces.

    python paced_rtp.py OWN_PORT PORT FILE.ul PPM

Packets of 20 ms go to PORT of 127.0.0.1, over and over from the file, each at its time by a clock
that runs PPM millionths too fast. Who writes a line is told how many were sent, and how late one
of them was at most, in ms, and it ends.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from pathlib import Path

STEP_S = 0.020
SAMPLES = 160


def main() -> None:
    """Send until there is something to read."""
    own, port, path, ppm = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
    sound = path.read_bytes()
    packets = [sound[at : at + SAMPLES] for at in range(0, len(sound) - SAMPLES + 1, SAMPLES)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", own))
        sender.connect(("127.0.0.1", port))
        begun, number, late = time.monotonic(), 0, 0.0
        while True:
            due = begun + number * STEP_S / (1 + ppm * 1e-6)
            if select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
                break
            head = struct.pack(
                "!BBHII", 0x80, 0x80 if number == 0 else 0, number & 0xFFFF, number * SAMPLES, 4711
            )
            try:
                sender.send(head + packets[number % len(packets)])
            except ConnectionRefusedError:
                break
            late = max(late, time.monotonic() - due)
            number += 1
    print(number, round(1000 * late, 1), flush=True)


if __name__ == "__main__":
    main()
