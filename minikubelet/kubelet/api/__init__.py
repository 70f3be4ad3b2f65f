"""The kubelet's HTTP API: pods, events, logs and exec, on a local socket."""
