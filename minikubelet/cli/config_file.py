"""The daemon's configuration file: YAML with the names of :class:`DaemonConfig` in camelCase."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from typing import Any

from minikubelet.base.config import DaemonConfig
from minikubelet.base.errors import NodeError, invalid

MAX_BYTES = 1 << 20
_KINDS = {str: "a string", int: "a whole number", bool: "true or false", list: "a list of strings"}


def camel(name: str) -> str:
    """``certs_dirs`` to ``certsDirs``."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def read(path: str) -> DaemonConfig:
    """The file's settings over the defaults.

    Raises OSError, and NodeError INVALID_ARGUMENT with the file and the key's path.
    """
    import yaml

    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise invalid(path, f"larger than {MAX_BYTES} bytes")
    try:
        # An alias here has no use and lets a small file grow without end.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data, yaml.SafeLoader)):
            raise invalid(path, "aliases (*name) are not allowed")
        content = yaml.load(data, _strict_loader())
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        raise invalid(where, f"not valid YAML: {getattr(exc, 'problem', None) or exc}") from None
    config = DaemonConfig()
    if content is not None:
        _fill(config, content, path, "")
        if "run" in content and "listen" not in content:
            config.listen = f"unix://{config.run}/minikubelet.sock"
    return config


def check(config: DaemonConfig) -> None:
    """What no type can say. Raises NodeError with the key."""
    if config.unenforced_limits not in ("refuse", "allow"):
        raise invalid("unenforcedLimits", f"{config.unenforced_limits!r} is neither refuse nor allow")
    if config.log_level not in ("debug", "info", "warning", "error"):
        raise invalid("logLevel", f"{config.log_level!r} is not one of debug, info, warning, error")
    for key in ("root", "run", "manifests", "cgroup_root"):
        if not getattr(config, key).startswith("/"):
            raise invalid(camel(key), f"{getattr(config, key)!r} is not an absolute path")
    for key in ("registries_conf", "registry_auth_file", "signature_policy"):
        if getattr(config, key) and not getattr(config, key).startswith("/"):
            raise invalid(camel(key), f"{getattr(config, key)!r} is not an absolute path")
    if config.network.mode not in ("builtin", "cni"):
        raise invalid("network.mode", f"{config.network.mode!r} is neither builtin nor cni")
    if config.network.ipv6 not in ("off", "auto"):
        from minikubelet.network.ipam import check_ipv6

        check_ipv6(config.network.ipv6)
    folders = {
        "network.cniConfDir": [config.network.cni_conf_dir],
        "network.cniBinDirs": config.network.cni_bin_dirs,
    }
    for key, paths in folders.items():
        for path in paths:
            if not path.startswith("/"):
                raise invalid(key, f"{path!r} is not an absolute path")
    if config.nri_socket not in ("", "off") and not config.nri_socket.startswith("/"):
        raise invalid("nriSocket", f"{config.nri_socket!r} is neither an absolute path nor off")
    if not config.listen.startswith("unix:///"):
        raise invalid("listen", f"{config.listen!r} is not a unix socket (unix:///PATH)")


def _fill(target: Any, content: Any, path: str, prefix: str) -> None:
    if not isinstance(content, dict):
        raise invalid(path, f"{prefix.rstrip('.') or 'the document'} must be a mapping of keys to values")
    types = typing.get_type_hints(type(target))
    fields = {camel(field.name): field.name for field in dataclasses.fields(target)}
    for key, value in content.items():
        where = f"{prefix}{key}"
        if key not in fields:
            raise _unknown(path, where, key, list(fields))
        name = fields[key]
        current = getattr(target, name)
        if dataclasses.is_dataclass(current):
            _fill(current, value, path, f"{where}.")
        else:
            setattr(target, name, _checked(value, types[name], path, where))


def _unknown(path: str, where: str, key: object, known: list[str]) -> NodeError:
    near = difflib.get_close_matches(str(key), known, 1)
    hint = f" (did you mean {near[0]}?)" if near else f" (known here: {', '.join(known)})"
    return invalid(path, f"{where}: unknown key{hint}")


def _checked(value: Any, kind: Any, path: str, where: str) -> Any:
    wanted = typing.get_origin(kind) or kind
    if wanted is str and value is False:
        value = "off"  # what YAML 1.1 makes of a bare off
    right = isinstance(value, wanted) and not (wanted is int and isinstance(value, bool))
    if wanted is list:
        right = right and all(isinstance(item, str) for item in value)
    if not right:
        raise invalid(path, f"{where}: must be {_KINDS[wanted]}, not {value!r}")
    return value


def _strict_loader() -> type[Any]:
    import yaml

    class Strict(yaml.SafeLoader):
        """A key twice is an error instead of the last one winning."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, str):
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key!r} is not a string", key_node.start_mark
                    )
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key!r} appears twice", key_node.start_mark
                    )
                seen.add(key)
            return super().construct_mapping(node, deep)

    return Strict
