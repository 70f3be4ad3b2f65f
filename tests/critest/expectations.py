"""Specs that can't pass, with the reasons; every other one has to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.critest.suite import Report, Spec


@dataclass(frozen=True)
class Lack:
    """Specs that have a status other than "passed", and why."""

    specs: str
    """A regular expression that their names match somewhere."""
    status: str
    """"failed" or "skipped"."""
    reason: str

    def covers(self, spec: Spec) -> bool:
        return spec.status == self.status and re.search(self.specs, spec.name) is not None


DIGEST = Lack(
    r"public image with digest should be pulled and removed",
    "failed",
    "the suite names an image by its digest, whose bytes no offline registry has",
)
NO_APPARMOR = Lack(r"^\[k8s\.io\] AppArmor ", "skipped", "the host's kernel has AppArmor off")
OLD_KERNEL = Lack(
    r"UserNamespaces", "skipped", "the kernel is older than 6.3: Status offers no user namespaces, KEP-127"
)
NO_MEMORY_CONTROLLER = Lack(
    r"OOMKilled",
    "failed",
    "the host's cgroup v2 hierarchy has no memory controller, so no memory limit is enforced",
)

APPARMOR = Path("/sys/module/apparmor/parameters/enabled")


def apparmor_is_on(switch: Path = APPARMOR) -> bool:
    return switch.exists() and switch.read_text().startswith("Y")


def maps_users(release: str = "") -> bool:
    """Whether the kernel has ID-mapped mounts of all that volumes are made of."""
    major, minor = (release or os.uname().release).split(".")[:2]
    return (int(major), int(minor)) >= (6, 3)


def v2_controllers(mountinfo: Path = Path("/proc/self/mountinfo")) -> set[str]:
    """The controllers of the host's cgroup v2 hierarchy; see cgroups(7)."""
    for line in mountinfo.read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            return set((Path(fields[4]) / "cgroup.controllers").read_text().split())
    return set()


def lacks_of_host() -> list[Lack]:
    """What minikubelet can't pass here."""
    lacks = [DIGEST]
    lacks += [] if apparmor_is_on() else [NO_APPARMOR]
    lacks += [] if maps_users() else [OLD_KERNEL]
    lacks += [] if "memory" in v2_controllers() else [NO_MEMORY_CONTROLLER]
    return lacks


def lacks_of_vm() -> list[Lack]:
    """What minikubelet can't pass in the VM of scripts/test critest-vm, whatever its kernel says."""
    return [DIGEST]


def verdicts(report: Report, lacks: Sequence[Lack]) -> list[str]:
    """What is wrong with a report: specs that had to pass, and lacks that aren't there any more."""
    wrong = [
        f"{spec.status}: {spec.name}: {spec.detail}"
        for spec in report.specs
        if spec.status != "passed" and not _covered(spec, lacks)
    ]
    wrong += [
        f"the list of known lacks is wrong: no spec {lack.status} for {lack.specs!r} ({lack.reason})"
        for lack in lacks
        if not any(lack.covers(spec) for spec in report.specs)
    ]
    return wrong


def _covered(spec: Spec, lacks: Iterable[Lack]) -> bool:
    return any(lack.covers(spec) for lack in lacks)
