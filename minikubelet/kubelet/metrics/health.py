"""/metrics/slis: how the checks of /healthz have gone (KEP-3466)."""

from __future__ import annotations

from minikubelet.kubelet.metrics.families import Counter, Family, Level


class HealthRecord:
    """Counts each check that somebody has asked for."""

    def __init__(self) -> None:
        self._last = Level(
            "kubernetes_healthcheck",
            "The result of a single health check: 1 if it was well, 0 if not.",
            ("name", "type"),
        )
        self._total = Counter(
            "kubernetes_healthchecks_total",
            "Cumulative number of health checks by result.",
            ("name", "status", "type"),
        )

    def note(self, name: str, *, well: bool) -> None:
        """A check was made."""
        self._last.values[name, "healthz"] = float(well)
        self._total.inc((name, "success" if well else "error", "healthz"))

    def families(self) -> list[Family]:
        """What is to be shown."""
        return [self._last.family(), self._total.family()]
