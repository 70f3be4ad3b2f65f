"""The three message classes of pyroute2 that we use, without the rest of it.

``import pyroute2`` loads 163 modules (databases, events, every protocol): 12.6 MB of memory and 0.11 s for
each daemon. Encoding links, addresses and routes takes 25 of them: 1.9 MB and 0.02 s. So they are imported
below a bare stand-in for the package, and nothing is left of it in ``sys.modules``: whoever imports
pyroute2 later gets it whole.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types

_PACKAGE = "pyroute2"


def _load(names: tuple[str, ...]) -> list[type]:
    """``names`` as ``module:class`` below pyroute2. Raises ImportError."""
    if _PACKAGE in sys.modules:
        return [_class(name) for name in names]
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(f"{_PACKAGE} is not installed")
    package = types.ModuleType(_PACKAGE)
    package.__path__ = spec.submodule_search_locations
    package.__spec__ = spec
    sys.modules[_PACKAGE] = package
    try:
        return [_class(name) for name in names]
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == _PACKAGE]:
            del sys.modules[name]


def _class(name: str) -> type:
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(f"{_PACKAGE}.{module}"), attribute)
    assert isinstance(found, type)
    return found


ifinfmsg, ifaddrmsg, rtmsg = _load(
    ("netlink.rtnl.ifinfmsg:ifinfmsg", "netlink.rtnl.ifaddrmsg:ifaddrmsg", "netlink.rtnl.rtmsg:rtmsg")
)
