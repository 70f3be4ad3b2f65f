"""minikubelet beside containerd and runc: the same CRI calls on the same images, in one run.

`scripts/bench` runs it; docs/performance.md says what is measured and how.

- `contenders`, `containerd`: starting the runtimes on folders of their own, and leaving nothing behind.
- `cri`: the one client that drives both.
- `measures`: what is measured, and pods' lives, memory and pulls.
- `calls`: lists and measurements beside many pods.
- `streams`: bytes through exec and port-forward, lines into logs.
- `groups`: all of it by the names that `--only` takes.
- `report`: the table and the JSON file.
"""
