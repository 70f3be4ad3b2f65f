"""Default values of a pod (k8s.io/kubernetes pkg/apis/core/v1/defaults.go), filled in place."""

from __future__ import annotations

import contextlib

from minikubelet.kubelet import sysctls
from minikubelet.kubelet.demands import quantities, summed_limits, summed_requests
from minikubelet.kubelet.objects import Container, LifecycleHandler, Pod, Probe
from minikubelet.kubelet.objects.base import Quantity
from minikubelet.kubelet.objects.containers import EphemeralContainer, HTTPGetAction, ResourceRequirements
from minikubelet.kubelet.objects.podspec import PodSecurityContext, PodSpec
from minikubelet.kubelet.objects.quantity import canonical, milli, parse
from minikubelet.kubelet.objects.volumes import (
    DownwardAPIVolumeFile,
    EmptyDirVolumeSource,
    ResourceFieldSelector,
    Volume,
)

TERMINATION_GRACE_PERIOD = 30
TERMINATION_MESSAGE_PATH = "/dev/termination-log"


def all_containers(spec: PodSpec) -> list[Container | EphemeralContainer]:
    """Init, regular and ephemeral containers, in the order they are declared."""
    return [*spec.init_containers, *spec.containers, *spec.ephemeral_containers]


def is_sidecar(container: Container) -> bool:
    """An init container with restartPolicy Always (KEP-753); meaningful for init containers only."""
    return container.restart_policy == "Always"


def apply_defaults(pod: Pod) -> None:
    """Fill what the manifest left out."""
    spec = pod.spec
    spec.restart_policy = spec.restart_policy or "Always"
    spec.dns_policy = spec.dns_policy or "ClusterFirst"
    spec.service_account_name = spec.service_account_name or spec.service_account
    spec.service_account = spec.service_account_name
    spec.scheduler_name = spec.scheduler_name or "default-scheduler"
    spec.security_context = spec.security_context or PodSecurityContext()
    if spec.termination_grace_period_seconds is None:
        spec.termination_grace_period_seconds = TERMINATION_GRACE_PERIOD
    elif spec.termination_grace_period_seconds < 0:
        spec.termination_grace_period_seconds = 1
    for sysctl in spec.security_context.sysctls if spec.security_context else []:
        sysctl.name = sysctls.normalise(sysctl.name)
    if spec.enable_service_links is None:
        spec.enable_service_links = True
    for container in all_containers(spec):
        apply_container_defaults(container, spec.host_network)
    spec.overhead = _quantities(spec.overhead)
    if spec.resources is not None:
        _whole_pod(pod, spec.resources)
    for volume in spec.volumes:
        _volume(volume)


def apply_container_defaults(container: Container | EphemeralContainer, host_network: bool) -> None:
    """Fill what was left out of one container."""
    if not container.image_pull_policy:
        latest = has_latest_tag(container.image)
        container.image_pull_policy = "Always" if latest else "IfNotPresent"
    container.termination_message_path = container.termination_message_path or TERMINATION_MESSAGE_PATH
    container.termination_message_policy = container.termination_message_policy or "File"
    for port in container.ports:
        port.protocol = port.protocol or "TCP"
        if host_network and not port.host_port:
            port.host_port = port.container_port
    resources = container.resources
    resources.limits = _quantities(resources.limits)
    resources.requests = {**resources.limits, **_quantities(resources.requests)}
    for variable in container.env:
        if variable.value_from and variable.value_from.field_ref:
            variable.value_from.field_ref.api_version = variable.value_from.field_ref.api_version or "v1"
        if variable.value_from and variable.value_from.resource_field_ref:
            _divisor(variable.value_from.resource_field_ref)
        if variable.value_from and variable.value_from.file_key_ref:
            file = variable.value_from.file_key_ref
            file.optional = bool(file.optional)
    for probe in (container.liveness_probe, container.readiness_probe, container.startup_probe):
        if probe is not None:
            _probe(probe)
    if container.lifecycle is not None:
        for hook in (container.lifecycle.post_start, container.lifecycle.pre_stop):
            if hook is not None:
                _handler(hook)


def _whole_pod(pod: Pod, resources: ResourceRequirements) -> None:
    """Pod-level requests (KEP-2837): what the containers request together, else as much as the limit."""
    resources.limits, resources.requests = _quantities(resources.limits), _quantities(resources.requests)
    lists = [each.resources for each in [*pod.spec.init_containers, *pod.spec.containers]]
    try:
        requests = quantities(summed_requests(pod), [each.requests for each in lists])
        limits = quantities(summed_limits(pod), [each.limits for each in lists])
    except ValueError:
        return  # validation says where it stands
    huge = {name: each for name, each in limits.items() if name.startswith("hugepages-")}
    if resources.limits or resources.requests:
        unlimited = huge.keys() - resources.requests.keys()
        resources.limits = {name: huge[name] for name in sorted(unlimited)} | resources.limits
    if resources.limits:
        summed = {name: each for name, each in requests.items() if name in ("cpu", "memory")}
        resources.requests = {**resources.limits, **summed, **resources.requests}


def _quantities(given: dict[str, Quantity]) -> dict[str, Quantity]:
    """Quantities as the API writes them, rounded up to thousandths; what is none stays for validation."""
    shown = dict(given)
    for name, amount in given.items():
        with contextlib.suppress(ValueError):
            finer = parse(amount) > 0 and (parse(amount) * 1000).denominator != 1
            shown[name] = canonical(f"{milli(amount)}m" if finer else amount)
    return shown


def _probe(probe: Probe) -> None:
    probe.timeout_seconds = probe.timeout_seconds or 1
    probe.period_seconds = probe.period_seconds or 10
    probe.success_threshold = probe.success_threshold or 1
    probe.failure_threshold = probe.failure_threshold or 3
    if probe.http_get is not None:
        _http(probe.http_get)
    if probe.grpc is not None and probe.grpc.service is None:
        probe.grpc.service = ""


def _handler(handler: LifecycleHandler) -> None:
    if handler.http_get is not None:
        _http(handler.http_get)


def _http(action: HTTPGetAction) -> None:
    action.path = action.path or "/"
    action.scheme = action.scheme or "HTTP"


def _volume(volume: Volume) -> None:
    for source in (volume.secret, volume.config_map, volume.downward_api, volume.projected):
        if source is not None and source.default_mode is None:
            source.default_mode = 0o644
    if volume.downward_api is not None:
        _field_refs(volume.downward_api.items)
    if volume.host_path is not None and volume.host_path.type is None:
        volume.host_path.type = ""
    if volume.image is not None and not volume.image.pull_policy:
        volume.image.pull_policy = "Always" if has_latest_tag(volume.image.reference) else "IfNotPresent"
    if volume.projected is not None:
        for projection in volume.projected.sources:
            if projection.downward_api is not None:
                _field_refs(projection.downward_api.items)
            token = projection.service_account_token
            if token is not None and token.expiration_seconds is None:
                token.expiration_seconds = 3600
    if volume.empty_dir is not None and volume.empty_dir.size_limit is not None:
        with contextlib.suppress(ValueError):
            volume.empty_dir.size_limit = canonical(volume.empty_dir.size_limit)
    if not any(getattr(volume, name) for name in volume.__struct_fields__ if name != "name"):
        volume.empty_dir = EmptyDirVolumeSource()


def _field_refs(files: list[DownwardAPIVolumeFile]) -> None:
    for each in files:
        if each.field_ref is not None:
            each.field_ref.api_version = each.field_ref.api_version or "v1"
        if each.resource_field_ref is not None:
            _divisor(each.resource_field_ref)


def _divisor(reference: ResourceFieldSelector) -> None:
    if reference.divisor is not None:
        with contextlib.suppress(ValueError):
            reference.divisor = canonical(reference.divisor)


def has_latest_tag(image: str) -> bool:
    """Whether ``image`` has the tag ``latest`` or neither tag nor digest."""
    if not image or "@" in image:
        return False
    _, colon, tag = image.rpartition("/")[2].partition(":")
    return not colon or tag == "latest"
