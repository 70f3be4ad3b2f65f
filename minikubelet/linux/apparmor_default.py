"""The AppArmor profile of RuntimeDefault, as text of apparmor.d(5).

It stands behind capabilities, seccomp, read-only paths and namespaces: what those leave open by mistake, or
what an Unmasked /proc opens on purpose, is still closed here. All files, capabilities and sockets are
allowed but for the kernel's own knobs; what it adds is that nothing can be mounted, and that signals and
ptrace(2) stay among containers. Facts on what containers need: containerd's and Docker's default profiles,
which images are built for.
"""

from __future__ import annotations

import re

NAME = "minikubelet-default"
_SAFE_LABEL = re.compile(r"[^\"\\\x00-\x1f]+\Z")

_PROFILE = """\
profile {name} flags=(attach_disconnected,mediate_deleted) {{
  file,
  capability,
  network,
  unix,
  dbus,
  umount,
{extra}
  # Processes stay among themselves; who runs the pod may end it.
  signal (send, receive) peer={name},
  signal (receive) peer="{daemon}",
  signal (receive) peer=unconfined,
  ptrace (trace, read, tracedby, readby) peer={name},
  ptrace (tracedby, readby) peer="{daemon}",

  deny mount,
  deny pivot_root,

  # /proc: folders of processes are the kernel's to judge, the rest is the whole machine's. Of /proc/sys only
  # limits of shared memory belong to the pod's own IPC namespace.
  deny /proc/* w,
  deny /proc/[^0-9s]*/** wkl,
  deny /proc/s[^y]*/** wkl,
  deny /proc/sys/[^k]** wkl,
  deny /proc/sys/k[^e]** wkl,
  deny /proc/sys/kernel/[^s]** wkl,
  deny /proc/sys/kernel/s[^h]** wkl,
  deny /proc/sys/kernel/sh[^m]** wkl,
  deny /proc/{{kcore,kmem,mem,sysrq-trigger}} rwkl,

  # /sys: nothing but the container's own cgroups.
  deny /sys/[^f]*/** wkl,
  deny /sys/f[^s]*/** wkl,
  deny /sys/fs/[^c]*/** wkl,
  deny /sys/fs/c[^g]*/** wkl,
  deny /sys/devices/virtual/powercap/** r,
  deny /sys/firmware/** r,
  deny /sys/kernel/security/** r,
}}
"""
_NEWER = "  userns,\n  mqueue,\n  io_uring,\n"
"""Mediated since AppArmor 4.0, where silence means no. An older parser does not know the words."""


def texts(daemon: str) -> tuple[str, ...]:
    """The profile in the words of newer and of older parsers: the first that one accepts is right.

    ``daemon`` is the profile that confines whoever stops containers (``unconfined`` for none).
    """
    label = daemon if _SAFE_LABEL.match(daemon) else "unconfined"
    return tuple(_PROFILE.format(name=NAME, daemon=label, extra=extra) for extra in (_NEWER, ""))
