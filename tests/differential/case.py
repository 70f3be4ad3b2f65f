"""One case: a manifest, what is waited for, and optionally an edit of it.

A case is a file in ``cases/GROUP/NAME.yaml``; its pod is called GROUP-NAME (several: GROUP-NAME.MORE).
Comments at its head steer it:

``# wait: CONDITION``  until when to wait: ``ready`` (default), ``succeeded``, ``failed``, ``absent`` (the
manifest is refused; looked at after a while), ``waiting REASON [CONTAINER]``, ``restarts N [CONTAINER]``,
``log WORD [CONTAINER]``, ``started [CONTAINER]``, ``condition TYPE STATUS``
``# after: SECONDS``  look that much later than the condition came true (at least 2 where a script traps
signals: a shell that is just starting has no trap yet, and PID 1 ignores what it doesn't catch)
``# only: vm``  the lane that it makes sense in, if not everywhere but there
``# alone: yes``  run after all others, when no other pod is there
``# ignore: PATH…``  fields of the result that differ from run to run (fnmatch patterns)

``NAME.edit.yaml`` beside it replaces the manifest once its condition came true; it has conditions of its own.
In the text IMAGE is the test image, DIR a folder on the host of the case's own (0777), PORT the port of an
HTTP server that notes what probes and hooks ask of it, below /GROUP-NAME/.

``settings/GROUP.yaml``, if there is one, is what both kubelets are configured with besides for those cases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CASES = Path(__file__).with_name("cases")
SETTINGS = Path(__file__).with_name("settings")
LANES = ("differential", "vm")
_TRAPPED = 2.0
_DIRECTIVE = re.compile(r"#\s*(wait|after|only|alone|ignore):\s*(.+?)\s*\Z")
Pod = dict[str, Any]


@dataclass
class Stage:
    """A manifest as written, and until when to wait after it is in place."""

    text: str
    wait: list[str] = field(default_factory=lambda: ["ready"])
    after: float = 0.0
    ignore: list[str] = field(default_factory=list)
    only: str = "differential"
    """One of LANES."""
    alone: bool = False

    def rendered(self, image: str, folder: Path, port: int) -> str:
        """The manifest with its placeholders filled in."""
        return self.text.replace("IMAGE", image).replace("DIR", str(folder)).replace("PORT", str(port))


@dataclass
class Case:
    """See the module."""

    name: str
    """GROUP/NAME."""
    stages: list[Stage]

    @property
    def group(self) -> str:
        """The folder it is in."""
        return self.name.partition("/")[0]

    @property
    def alone(self) -> bool:
        """Whether no other pod may be there."""
        return self.stages[0].alone

    @property
    def slug(self) -> str:
        """A name for files."""
        return self.name.replace("/", "-")

    @property
    def takes_port(self) -> bool:
        """Whether its pod claims the one PORT of the host: two such pods fit on no node."""
        return any("containerPort: PORT" in stage.text for stage in self.stages)

    @property
    def length(self) -> float:
        """Roughly how many seconds it takes: the long ones are begun first."""
        slow = {"absent": 4.0, "waiting": 3.0, "restarts": 10.0}
        return sum(stage.after + slow.get(stage.wait[0], 0.0) for stage in self.stages)


def load(*patterns: str, lane: str = "differential") -> list[Case]:
    """A lane's cases whose name contains one of the patterns, in order; all if there is none."""
    found = []
    for path in sorted(CASES.glob("*/*.yaml")):
        name = f"{path.parent.name}/{path.stem}"
        if path.stem.endswith(".edit") or not any(each in name for each in patterns or ("",)):
            continue
        stages = [read_stage(path)]
        edit = path.with_suffix(".edit.yaml")
        if edit.exists():
            stages.append(read_stage(edit))
        if stages[0].only == lane:
            found.append(Case(name, stages))
    return found


def settings(group: str) -> dict[str, Any]:
    """Fields of KubeletConfiguration that a group's cases need."""
    path = SETTINGS / f"{group}.yaml"
    return dict(yaml.safe_load(path.read_text())) if path.exists() else {}


def read_stage(path: Path) -> Stage:
    """A manifest with its directives. Raises ValueError for a comment that looks like one and isn't."""
    stage = Stage(path.read_text())
    stage.after = _TRAPPED if re.search(r"\btrap\b", stage.text) else 0.0
    for line in stage.text.splitlines():
        if not line.startswith("#"):
            break
        match = _DIRECTIVE.match(line)
        if match is None:
            if re.match(r"#\s*\w+:", line):
                raise ValueError(f"{path}: {line!r} is not a directive")
            continue
        key, value = match.groups()
        if key == "wait":
            stage.wait = value.split()
        elif key == "after":
            stage.after = max(stage.after, float(value))
        elif key == "only":
            if value not in LANES:
                raise ValueError(f"{path}: there is no lane {value}")
            stage.only = value
        elif key == "alone":
            stage.alone = value == "yes"
        else:
            stage.ignore += value.split()
    return stage


def statuses(pod: Pod) -> list[dict[str, Any]]:
    """The statuses of all containers."""
    status = pod.get("status", {})
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    return [each for kind in kinds for each in status.get(kind) or []]


def is_met(wait: list[str], pod: Pod) -> bool:
    """Whether a pod meets a condition (``log`` and ``absent`` are the runner's business)."""
    kind, *words = wait
    status = pod.get("status", {})
    if kind == "ready":
        return _condition(pod, "Ready", "True")
    if kind in ("succeeded", "failed"):
        # The sandbox goes a little later, at a runtime's own pace.
        over = not _condition(pod, "PodReadyToStartContainers", "True")
        return over and bool(status.get("phase") == kind.capitalize())
    if kind == "condition":
        return _condition(pod, words[0], words[1])
    if kind == "waiting":
        waiting = [each.get("state", {}).get("waiting", {}) for each in _named(pod, words[1:])]
        return any(each.get("reason") == words[0] for each in waiting)
    if kind == "started":
        return all(each.get("started") for each in _named(pod, words))
    if kind == "restarts":
        return any(each.get("restartCount", 0) >= int(words[0]) for each in _named(pod, words[1:]))
    raise ValueError(f"unknown condition {wait}")


def _named(pod: Pod, names: list[str]) -> list[dict[str, Any]]:
    return [each for each in statuses(pod) if not names or each["name"] == names[0]]


def _condition(pod: Pod, kind: str, status: str) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(each["type"] == kind and each["status"] == status for each in conditions)
