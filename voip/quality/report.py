"""What a call's figures come to: one frozen value for programs, tables and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from voip.quality.emodel import call_rating

__all__ = ["QualityReport"]


@dataclass(frozen=True, slots=True)
class QualityReport:
    """Quality of one call as we hear it. What is not known is None, never invented.

    `loss_fraction`: packets that were not played, lost or late, of those expected, 0 to 1;
    `delay_ms`: one way, network and jitter buffer; `r_factor` and `mos`: ITU-T G.107.
    """

    codec: str | None = None
    packets_sent: int = 0
    packets_received: int = 0
    packets_lost: int = 0
    loss_fraction: float | None = None
    jitter_ms: float | None = None
    rtt_ms: float | None = None
    delay_ms: float | None = None
    mos: float | None = None
    r_factor: float | None = None

    @classmethod
    def of(
        cls,
        *,
        codec: str | None,
        packets_sent: int,
        packets_received: int,
        packets_lost: int,
        packets_discarded: int = 0,
        packets_recovered: int = 0,
        jitter_ms: float | None = None,
        rtt_ms: float | None = None,
        jitter_buffer_ms: float | None = None,
    ) -> QualityReport:
        """Rate plain figures.

        `packets_discarded`: received, but too late to be played; `packets_recovered`: lost, and
        played from what a later one repeated. Without a packet, or with a codec nothing is known
        about, there is no MOS. Without a round trip, which takes RTCP of the peer, the network's
        delay counts as none; half of it else.
        """
        expected = packets_received + packets_lost
        loss = None
        if packets_received > 0 and expected > 0:
            unheard = packets_lost + packets_discarded - packets_recovered
            loss = min(1.0, max(0.0, unheard / expected))
        rating = delay_ms = None
        if rtt_ms is not None or jitter_buffer_ms is not None:
            delay_ms = (rtt_ms or 0.0) / 2 + (jitter_buffer_ms or 0.0)
        if codec is not None and loss is not None:
            rating = call_rating(codec=codec, loss_fraction=loss, one_way_delay_ms=delay_ms or 0.0)
        return cls(
            codec=codec,
            packets_sent=packets_sent,
            packets_received=packets_received,
            packets_lost=packets_lost,
            loss_fraction=loss,
            jitter_ms=jitter_ms,
            rtt_ms=rtt_ms,
            delay_ms=delay_ms,
            mos=None if rating is None else rating.mos,
            r_factor=None if rating is None else rating.r,
        )

    def to_dict(self) -> dict[str, str | int | float | None]:
        """Return the fields by name, plain values only."""
        return asdict(self)
