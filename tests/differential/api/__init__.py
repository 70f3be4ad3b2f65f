"""The same requests for the HTTP API of the upstream kubelet and of ours; the answers are compared."""
