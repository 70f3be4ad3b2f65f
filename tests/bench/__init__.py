"""minikubelet beside containerd and runc: the same CRI calls on the same images, in one run.

`scripts/bench` runs it; docs/performance.md says what is measured and how.

- `contenders`, `containerd`: starting the runtimes on folders of their own, and leaving nothing behind.
- `cri`: the one client that drives both.
- `measures`: what is measured.
- `report`: the table and the JSON file.
"""
