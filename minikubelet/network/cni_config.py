"""CNI network configuration: which file, which plugins, and what each plugin is given. Pure but for reading.

Sources: the CNI specification 1.1.0, sections 1 (configuration format) and 4 (derivation of the execution
configuration).
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
from dataclasses import dataclass, field
from typing import Any

from minikubelet.base.errors import invalid, precondition
from minikubelet.network.port_maps import ANY_IPV4, PortMapping

log = logging.getLogger(__name__)

Json = dict[str, Any]

SUFFIXES = (".conf", ".conflist", ".json")
MAX_BYTES = 1 << 20
VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""Versions of the specification that are spoken here."""
NOT_INITIALIZED = "cni plugin not initialized"
"""What clients of containerd look for while no configuration is there."""


@dataclass(frozen=True)
class Pod:
    """What plugins are told of a pod."""

    namespace: str
    name: str
    uid: str
    annotations: dict[str, str] = field(default_factory=dict)
    dns: Json | None = None
    """``servers``, ``searches`` and ``options``; None when the pod names none."""


@dataclass(frozen=True)
class NetworkList:
    """A network: the plugins of one configuration file, in their order."""

    name: str
    version: str
    plugins: list[Json]
    path: str = ""
    collects: bool = True
    """Whether GC may be called (``disableGC``): others may keep attachments of the same network."""

    def speaks(self, version: str) -> bool:
        """Whether the network's version is ``version`` or later."""
        return VERSIONS.index(self.version) >= VERSIONS.index(version)

    def to_json(self) -> Json:
        """For the cache: DEL must see the configuration of its ADD."""
        return {"name": self.name, "cniVersion": self.version, "plugins": self.plugins}


def candidates(folder: str) -> list[str]:
    """Configuration files of ``folder`` in lexical order; a missing folder has none."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(SUFFIXES))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for name in names if os.path.isfile(path := f"{folder}/{name}")]


def load(folder: str) -> NetworkList:
    """The network of the first file. Raises NodeError: no file, or one that is no network."""
    files = candidates(folder)
    if not files:
        raise precondition(NOT_INITIALIZED)
    path = files[0]
    content = _read(path)
    if isinstance(content, dict) and "type" not in content:
        content = _with_folder(content, path)
    return parse(content, path)


def _read(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise invalid(path, f"larger than {MAX_BYTES} bytes")
        return json.loads(data)
    except (OSError, ValueError, RecursionError) as exc:
        raise invalid(path, f"no CNI configuration: {exc}") from exc


def _with_folder(content: Json, path: str) -> Json:
    """A network, and after its own plugins those of the files in the folder of its name (since 1.1.0)."""
    name = content.get("name")
    if _flag(content, "loadOnlyInlinedPlugins", path) or not _is_name(name):
        return content
    folder = f"{os.path.dirname(path)}/{name}"
    more = [_read(each) for each in candidates(folder) if each.endswith(".conf")]
    inlined = content.get("plugins", [])
    return {**content, "plugins": [*inlined, *more]} if more and isinstance(inlined, list) else content


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and "/" not in name


def _flag(content: Json, key: str, path: str) -> bool:
    value = content.get(key, False)
    if value not in (True, False, "true", "false"):
        raise invalid(path, f"{key}: must be true or false, not {value!r}")
    return value in (True, "true")


def parse(content: object, path: str) -> NetworkList:
    """A ``.conflist`` document, or that of a single plugin. Raises NodeError naming ``path``."""
    if not isinstance(content, dict):
        raise invalid(path, "a CNI configuration is a JSON object")
    plugins = content.get("plugins", [content] if content.get("type") else None)
    if not isinstance(plugins, list) or not plugins:
        raise invalid(path, "plugins: must be a list of at least one plugin")
    for number, plugin in enumerate(plugins):
        kind = plugin.get("type") if isinstance(plugin, dict) else None
        if not isinstance(kind, str) or not kind or "/" in kind or kind in (".", ".."):
            raise invalid(path, f"plugins[{number}].type: must be a plugin's file name, not {kind!r}")
        if not isinstance(plugin.get("capabilities", {}), dict):
            raise invalid(path, f"plugins[{number}].capabilities: must be an object")
    name = content.get("name")
    if not isinstance(name, str) or not _is_name(name):
        raise invalid(path, f"name: must be a network's name, not {name!r}")
    return NetworkList(name, _version(content, path), plugins, path, not _flag(content, "disableGC", path))


def _version(content: Json, path: str) -> str:
    """The latest version that both sides speak (``cniVersions``, since 1.1.0), else ``cniVersion``."""
    several = content.get("cniVersions", [])
    offered = several if isinstance(several, list) else []
    both = [version for version in VERSIONS if version in (*offered, content.get("cniVersion", "0.1.0"))]
    if not both:
        raise invalid(path, f"cniVersion: {content.get('cniVersion')!r} is none of {', '.join(VERSIONS)}")
    return both[-1]


def plugin_config(network: NetworkList, plugin: Json, runtime: Json, previous: Json | None) -> Json:
    """What one plugin reads from its standard input; ``runtime`` has all that capabilities may ask for."""
    config = {key: value for key, value in plugin.items() if key != "capabilities"}
    config["name"] = network.name
    config["cniVersion"] = network.version
    asked = {key for key, wanted in plugin.get("capabilities", {}).items() if wanted is True}
    given = {key: value for key, value in runtime.items() if key in asked}
    if given:
        config["runtimeConfig"] = given
    if previous is not None:
        config["prevResult"] = previous
    return config


def runtime_config(pod: Pod, ports: list[PortMapping]) -> Json:
    """All that plugins with a capability get (CONVENTIONS.md of the CNI project, and containerd's own)."""
    found: Json = {}
    if ports:
        found["portMappings"] = [
            {
                "hostPort": port.host_port,
                "containerPort": port.container_port,
                "protocol": port.protocol,
                "hostIP": "" if port.host_ip == ANY_IPV4 else port.host_ip,
            }
            for port in ports
        ]
    limits = bandwidth(pod.annotations)
    if limits:
        found["bandwidth"] = limits
    if pod.dns:
        found["dns"] = pod.dns
    if pod.annotations:
        found["io.kubernetes.cri.pod-annotations"] = pod.annotations
    return found


_UNITS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
}
_LEAST, _MOST = 1000, 10**15
_BURST = 2**31 - 1


def bandwidth(annotations: dict[str, str]) -> Json:
    """Bits a second from ``kubernetes.io/{in,e}gress-bandwidth``; the burst is as large as plugins take.

    Raises NodeError INVALID_ARGUMENT for what is no quantity from 1k to 1P (the kubelet's limits).
    """
    found: Json = {}
    for direction in ("ingress", "egress"):
        key = f"kubernetes.io/{direction}-bandwidth"
        if key not in annotations:
            continue
        text = annotations[key]
        number = text.rstrip("kMGTPi")
        unit = _UNITS.get(text[len(number) :])
        if unit is None or not number.isascii() or not number.isdigit() or len(number) > 18:
            raise invalid(f"annotations[{key}]", f"{text!r} is no whole quantity like 10M")
        rate = int(number) * unit
        if not _LEAST <= rate <= _MOST:
            raise invalid(f"annotations[{key}]", f"{text!r} is not between 1k and 1P")
        found[f"{direction}Rate"] = rate
        found[f"{direction}Burst"] = _BURST
    return found


def pod_ips(result: Json, interface: str) -> tuple[str, ...]:
    """The addresses that a result gives the pod's interface, IPv4 first. Raises NodeError for none."""
    links = result.get("interfaces") or []
    found: list[str] = []
    for item in result.get("ips") or []:
        number = item.get("interface") if isinstance(item, dict) else None
        if isinstance(number, int) and 0 <= number < len(links):
            link = links[number]
            if not link.get("sandbox") or link.get("name") != interface:
                continue
        if isinstance(item, dict) and isinstance(item.get("address"), str):
            found.append(item["address"].partition("/")[0])
    for key in ("ip4", "ip6"):  # results before 0.3.0
        if isinstance(result.get(key), dict):
            found.append(str(result[key].get("ip", "")).partition("/")[0])
    if not any(found):
        raise precondition(f"the CNI result has no address for {interface}")
    return tuple(sorted((ip for ip in found if ip), key=lambda ip: ":" in ip))


@dataclass(frozen=True)
class Resolver:
    """What a pod's resolv.conf says."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def resolver(result: Json) -> Resolver | None:
    """The name servers that a result gives the pod, None for none.

    ``domain`` is where short names are looked up first. Words that no resolv.conf can hold are left out.
    """
    dns = result.get("dns")
    if not isinstance(dns, dict):
        return None
    domain = _words([dns.get("domain")] if dns.get("domain") else [])
    searches = dict.fromkeys((*domain, *_words(dns.get("search"))))
    servers = tuple(word for word in _words(dns.get("nameservers")) if _is_address(word))
    found = Resolver(servers, tuple(searches), _words(dns.get("options")))
    return found if found != Resolver() else None


def _words(values: object) -> tuple[str, ...]:
    found = []
    for value in values if isinstance(values, list) else []:
        if isinstance(value, str) and value.isprintable() and len(value.split()) == 1:
            found.append(value.strip())
        else:
            log.warning("the DNS part of a CNI result has %r, which is no word", value)
    return tuple(found)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        log.warning("the DNS part of a CNI result has a name server %r, which is no address", text)
        return False
    return True
