"""The IDs of a pod with a user namespace, user_namespaces(7)."""

from __future__ import annotations

import errno

from minikubelet.base.errors import StepError
from minikubelet.wire.messages import IDMapping


class IDs:
    """The one range of user IDs and the one of group IDs that a pod has; both start with its root."""

    def __init__(self, uids: list[IDMapping], gids: list[IDMapping]) -> None:
        if len(uids) != 1 or len(gids) != 1 or uids[0].container_id or gids[0].container_id:
            detail = "one mapping of container ID 0 is needed for users, and one for groups"
            raise StepError("map the IDs of the user namespace", errno.EINVAL, detail=detail)
        self._uids = uids[0]
        self._gids = gids[0]
        self.root = (uids[0].host_id, gids[0].host_id)
        """User and group ID of the pod's root on the host."""

    def lines(self) -> tuple[bytes, bytes]:
        """The content of uid_map and of gid_map."""
        return _line(self._uids), _line(self._gids)

    def host_options(self, options: str) -> str:
        """A file system's ``options`` with ``uid=`` and ``gid=`` as the host counts.

        An ID that the pod doesn't have is left out, which leaves the file to the pod's root.
        """
        kept = []
        for option in options.split(","):
            name, _, value = option.partition("=")
            if name in ("uid", "gid") and value.isdigit():
                mapping = self._uids if name == "uid" else self._gids
                if int(value) >= mapping.length:
                    continue
                option = f"{name}={mapping.host_id + int(value)}"
            kept.append(option)
        return ",".join(kept)


def _line(mapping: IDMapping) -> bytes:
    return f"{mapping.container_id} {mapping.host_id} {mapping.length}\n".encode()
