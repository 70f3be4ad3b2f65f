"""What a program does from inside its container."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

from minikubelet.criapi import api_pb2 as api
from tests.host.runtime.client import Client

SPY = """
while :; do
  for process in /proc/[0-9]*; do
    [ $process != /proc/1 ] || continue # pause: its program is a read-only mount of the host's
    exe=$(readlink $process/exe) && case $exe in
      /bin/busybox|*pause*) ;;
      *) echo "exe $exe"; echo overwritten > $process/exe;;
    esac
    for fd in $process/fd/*; do
      case $(readlink $fd) in
        ''|/dev/*|/proc/*|/bin/*|pipe:*|/dev) ;;
        *) echo "fd $(readlink $fd)";;
      esac
    done
    readlink $process/cwd | grep -v -x -e / -e ''
  done
done 2>/dev/null
"""


def linux(pid: api.NamespaceMode = api.CONTAINER, add: tuple[str, ...] = ()) -> api.LinuxContainerConfig:
    context = api.LinuxContainerSecurityContext(
        namespace_options=api.NamespaceOption(pid=pid),
        capabilities=api.Capability(add_capabilities=add),
    )
    return api.LinuxContainerConfig(security_context=context)


async def test_those_who_join_cannot_be_inspected(client: Client, tmp_path: Path) -> None:
    """CVE-2016-9962, CVE-2019-5736: a container watches the runtime's processes come in."""
    pod = await client.run_pod(client.pod_config(log_directory=str(tmp_path)))
    config = client.container_config("sh", "-c", SPY, log_path="spy.log", name="spy", linux=linux(api.POD))
    spy = await client.run(pod, config)
    for number in range(10):
        assert (await client.exec(spy, "true")).exit_code == 0
        config = client.container_config("true", name=f"c{number}", linux=linux(api.POD))
        await client.run(pod, config)
    assert (tmp_path / "spy.log").read_text() == ""


async def test_nothing_of_the_host_is_open(client: Client) -> None:
    """CVE-2024-21626: neither the program nor what is executed beside it inherits anything."""
    pod = await client.run_pod()
    app = await client.run(pod, client.container_config("sh", "-c", "sleep 1000; :"))
    assert (await client.output(app, "ls /proc/1/fd")).split() == ["0", "1", "2"]
    assert (await client.output(app, "ls /proc/$$/fd; :")).split() == ["0", "1", "2"]
    assert await client.output(app, "readlink /proc/1/cwd; readlink /proc/1/root") == "/\n/"


async def test_the_kernels_knobs_are_out_of_reach(client: Client) -> None:
    app = await client.run(await client.run_pod(), client.container_config("sleep", "1000"))
    for path in (
        *("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"),
        *("/sys/kernel/uevent_helper", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/evil"),
    ):
        assert (await client.exec(app, "sh", "-c", f"echo 1 > {path}")).exit_code != 0, path
    assert await client.output(app, "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c") == "0"
    assert (await client.exec(app, "mount", "-t", "tmpfs", "x", "/tmp")).exit_code != 0
    assert (await client.exec(app, "mount", "-o", "remount,rw", "/proc/sys")).exit_code != 0


async def test_devices_that_were_not_given(client: Client) -> None:
    """CAP_MKNOD makes the node; the device filter of the cgroup refuses to open it."""
    app = await client.run(await client.run_pod(), client.container_config("sleep", "1000"))
    assert await client.output(app, "mknod /null c 1 3; echo x > /null; echo written") == "written"
    for node in ("c 1 1", "c 1 11", "c 10 200", "b 7 0", "b 259 0", "b 254 0"):
        tried = await client.exec(app, "sh", "-c", f"rm -f /x; mknod /x {node} && head -c 1 /x")
        assert b"Operation not permitted" in tried.stderr, (node, tried)


async def test_what_a_container_leaves_is_deleted_without_following(client: Client, canary: Path) -> None:
    """CVE-2017-1002102: links, deep and locked folders in the writable layer and in mounts."""
    mount = api.Mount(container_path="/shared", host_path=str(canary))
    pod = await client.run_pod()
    app = await client.run(pod, client.container_config("sleep", "1000", mounts=[mount]))
    script = (
        f"mkdir -p /a/b; ln -s {canary} /a/link; ln -s {canary}/file /a/b/file; ln -s / /a/b/root;"
        "p=/a; for i in $(seq 300); do p=$p/d; mkdir $p; done; chmod 0 /a; mkfifo /f; chattr +i /f || :"
    )
    await client.output(app, script)
    await client.remove_pod(pod)


async def test_a_neighbour_does_not_reach_the_hosts_loopback(client: Client) -> None:
    """CVE-2020-8558: martian packets for 127.0.0.1 from a pod that may set up routes."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        pod = await client.run_pod(
            client.pod_config(
                linux=api.LinuxPodSandboxConfig(sysctls={"net.ipv4.conf.all.route_localnet": "1"})
            )
        )
        app = await client.run(
            pod, client.container_config("sleep", "1000", linux=linux(add=("NET_ADMIN", "NET_RAW")))
        )
        script = f"""
            gateway=$(ip route | awk '/default/ {{print $3}}')
            ip addr del 127.0.0.1/8 dev lo
            ip route flush table local type local 127.0.0.0/8 2>/dev/null
            ip route add 127.0.0.0/8 via $gateway dev eth0 || exit 9
            wget -T 2 -q -O - http://127.0.0.1:{server.server_port}/
        """
        tried = await client.exec(app, "sh", "-c", script)
        assert tried.exit_code not in (0, 9), tried
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_router_advertisements_are_ignored(client: Client) -> None:
    """CVE-2020-10749."""
    app = await client.run(await client.run_pod(), client.container_config("sleep", "1000"))
    for interface in ("all", "default", "eth0"):
        path = f"/proc/sys/net/ipv6/conf/{interface}/accept_ra"
        assert await client.output(app, f"[ ! -e {path} ] || cat {path}") in ("", "0"), interface
