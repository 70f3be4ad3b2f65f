"""A whole Kubernetes node in one package: a CRI v1 runtime and a kubelet."""

__version__ = "0.1.0"
