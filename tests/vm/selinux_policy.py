"""A policy of a few lines that knows the contexts of containers, for kernels with SELinux but no policy."""

from __future__ import annotations

import subprocess
from pathlib import Path

_NAMES = """
    kernel security unlabeled fs file file_labels init any_socket port netif netmsg node igmp_packet
    icmp_socket tcp_socket sysctl_modprobe sysctl sysctl_fs sysctl_kernel sysctl_net sysctl_net_unix
    sysctl_vm sysctl_dev kmod policy scmp_packet devnull
"""
_SIDS = _NAMES.split()
"""Initial SIDs in the kernel's order (security/selinux/include/initial_sid_to_string.h)."""
_CATEGORIES = 1024
_CONTEXT = "system_u:object_r:unlabeled_t:s0"

_POLICY = """\
class file
class dir
class lnk_file
class process
{sids}
class file {{ read }}
class dir {{ read }}
class lnk_file {{ read }}
class process {{ transition dyntransition }}
sensitivity s0;
dominance {{ s0 }}
{categories}
level s0:c0.c{last};
mlsconstrain file {{ read }} ( l1 dom l2 or t1 == kernel_t );
policycap nnp_nosuid_transition;
type kernel_t;
type unlabeled_t;
type container_t;
type container_file_t;
role system_r;
role system_r types {{ kernel_t container_t }};
allow kernel_t container_t:process transition;
user system_u roles {{ system_r }} level s0 range s0 - s0:c0.c{last};
{contexts}
fs_use_trans tmpfs {other};
fs_use_trans devpts {other};
genfscon proc / {other}
genfscon sysfs / {other}
"""


def text() -> str:
    """The policy in checkpolicy(8)'s language."""
    return _POLICY.format(
        sids="\n".join(f"sid {name}" for name in _SIDS),
        categories="\n".join(f"category c{number};" for number in range(_CATEGORIES)),
        last=_CATEGORIES - 1,
        contexts="\n".join(
            f"sid {name} {'system_u:system_r:kernel_t:s0' if name == 'kernel' else _CONTEXT}"
            for name in _SIDS
        ),
        other=_CONTEXT,
    )


def load(folder: Path, selinuxfs: Path) -> None:
    """Compile the policy in ``folder`` and load it; what it does not name is allowed."""
    (folder / "policy.conf").write_text(text())
    version = (selinuxfs / "policyvers").read_text().strip()
    command = ["checkpolicy", "-M", "-U", "allow", "-c", version, "-o", str(folder / "policy")]
    subprocess.run([*command, str(folder / "policy.conf")], check=True)
    (selinuxfs / "load").write_bytes((folder / "policy").read_bytes())
