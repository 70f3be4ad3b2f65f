import json, subprocess
from tests.host.node import wait_for
from tests.vm.test_limits import cgroup_of
def test_dbg(node, busybox):
    pod = node.run_pod("stats")
    script = "dd if=/dev/zero of=/dev/shm/file bs=1M count=20 && echo filled && df /dev/shm; ls -la /dev/shm; mount | grep shm;cat /proc/self/cgroup; exec sleep 100000"
    c = node.start_container(pod, "main", busybox, "sh", "-c", script)
    wait_for("x", lambda: "cgroup" in node.crictl("logs", c) or "0::" in node.crictl("logs", c))
    print(node.crictl("logs", c))
    print(subprocess.run("cd /sys/fs/cgroup; find . -name cgroup.procs | xargs grep -c .; for f in cgroup.subtree_control minikubelet/cgroup.subtree_control minikubelet/*/cgroup.subtree_control minikubelet/*/*/cgroup.subtree_control; do echo $f: $(cat $f); done; grep -r . --include=memory.current .", shell=True, capture_output=True, text=True))
    f = cgroup_of(node, c); print(f)
    print(f, (f/"memory.current").read_text(), (f/"memory.stat").read_text()[:600], [x.name for x in f.iterdir()])
    print(subprocess.run("cd /sys/fs/cgroup; grep -r . --include=memory.current .; cat /sys/fs/cgroup/minikubelet/cgroup.subtree_control", shell=True, capture_output=True, text=True).stdout)
    assert 0
