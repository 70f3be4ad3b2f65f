"""Why a pod is not Ready, in plain words, and what to do: from its status, its events and its last output."""

from minikubelet.cli.explain.case import Finding, LogTail
from minikubelet.cli.explain.pod import explain, render

__all__ = ["Finding", "LogTail", "explain", "render"]
