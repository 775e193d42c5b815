"""GitOps in `GET /metrics`: syncs by verdict, how long they took, when what is deployed was."""

from __future__ import annotations

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from homelab_agent.gitops.delivery import Word

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class Counters:
    """Those of the whole capability; what a webhook's request came to, its receiver counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._syncs = Counter(
            "homelab_agent_gitops_syncs", "Syncs by verdict.", ["repository", "verdict"], registry=registry
        )
        self._seconds = Histogram(
            "homelab_agent_gitops_sync_seconds",
            "Time of a sync with all that followed it.",
            ["repository"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._deployed = Gauge(
            "homelab_agent_gitops_deployed_timestamp_seconds",
            "When the commit that is deployed was.",
            ["repository"],
            registry=registry,
        )

    def ended(self, repository: str, word: Word, seconds: float) -> None:
        """Count a sync."""
        self._syncs.labels(repository, word).inc()
        self._seconds.labels(repository).observe(seconds)

    def deployed(self, repository: str, at: datetime) -> None:
        """Note when what is deployed now was."""
        self._deployed.labels(repository).set(at.timestamp())
