"""Fork server, per-pod monitor and in-container init: everything that forks."""
