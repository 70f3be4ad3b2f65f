"""Startup, liveness and readiness probes by exec, HTTP, TCP and gRPC."""
