"""Runs cases on one kubelet, many at a time, and collects what each ends up with."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.differential import case as cases
from tests.differential.case import Case
from tests.differential.cgroups import Tree
from tests.differential.drivers import NODE, Driver
from tests.differential.normalise import normalise_events, normalise_pod, normalise_text
from tests.differential.probed import Probed
from tests.host.kubelet.runtimes import IMAGE
from tests.upstream_kubelet import PATIENCE as TIMEOUT

PAUSE = 0.1 * TIMEOUT / 60
"""Seconds between two looks at everything: asking costs the machine, too."""
AT_ONCE = 20
"""Cases that run at the same time."""
EVENTS_EVERY = 5.0
ABSENT_AFTER = 4.0
"""Seconds after which a refused manifest's pod would long be there."""
Result = dict[str, Any]
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Running:
    case: Case
    folder: Path
    stage: int = 0
    began: float = field(default_factory=time.monotonic)
    since: float = field(default_factory=time.monotonic)
    met: float | None = None
    names: set[str] = field(default_factory=set)
    result: Result = field(default_factory=dict)
    done: bool = False


class Runner:
    """See the module. ``home`` is where the cases' folders are made; ``tree`` is looked at too, if given."""

    def __init__(self, driver: Driver, probed: Probed, home: Path, tree: Tree | None = None) -> None:
        self._driver = driver
        self._probed = probed
        self._home = home
        self._tree = tree
        self._noted = time.monotonic()
        self._events: dict[tuple[str, str], dict[str, str]] = {}

    def run(self, chosen: Iterable[Case]) -> dict[str, Result]:
        """The results by the cases' names. As one case ends the next begins."""
        waiting = sorted(chosen, key=lambda case: (case.alone, -case.length))
        active: list[_Running] = []
        finished: list[_Running] = []
        while waiting or active:
            self._start_some(waiting, active)
            pods = self._driver.pods()
            for running in active:
                if not running.done:
                    self._look(running, pods)
            gone = self._gone([each for each in active if each.done])
            for running in gone:
                _log.info("%s took %.0f s", running.case.name, time.monotonic() - running.began)
            finished += gone
            active = [each for each in active if each not in gone]
            self._note_events()
            time.sleep(PAUSE)
        self._note_events(0.0)
        for running in finished:
            self._finish(running)
        return {running.case.name: running.result for running in finished}

    def _start_some(self, waiting: list[Case], active: list[_Running]) -> None:
        """Start as many as there is room for; those that need the host's port one after the other."""
        for case in list(waiting):
            if len(active) >= AT_ONCE or (active and (case.alone or active[0].case.alone)):
                break
            if case.takes_port and any(each.case.takes_port for each in active):
                continue
            waiting.remove(case)
            active.append(self._start(case))

    def _start(self, case: Case) -> _Running:
        folder = self._home / "d" / case.slug
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        running = _Running(case, folder)
        self._write(running)
        return running

    def _write(self, running: _Running) -> None:
        stage = running.case.stages[running.stage]
        text = stage.rendered(IMAGE, running.folder, self._probed.port)
        fresh = self._home / f".{running.case.slug}.new"
        fresh.write_text(text)
        fresh.rename(self._driver.manifests / f"{running.case.slug}.yaml")
        running.since, running.met = time.monotonic(), None
        if running.stage:
            # The old pod still meets conditions until the kubelet has seen the edit.
            running.since += 2.0

    def _look(self, running: _Running, pods: list[dict[str, Any]]) -> None:
        """Advance one case: condition met, looked at, next stage or done."""
        now = time.monotonic()
        stage = running.case.stages[running.stage]
        if now < running.since:
            return
        mine = [pod for pod in pods if _belongs(pod, running.case)]
        if running.met is None and self._is_met(stage.wait, mine, running.since):
            running.met = now
        timed_out = now - running.since > TIMEOUT
        if not timed_out and (running.met is None or now - running.met < stage.after):
            return
        prefix = "edited." if running.stage else ""
        if running.met is None:
            running.result[f"{prefix}timeout"] = " ".join(stage.wait)
        for pod in mine:
            name = normalise_text(pod["metadata"]["name"])
            running.names.add(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}")
            running.result[f"{prefix}pod {name}"] = normalise_pod(pod, running.folder, self._probed.port)
            running.result[f"{prefix}logs {name}"] = self._logs(pod, running.folder)
            if self._tree is not None:
                running.result[f"{prefix}cgroups {name}"] = self._tree.pod(pod)
        if self._tree is not None and running.case.alone:
            running.result[f"{prefix}node"] = self._tree.node()
        running.result.setdefault(f"{prefix}pods", len(mine))
        running.stage += 1
        if running.stage < len(running.case.stages):
            self._write(running)
        else:
            running.done = True
            running.since = time.monotonic()
            (self._driver.manifests / f"{running.case.slug}.yaml").unlink()

    def _is_met(self, wait: list[str], mine: list[dict[str, Any]], since: float) -> bool:
        if wait[0] == "absent":
            return time.monotonic() - since > ABSENT_AFTER
        if wait[0] == "log":
            return any(wait[1] in log for pod in mine for log in self._raw_logs(pod, wait[2:]).values())
        return bool(mine) and all(cases.is_met(wait, pod) for pod in mine)

    def _raw_logs(self, pod: dict[str, Any], names: list[str]) -> dict[str, str]:
        meta = pod["metadata"]
        found = {}
        for kind in ("initContainers", "containers"):
            for container in pod["spec"].get(kind) or []:
                if not names or container["name"] == names[0]:
                    name = container["name"]
                    found[name] = self._driver.log(meta["namespace"], meta["name"], name)
        return found

    def _logs(self, pod: dict[str, Any], folder: Path) -> dict[str, list[str]]:
        logs = self._raw_logs(pod, [])
        return {name: normalise_text(text, folder).splitlines() for name, text in logs.items()}

    def _note_events(self, due: float | None = None) -> None:
        """Now and then: a kubelet keeps only so many."""
        now = time.monotonic()
        if now - self._noted > (EVENTS_EVERY if due is None else due):
            self._noted = now
            for event in self._driver.events():
                self._events[event["pod"], event["reason"]] = event

    def _gone(self, done: list[_Running]) -> list[_Running]:
        """Those of whose pods neither the kubelet nor the runtime still knows anything."""
        if not done:
            return []
        known = [pod["metadata"]["name"] for pod in self._driver.pods()] + list(self._driver.running())
        gone = []
        for running in done:
            if not any(_is_named_after(name, running.case) for name in known):
                gone.append(running)
            elif time.monotonic() - running.since > TIMEOUT:
                running.result["removal"] = "timeout"
                gone.append(running)
        return gone

    def _finish(self, running: _Running) -> None:
        """What only shows at the end: files that containers wrote, requests on the wire, events."""
        files = {}
        for path in sorted(running.folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                name = str(path.relative_to(running.folder))
                files[name] = normalise_text(path.read_text(errors="replace"), running.folder).splitlines()
        running.result["files"] = files
        running.result["requests"] = sorted(map(normalise_text, self._probed.seen.get(running.case.slug, [])))
        running.result["events"] = normalise_events(list(self._events.values()), running.names)


def _belongs(pod: dict[str, Any], case: Case) -> bool:
    return _is_named_after(pod["metadata"]["name"], case)


def _is_named_after(name: str, case: Case) -> bool:
    """A case's pods are named after it, or begin so."""
    bare = name.removesuffix(f"-{NODE}")
    return bare == case.slug or bare.startswith(f"{case.slug}.")
