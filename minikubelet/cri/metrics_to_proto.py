"""Metric descriptors and samples as CRI messages."""

from __future__ import annotations

from collections.abc import Iterable

from minikubelet.criapi import api_pb2 as api
from minikubelet.runtime import metric_descriptors
from minikubelet.runtime.metrics import PodMetrics, Sample


def descriptors() -> list[api.MetricDescriptor]:
    """All that there are, whether or not this host can measure them."""
    return [
        api.MetricDescriptor(name=item.name, help=item.help, label_keys=item.labels)
        for item in metric_descriptors.ALL
    ]


def pod(source: PodMetrics) -> api.PodSandboxMetrics:
    """PodSandboxMetrics."""
    return api.PodSandboxMetrics(
        pod_sandbox_id=source.sandbox_id,
        metrics=_metrics(source.timestamp, source.own),
        container_metrics=[
            api.ContainerMetrics(container_id=identifier, metrics=_metrics(source.timestamp, samples))
            for identifier, samples in source.containers.items()
        ],
    )


def _metrics(timestamp: int, samples: Iterable[Sample]) -> list[api.Metric]:
    return [
        api.Metric(
            name=sample.descriptor.name,
            timestamp=timestamp,
            metric_type=api.COUNTER if sample.descriptor.counter else api.GAUGE,
            label_values=sample.labels,
            value=api.UInt64Value(value=sample.value),
        )
        for sample in samples
    ]
