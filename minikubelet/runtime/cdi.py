"""CDI devices: names in a request become device nodes, mounts and variables by specs on the host.

See the Container Device Interface's SPEC.md 1.1. A name is ``VENDOR/CLASS=DEVICE``; specs are JSON and YAML
files in two folders, of which the second wins. Hooks are programs for OCI runtimes: refused, never dropped.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from minikubelet.base.errors import Code, NodeError, invalid, precondition, unimplemented
from minikubelet.linux import mounts as kernel_mounts
from minikubelet.runtime import checks
from minikubelet.runtime.models import ContainerConfig, Edits
from minikubelet.runtime.mounts import host_path
from minikubelet.wire.messages import Device, Mount

log = logging.getLogger(__name__)

FOLDERS = ("/etc/cdi", "/var/run/cdi")
ANNOTATION = "cdi.k8s.io/"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*/[A-Za-z][A-Za-z0-9_-]*=[A-Za-z0-9][A-Za-z0-9_.:-]*\Z")
_LIMIT = 16 << 20
_PERMISSIONS = re.compile(r"[rwm]{0,3}\Z")
_IGNORED = ("bind", "rbind", "rw", "dev", "suid", "exec", "atime", "defaults")


class _Struct(msgspec.Struct, rename="camel", frozen=True):
    pass


class _DeviceNode(_Struct, frozen=True):
    path: str
    host_path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: str = ""
    uid: int | None = None
    gid: int | None = None


class _Mount(_Struct, frozen=True):
    host_path: str
    container_path: str
    options: tuple[str, ...] = ()
    type: str = ""


class _Hook(_Struct, frozen=True):
    hook_name: str
    path: str


class _Edits(_Struct, frozen=True):
    env: tuple[str, ...] = ()
    device_nodes: tuple[_DeviceNode, ...] = ()
    mounts: tuple[_Mount, ...] = ()
    hooks: tuple[_Hook, ...] = ()
    net_devices: tuple[Any, ...] = ()
    intel_rdt: Any = None
    additional_gids: tuple[int, ...] = ()


class _Device(_Struct, frozen=True):
    name: str
    container_edits: _Edits


class _Spec(_Struct, frozen=True):
    cdi_version: str
    kind: str
    devices: tuple[_Device, ...]
    container_edits: _Edits = _Edits()


_json = msgspec.json.Decoder(_Spec)


def requested(config: ContainerConfig) -> list[tuple[str, str]]:
    """(field, name) of each device that is asked for, once. Raises INVALID_ARGUMENT."""
    found: dict[str, str] = {}
    names = [(f"config.CDI_devices[{number}].name", name) for number, name in enumerate(config.cdi_devices)]
    for key, value in config.annotations.items():
        if key.startswith(ANNOTATION):
            names += [(f"config.annotations[{key!r}]", name) for name in value.split(",")]
    for where, name in names:
        if not _NAME.match(name):
            raise invalid(where, f"{name[:200]!r} is not VENDOR/CLASS=DEVICE")
        found.setdefault(name, where)
    return [(where, name) for name, where in found.items()]


def resolve(config: ContainerConfig, folders: Sequence[str] | None = None) -> Edits:
    """What the requested devices bring, in the order of the request; empty without any.

    Raises NOT_FOUND for a device no spec has, FAILED_PRECONDITION for a spec that can't be carried out here,
    UNIMPLEMENTED for what only OCI runtimes can do.
    """
    names = requested(config)
    if not names:
        return Edits()
    catalogue = _Catalogue(FOLDERS if folders is None else folders)
    result = _Result(config)
    seen = set()
    for where, name in names:
        spec, device, path = catalogue.find(where, name)
        if path not in seen:  # what a spec says of all its devices is done once
            seen.add(path)
            result.add(spec.container_edits, path)
        result.add(device.container_edits, path)
    return result.edits()


class _Catalogue:
    """All specs of the host by device name."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._devices: dict[str, tuple[_Spec, _Device, str]] = {}
        self._conflicts: dict[str, str] = {}
        self._bad: list[str] = []
        for folder in folders:
            found: dict[str, tuple[_Spec, _Device, str]] = {}
            for path, spec in self._specs(folder):
                for device in spec.devices:
                    self._note(found, f"{spec.kind}={device.name}", (spec, device, path))
            self._devices.update(found)

    def _note(
        self, found: dict[str, tuple[_Spec, _Device, str]], name: str, entry: tuple[_Spec, _Device, str]
    ) -> None:
        if name in found:
            self._conflicts[name] = f"both {found[name][2]} and {entry[2]} have it"
        else:
            self._conflicts.pop(name, None)
        found[name] = entry

    def _specs(self, folder: str) -> Iterator[tuple[str, _Spec]]:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            return
        for name in names:
            path = f"{folder}/{name}"
            if not name.endswith((".json", ".yaml")):
                continue
            try:
                yield path, _read(path)
            except (OSError, ValueError) as exc:
                log.warning("the CDI spec %s can't be used: %s", path, exc)
                self._bad.append(f"{path}: {exc}")

    def find(self, where: str, name: str) -> tuple[_Spec, _Device, str]:
        """The device and its spec. Raises NOT_FOUND, FAILED_PRECONDITION."""
        if name in self._conflicts:
            raise precondition(f"{where}: CDI device {name!r}: {self._conflicts[name]}")
        if name not in self._devices:
            why = f" (unusable: {'; '.join(self._bad)})" if self._bad else ""
            raise NodeError(Code.NOT_FOUND, f"no spec has the CDI device {name!r}{why}", field=where)
        return self._devices[name]


def _read(path: str) -> _Spec:
    """Raises OSError, ValueError (msgspec's and YAML's are made ones)."""
    with open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("is not a regular file")
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise ValueError(f"is longer than {_LIMIT} bytes")
    if path.endswith(".json"):
        return _json.decode(data)
    import yaml  # only who has such specs pays for it

    try:
        return msgspec.convert(yaml.safe_load(data), _Spec)
    except yaml.YAMLError as exc:
        raise ValueError(str(exc)) from exc


@dataclass
class _Result:
    """Edits as they come together."""

    config: ContainerConfig
    env: list[str] = field(default_factory=list)
    devices: dict[str, Device] = field(default_factory=dict)
    permissions: dict[str, str] = field(default_factory=dict)
    mounts: dict[str, Mount] = field(default_factory=dict)
    gids: list[int] = field(default_factory=list)

    def add(self, edits: _Edits, path: str) -> None:
        """What a spec or device wants; ``path`` is the spec's, for errors."""
        if edits.hooks:
            hooks = ", ".join(f"{hook.hook_name} {hook.path}" for hook in edits.hooks)
            raise unimplemented(f"{path}: hooks of CDI devices ({hooks})")
        if edits.net_devices:
            raise unimplemented(f"{path}: netDevices of CDI devices")
        if edits.intel_rdt is not None:
            raise unimplemented(f"{path}: intelRdt of CDI devices")
        try:
            for number, line in enumerate(edits.env):
                self._variable(f"env[{number}]", line)
            for number, node in enumerate(edits.device_nodes):
                self._device(f"deviceNodes[{number}]", node)
            for number, mount in enumerate(edits.mounts):
                self._mount(f"mounts[{number}]", mount)
            for number, gid in enumerate(edits.additional_gids):
                checks.user_or_group(f"additionalGids[{number}]", gid)
                if gid and gid not in self.gids:
                    self.gids.append(gid)
        except NodeError as exc:
            code = exc.code if exc.code is Code.UNIMPLEMENTED else Code.FAILED_PRECONDITION
            raise NodeError(code, f"{path}: {exc}") from exc

    def edits(self) -> Edits:
        """All of it."""
        return Edits(
            env=tuple(self.env),
            devices=tuple(self.devices.values()),
            permissions=self.permissions,
            mounts=tuple(self.mounts.values()),
            gids=tuple(self.gids),
        )

    def _variable(self, where: str, line: str) -> None:
        if "\0" in line or line.find("=") < 1:
            raise invalid(where, f"{line!r} is not NAME=VALUE")
        self.env.append(line)

    def _device(self, where: str, node: _DeviceNode) -> None:
        checks.absolute(f"{where}.path", node.path)
        if not _PERMISSIONS.match(node.permissions):
            raise invalid(f"{where}.permissions", f"{node.permissions!r} is not made of r, w and m")
        kind, major, minor = node.type, node.major, node.minor
        if not kind or (not major and kind != "p"):
            kind, major, minor = _host_device(f"{where}.hostPath", node.host_path or node.path, kind)
        if kind not in ("b", "c", "u", "p"):
            raise invalid(f"{where}.type", f"{kind!r} is no type of device")
        secure = self.config.security
        self.devices[node.path] = Device(
            path=node.path,
            kind=kind,
            major=major,
            minor=minor,
            mode=0o666 if node.file_mode is None else node.file_mode & 0o777,
            uid=(secure.run_as_user or 0) if node.uid is None else node.uid,
            gid=(secure.run_as_group or 0) if node.gid is None else node.gid,
        )
        self.permissions[node.path] = node.permissions or "rwm"

    def _mount(self, where: str, mount: _Mount) -> None:
        checks.absolute(f"{where}.containerPath", mount.container_path)
        target = "/" + os.path.normpath(mount.container_path).strip("/")
        if target == "/":
            raise invalid(f"{where}.containerPath", "is the root of the container")
        if mount.type not in ("", "bind", "rbind", "none"):
            raise unimplemented(f"{where}.type: a mount of type {mount.type!r}")
        checks.absolute(f"{where}.hostPath", mount.host_path)
        flags, propagation = [], "rprivate"
        for option in mount.options:
            if option in kernel_mounts.ATTRIBUTES:
                flags.append(option)
            elif option in kernel_mounts.PROPAGATIONS:
                propagation = option
            elif option not in _IGNORED:
                raise unimplemented(f"{where}.options: {option!r}")
        self.mounts[target] = Mount(
            kind="bind",
            source=host_path(f"{where}.hostPath", mount.host_path),
            target=target,
            flags=flags,
            propagation=propagation,
        )


def _host_device(where: str, path: str, kind: str) -> tuple[str, int, int]:
    """Type and numbers of a node of the host. Raises INVALID_ARGUMENT."""
    checks.absolute(where, path)
    try:
        info = os.stat(path)
    except OSError as exc:
        raise invalid(where, f"{path!r}: {exc.strerror}") from exc
    types = {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}
    found = types.get(stat.S_IFMT(info.st_mode), "")
    if not found or (kind and {"u": "c"}.get(kind, kind) != found):
        raise invalid(where, f"{path!r} is not a device{f' of type {kind}' if kind else ''}")
    return found, os.major(info.st_rdev), os.minor(info.st_rdev)
