"""The report of each call, published when it is over (RFC 6035 section 4.7.3)."""

from __future__ import annotations

from typing import Final

from voip.call import Call
from voip.errors import VoipError
from voip.messages import Messages
from voip.quality.vq_report import CONTENT_TYPE, Endpoint, StreamMetrics, VoiceQualityReport
from voip.sip.headers import NameAddr
from voip.types import Address

__all__ = ["QualityReports", "session_report"]

ALGORITHM: Final = "G.107"
_ADAPTIVE: Final = 3
_NOT_ADAPTIVE: Final = 2
_STANDARD_PLC: Final = 3


class QualityReports:
    """Sends reports to one collector."""

    def __init__(self, messages: Messages, collector: str) -> None:
        self._messages = messages
        self._collector = collector

    async def publish(self, call: Call, wall: float) -> None:
        """Publish the report of a call that ended at `wall` s since 1970; a refusal is logged."""
        report = session_report(call, wall)
        if report is None:
            return
        try:
            await self._messages.request(
                "PUBLISH",
                self._collector,
                headers={"Event": "vq-rtcpxr"},
                body=report.to_bytes(),
                content_type=CONTENT_TYPE,
                account=call.account,
            )
        except VoipError as error:
            call.log.warning("the report of its quality was not taken: %s", error)


def session_report(call: Call, wall: float) -> VoiceQualityReport | None:
    """Return the report of a call that ended at `wall` s since 1970; None where it had no sound."""
    session, stats, quality = call._session, call.stats, call.quality
    media = session.stack.media
    dialog, agreed = session.dialog, session.media.agreed
    remote = stats.remote or (agreed.remote_rtp if agreed is not None else None)
    if dialog is None or agreed is None or remote is None or session.up_s is None:
        return None
    expected = stats.packets_received + stats.packets_lost
    local_id, remote_id = _without_tag(dialog.local), _without_tag(dialog.remote)
    codec = agreed.receive_formats[0] if agreed.receive_formats else None
    metrics = StreamMetrics(
        start=wall - session.up_s,
        stop=wall,
        payload_type=codec.payload_type if codec else None,
        encoding=codec.name.upper() if codec else None,
        sample_rate_hz=codec.clock_rate if codec else None,
        frame_ms=agreed.ptime_ms,
        frames_per_packet=1,
        packets_per_s=round(1000 / agreed.ptime_ms),
        plc=_STANDARD_PLC,
        silence_suppression=False,
        jitter_buffer_adaptive=_ADAPTIVE if media.jitter_policy != "fixed" else _NOT_ADAPTIVE,
        jitter_buffer_nominal_ms=stats.average_delay_ms or None,
        jitter_buffer_abs_max_ms=media.jitter_max_ms,
        loss_percent=100 * max(0, stats.packets_lost) / expected if expected > 0 else None,
        discard_percent=100 * stats.packets_late / expected if expected > 0 else None,
        round_trip_ms=stats.rtt_ms,
        end_system_ms=stats.average_delay_ms or None,
        one_way_ms=quality.delay_ms,
        jitter_ms=stats.jitter_ms,
        r_conversation=quality.r_factor,
        mos_conversation=quality.mos,
        algorithm=ALGORITHM if quality.mos is not None else None,
    )
    here = session.media.local_rtp or Address("0.0.0.0", 0)
    ends = (dialog.local, dialog.remote)
    caller, callee = ends if dialog.is_caller else reversed(ends)
    return VoiceQualityReport(
        dialog.call_id,
        local_id,
        remote_id,
        _without_tag(caller),
        Endpoint(here, stats.ssrc_sent or 0, dialog.local.sip_uri.host),
        Endpoint(remote, stats.ssrc_received or 0, dialog.remote.sip_uri.host),
        metrics,
        to_tag=callee.tag,
        from_tag=caller.tag,
    )


def _without_tag(address: NameAddr) -> str:
    return str(NameAddr(address.display, address.uri))
