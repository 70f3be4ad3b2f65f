"""Pods that the runtime or the disk still has and no manifest asks for."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import shutil

import msgspec

from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.node import Node
from minikubelet.kubelet.objects import Container, LifecycleHandler, ObjectMeta, Pod, PodSpec
from minikubelet.kubelet.objects.containers import Lifecycle
from minikubelet.kubelet.observed import ObservedContainer, PodView

log = logging.getLogger(__name__)


def is_ours(view: PodView, config: KubeletConfig) -> bool:
    """Whether this kubelet made the pod; other clients' and kubelets' sandboxes are left alone."""
    return any(sandbox.owner == config.root for sandbox in view.sandboxes)


def restore_pod(view: PodView) -> Pod:
    """As much of a lost pod as its labels and annotations tell: enough to stop it gracefully."""
    sandbox = view.sandboxes[0]
    grace = next((c.grace_period for c in view.containers if c.grace_period is not None), None)
    named = {container.name: container for container in reversed(view.containers)}
    return Pod(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMeta(name=sandbox.name, namespace=sandbox.namespace, uid=view.uid),
        spec=PodSpec(
            containers=[_restore(each) for each in named.values()],
            termination_grace_period_seconds=grace,
            restart_policy="Always",
        ),
    )


def _restore(seen: ObservedContainer) -> Container:
    container = Container(name=seen.name, image=seen.image)
    if seen.pre_stop:
        try:
            hook = msgspec.json.decode(seen.pre_stop, type=LifecycleHandler)
            container.lifecycle = Lifecycle(pre_stop=hook)
        except msgspec.DecodeError as exc:
            log.warning("preStop hook of container %s can't be read: %s", seen.id, exc)
    return container


async def clean_folders(node: Node, keep: set[str]) -> None:
    """Remove the folders, volumes and logs of pods not in ``keep``: their sandboxes are gone already."""
    config = node.config
    try:
        uids = os.listdir(config.pods_dir)
    except FileNotFoundError:
        return
    cleaned = failed = 0
    for uid in set(uids) - keep:
        cleaned += 1
        try:
            await node.volumes.teardown(uid)
            _delete(config, uid)
            node.users.release(uid)
        except Exception as exc:
            failed += 1
            log.warning("folder of the former pod %s can't be removed: %s", uid, exc)
    node.instruments.storage.cleaned.set(cleaned)
    node.instruments.storage.not_cleaned.set(failed)


def _delete(config: KubeletConfig, uid: str) -> None:
    logs = glob.glob(f"{glob.escape(config.log_dir)}/*_{glob.escape(uid)}")
    for folder in (*logs, config.pod_dir(uid)):  # in this order: without the latter nobody knows of the logs
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
