"""The ``info`` maps of verbose answers: JSON for people, keys as crictl users know them from containerd."""

from __future__ import annotations

import json
from typing import Any

import msgspec

import minikubelet
from minikubelet.images.models import Image
from minikubelet.runtime.models import Container, Sandbox
from minikubelet.runtime.runtime import Runtime


def _text(content: dict[str, Any]) -> dict[str, str]:
    return {"info": json.dumps(content, ensure_ascii=False)}


def runtime(source: Runtime) -> dict[str, str]:
    """Status: this host and what it lacks; ``config`` has what clients look up in containerd's.

    critest, for one, finds out what the file system around ``stateDir`` can do.
    """
    host = source.host
    facts = _text(
        {
            "version": minikubelet.__version__,
            "kernel": host.release,
            "cgroup": {
                "mode": host.cgroup.mode,
                "path": host.cgroup.path,
                "controllers": sorted(host.cgroup.controllers),
            },
            "lacks": [{"what": lack.what, "consequence": lack.consequence} for lack in host.lacks],
        }
    )
    return {**facts, "config": json.dumps({"stateDir": f"{source.root}/containers", "rootDir": source.root})}


def sandbox(source: Runtime, item: Sandbox) -> dict[str, str]:
    """PodSandboxStatus."""
    monitor = item.monitor
    return _text(
        {
            "pid": item.status.pid,
            "monitorPid": item.status.monitor_pid if monitor is not None and not monitor.gone else 0,
            "cgroup": source.cgroup_folder(item.cgroup),
            "runtimeHandler": item.runtime_handler,
            "message": item.status.message,
            "ips": list(item.status.ips),
            "config": msgspec.to_builtins(item.config),
        }
    )


def container(source: Runtime, item: Container) -> dict[str, str]:
    """ContainerStatus."""
    return _text(
        {
            "sandboxID": item.sandbox.id,
            "pid": item.status.pid,
            "startTicks": item.status.start_ticks,
            "cgroup": source.cgroup_folder(item.cgroup),
            **source.info(item),
            "imageID": item.image_id,
            "stopSignal": item.stop_signal,
            "config": msgspec.to_builtins(item.config),
        }
    )


def image(item: Image) -> dict[str, str]:
    """ImageStatus: the config as the OCI image specification has it."""
    config = item.config
    return _text(
        {
            "manifestDigest": item.manifest_digest,
            "layers": list(item.layers),
            "imageSpec": {
                "created": config.created,
                "architecture": config.architecture,
                "os": config.os,
                "config": {
                    "User": config.user,
                    "ExposedPorts": {port: {} for port in config.exposed_ports},
                    "Env": list(config.env),
                    "Entrypoint": list(config.entrypoint),
                    "Cmd": list(config.cmd),
                    "Volumes": {path: {} for path in config.volumes},
                    "WorkingDir": config.working_dir,
                    "Labels": config.labels,
                    "StopSignal": config.stop_signal,
                },
                "rootfs": {"type": "layers", "diff_ids": list(config.diff_ids)},
            },
        }
    )
