"""The flags that upstream's kubelet takes (and kubeadm passes): with a field in the table, and without."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from minikubelet.base.errors import invalid
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.configuration import document
from minikubelet.kubelet.configuration.apply import apply
from minikubelet.kubelet.configuration.document import Settings, merged
from minikubelet.kubelet.configuration.kinds import BOOL, MAP, STRING, Kind
from minikubelet.kubelet.configuration.table import FIELDS, NO_API
from minikubelet.kubelet.configuration.zeros import is_unset

_PREFIX = "kubelet_"


@dataclass(frozen=True)
class OwnFlag:
    """A flag without a field in the file."""

    name: str
    kind: Kind = STRING
    note: str = ""
    """Why it has no effect."""
    refused: str = ""
    help: str = ""


_GONE = "removed upstream"
_CADVISOR = "there is no cAdvisor: statistics come from the runtime"
_CADVISOR_FLAGS = (
    *("application-metrics-count-limit", "boot-id-file", "machine-id-file", "container-hints"),
    *("containerd", "containerd-namespace", "event-storage-age-limit", "event-storage-event-limit"),
    *("global-housekeeping-interval", "housekeeping-interval", "storage-driver-buffer-duration"),
    *(f"storage-driver-{each}" for each in ("db", "host", "password", "table", "user")),
)
_CADVISOR_SWITCHES = ("enable-load-reader", "log-cadvisor-usage", "storage-driver-secure")
OWN: tuple[OwnFlag, ...] = (
    OwnFlag("node-ip", help="what pods see as status.hostIP"),
    OwnFlag("hostname-override", help="the node's name instead of the host name"),
    OwnFlag("cert-dir", help="folder of the generated serving certificate (default ROOT/pki)"),
    OwnFlag("token-auth-file", help='bearer tokens: lines of TOKEN,USER,UID,"GROUP,..."'),
    OwnFlag("kubeconfig", refused=NO_API),
    OwnFlag("bootstrap-kubeconfig", refused=NO_API),
    OwnFlag("cloud-provider", note="there is no Node object without an API server"),
    OwnFlag("node-labels", MAP, "there is no Node object without an API server"),
    OwnFlag("pod-infra-container-image", note="the runtime chooses its pause program"),
    OwnFlag("runtime-cgroups", note="the service manager's business"),
    OwnFlag("image-credential-provider-config", help="CredentialProviderConfig file, or folder of such"),
    OwnFlag("image-credential-provider-bin-dir", help="folder of the credential providers' programs"),
    OwnFlag("container-runtime", note=_GONE),
    OwnFlag("network-plugin", note=_GONE),
    OwnFlag("cni-bin-dir", note=_GONE),
    OwnFlag("cni-conf-dir", note=_GONE),
    OwnFlag("minimum-container-ttl-duration", note="not implemented"),
    OwnFlag("maximum-dead-containers-per-container", note="not implemented"),
    OwnFlag("maximum-dead-containers", note="not implemented"),
    OwnFlag("reserved-memory", note="not implemented"),
    OwnFlag("experimental-mounter-path", note="not implemented"),
    OwnFlag("experimental-allocatable-ignore-eviction", BOOL, "not implemented"),
    OwnFlag("lock-file", note="the state folder has a lock"),
    OwnFlag("exit-on-lock-contention", BOOL, "the state folder has a lock"),
    OwnFlag("keep-terminated-pod-volumes", BOOL, _GONE),
    OwnFlag("v", note="--log-level sets what is logged"),
    OwnFlag("vmodule", note="--log-level sets what is logged"),
    OwnFlag("logging-format", note="--log-level sets what is logged"),
    OwnFlag("log-flush-frequency", note="--log-level sets what is logged"),
    *(OwnFlag(f"log-{form}-info-buffer-size", note="nothing is held back") for form in ("json", "text")),
    *(OwnFlag(f"log-{form}-split-stream", BOOL, "all goes to stderr") for form in ("json", "text")),
    *(OwnFlag(name, note=_CADVISOR) for name in _CADVISOR_FLAGS),
    *(OwnFlag(name, BOOL, _CADVISOR) for name in _CADVISOR_SWITCHES),
)


def add(parser: argparse.ArgumentParser, present: tuple[str, ...] = (), *, hidden: bool = False) -> None:
    """Adds all flags but those in ``present``; with ``hidden`` they are not in the help."""
    group = parser.add_argument_group("kubelet options, as upstream's kubelet has them")
    for row in FIELDS:
        if row.flag and row.flag not in present:
            text = row.note or f"{row.path} of the file"
            _add(group, row.flag, row.kind, argparse.SUPPRESS if hidden or not row.to else text)
    for own in OWN:
        if own.name not in present:
            _add(group, own.name, own.kind, argparse.SUPPRESS if hidden or not own.help else own.help)


def _add(group: argparse._ArgumentGroup, flag: str, kind: Kind, text: str) -> None:
    names = [f"-{flag}", f"--{flag}"] if flag == "v" else [f"--{flag}"]
    options: dict[str, Any] = {"dest": _PREFIX + flag, "action": "append", "help": text.replace("%", "%%")}
    if kind.switch:
        options |= {"nargs": "?", "const": "true", "metavar": "BOOL"}
    else:
        options["metavar"] = {"string": "TEXT", "int": "N", "duration": "TIME"}.get(kind.name, "LIST")
    group.add_argument(*names, **options)


@dataclass
class Chosen:
    """What the command line says beside the flags of the table."""

    config_file: str = ""
    config_dir: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    """By flag: those without a field, parsed."""
    warnings: list[str] = field(default_factory=list)


def _parsed(flag: str, kind: Kind, texts: list[str]) -> Any:
    value: Any = None
    for text in texts:
        assert kind.parse is not None
        try:
            new = kind.parse(text)
        except ValueError as exc:
            raise invalid(f"--{flag}", str(exc)) from None
        value = merged(value, new) if kind.merges else new
    return value


def configure(
    args: argparse.Namespace, config: KubeletConfig, config_file: str = "", config_dir: str = ""
) -> list[str]:
    """Defaults, file, drop-ins, flags: each wins over those before it. Returns warnings, one a line.

    Sets ``config`` in place. Raises OSError, NodeError INVALID_ARGUMENT.
    """
    settings = document.read_file(config_file) if config_file else Settings()
    for drop_in in document.read_folder(config_dir) if config_dir else []:
        settings.merge(drop_in)
    # Keys that a file sets to null are back to their defaults, and some of those it sets to nothing.
    settings.values = {
        path: merged(None, value)
        for path, value in settings.values.items()
        if value is not None and not is_unset(path, value)
    }
    for row in FIELDS:
        texts = getattr(args, _PREFIX + row.flag, None) if row.flag else None
        if texts:
            value = _parsed(row.flag, row.kind, texts)
            if row.kind.merges:
                value = merged(settings.values.get(row.path), value)
            if problem := row.kind.check(value):
                raise invalid(f"--{row.flag}", problem)
            settings.set(row.path, value, f"--{row.flag}")
    config.server.port_given = "port" in settings.values
    config.server.healthz_port_given = "healthzPort" in settings.values
    warnings = apply(settings, config).warnings
    return warnings + _own(args, config)


def _own(args: argparse.Namespace, config: KubeletConfig) -> list[str]:
    warnings = []
    for own in OWN:
        texts = getattr(args, _PREFIX + own.name, None)
        if not texts:
            continue
        value = _parsed(own.name, own.kind, texts)
        if own.refused and value:
            raise invalid(f"--{own.name}", own.refused)
        if own.name in _SETTERS:
            _SETTERS[own.name](config, value)
        elif value:
            warnings.append(f"--{own.name} has no effect: {own.note}")
    return warnings


def _node_ip(config: KubeletConfig, value: str) -> None:
    for address in filter(None, value.split(",")):
        try:
            ipaddress.ip_address(address.strip())
        except ValueError:
            raise invalid("--node-ip", f"{address!r} is not an IP address") from None
    config.node_ip = value


def _node_name(config: KubeletConfig, value: str) -> None:
    config.node_name = value.strip().lower() or config.node_name


def _cert_dir(config: KubeletConfig, value: str) -> None:
    config.server.cert_dir = value


def _token_file(config: KubeletConfig, value: str) -> None:
    config.server.token_file = value


def _providers(config: KubeletConfig, value: str) -> None:
    config.credential_provider_config = value


def _provider_programs(config: KubeletConfig, value: str) -> None:
    config.credential_provider_bin_dir = value


_SETTERS: dict[str, Callable[[KubeletConfig, str], None]] = {
    "node-ip": _node_ip,
    "hostname-override": _node_name,
    "cert-dir": _cert_dir,
    "token-auth-file": _token_file,
    "image-credential-provider-config": _providers,
    "image-credential-provider-bin-dir": _provider_programs,
}
