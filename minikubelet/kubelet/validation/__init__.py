"""Checks of a pod before it is run, in upstream's words (pkg/apis/core/validation)."""

from minikubelet.kubelet.validation.checker import Problem
from minikubelet.kubelet.validation.pod import validate_pod
from minikubelet.kubelet.validation.warnings import warnings_for

__all__ = ["Problem", "validate_pod", "warnings_for"]
