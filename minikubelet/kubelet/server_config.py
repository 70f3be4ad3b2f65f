"""Settings of the HTTP servers that answer beyond the local socket."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ServerConfig:
    """Ports of 0 are not served; so without a word nothing listens."""

    enabled: bool = True
    """False: none of the ports below is served, whatever they say."""
    address: str = "0.0.0.0"
    """Where ``port`` and ``read_only_port`` are served."""
    port: int = 0
    """HTTPS; upstream's is 10250."""
    port_given: bool = True
    """Whether somebody asked for ``port``: a taken one is an error then, else a warning."""
    read_only_port: int = 0
    """HTTP without authentication."""
    healthz_port: int = 0
    """HTTP, /healthz alone; upstream's is 10248."""
    healthz_port_given: bool = True
    healthz_bind_address: str = "127.0.0.1"
    tls_cert_file: str = ""
    """PEM, the chain included; empty: a self-signed certificate in ``cert_dir``."""
    tls_private_key_file: str = ""
    tls_cipher_suites: list[str] = field(default_factory=list)
    tls_min_version: str = ""
    """``VersionTLS12`` (default) or ``VersionTLS13``."""
    cert_dir: str = ""
    """Where the self-signed certificate is kept; default: ``pki`` in the kubelet's root."""
    client_ca_file: str = ""
    """PEM; who has a certificate of one of these authorities is its CN, in its Os."""
    token_file: str = ""
    """Lines of ``TOKEN,USER,UID,"GROUP,…"``."""
    anonymous: bool = False
    debugging_handlers: bool = True
    """exec, attach, portForward, run, containerLogs, runningpods, logs, checkpoint."""
    system_log_handler: bool = True
    """/logs/."""
    debug_flags_handler: bool = True
    """/debug/flags/v."""
    system_log_query: bool = False
    """Queries for the logs of services there."""
    node_log_dir: str = "/var/log"
    streaming_idle_timeout: float = 4 * 3600.0
    """Seconds of silence after which an exec, attach or port-forward is cut."""
