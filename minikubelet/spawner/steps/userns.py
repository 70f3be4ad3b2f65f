"""A pod's user namespace, user_namespaces(7).

Pause is born in it. A container's init stays with the host's rights until its mounts are complete, and acts
on files as the pod's root meanwhile; only then does it enter, and takes a copy of its mount namespace along
that belongs to the user namespace. In such a copy every mount is locked to the others: what is masked or
read-only stays so for a container that may mount, too (mount_namespaces(7), "Restrictions on mount
namespaces").
"""

from __future__ import annotations

import errno
import os
import stat

from minikubelet.linux import capabilities, fsuid, namespaces
from minikubelet.spawner.steps.base import Scene, Step

GO_ON = b"mapped"
"""What the monitor sends when the IDs are mapped."""

_NULL_DEVICE = os.makedev(1, 3)


class AwaitIDs(Step):
    """Wait until the monitor, which has the right to, has mapped the IDs; then be root there."""

    def describe(self) -> str:
        return "wait for the IDs of the user namespace"

    def execute(self, scene: Scene) -> None:
        if scene.report is None or scene.report.recv(len(GO_ON)) != GO_ON:
            raise OSError(errno.ECANCELED, "the monitor has not mapped the IDs")
        _become_root()


class NewNamespaces(Step):
    """Namespaces that belong to the user namespace, with what is in them from the start owned by its root."""

    def __init__(self, kinds: int) -> None:
        self._kinds = kinds

    def describe(self) -> str:
        return "make the pod's namespaces"

    def execute(self, scene: Scene) -> None:
        namespaces.leave(self._kinds)


class GiveStreams(Step):
    """Let the pod's root have the streams, so that /dev/stdout can be opened again."""

    def describe(self) -> str:
        return "give the streams to the pod's root"

    def execute(self, scene: Scene) -> None:
        if scene.ids is None:
            return
        for fd in (0, 1, 2):
            info = os.fstat(fd)
            if info.st_rdev != _NULL_DEVICE or not stat.S_ISCHR(info.st_mode):
                os.fchown(fd, *scene.ids.root)


class ActAsPodRoot(Step):
    """From here on, what is made on file systems belongs to the pod's root; the rights stay the host's."""

    def describe(self) -> str:
        return "act as the pod's root"

    def execute(self, scene: Scene) -> None:
        if scene.ids is None:
            return
        held = capabilities.of_process()
        fsuid.files_as(*scene.ids.root)
        # Leaving user 0 has taken CAP_DAC_OVERRIDE and its like out of the effective set (capabilities(7)).
        capabilities.set_sets(held["effective"], held["permitted"], held["inheritable"])


class EnterUserNamespace(Step):
    """Give up the host's rights for root's in the pod's user namespace; own ``kinds`` of namespaces there."""

    def __init__(self, kinds: int) -> None:
        self._kinds = kinds

    def describe(self) -> str:
        return "enter the user namespace"

    def execute(self, scene: Scene) -> None:
        namespaces.join(scene.userns, namespaces.CLONE_NEWUSER)
        _become_root()
        namespaces.leave(self._kinds)


class BecomeRoot(Step):
    """Be root in the user namespace just joined, which maps none of the host's IDs."""

    def describe(self) -> str:
        return "become root in the user namespace"

    def execute(self, scene: Scene) -> None:
        _become_root()


def _become_root() -> None:
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
