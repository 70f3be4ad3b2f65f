"""Containers, probes, hooks, environment, security contexts: core/v1 of k8s.io/api v0.36, in its order."""

from __future__ import annotations

from msgspec import field

from minikubelet.kubelet.objects.base import Int32, Int64, IntOrString, Object, Quantity
from minikubelet.kubelet.objects.volumes import (
    LocalObjectReference,
    ObjectFieldSelector,
    ResourceFieldSelector,
)


class ContainerPort(Object):
    """core/v1 ContainerPort."""

    name: str = ""
    host_port: Int32 = 0
    container_port: Int32 = 0
    protocol: str = ""
    host_ip: str = field(default="", name="hostIP")


class ConfigMapEnvSource(LocalObjectReference):
    """core/v1 ConfigMapEnvSource."""

    optional: bool | None = None


class SecretEnvSource(LocalObjectReference):
    """core/v1 SecretEnvSource."""

    optional: bool | None = None


class EnvFromSource(Object):
    """core/v1 EnvFromSource."""

    prefix: str = ""
    config_map_ref: ConfigMapEnvSource | None = None
    secret_ref: SecretEnvSource | None = None


class ConfigMapKeySelector(LocalObjectReference):
    """core/v1 ConfigMapKeySelector."""

    key: str = ""
    optional: bool | None = None


class SecretKeySelector(LocalObjectReference):
    """core/v1 SecretKeySelector."""

    key: str = ""
    optional: bool | None = None


class FileKeySelector(Object):
    """core/v1 FileKeySelector."""

    volume_name: str = ""
    path: str = ""
    key: str = ""
    optional: bool | None = None


class EnvVarSource(Object):
    """core/v1 EnvVarSource."""

    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    config_map_key_ref: ConfigMapKeySelector | None = None
    secret_key_ref: SecretKeySelector | None = None
    file_key_ref: FileKeySelector | None = None


class EnvVar(Object):
    """core/v1 EnvVar."""

    name: str = ""
    value: str = ""
    value_from: EnvVarSource | None = None


class ResourceClaim(Object):
    """core/v1 ResourceClaim."""

    name: str = ""
    request: str = ""


class ResourceRequirements(Object):
    """core/v1 ResourceRequirements."""

    limits: dict[str, Quantity] = field(default_factory=dict)
    requests: dict[str, Quantity] = field(default_factory=dict)
    claims: list[ResourceClaim] = field(default_factory=list)


class ContainerResizePolicy(Object):
    """core/v1 ContainerResizePolicy."""

    resource_name: str = ""
    restart_policy: str = ""


class ContainerRestartRuleOnExitCodes(Object):
    """core/v1 ContainerRestartRuleOnExitCodes."""

    operator: str = ""
    values: list[Int32] = field(default_factory=list)


class ContainerRestartRule(Object):
    """core/v1 ContainerRestartRule."""

    action: str = ""
    exit_codes: ContainerRestartRuleOnExitCodes | None = None


class VolumeMount(Object):
    """core/v1 VolumeMount."""

    name: str = ""
    read_only: bool = False
    recursive_read_only: str | None = None
    mount_path: str = ""
    sub_path: str = ""
    mount_propagation: str | None = None
    sub_path_expr: str = ""


class VolumeDevice(Object):
    """core/v1 VolumeDevice."""

    name: str = ""
    device_path: str = ""


class ExecAction(Object):
    """core/v1 ExecAction."""

    command: list[str] = field(default_factory=list)


class HTTPHeader(Object):
    """core/v1 HTTPHeader."""

    name: str = ""
    value: str = ""


class HTTPGetAction(Object):
    """core/v1 HTTPGetAction."""

    path: str = ""
    port: IntOrString | None = None
    host: str = ""
    scheme: str = ""
    http_headers: list[HTTPHeader] = field(default_factory=list)


class TCPSocketAction(Object):
    """core/v1 TCPSocketAction."""

    port: IntOrString | None = None
    host: str = ""


class GRPCAction(Object):
    """core/v1 GRPCAction."""

    port: Int32 = 0
    service: str | None = None


class ProbeHandler(Object):
    """core/v1 ProbeHandler."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None


class Probe(ProbeHandler):
    """core/v1 Probe."""

    initial_delay_seconds: Int32 = 0
    timeout_seconds: Int32 = 0
    period_seconds: Int32 = 0
    success_threshold: Int32 = 0
    failure_threshold: Int32 = 0
    termination_grace_period_seconds: Int64 | None = None


class SleepAction(Object):
    """core/v1 SleepAction."""

    seconds: Int64 = 0


class LifecycleHandler(Object):
    """core/v1 LifecycleHandler."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Object):
    """core/v1 Lifecycle."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None


class Capabilities(Object):
    """core/v1 Capabilities."""

    add: list[str] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)


class SELinuxOptions(Object):
    """core/v1 SELinuxOptions."""

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


class WindowsSecurityContextOptions(Object):
    """core/v1 WindowsSecurityContextOptions."""

    gmsa_credential_spec_name: str | None = None
    gmsa_credential_spec: str | None = None
    run_as_user_name: str | None = None
    host_process: bool | None = None


class SeccompProfile(Object):
    """core/v1 SeccompProfile."""

    type: str = ""
    localhost_profile: str | None = None


class AppArmorProfile(Object):
    """core/v1 AppArmorProfile."""

    type: str = ""
    localhost_profile: str | None = None


class SecurityContext(Object):
    """core/v1 SecurityContext."""

    capabilities: Capabilities | None = None
    privileged: bool | None = None
    se_linux_options: SELinuxOptions | None = None
    windows_options: WindowsSecurityContextOptions | None = None
    run_as_user: Int64 | None = None
    run_as_group: Int64 | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool | None = None
    allow_privilege_escalation: bool | None = None
    proc_mount: str | None = None
    seccomp_profile: SeccompProfile | None = None
    app_armor_profile: AppArmorProfile | None = None


class Container(Object):
    """core/v1 Container."""

    name: str = ""
    image: str = ""
    command: list[str] = field(default_factory=list)
    args: list[str] = field(default_factory=list)
    working_dir: str = ""
    ports: list[ContainerPort] = field(default_factory=list)
    env_from: list[EnvFromSource] = field(default_factory=list)
    env: list[EnvVar] = field(default_factory=list)
    resources: ResourceRequirements = field(default_factory=ResourceRequirements)
    resize_policy: list[ContainerResizePolicy] = field(default_factory=list)
    restart_policy: str | None = None
    restart_policy_rules: list[ContainerRestartRule] = field(default_factory=list)
    volume_mounts: list[VolumeMount] = field(default_factory=list)
    volume_devices: list[VolumeDevice] = field(default_factory=list)
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    termination_message_path: str = ""
    termination_message_policy: str = ""
    image_pull_policy: str = ""
    security_context: SecurityContext | None = None
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False


class EphemeralContainer(Container):
    """core/v1 EphemeralContainer, whose EphemeralContainerCommon has the fields of Container."""

    target_container_name: str = ""
