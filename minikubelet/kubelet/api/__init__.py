"""The kubelet's HTTP API: on a local socket, and with TLS and authentication on a port."""
