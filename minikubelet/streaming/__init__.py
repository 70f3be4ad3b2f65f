"""Endpoints and framing for exec, attach and port-forward."""
