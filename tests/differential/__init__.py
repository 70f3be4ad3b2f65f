"""The same manifests for the upstream kubelet and for ours; what they end up with is compared."""
