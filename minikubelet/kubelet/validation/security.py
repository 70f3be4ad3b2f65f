"""Security contexts of pods and containers: IDs, profiles, sysctls, and what excludes each other."""

from __future__ import annotations

from minikubelet.kubelet.manifests.yaml_reader import Path
from minikubelet.kubelet.objects import Container
from minikubelet.kubelet.objects.containers import AppArmorProfile, SeccompProfile, SecurityContext
from minikubelet.kubelet.objects.podspec import PodSecurityContext, PodSpec
from minikubelet.kubelet.sysctls import namespace_of
from minikubelet.kubelet.validation.checker import SYSCTL, Checker, check_id

_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_LONGEST_PROFILE = 4095
"""PATH_MAX - 1."""


def validate_security(check: Checker, at: Path, container: Container, spec: PodSpec) -> None:
    """Check a container's security context at ``at``."""
    context = container.security_context
    if context is None:
        return
    check_id(check, (*at, "runAsUser"), context.run_as_user)
    check_id(check, (*at, "runAsGroup"), context.run_as_group)
    if context.allow_privilege_escalation is False:
        added = context.capabilities.add if context.capabilities else []
        for given, what in (
            (context.privileged, "`privileged` to true"),
            ("CAP_SYS_ADMIN" in added, "`capabilities.Add` CAP_SYS_ADMIN"),
        ):
            if given:
                check.invalid(at, False, f"cannot set `allowPrivilegeEscalation` to false and {what}")
    if context.proc_mount is not None:
        where: Path = (*at, "procMount")
        check.one_of(where, context.proc_mount, ("Default", "Unmasked"))
        if spec.host_users is not False and context.proc_mount == "Unmasked":
            check.invalid(where, context.proc_mount, "`hostUsers` must be false to use `Unmasked`")
    _windows(check, at, context, spec)
    _seccomp(check, (*at, "seccompProfile"), context.seccomp_profile)
    _app_armor(check, (*at, "appArmorProfile"), context.app_armor_profile)


def validate_pod_security(check: Checker, spec: PodSpec) -> None:
    """Check the security context of the pod as a whole."""
    context = spec.security_context
    if context is None:
        return
    at: Path = ("spec", "securityContext")
    for name, value in (
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
        ("fsGroup", context.fs_group),
    ):
        check_id(check, (*at, name), value)
    for index, group in enumerate(context.supplemental_groups):
        check_id(check, (*at, "supplementalGroups", index), group)
    for name, word, allowed in (
        ("fsGroupChangePolicy", context.fs_group_change_policy, ("Always", "OnRootMismatch")),
        ("supplementalGroupsPolicy", context.supplemental_groups_policy, ("Merge", "Strict")),
        ("seLinuxChangePolicy", context.se_linux_change_policy, ("MountOption", "Recursive")),
    ):
        if word is not None:
            check.one_of((*at, name), word, allowed)
    _windows(check, at, context, spec)
    _seccomp(check, (*at, "seccompProfile"), context.seccomp_profile)
    _app_armor(check, (*at, "appArmorProfile"), context.app_armor_profile)
    _sysctls(check, (*at, "sysctls"), context, spec)


def _windows(check: Checker, at: Path, context: SecurityContext | PodSecurityContext, spec: PodSpec) -> None:
    """A pod that doesn't say for which system it is may have them: they mean nothing here."""
    if context.windows_options is not None and spec.os is not None and spec.os.name == "linux":
        check.add((*at, "windowsOptions"), "Forbidden: windows options cannot be set for a linux pod")


def _sysctls(check: Checker, at: Path, context: PodSecurityContext, spec: PodSpec) -> None:
    seen: set[str] = set()
    for index, sysctl in enumerate(context.sysctls):
        path: Path = (*at, index, "name")
        if not check.required(path, sysctl.name):
            continue
        if len(sysctl.name) > 253 or not SYSCTL.match(sysctl.name):
            check.invalid(path, sysctl.name, "not a sysctl's name")
        elif sysctl.name in seen:
            check.add(path, f'Duplicate value: "{sysctl.name}"')
        seen.add(sysctl.name)
        namespace = namespace_of(sysctl.name)
        if spec.host_network and namespace == "net":
            check.invalid(path, sysctl.name, "may not be specified when 'hostNetwork' is true")
        if spec.host_ipc and namespace == "ipc":
            check.invalid(path, sysctl.name, "may not be specified when 'hostIPC' is true")


def _seccomp(check: Checker, at: Path, profile: SeccompProfile | None) -> None:
    if profile is None or not _profile_type(check, at, profile.type):
        return
    local = profile.localhost_profile
    where: Path = (*at, "localhostProfile")
    if profile.type != "Localhost":
        if local is not None:
            check.invalid(where, local, "can only be set when seccomp type is Localhost")
    elif local is None:
        check.add(where, "Required value: must be set when seccomp type is Localhost")
    elif local.startswith("/"):
        check.invalid(where, local, "must be a relative path")
    elif ".." in local.split("/"):
        check.invalid(where, local, "must not contain '..'")


def _app_armor(check: Checker, at: Path, profile: AppArmorProfile | None) -> None:
    if profile is None or not _profile_type(check, at, profile.type):
        return
    local = profile.localhost_profile
    where: Path = (*at, "localhostProfile")
    if profile.type != "Localhost":
        if local is not None:
            check.invalid(where, local, "can only be set when AppArmor type is Localhost")
    elif not local:
        check.add(where, "Required value: must be set when AppArmor type is Localhost")
    elif local != local.strip():
        check.invalid(where, local, "must not be padded with whitespace")
    elif len(local) > _LONGEST_PROFILE:
        check.add(where, f"Too long: may not be more than {_LONGEST_PROFILE} bytes")


def _profile_type(check: Checker, at: Path, kind: str) -> bool:
    if not check.required((*at, "type"), kind):
        return False
    check.one_of((*at, "type"), kind, _PROFILES)
    return kind in _PROFILES
