"""PJSIP as a process: one account, at most four calls, JSON lines in and out.

Run by the Python in which `pjsua2` is installed; `pjsua.py` speaks to it. Settings come as one
JSON object in the first argument. Every answered call's audio is sent back to where it came from;
where there is a file to play, that is heard instead and what comes is recorded.
Lines in: `{"id": 1, "do": "call", "uri": ...}`, `answer`, `hangup`, `dtmf`, `hold`, `resume`,
`codecs`, `transfer`, `replace`, `watch`, answered by `{"id": 1, "ok": true, ...}`; lines out
without an id are events. The end of standard input ends it. A call that is made or taken for a
transfer has the number of the one that it came of.

All of PJSIP runs in this one thread. With threads of its own it waits for Python's lock while it
holds its own, and a command from here does the reverse.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import select
import sys
from typing import Any

# pjsua2 has no call for PJSIP's event loop: it is found in the library underneath
sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
import pjsua2 as pj  # noqa: E402

LIBRARY = ctypes.CDLL(None)
handle_events = LIBRARY.pjsua_handle_events
JITTER_MS = 200

# PJSIP prints to standard output before it can be told not to: keep the real one for ourselves
OUT = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def emit(**values: Any) -> None:
    """Write one line."""
    OUT.write(json.dumps(values) + "\n")
    OUT.flush()


def report(event: str, *, call: int = 0, text: str = "", status: int = 0, reason: str = "") -> None:
    """Write an event."""
    emit(event=event, call=call, text=text, status=status, reason=reason)


class Call(pj.Call):
    """A call that hears itself. `number` is ours: PJSIP uses its own anew."""

    def __init__(self, account: Account, *pjsip_id: int, number: int = 0) -> None:
        super().__init__(account, *pjsip_id)
        self._account = account
        self._recorder: int | None = None
        self._recorded = 0
        self.number = number or next(account.numbers)
        if number:
            account.left.append(account.calls[number])  # PJSIP still tells it of its end
        account.calls[self.number] = self

    def onCallState(self, prm: pj.OnCallStateParam) -> None:
        info = self.info
        status = int(info.lastStatusCode)
        if info.stateText == "DISCONNECTED":
            self._stop_recording()
        report(
            "state", call=self.number, text=info.stateText, status=status, reason=info.lastReason
        )

    def onCallMediaState(self, prm: pj.OnCallMediaStateParam) -> None:
        for index, media in enumerate(self.info.media):
            if media.type == pj.MediaType.AUDIO:
                if media.status == pj.CallMediaStatus.ACTIVE:
                    self._connect(self.getAudioMedia(index))
                report("media", call=self.number, text=media.status.name)

    def _connect(self, audio: pj.AudioMedia) -> None:
        """Say again what is heard, or play the file and record."""
        player = self._account.player
        if player is None:
            audio.startTransmit(audio)
            return
        self._stop_recording()
        self._recorded += 1
        self._recorder = recorder(f"heard-{self.number}-{self._recorded:02}.wav")
        LIBRARY.pjsua_conf_connect(LIBRARY.pjsua_player_get_conf_port(player), audio.portId)
        LIBRARY.pjsua_conf_connect(
            audio.portId, LIBRARY.pjsua_recorder_get_conf_port(self._recorder)
        )

    def _stop_recording(self) -> None:
        if self._recorder is not None:
            LIBRARY.pjsua_recorder_destroy(self._recorder)
            self._recorder = None

    def onCallTransferRequest(self, prm: pj.OnCallTransferRequestParam) -> None:
        prm.newCall = Call(self._account, number=self.number)

    def onCallReplaced(self, prm: pj.OnCallReplacedParam) -> None:
        prm.newCall = Call(self._account, prm.newCallId, number=self.number)

    def onDtmfDigit(self, prm: pj.OnDtmfDigitParam) -> None:
        report("dtmf", call=self.number, text=prm.digit)


class Account(pj.Account):
    """Registers, and keeps the calls alive."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[int, Call] = {}
        self.left: list[Call] = []
        self.numbers = itertools.count(1)
        self.player: int | None = None

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        report("registration", status=int(prm.code), reason=prm.reason)

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        call = Call(self, prm.callId)
        report("incoming", call=call.number, text=call.info.remoteUri)


class Text(ctypes.Structure):
    """A string of PJSIP's (pj_str_t)."""

    _fields_ = (("data", ctypes.c_char_p), ("length", ctypes.c_ssize_t))


def text(words: str) -> Text:
    """A string for PJSIP."""
    data = words.encode()
    return Text(data, len(data))


def player(path: str) -> int:
    """What plays a WAV file over and over."""
    made = ctypes.c_int(-1)
    if LIBRARY.pjsua_player_create(ctypes.byref(text(path)), 0, ctypes.byref(made)):
        raise RuntimeError(f"PJSIP cannot play {path}")
    return made.value


def recorder(path: str) -> int:
    """What writes a WAV file until it is destroyed."""
    made, name = ctypes.c_int(-1), ctypes.byref(text(path))
    unlimited = ctypes.c_ssize_t(0)
    if LIBRARY.pjsua_recorder_create(name, 0, None, unlimited, 0, ctypes.byref(made)):
        raise RuntimeError(f"PJSIP cannot record {path}")
    return made.value


def speak(codecs: list[str]) -> None:
    """Use these codecs alone from the next session description on, in this order."""
    for codec, priority in [("*", 0), *((name, 254 - n) for n, name in enumerate(codecs))]:
        if LIBRARY.pjsua_codec_set_priority(ctypes.byref(text(codec)), ctypes.c_uint8(priority)):
            raise RuntimeError(f"PJSIP has no codec {codec}")


class BuddyConfig(ctypes.Structure):
    """What a buddy is made of (pjsua_buddy_config): the fields that we set, and room for others."""

    _fields_ = (("uri", Text), ("subscribe", ctypes.c_int), ("_", ctypes.c_char * 256))


class BuddyInfo(ctypes.Structure):
    """What is known of a buddy (pjsua_buddy_info), likewise."""

    _fields_ = (
        ("id", ctypes.c_int),
        ("uri", Text),
        ("contact", Text),
        ("status", ctypes.c_int),
        ("text", Text),
        ("_", ctypes.c_char * 8192),
    )


class Buddy:
    """Somebody whose presence PJSIP watches; pjsua2 as installed has no word for it."""

    STATUS = ("UNKNOWN", "ONLINE", "OFFLINE")

    def __init__(self, uri: str) -> None:
        self._uri = uri.encode()  # PJSIP copies it
        self._told = ""
        config = BuddyConfig()
        LIBRARY.pjsua_buddy_config_default(ctypes.byref(config))
        config.uri = Text(self._uri, len(self._uri))
        config.subscribe = 1
        self._id = ctypes.c_int(-1)
        if LIBRARY.pjsua_buddy_add(ctypes.byref(config), ctypes.byref(self._id)):
            raise RuntimeError(f"PJSIP does not watch {uri}")

    def look(self) -> None:
        """Report what has changed."""
        info = BuddyInfo()
        if LIBRARY.pjsua_buddy_get_info(self._id, ctypes.byref(info)):
            return
        status = self.STATUS[info.status]
        if status != self._told:
            self._told = status
            report("presence", text=status)


def start(settings: dict[str, Any]) -> pj.Endpoint:
    """The library with a UDP and a TCP transport on one port, and no sound device."""
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    config = pj.EpConfig()
    config.uaConfig.maxCalls = 4
    config.uaConfig.threadCnt = 0
    config.medConfig.hasIoqueue = False
    config.medConfig.threadCnt = 0
    config.logConfig.level = 4
    config.logConfig.consoleLevel = 4
    config.logConfig.msgLogging = 1
    config.medConfig.clockRate = settings["rate_hz"]
    config.medConfig.ilbcMode = settings["ilbc_mode"]
    config.medConfig.noVad = not settings["vad"]
    config.medConfig.ecTailLen = 0
    # What it hears it says again, unaltered: its adaptive buffer leaves frames out when it shrinks.
    config.medConfig.jbInit = config.medConfig.jbMinPre = config.medConfig.jbMaxPre = JITTER_MS
    config.medConfig.jbDiscardAlgo = pj.MediaJbDiscardAlgo.NONE
    endpoint.libInit(config)
    transport = pj.TransportConfig()
    transport.boundAddress = settings["host"]
    transport.port = settings["port"]
    for kind in (pj.TransportType.UDP, pj.TransportType.TCP):
        endpoint.transportCreate(kind, transport)
    endpoint.libStart()
    endpoint.audDevManager.setNullDev()
    return endpoint


def account_config(settings: dict[str, Any]) -> pj.AccountConfig:
    """The account: registers when there is a registrar."""
    config = pj.AccountConfig()
    registrar = settings["registrar"]
    where = registrar or f"{settings['host']}:{settings['port']}"
    config.idUri = f"sip:{settings['user']}@{where}"
    if registrar:
        config.regConfig.registrarUri = f"sip:{registrar};transport={settings['transport']}"
    if settings["password"]:
        secret = pj.AuthCredInfo("digest", "*", settings["user"], 0, settings["password"])
        config.sipConfig.authCreds.append(secret)
    return config


def header(name: str, value: str) -> pj.SipHeader:
    """A header to be added to a request."""
    line = pj.SipHeader()
    line.hName, line.hValue = name, value
    return line


def obey(command: dict[str, Any], account: Account, buddies: list[Buddy]) -> dict[str, Any]:
    """Do one command; what it answers."""
    prm = pj.CallOpParam(True)
    calls = account.calls
    match command["do"]:
        case "call":
            call = Call(account)
            for pair in command["headers"].items():
                prm.txOption.headers.append(header(*pair))
            call.makeCall(command["uri"], prm)
            return {"call": call.number}
        case "answer":
            prm.statusCode = pj.StatusCode(command["status"])
            if "contact" in command:
                contact = pj.SipHeader()
                contact.hName, contact.hValue = "Contact", f"<{command['contact']}>"
                prm.txOption.headers.append(contact)
            calls[command["call"]].answer(prm)
        case "hangup":
            prm.statusCode = pj.StatusCode(command["status"])
            calls[command["call"]].hangup(prm)
        case "dtmf":
            calls[command["call"]].dialDtmf(command["digits"])
        case "hold":
            calls[command["call"]].setHold(prm)
        case "resume":
            prm.opt.flag = 1  # PJSUA_CALL_UNHOLD
            calls[command["call"]].reinvite(prm)
        case "codecs":
            speak(command["codecs"])
            if command["call"]:
                prm.opt.flag = 16  # PJSUA_CALL_REINIT_MEDIA
                calls[command["call"]].reinvite(prm)
        case "transfer":
            calls[command["call"]].xfer(command["uri"], prm)
        case "replace":
            calls[command["call"]].xferReplaces(calls[command["by"]], prm)
        case "watch":
            buddies.append(Buddy(command["uri"]))
        case other:
            raise ValueError(f"no such command: {other}")
    return {}


def main() -> None:
    """Start, say `ready`, and do what comes in until nothing more comes."""
    settings = json.loads(sys.argv[1])
    endpoint = start(settings)
    account = Account()
    account.create(account_config(settings))
    if settings["codecs"]:
        speak(settings["codecs"])
    if settings["play"]:
        account.player = player(settings["play"])
    report("ready", text=endpoint.version.full)
    pending = b""
    buddies: list[Buddy] = []
    while True:
        handle_events(10)
        for buddy in buddies:
            buddy.look()
        if not select.select([sys.stdin], [], [], 0)[0]:
            continue
        received = os.read(sys.stdin.fileno(), 65536)
        if not received:
            break
        *lines, pending = (pending + received).split(b"\n")
        for line in lines:
            command = json.loads(line)
            try:
                answer = obey(command, account, buddies)
            except (RuntimeError, KeyError, ValueError) as error:
                emit(id=command["id"], ok=False, error=str(error))
            else:
                emit(id=command["id"], ok=True, **answer)
    endpoint.hangupAllCalls()
    account.shutdown()
    for _ in range(20):  # the answers to BYE and REGISTER
        handle_events(10)
    os._exit(0)  # libDestroy would wait a second more, for nothing


if __name__ == "__main__":
    main()
