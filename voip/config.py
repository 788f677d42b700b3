"""Settings of a phone, as values. What is not named here has no setting."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from voip.errors import ConfigError
from voip.ip import address_of
from voip.types import Address

__all__ = [
    "DSCP_CS3",
    "DSCP_EF",
    "ENGINE_NICE",
    "HEADER_EXTENSIONS",
    "TRANSPORTS",
    "CallConfig",
    "Extension",
    "MediaConfig",
    "NetworkConfig",
    "TlsConfig",
    "check_media_timeout",
    "check_ping",
]

TRANSPORTS: Final = ("udp", "tcp", "tls", "ws", "wss")
"""What can carry SIP."""

DSCP_CS3: Final = 24
"""Class selector 3: signalling (RFC 4594 section 4.2, as most telephones have it)."""
DSCP_EF: Final = 46
"""Expedited forwarding (RFC 3246): what routers give to voice."""

HEADER_EXTENSIONS: Final = ("audio-level", "abs-send-time")
"""What packets can say beside their sound."""

ENGINE_NICE: Final = -10
"""Late sound is heard, late Python is not."""

Extension = Literal["off", "supported", "required"]

JitterPolicyName = Literal["conservative", "balanced", "aggressive", "fixed"]

_HOST: Final = re.compile(r"[A-Za-z0-9.:-]{1,253}")


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Certificates: ours, and whose are believed. All files are PEM.

    ca_file: the authorities to trust instead of this machine's. certificate, private_key: shown
    to those who ask for it, and needed for others to call by TLS; the key may be in the
    certificate's file, and has no password. client_certificates: who calls us must show one too.
    insecure: believe everybody; for a laboratory, where nobody listens.
    """

    ca_file: str | None = None
    certificate: str | None = None
    private_key: str | None = None
    client_certificates: bool = False
    insecure: bool = False

    def __post_init__(self) -> None:
        if self.certificate is None and (self.private_key or self.client_certificates):
            raise ConfigError(
                "a private key is of no use without its certificate", hint="certificate="
            )
        if self.insecure and self.ca_file is not None:
            raise ConfigError(
                "authorities to trust, and nothing is to be checked", hint="ca_file or insecure"
            )


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Where a phone listens and how it is reached.

    bind_host: "" means every interface; the address told to a peer is the one the kernel would use
    towards it, unless `public_address` says otherwise. bind_port 0: any free one. tls_port: where
    TLS is answered once there is a certificate; None: the port after `bind_port`. transport: None
    is what the DNS says, and UDP where it says nothing. dns_servers: IP addresses, with a port or
    without, to ask instead of the system's. ws_port, wss_port: where WebSockets are answered; None:
    nowhere. ws_path: what a WebSocket server is asked for; ours takes any. trusted: hosts (IP
    addresses) that vouch for callers, such as a proxy that removes what it has not checked;
    P-Asserted-Identity of any other is a claim (`Call.identity`). They may call whom they like, as
    often as they like. stranger_rate: requests a second that one source may begin which is neither
    of them, nor answers our requests (a registrar does); twice as many at once; all such sources
    together may twice as many. What is beyond that is dropped, or refused with 503 over a
    connection. Of their calls there may be twice that number before one is acknowledged; further
    ones are refused with 503. None: no limit. failover_s: a server that has not said a word to a
    request by then is left for the next one that the DNS or another proxy offers (RFC 3263
    section 4.3); None: only when the transaction times out, after 32 s. tcp_alias: let others send
    requests to us by the TCP connections that we have opened, and send by theirs where they offer
    it (RFC 5923), though nobody shows who he is: whoever shares an address with another could get
    what is for that one. Over TLS, where certificates show it, it is done anyway. dscp_sip,
    dscp_rtp: what packets are marked with, for routers that know voice (RFC 4594): 0 to 63; 0:
    nothing.
    """

    bind_host: str = ""
    bind_port: int = 0
    public_address: str | None = None
    rtp_ports: tuple[int, int] = (10000, 19999)
    transport: str | None = None
    tls: TlsConfig = TlsConfig()
    tls_port: int | None = None
    trusted: tuple[str, ...] = ()
    dns_servers: tuple[str, ...] = ()
    ws_port: int | None = None
    wss_port: int | None = None
    ws_path: str = "/ws"
    stranger_rate: float | None = 20.0
    failover_s: float | None = 4.0
    tcp_alias: bool = False
    dscp_sip: int = DSCP_CS3
    dscp_rtp: int = DSCP_EF

    def __post_init__(self) -> None:
        if self.public_address is not None and not _HOST.fullmatch(self.public_address):
            raise ConfigError(
                f"{self.public_address!r} is no public address", hint="an IP address, or a name"
            )
        low, high = self.rtp_ports if len(self.rtp_ports) == 2 else (0, 0)
        if not 0 < low + low % 2 < high <= 65535:  # an even port and the odd one after it
            raise ConfigError(
                f"the RTP port range {'-'.join(map(str, self.rtp_ports))} cannot be used",
                hint="such as 10000-19999",
            )
        if self.transport is not None and self.transport not in TRANSPORTS:
            raise ConfigError(f"no transport {self.transport!r}", hint=f"{', '.join(TRANSPORTS)}")
        for port in (self.bind_port, self.tls_port, self.ws_port, self.wss_port):
            if port is not None and not 0 <= port <= 65535:
                raise ConfigError(f"no port {port}", hint="0 to 65535")
        for name, dscp in (("dscp_sip", self.dscp_sip), ("dscp_rtp", self.dscp_rtp)):
            if not 0 <= dscp <= 63:
                raise ConfigError(f"{name}={dscp}", hint="0 to 63")
        if self.stranger_rate is not None and not 0 < self.stranger_rate < 1e6:
            raise ConfigError(f"stranger_rate={self.stranger_rate}", hint="above 0, or None")
        if self.failover_s is not None and not 0 < self.failover_s < 1e6:
            raise ConfigError(f"failover_s={self.failover_s}", hint="seconds above 0, or None")
        if self.tls.certificate is None and (self.tls_port, self.wss_port) != (None, None):
            raise ConfigError("nobody can call by TLS without a certificate", hint="tls=")

    def streams(self) -> dict[str, int]:
        """Return where to listen beside UDP and TCP: ports by transport."""
        found = {} if self.ws_port is None else {"ws": self.ws_port}
        if self.wss_port is not None:
            found["wss"] = self.wss_port
        if self.tls.certificate is not None:
            after = self.bind_port + 1 if 0 < self.bind_port < 65535 else 0
            found["tls"] = after if self.tls_port is None else self.tls_port
        return found


@dataclass(frozen=True, slots=True)
class CallConfig:
    """How calls are set up and kept.

    reliable: provisional responses that are acknowledged (100rel, RFC 3262). session_timer: calls
    that end when nobody refreshes them (RFC 4028), `session_expires_s` after the last refresh as
    we ask for it; what the other side asks for, down to `session_min_s`, holds where it asks
    first. Each is "off", "supported" (used where the other side knows it), or "required" (calls
    without it fail). refresher: "us" or "them", where that is ours to say. max_redirects: places
    that one call is sent on to by others (3xx); 0: it fails instead. strangers: what becomes of a
    call to a phone with an account that names another user, or comes from elsewhere than where it
    registered: "refuse" (404) or "accept" it. A call that takes the place of one of ours
    (Replaces) is never one of these, nor is one from a host of `NetworkConfig.trusted`.
    media_timeout_s: a call is ended when neither RTP nor RTCP has come for so long though it
    should, 2 or more; None: only when the other side does not answer for itself. It should while
    we listen; on hold by either side, if it has reported by RTCP since. ping_s: how often the
    other side of a call is asked whether it is there (OPTIONS), 5 or more, and how long it has to
    answer; None: only while it is silent. A call may have others (`Call.media_timeout_s`,
    `Call.ping_s`).
    """

    reliable: Extension = "supported"
    session_timer: Extension = "supported"
    session_expires_s: int = 1800
    session_min_s: int = 90
    refresher: Literal["us", "them"] | None = None
    max_redirects: int = 5
    strangers: Literal["refuse", "accept"] = "refuse"
    media_timeout_s: float | None = 60.0
    ping_s: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("reliable", self.reliable), ("session_timer", self.session_timer)):
            if value not in get_args(Extension):
                raise ConfigError(f"{name}={value!r}", hint=", ".join(get_args(Extension)))
        if self.refresher not in ("us", "them", None):
            raise ConfigError(f"refresher={self.refresher!r}", hint="us, them, or None")
        if self.strangers not in ("refuse", "accept"):
            raise ConfigError(f"strangers={self.strangers!r}", hint="refuse or accept")
        if not 90 <= self.session_min_s <= self.session_expires_s <= 2**31 - 1:
            raise ConfigError(
                f"a session of {self.session_expires_s} s, {self.session_min_s} at least,"
                " cannot be had",
                hint="90 <= session_min_s <= session_expires_s",
            )
        if not 0 <= self.max_redirects <= 100:
            raise ConfigError(f"max_redirects={self.max_redirects}", hint="0 to 100")
        check_media_timeout(self.media_timeout_s)
        check_ping(self.ping_s)


@dataclass(frozen=True, slots=True)
class TroubleConfig:
    """Which troubles with sound are told as events of a call, and after how long.

    one_way_s: nothing comes though we send, or reports say that nothing of ours arrives
    (`OneWayAudio`). silence_s: packets come with nothing in them, below silence_dbfs (`Silence`).
    None: that is not told. clipping, wrong_codec, wrong_source: whether these are. Counted in whole
    seconds, while a call is up and nobody is on hold.
    """

    one_way_s: float | None = 5.0
    silence_s: float | None = 20.0
    silence_dbfs: float = -60.0
    clipping: bool = True
    wrong_codec: bool = True
    wrong_source: bool = True

    def __post_init__(self) -> None:
        for name, value in (("one_way_s", self.one_way_s), ("silence_s", self.silence_s)):
            if value is not None and not 1 <= value <= 86_400:
                raise ConfigError(f"{name}={value}", hint="1 to 86400 seconds, or None")
        if not -90 <= self.silence_dbfs <= 0:
            raise ConfigError(f"silence_dbfs={self.silence_dbfs}", hint="-90 to 0")


@dataclass(frozen=True, slots=True)
class MediaConfig:
    """How sound is carried.

    codecs: encoding names in order of preference ("opus", "l16/16000"; `voip doctor` lists them);
    ptime_ms: packet time asked for, 10 to 120;
    keepalive_s: how often something goes to the other side while there is nothing to say (RFC
    6263), 1 or more; None: nothing does; rtcp_mux: whether RTCP may go by RTP's port (RFC 5761),
    rtcp_rsize: and without a report (RFC 5506), where the other side agrees;
    redundancy: how many packets before it each packet repeats, 0 to 4, where the other side agrees
    (RFC 2198): one that is lost is heard from the next; 0: that is not offered, but taken;
    jitter_*: bounds of the adaptive jitter buffer, and how careful it is, or "fixed": it is
    `jitter_min_ms`, always; symmetric: whether a peer that sends from another address than it said
    may be learned (docs/architecture.md, section 5). elsewhere: who listens, an IP address and an
    even port, where the phone shall only signal: no engine is started then, session descriptions
    name that address, and what needs sound raises `MediaError`.
    troubles: what is told when something is wrong with the sound.
    engine: where the media engine runs, in a "thread" of this process or in a "process" of its own,
    which Python that runs here does not delay; "auto": in a thread, and streams beyond the 50th in
    a process beside it. workers: how many processes; streams are spread over them, and all calls
    can be bridged and mixed. engine_nice: the priority these processes ask for, -20 to 19 as of
    nice(1), unless this process has been given one; None: none. Simulated phones have an engine of
    their world.
    dtx: send nothing while nobody speaks, but what silence sounds like: comfort noise (RFC 3389)
    where the other side takes it, or the DTX of Opus; what others send of that is always heard;
    hold_music: a file or several that who is held hears over and over; True: a melody that comes
    with the package; None: silence (`Call.set_hold_music` for a single call). tones_heard: whether
    digits are listened for in the sound; "auto": where the other side sends no telephone-events, in
    G.711, G.722 and L16. header_extensions: what packets say beside their sound, where the other
    side agrees (RFC 8285): "audio-level", how loud each is and whether somebody speaks in it
    (RFC 6464), "abs-send-time", when it was sent; the levels that others tell are always read.
    """

    codecs: tuple[str, ...] = ("pcmu", "pcma")
    ptime_ms: int = 20
    jitter_min_ms: float = 30.0
    jitter_max_ms: float = 400.0
    jitter_policy: JitterPolicyName = "balanced"
    symmetric: bool = True
    elsewhere: Address | None = None
    troubles: TroubleConfig = TroubleConfig()
    engine: Literal["auto", "thread", "process"] = "auto"
    workers: int = 1
    engine_nice: int | None = ENGINE_NICE
    keepalive_s: float | None = 15.0
    rtcp_mux: bool = False
    rtcp_rsize: bool = False
    redundancy: int = 0
    dtx: bool = False
    hold_music: str | tuple[str, ...] | bool | None = None
    tones_heard: Literal["auto", "always", "never"] = "auto"
    header_extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.engine not in ("auto", "thread", "process"):
            raise ConfigError(f"engine={self.engine!r}", hint="auto, thread or process")
        if not 1 <= self.workers <= 64 or (self.engine == "thread" and self.workers > 1):
            raise ConfigError(
                f"{self.workers} workers cannot be had",
                hint="1 to 64 with engine='process'; a thread is one",
            )
        if self.engine_nice is not None and not -20 <= self.engine_nice <= 19:
            raise ConfigError(f"engine_nice={self.engine_nice}", hint="-20 to 19, or None")
        if self.tones_heard not in ("auto", "always", "never"):
            raise ConfigError(f"tones_heard={self.tones_heard!r}", hint="auto, always or never")
        if not self.codecs:
            raise ConfigError("no codec was named", hint="codecs=('pcmu', 'pcma')")
        if self.ptime_ms not in range(10, 121, 10):
            raise ConfigError(
                f"a packet time of {self.ptime_ms} ms cannot be had", hint="10, 20 ... 120"
            )
        if not 0 <= self.jitter_min_ms <= self.jitter_max_ms <= 600:
            raise ConfigError(
                f"a jitter buffer of {self.jitter_min_ms} to {self.jitter_max_ms} ms cannot be had",
                hint="0 <= jitter_min_ms <= jitter_max_ms <= 600",
            )
        if self.jitter_policy not in get_args(JitterPolicyName):
            raise ConfigError(
                f"no jitter policy is called {self.jitter_policy!r}",
                hint=f"one of {', '.join(get_args(JitterPolicyName))}",
            )
        if not 0 <= self.redundancy <= 4:
            raise ConfigError(f"redundancy={self.redundancy}", hint="0 to 4 packets")
        for name in self.header_extensions:
            if name not in HEADER_EXTENSIONS:
                raise ConfigError(
                    f"no header extension is called {name!r}",
                    hint=f"of {', '.join(HEADER_EXTENSIONS)}",
                )
        if self.keepalive_s is not None and not 1 <= self.keepalive_s <= 3600:
            raise ConfigError(f"keepalive_s={self.keepalive_s}", hint="1 to 3600 s, or None")
        if self.elsewhere is not None:
            host, port = self.elsewhere
            if not _is_address(host) or port % 2 or not 0 < port < 65535:
                raise ConfigError(
                    f"no sound can be sent to {host} port {port}",
                    hint="elsewhere=Address('192.0.2.7', 40000), with an even port",
                )


def check_media_timeout(seconds: float | None) -> None:
    """Raise `ConfigError` for a `media_timeout_s` that cannot be kept."""
    if seconds is not None and not 2 <= seconds <= 86_400:
        raise ConfigError(f"media_timeout_s={seconds}", hint="2 to 86400 seconds, or None")


def check_ping(seconds: float | None) -> None:
    """Raise `ConfigError` for a `ping_s` that cannot be kept."""
    if seconds is not None and not 5 <= seconds <= 86_400:
        raise ConfigError(f"ping_s={seconds}", hint="5 to 86400 seconds, or None")


def _is_address(host: str) -> bool:
    try:
        return not address_of(host).is_unspecified
    except ValueError:
        return False
