"""Configuration and image turned into what a monitor needs to start a container."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minikubelet.base.errors import invalid, precondition
from minikubelet.images.models import Image
from minikubelet.runtime import adjust, criu, labels, mounts, resources, security, signals
from minikubelet.runtime.files import pod_hostname
from minikubelet.runtime.models import (
    DEFAULT_STOP_SIGNAL,
    Container,
    ContainerConfig,
    ContainerSecurity,
    ImageFacts,
    Sandbox,
)
from minikubelet.wire.messages import CgroupSettings, Process, Restore, StartContainer, User


def image_facts(image: Image, volumes: Sequence[Image] = ()) -> ImageFacts:
    """What a container needs of its image from now on."""
    config = image.config
    return ImageFacts(
        layers=image.layers,
        env=config.env,
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        user=config.user,
        working_dir=config.working_dir,
        stop_signal=config.stop_signal,
        volumes=tuple(volume.layers for volume in volumes),
        volume_ids=tuple(volume.id for volume in volumes),
    )


def oci_annotations(container: Container) -> dict[str, str]:
    """What containerd's CRI writes on every container it makes (OCI annotations), under the same names.

    Plugins and readers of checkpoints look for them.
    """
    config, pod = container.config, container.sandbox.config.metadata
    return {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": config.metadata.name,
        "io.kubernetes.cri.sandbox-id": container.sandbox.id,
        "io.kubernetes.cri.sandbox-name": pod.name,
        "io.kubernetes.cri.sandbox-namespace": pod.namespace,
        "io.kubernetes.cri.sandbox-uid": pod.uid,
        "io.kubernetes.cri.image-name": config.image.user_specified_image or config.image.image,
    }


@dataclass(frozen=True)
class Places:
    """Folders of one container."""

    layers_dir: str
    container_dir: str
    """Has ``upper`` and ``work``."""
    run_dir: str
    """The pod's."""


def start_request(container: Container, places: Places, enforcement: resources.Enforcement) -> StartContainer:
    """The request that starts ``container``. Raises NodeError for what can't be done, naming the field."""
    config = container.config
    devices = adjust.devices(mounts.container_devices(config), config.adjusted)
    own_users = container.sandbox.config.namespaces.own_users is not None
    hidden = security.hidden_paths(config.security, own_users)
    shared = any(mount.propagation == "bidirectional" for mount in config.mounts)
    return StartContainer(
        id=0,
        container_id=container.id,
        lowerdirs=list(container.image.layers),
        layers_dir=places.layers_dir,
        upperdir=f"{places.container_dir}/upper",
        workdir=f"{places.container_dir}/work",
        read_only_root=config.security.readonly_rootfs,
        mounts=adjust.mounts(
            mounts.container_mounts(
                config, container.sandbox.config, places.run_dir, container.image.volumes
            ),
            config.adjusted,
        ),
        devices=devices,
        masked_paths=list(hidden.masked),
        read_only_paths=list(hidden.read_only),
        process=process(container),
        pid_namespace=pid_namespace(config, container.sandbox),
        cgroup=CgroupSettings(
            path=container.cgroup,
            files=enforcement.files(container.resources, f"container {container.id[:13]}"),
            device_program=resources.device_program(config, devices),
        ),
        cgroup_namespace="node" if config.security.privileged else "container",
        rootfs_propagation="rshared" if shared else "rslave",
        log_path=container.log_path,
        log_folder=container.sandbox.config.log_directory if container.log_path else "",
        mount_label=labels.of_container(container.sandbox, config).mount,
        restore=_restore(config, places),
        sysctls=config.adjusted.sysctls,
    )


def _restore(config: ContainerConfig, places: Places) -> Restore | None:
    if config.restored is None:
        return None
    return Restore(
        criu=criu.find(),
        path=criu.FOLDERS,
        images=f"{places.container_dir}/checkpoint",
        work=f"{places.container_dir}/criu",
        root=f"{places.container_dir}/root",
        streams=list(config.restored.streams),
    )


def pid_namespace(config: ContainerConfig, sandbox: Sandbox) -> str:
    """The wire's word for the container's PID namespace."""
    mode = config.namespaces.pid
    if mode == "target":
        return f"target:{config.namespaces.target_id}"
    # POD is CRI's default: it means what the sandbox has. With CONTAINER pause has no namespace to join.
    return sandbox.config.namespaces.pid if mode == "pod" else mode


def process(container: Container) -> Process:
    """The container's own process; an exec is the same with other arguments."""
    config = container.config
    image = container.image
    secure = config.security
    capabilities = security.container_capabilities(secure)
    resources.note_oom_score(container.resources.oom_score_adj)
    made = Process(
        args=arguments(config, image),
        env=environment(container),
        cwd=config.working_dir or image.working_dir or "/",
        user=user(secure, image, config.edits.gids),
        tty=config.tty,
        stdin=config.stdin,
        stdin_once=config.stdin_once,
        capabilities=capabilities,
        no_new_privs=secure.no_new_privs,
        seccomp=security.seccomp_filter(secure.seccomp, secure.privileged, capabilities),
        apparmor=security.apparmor_profile(secure.apparmor, secure.privileged),
        selinux=labels.of_container(container.sandbox, config).process,
        # 0, too: the daemon's own may be lower, and is nobody else's.
        oom_score_adj=container.resources.oom_score_adj,
    )
    return adjust.process(made, config.adjusted)


def arguments(config: ContainerConfig, image: ImageFacts) -> list[bytes]:
    """Command and args over the image's (a command makes the image's CMD void). Raises INVALID_ARGUMENT."""
    command = config.command or image.entrypoint
    args = config.args
    if not config.command and not args:
        args = image.cmd
    result = [text.encode("utf-8", "surrogateescape") for text in (*command, *args)]
    if not result or not result[0]:
        raise invalid("config.command", "neither the request nor the image names a command")
    return result


def environment(container: Container) -> list[bytes]:
    """The image's variables, then the request's over them."""
    variables: dict[bytes, bytes] = {b"HOSTNAME": pod_hostname(container.sandbox.config).encode()}
    if container.config.tty:
        variables[b"TERM"] = b"xterm"
    for line in container.image.env:
        name, _, value = line.encode("utf-8", "surrogateescape").partition(b"=")
        if name and b"\0" not in value and b"\0" not in name:
            variables[name] = value
    for key, value in container.config.envs:
        variables[key.encode()] = value
    for line in container.config.edits.env:  # CDI: over the request's
        name, _, value = line.encode("utf-8", "surrogateescape").partition(b"=")
        variables[name] = value
    return [name + b"=" + value for name, value in variables.items()]


def user(secure: ContainerSecurity, image: ImageFacts, more_groups: Sequence[int] = ()) -> User:
    """Who runs it: the request's user, else the image's."""
    if secure.run_as_user is not None:
        name = str(secure.run_as_user)
    elif secure.run_as_username:
        name = secure.run_as_username
    else:
        name = image.user
    return User(
        user=name,
        gid=-1 if secure.run_as_group is None else secure.run_as_group,
        supplemental=[*secure.supplemental_groups, *more_groups],
        supplemental_policy=secure.supplemental_policy,
    )


def stop_signal(config: ContainerConfig, image: ImageFacts) -> str:
    """CRI's over the image's over SIGTERM, by its canonical name. Raises NodeError."""
    if config.stop_signal:
        try:
            return signals.canonical(config.stop_signal)
        except ValueError as exc:
            raise invalid("config.stop_signal", str(exc)) from exc
    if image.stop_signal:
        try:
            return signals.canonical(image.stop_signal)
        except ValueError as exc:
            raise precondition(f"the image's stop signal: {exc}") from exc
    return DEFAULT_STOP_SIGNAL


def check_target(config: ContainerConfig, sandbox: Sandbox) -> None:
    """A PID namespace to join must be that of a running container of the pod. Raises NodeError."""
    target_id = config.namespaces.target_id
    if not target_id:
        return
    target = sandbox.containers.get(target_id)
    field = "config.linux.security_context.namespace_options.target_id"
    if target is None:
        raise invalid(field, f"{target_id!r} is no container of the sandbox")
    if not target.status.started_at or target.status.finished_at:
        raise precondition(f"{field}: container {target_id} is not running")
