"""Annotations that once named AppArmor and seccomp profiles: they may not contradict the fields."""

from __future__ import annotations

from minikubelet.kubelet.defaults import all_containers
from minikubelet.kubelet.manifests.yaml_reader import Path
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.containers import AppArmorProfile, SeccompProfile
from minikubelet.kubelet.security import APPARMOR_ANNOTATION
from minikubelet.kubelet.validation.checker import Checker

_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_LOCAL = "localhost/"
_TYPES = {
    "runtime/default": "RuntimeDefault",
    "docker/default": "RuntimeDefault",
    "unconfined": "Unconfined",
}


def validate_profile_annotations(check: Checker, pod: Pod) -> None:
    """Check what the annotations say, and that fields of the same containers say the same."""
    containers = all_containers(pod.spec)
    names = {each.name for each in containers}
    for key, value in pod.metadata.annotations.items():
        at: Path = ("metadata", "annotations", key)
        if key.startswith(APPARMOR_ANNOTATION):
            if key.removeprefix(APPARMOR_ANNOTATION) not in names:
                check.invalid(at, key.removeprefix(APPARMOR_ANNOTATION), "container not found")
            if value and (value == "docker/default" or not _is_known(value)):
                check.invalid(at, value, "invalid AppArmor profile name")
        elif key == _SECCOMP_POD or key.startswith(_SECCOMP_CONTAINER):
            local = value.removeprefix(_LOCAL)
            if not _is_known(value) or (local != value and (local[:1] == "/" or ".." in local.split("/"))):
                check.invalid(at, value, "must be a valid seccomp profile")
    _fields(check, pod)


def _fields(check: Checker, pod: Pod) -> None:
    notes, whole = pod.metadata.annotations, pod.spec.security_context
    if whole is not None:
        at: Path = ("spec", "securityContext", "seccompProfile")
        _agree(check, at, "seccomp", notes.get(_SECCOMP_POD), whole.seccomp_profile)
    for group, containers in (
        ("initContainers", pod.spec.init_containers),
        ("containers", pod.spec.containers),
    ):
        for index, each in enumerate(containers):
            own, where = each.security_context, ("spec", group, index, "securityContext")
            seccomp = own.seccomp_profile if own is not None else None
            note = notes.get(_SECCOMP_CONTAINER + each.name)
            _agree(check, (*where, "seccompProfile"), "seccomp", note, seccomp)
            profile = own.app_armor_profile if own is not None else None
            profile = profile or (whole.app_armor_profile if whole is not None else None)
            note = notes.get(APPARMOR_ANNOTATION + each.name)
            _agree(check, (*where, "appArmorProfile"), "apparmor", note, profile)


def _agree(
    check: Checker, at: Path, what: str, note: str | None, field: AppArmorProfile | SeccompProfile | None
) -> None:
    if note is None or field is None:
        return
    if note.startswith(_LOCAL):
        same = field.type == "Localhost" and field.localhost_profile == note.removeprefix(_LOCAL)
    else:
        same = field.type == _TYPES.get(note)
    if not same:
        check.add((*at, "type"), f"Forbidden: {what} type in annotation and field must match")


def _is_known(value: str) -> bool:
    return value in _TYPES or value.startswith(_LOCAL)
