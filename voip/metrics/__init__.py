"""Figures of phones for Prometheus: read where they are counted already, when somebody asks."""

from __future__ import annotations

from voip.metrics.registry import Metrics

__all__ = ["Metrics"]
