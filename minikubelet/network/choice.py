"""Which network connects the pods: the built-in one, or CNI plugins."""

from __future__ import annotations

from minikubelet.base.config import DaemonConfig
from minikubelet.base.database import Database
from minikubelet.network.cni import CniNetwork
from minikubelet.network.ipam import MIGRATIONS
from minikubelet.network.pod_network import PodNetwork

Network = PodNetwork | CniNetwork


def make_network(db: Database, config: DaemonConfig) -> Network:
    """The network of ``network.mode``; it is to be started."""
    if config.network.mode == "cni":
        db.migrate("network", MIGRATIONS)  # the same schema in both modes
        return CniNetwork(config.network, config.root)
    return PodNetwork(db, config.network, config.instance)
