"""Which call flows that others wrote for SIPp we play, what our side does in each, and why not.

Two collections of the reference data: PJSIP's own tests, and what comes with SIPp. The tests of
`interop/test_sipp_scenarios.py` are made from this list, and so is `docs/sipp-scenarios.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

__all__ = ["COLLECTIONS", "LEFT_OUT", "MENDED", "SCENARIOS", "By", "Mend", "Role", "Scenario"]

PJSIP = "sipp-pjproject/scripts-sipp"
SIPP = "sipp-official"
COLLECTIONS = {PJSIP: "PJSIP's tests", SIPP: "SIPp's own"}


class By(Enum):
    """Who begins."""

    SIPP = "SIPp"
    US = "we"


class Role(Enum):
    """What our side does; the tests have a program for each."""

    ANSWER = "answers, and waits for the end"
    RING = "rings, then answers"
    EARLY = "sounds early (183), answers a second later"
    REFUSE = "cannot take the offer: 488"
    GIVE_UP = "answers; what the ACK brings cannot be used: BYE"
    HOLD = "answers, then puts the caller on hold"
    PCMU = "answers; speaks µ-law alone"
    THERE = "is there, and takes messages"
    TALK = "calls, and waits for the end"
    TALK_ON = "calls, and hangs up when SIPp is done"
    SAY_GOODBYE = "calls, and hangs up"
    REFUSED = "calls; is refused"
    UNUSABLE = "calls; the answer cannot be used: BYE"
    CANCEL = "calls, and gives up while it rings"
    CHANGE = "calls, then puts the callee on hold"
    CHANGE_REFUSED = "calls; its hold is refused, the call goes on"
    CHANGE_ENDS = "calls; its hold is refused by 481, which ends the call"
    CHANGE_TWICE = "calls; its hold is refused, and agreed on when asked again"
    BOTH_HOLD = "calls, is put on hold, then holds as well"
    AUTHENTICATED = "calls with a password, and hangs up"
    AUTHENTICATED_REFUSED = "calls with a password; is refused all the same"
    REGISTER = "registers once"
    REGISTER_7 = "registers again and again"
    MAIL = "asks for its mail"
    MAIL_ONCE = "asks for its mail, and is told once"
    PRESENCE_REFRESH = "watches presence, and refreshes"
    PRESENCE_UNREADABLE = "watches presence, cannot read what it is told, and gives up"
    PRESENCE_PROBATION = "watches presence; is sent away twice, and comes back"
    PRESENCE_ENDED = "watches presence, which is over at once"


@dataclass(frozen=True, slots=True)
class Mend:
    """Something in a scenario that is played otherwise, everywhere or the first time, and why."""

    wrong: str
    right: str
    why: str
    once: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """A file of a collection, without `.xml`.

    flows: what it proves, of `flows.csv`. slow: takes a timer of half a minute or more, and runs
    in `make interop` alone. calls: how many SIPp counts.
    """

    name: str
    by: By
    role: Role
    flows: tuple[str, ...] = ()
    slow: bool = False
    calls: int = 1
    mends: tuple[Mend, ...] = ()
    collection: str = field(default=PJSIP, kw_only=True)

    @property
    def file(self) -> str:
        """Where it is in the reference data."""
        return f"{self.collection}/{self.name}.xml"


NUMBERED = Mend(
    "CSeq: 2 BYE",
    "CSeq: [cseq] BYE",
    "its BYE has the number of an earlier request (RFC 3261 12.2.2)",
)
FORK_TAG = Mend(
    "[last_To:];tag=UA_",
    "To: <sip:[service]@[local_ip]:[local_port]>;tag=UA_",
    "its To has two tags, its own and the other fork's",
)
TAGLESS = Mend(
    "[last_To:]",
    "[last_To:];tag=[call_number]",
    "its 200 has no To tag, and its own requests have one (RFC 3261 12.1.1)",
    once=True,
)
NONCE = Mend(
    'realm="test"',
    'realm="test", nonce="[msg_index]"',
    "its challenge has no nonce (RFC 7616 3.3)",
)
NOT_500 = Mend(
    '<recv response="500"',
    '<recv response="488"',
    "wants 500 to an offer that cannot be met; 488 is the word for it (RFC 3261 14.2)",
)
ACK_NUMBERED = Mend(
    "Cseq: 1 INVITE\n      Contact: sip:sipp@[local_ip]:[local_port]\n      Max-Forwards: 70\n"
    "      Content-Length: 0",
    "Cseq: 1 ACK\n      Contact: sip:sipp@[local_ip]:[local_port]\n      Max-Forwards: 70\n"
    "      Content-Length: 0",
    "the CSeq of its ACK says INVITE (RFC 3261 17.1.1.3)",
)
SOONER = Mend(
    '<pause milliseconds="4000"/>',
    '<pause milliseconds="1000"/>',
    "it is silent for longer than 5 s, and is asked whether it is there",
)
NO_RTCP_LINE = Mend("a=rtcp:[media_port+1]", "a=ptime:20", "SIPp 3.6 has no port for a=rtcp")
MENDED = (
    Mend(
        "a=fmtp:101 0-16\n",
        "a=fmtp:101 0-16\n      a=inactive\n",
        "SIPp is silent, and where it has not said so it is asked by OPTIONS whether it is there",
    ),
)
"""What is played otherwise in all of them."""

SCENARIOS = (
    # ------------------------------------------------------------ PJSIP's, SIPp calls
    Scenario("alt-pjsua-uas-static-pt-no-rtpmap", By.SIPP, Role.ANSWER, ("F087",)),
    Scenario("transfer-attended", By.SIPP, Role.THERE),
    Scenario("transfer-unattended", By.SIPP, Role.THERE),
    Scenario("uac-183-wrong-codec", By.SIPP, Role.REFUSE),
    Scenario("uac-183-wrong-media", By.SIPP, Role.REFUSE),
    Scenario("uac-bad-ack", By.SIPP, Role.ANSWER, ("F058",)),
    Scenario("uac-inv-and-ack-without-sdp", By.SIPP, Role.GIVE_UP, ("F088",)),
    Scenario("uac-inv-multiple-require", By.SIPP, Role.THERE),
    Scenario(
        "uac-inv-retrans-after-ack",
        By.SIPP,
        Role.ANSWER,
        ("F116",),
        mends=(
            Mend(
                '<recv response="200">\n  </recv>',
                '<pause milliseconds="500"/>',
                "wants the repeated INVITE answered after the ACK, which RFC 6026 7.1 has absorbed",
                once=True,
            ),
        ),
    ),
    Scenario("uac-inv-two-media-but-one-disabled-no-rtpmap", By.SIPP, Role.HOLD),
    Scenario("uac-inv-without-sdp", By.SIPP, Role.GIVE_UP, ("F088",)),
    Scenario("uac-message-no-body", By.SIPP, Role.THERE, ("F107",)),
    Scenario("uac-norefersub", By.SIPP, Role.THERE, ("F098",)),
    Scenario("uac-options", By.SIPP, Role.THERE),
    Scenario("uac-prack-sdp-decline", By.SIPP, Role.EARLY, ("F091",)),
    Scenario("uac-prack-sdp-offer", By.SIPP, Role.EARLY, ("F091",), mends=(NUMBERED,)),
    Scenario("uac-reinvite-port-0-bad-sdp", By.SIPP, Role.ANSWER, ("F012",)),
    Scenario("uac-ticket-1148", By.SIPP, Role.HOLD),
    Scenario("uac-ticket-1864-scenario1", By.SIPP, Role.PCMU),
    Scenario("uac-ticket-1864-scenario2", By.SIPP, Role.PCMU, ("F095",), mends=(NOT_500,)),
    Scenario(
        "uac-ticket-1866-reinv-after-failed-nego", By.SIPP, Role.PCMU, ("F095",), mends=(NOT_500,)
    ),
    Scenario("uac-upd-sdp-decline", By.SIPP, Role.EARLY, ("F092",), mends=(NUMBERED,)),
    Scenario("uac-upd-sdp-offer", By.SIPP, Role.EARLY, ("F092",), mends=(NUMBERED,)),
    # ------------------------------------------------------------ PJSIP's, we call
    Scenario("strict-route", By.US, Role.AUTHENTICATED, ("F115",)),
    Scenario("uas-422-then-200-bad-se", By.US, Role.TALK_ON, ("F096",)),
    Scenario("uas-answer-180-multiple-fmts", By.US, Role.CHANGE, ("F087",)),
    Scenario("uas-answer-183-without-to-tag", By.US, Role.CANCEL),
    Scenario("uas-answer-183-wrong-attr", By.US, Role.CANCEL),
    Scenario("uas-answer-183-wrong-codec", By.US, Role.CANCEL),
    Scenario("uas-answer-183-wrong-media", By.US, Role.CANCEL),
    Scenario("uas-answer-200-inv-without-sdp", By.US, Role.UNUSABLE),
    Scenario("uas-answer-200-multiple-fmts", By.US, Role.CHANGE, ("F087",)),
    Scenario("uas-answer-200-reinvite-without-sdp", By.US, Role.CHANGE_REFUSED, ("F095",)),
    Scenario("uas-auth-two-algo", By.US, Role.REGISTER, ("F115",)),
    Scenario("uas-auth", By.US, Role.REGISTER, ("F115",), mends=(NONCE,)),
    Scenario("uas-cancel-no-final", By.US, Role.CANCEL, ("F013",)),
    Scenario("uas-early-bye", By.US, Role.TALK, ("F051",)),
    Scenario("uas-forked-100rel", By.US, Role.REFUSED, ("F085",), mends=(FORK_TAG,)),
    Scenario("uas-forked-200", By.US, Role.TALK, ("F087",)),
    Scenario("uas-inv-answered-with-srtp", By.US, Role.UNUSABLE),
    Scenario("uas-inv_401_retry_after_100", By.US, Role.AUTHENTICATED_REFUSED, ("F115",)),
    Scenario("uas-keep-call-on-tsx-fail", By.US, Role.CHANGE_ENDS),
    Scenario("uas-mwi", By.US, Role.MAIL, ("F102",)),
    Scenario("uas-mwi-0", By.US, Role.MAIL_ONCE, ("F102",)),
    Scenario(
        "uas-norefersub",
        By.US,
        Role.TALK,
        ("F098",),
        mends=(
            Mend(
                "sip:[remote_ip]:[remote_port]",
                "sip:us@[local_ip]",
                "its URIs have no host where SIPp is called",
            ),
        ),
    ),
    Scenario("uas-prack_fork", By.US, Role.TALK_ON, ("F085",)),
    Scenario("uas-register-ip-change", By.US, Role.REGISTER_7, ("F115",), mends=(NONCE,)),
    Scenario("uas-register-ip-change-port-only", By.US, Role.REGISTER_7, ("F115",), mends=(NONCE,)),
    Scenario("uas-reinv-after-failed-nego", By.US, Role.CHANGE_TWICE, ("F095",)),
    Scenario(
        "uas-reinv-and-ack-same-branch-without-sdp", By.US, Role.TALK_ON, mends=(TAGLESS, SOONER)
    ),
    Scenario("uas-reinv-and-ack-without-sdp", By.US, Role.TALK_ON, mends=(TAGLESS, SOONER)),
    Scenario(
        "uas-reinv-glare",
        By.US,
        Role.CHANGE,
        ("F093",),
        mends=(
            Mend(
                'request="UPDATE"',
                'request="INVITE"',
                "an answered call is changed by re-INVITE here (RFC 3311 5.1)",
            ),
            ACK_NUMBERED,
            Mend(
                '<pause milliseconds="4000"/>',
                '<recv request="ACK"/><pause milliseconds="500"/>',
                "and acknowledged",
            ),
        ),
    ),
    Scenario(
        "uas-reinv-no-media",
        By.US,
        Role.TALK_ON,
        mends=(
            Mend(
                '<recv response="488"',
                '<recv response="200"',
                "wants 488 to an offer without a stream, which RFC 3264 8.2 has answered",
            ),
            ACK_NUMBERED,
        ),
    ),
    Scenario("uas-reinv-with-less-media", By.US, Role.BOTH_HOLD, ("F094",), mends=(TAGLESS,)),
    Scenario(
        "uas-subscribe-late-notify",
        By.US,
        Role.PRESENCE_REFRESH,
        ("F104",),
        mends=(
            Mend(
                '<recv response="481"',
                '<recv response="200"',
                "wants the subscription gone when a refresh has timed out (RFC 6665 4.1.2.2)",
            ),
        ),
    ),
    Scenario(
        "uas-subscribe-multipart-notify",
        By.US,
        Role.PRESENCE_UNREADABLE,
        ("F104",),
        mends=(
            Mend(
                '<recv response="200"',
                '<recv response="415"',
                "notifies by multipart/mixed, which our Accept does not name (RFC 6665 4.2.2)",
            ),
        ),
    ),
    Scenario("uas-subscribe-notify-terminate", By.US, Role.PRESENCE_ENDED, ("F104",), slow=True),
    Scenario("uas-subscribe-refresh-481", By.US, Role.PRESENCE_REFRESH, ("F104",)),
    Scenario("uas-subscribe-terminated-retry", By.US, Role.PRESENCE_PROBATION, ("F104",), calls=2),
    Scenario("uas-template", By.US, Role.REFUSED),
    Scenario("uas-timer-reinvite", By.US, Role.TALK_ON, ("F096",), slow=True),
    Scenario("uas-timer-update", By.US, Role.TALK_ON, ("F096",), slow=True),
    # ------------------------------------------------------------ SIPp's own
    Scenario("scenarios/builtin_uac", By.SIPP, Role.ANSWER, ("F006",), collection=SIPP),
    Scenario(
        "scenarios/builtin_regexp",
        By.SIPP,
        Role.ANSWER,
        ("F006",),
        mends=(
            Mend(
                "o=([[:alnum:]]*)",
                "o=([-[:alnum:]]*)",
                'its pattern knows no user "-" (RFC 8866 5.2)',
            ),
        ),
        collection=SIPP,
    ),
    Scenario(
        "scenarios/pfca_uac",
        By.SIPP,
        Role.RING,
        ("F085",),
        mends=(
            NO_RTCP_LINE,
            Mend(
                '<exec rtp_stream="sipp_scenarios/coco_jamboo_ulaw.wav,-1,0,PCMU/8000" />',
                '<log message="answered"/>',
                "its sound is not in the collection",
            ),
        ),
        collection=SIPP,
    ),
    Scenario("scenarios/builtin_uas", By.US, Role.SAY_GOODBYE, ("F006",), collection=SIPP),
    Scenario("scenarios/builtin_3pcc-A", By.US, Role.SAY_GOODBYE, collection=SIPP),
    Scenario("scenarios/builtin_3pcc-B", By.US, Role.SAY_GOODBYE, collection=SIPP),
    Scenario("scenarios/mcd_register", By.US, Role.REGISTER, ("F001",), collection=SIPP),
    Scenario(
        "scenarios/pfca_uas",
        By.US,
        Role.SAY_GOODBYE,
        ("F085",),
        mends=(NO_RTCP_LINE,),
        collection=SIPP,
    ),
)

NO_UPDATE = (
    "waits for an UPDATE that PJSIP sends by itself after an answer with several codecs;"
    " ours go on with the first, and change an answered call by re-INVITE, as RFC 3311 5.1 advises"
)
LEFT_OUT = {
    f"{PJSIP}/alt-pjsua-uac-custom-sdp": "wants video in the offer",
    f"{PJSIP}/alt-pjsua-uas-custom-sdp": "wants video in the answer",
    f"{PJSIP}/alt-pjsua-uas-amr-sdp": "wants AMR",
    f"{PJSIP}/uac-early-recv-update-481": (
        "wants an offer by UPDATE after an answer in an unreliable 183, which RFC 3311 5.1 forbids"
    ),
    f"{PJSIP}/uac-reinvite-bad-via-branch": (
        "wants 400 to an INVITE with the branch of the one before,"
        " which RFC 3261 17.2.3 makes a retransmission"
    ),
    f"{PJSIP}/uac-subscribe": "wants our presence: a phone publishes it, and serves none (489)",
    f"{PJSIP}/uac-norefersub-disabled": "wants norefersub out of Supported: it has no switch here",
    f"{PJSIP}/uas-norefersub-disabled": "wants norefersub out of Supported: it has no switch here",
    f"{PJSIP}/uac-srtp-*": "SRTP",
    f"{PJSIP}/uas-answer-180-multiple-fmts-support-update": (
        "wants an offer by UPDATE after an answer in an unreliable 180, which RFC 3311 5.1 forbids"
    ),
    f"{PJSIP}/uas-answer-200-multiple-fmts-support-update": NO_UPDATE,
    f"{PJSIP}/uas-answer-200-update-without-sdp": NO_UPDATE,
    f"{PJSIP}/uas-answer-200-without-to-tag": NO_UPDATE,
    f"{SIPP}/scenarios/pfca_*crypto*": "SRTP",
    f"{SIPP}/scenarios/pfca_*video*": "video",
    f"{SIPP}/scenarios/pfca_*vpattern*": "video",
    f"{SIPP}/scenarios/pfca_*bpattern*": "video",
    f"{SIPP}/scenarios/pfca_uac_apattern_*": "plays patterns, which SIPp 3.6 cannot",
    f"{SIPP}/scenarios/pfca_uac_apattern": "plays patterns, which SIPp 3.6 cannot",
    f"{SIPP}/scenarios/pfca_uas_audio*": "the flow of pfca_uas, for callers that play patterns",
    f"{SIPP}/scenarios/builtin_branch?": "REGISTER and INVITE with one Call-ID",
    f"{SIPP}/scenarios/builtin_3pcc-C-?": "two SIPps that talk to each other",
    f"{SIPP}/scenarios/builtin_ooc_default": "answers whatever a SIPp is not asked for",
    f"{SIPP}/scenarios/builtin_uac_pcap": "sends by raw sockets, which needs root",
    f"{SIPP}/scenarios/uc360_register*": "registers with a registrar, which a phone is not",
    f"{SIPP}/regress/*": "tests SIPp itself, against another SIPp",
}
"""Why others are not played; names may be patterns."""
