"""Eviction: pods are ended before the node runs out of memory, disk or process IDs."""
