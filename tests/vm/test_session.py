"""A user's session on a stock kernel: the host lane has the many, here is the one that meets everything."""

from __future__ import annotations

from tests.host.node import CrictlFailed, Node, wait_for


def test_a_session(node: Node, busybox: str) -> None:
    pod = node.run_pod("web")
    script = "mkdir /www && echo hello >/www/index.html && exec httpd -f -p 80 -h /www"
    server = node.start_container(pod, "server", busybox, "sh", "-c", script)
    url = f"http://{node.pod_ip(pod)}/"

    def page() -> str:
        try:
            return node.crictl("exec", "--sync", server, "wget", "-q", "-O", "-", url)
        except CrictlFailed:
            return ""

    wait_for("the page", lambda: page() == "hello")
    node.kill()
    node.start()
    assert page() == "hello"
    node.crictl("stop", "--timeout", "1", server)
    assert node.status(server)["exitCode"] == 143 or node.status(server)["exitCode"] == 137
    node.crictl("rmp", "--force", pod)
    assert node.crictl("pods", "--quiet") == ""
