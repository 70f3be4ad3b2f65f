"""IPAM, bridge, port maps; the only pyroute2."""
