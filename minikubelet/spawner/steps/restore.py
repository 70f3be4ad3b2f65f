"""CRIU instead of a program: it makes the container's processes out of a checkpoint (criu(8), restore)."""

from __future__ import annotations

import os

from minikubelet.linux import mounts, namespaces, prctl
from minikubelet.spawner.steps.base import Scene, Step
from minikubelet.spawner.steps.process import announce, give_streams
from minikubelet.wire.messages import StartContainer

OWN = ("proc", "sysfs", "tmpfs", "devpts", "mqueue")
"""Kinds of mounts that CRIU makes anew, with what was in them; all others are taken from where they are."""
PID_FILE = "restored.pid"
LOG = "restore.log"
_NAMESPACES = (("uts", namespaces.CLONE_NEWUTS), ("ipc", namespaces.CLONE_NEWIPC))


class ProvideRoot(Step):
    """A second mount of the root, without the mounts on it: CRIU wants one to build its own upon."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def describe(self) -> str:
        return "provide the root"

    def execute(self, scene: Scene) -> None:
        tree = mounts.clone_tree("", dirfd=scene.root)
        target = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        mounts.attach(tree, target, self._folder)
        os.close(target)
        os.close(tree)


class ExecuteCriu(Step):
    """Become CRIU. What it restores is the monitor's child, too, and stays in this cgroup."""

    def __init__(self, request: StartContainer, shared: int) -> None:
        self._request = request
        self._shared = shared

    def describe(self) -> str:
        return "execute CRIU"

    def execute(self, scene: Scene) -> None:
        restore = self._request.restore
        if restore is None:
            raise ValueError("no checkpoint to restore")
        network = os.open("self/ns/net", os.O_RDONLY, dir_fd=scene.proc)
        os.set_inheritable(network, True)
        arguments = [restore.criu, "restore", "--images-dir", restore.images, "--work-dir", restore.work]
        arguments += ["--log-file", LOG, "-v2", "--pidfile", PID_FILE]
        arguments += ["--restore-detached", "--restore-sibling", "--root", restore.root]
        # Its connections were those of another pod, with another address.
        arguments += ["--manage-cgroups=ignore", "--tcp-close", "--file-locks", "--ext-unix-sk"]
        arguments += ["--inherit-fd", f"fd[{network}]:extRootNetNS"]
        for number, name in enumerate(restore.streams):
            if name.startswith("pipe:["):
                arguments += ["--inherit-fd", f"fd[{number}]:{name}"]
        for kind, bit in _NAMESPACES:
            if self._shared & bit:
                arguments += ["--join-ns", f"{kind}:/proc/{os.getpid()}/ns/{kind}"]
        for target in _external(self._request):
            arguments += ["--external", f"mnt[{target}]:{self._request.layers_dir}{target}"]
        if scene.credentials is not None:
            give_streams(scene.credentials.uid)
        if self._request.process.no_new_privs:
            prctl.set_no_new_privileges()  # CRIU 3.17 doesn't restore it; what it makes inherits it
        announce(scene)
        os.execve(restore.criu, arguments, {"PATH": restore.path})


def _external(request: StartContainer) -> list[str]:
    """Where something is mounted that isn't the container's own; the checkpoint knows it by its target."""
    found = [mount.target for mount in request.mounts if mount.kind not in OWN]
    return list(dict.fromkeys([*found, *request.masked_paths, *request.read_only_paths]))
