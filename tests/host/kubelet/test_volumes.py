"""Volumes and variables of real pods, looked at from inside, over both runtimes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.cri_client import CriClient
from minikubelet.linux import mounts
from tests.host.kubelet.runtimes import IMAGE, PATIENCE
from tests.host.kubelet.test_pods import Node

OBJECTS = """
apiVersion: v1
kind: List
items:
- kind: ConfigMap
  apiVersion: v1
  metadata: {name: settings}
  data: {level: debug, app.conf: "one=1\\n"}
  binaryData: {raw: AP8=}
- kind: Secret
  apiVersion: v1
  metadata: {name: keys}
  stringData: {token: s3cret-token}
  data: {raw: /w==}
- kind: PersistentVolumeClaim
  apiVersion: v1
  metadata: {name: kept}
  spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""


def mounts_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [path for line in lines if (path := line.split()[4]).startswith(f"{folder}/")]


@pytest.fixture
async def node(endpoint: str, tmp_path: Path) -> AsyncIterator[Node]:
    tmp_path.chmod(0o755)
    made = Node(endpoint, tmp_path)
    yield made
    client = CriClient(endpoint)
    sandboxes = await client.list_pod_sandboxes()
    for each in sandboxes:
        await client.stop_pod_sandbox(each.id)
        await client.remove_pod_sandbox(each.id)
    await client.close()
    left = mounts_below(tmp_path)
    for path in reversed(left):
        mounts.unmount(path)
    assert (sandboxes, left) == ([], [])


async def run_in(node: Node, pod: str, script: str, name: str = "app") -> str:
    """What a shell in the container prints."""
    client = CriClient(node.config.container_runtime_endpoint)
    try:
        filters = {"io.kubernetes.pod.name": f"{pod}-host", "io.kubernetes.container.name": name}
        found = await client.list_containers(filters)
        running = [each for each in found if each.state == api.CONTAINER_RUNNING]
        answer = await client.exec_sync(running[0].id, ["sh", "-c", script], 20)
        assert answer.exit_code == 0, answer.stderr
        return answer.stdout.decode()
    finally:
        await client.close()


LOOK = """
    terminationGracePeriodSeconds: 0
    securityContext: {fsGroup: 4321, runAsUser: 1000}
    containers:
    - name: app
      image: IMAGE
      command: [sh, -c, "sleep 1000"]
      resources: {limits: {memory: 256Mi}}
      env:
      - {name: LEVEL, valueFrom: {configMapKeyRef: {name: settings, key: level}}}
      - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}
      - {name: CPUS, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
      - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
      - {name: BOTH, value: $(LEVEL)-$(TOKEN)-$(NOBODY)}
      envFrom:
      - {prefix: CM_, configMapRef: {name: settings}}
      - {secretRef: {name: absent, optional: true}}
      volumeMounts:
      - {name: config, mountPath: /config}
      - {name: empty, mountPath: /config/inside/here}
      - {name: secret, mountPath: /secret}
      - {name: all, mountPath: /all}
      - {name: claim, mountPath: /claim}
      - {name: empty, mountPath: /empty}
      - {name: memory, mountPath: /memory}
      - {name: config, mountPath: /one.conf, subPath: app.conf}
      - {name: empty, mountPath: /part, subPathExpr: made/$(LEVEL)}
    volumes:
    - {name: config, configMap: {name: settings}}
    - name: secret
      secret: {secretName: keys, defaultMode: 0400, items: [{key: token, path: deep/token, mode: 0440}]}
    - name: all
      projected:
        defaultMode: 0600
        sources:
        - configMap: {name: settings, items: [{key: level, path: level}]}
        - secret: {name: keys, items: [{key: token, path: sub/token}]}
        - downwardAPI:
            items:
            - {path: labels, fieldRef: {fieldPath: metadata.labels}}
            - {path: memory, resourceFieldRef: {containerName: app, resource: limits.memory, divisor: 1Mi}}
    - {name: claim, persistentVolumeClaim: {claimName: kept}}
    - {name: empty, emptyDir: {}}
    - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
"""


async def test_what_a_container_sees(node: Node) -> None:
    node.put("objects.yaml", OBJECTS)
    node.write("look", LOOK)
    async with node.running():
        await node.until(lambda: node.is_ready("look"))
        seen = await run_in(
            node, "look", "cat /config/app.conf /one.conf /secret/deep/token /all/level /all/sub/token"
        )
        assert seen == "one=1\none=1\ns3cret-tokendebugs3cret-token"
        assert await run_in(node, "look", "cat /all/memory") == "256"
        variables = await run_in(
            node, "look", "echo $LEVEL $TOKEN $MEMORY $BOTH $CM_level $CM_raw; echo $CPUS"
        )
        assert variables == f"debug s3cret-token 256 debug-s3cret-token-$(NOBODY) debug\n{os.cpu_count()}\n"
        modes = await run_in(
            node,
            "look",
            "stat -c '%a %u %g' /config /secret /all /claim /empty /memory /part; "
            "stat -L -c '%a %u %g' /config/level /secret/deep/token /all/level /secret/deep",
        )
        assert modes.splitlines() == [
            "2777 0 4321",
            "3777 0 4321",
            "3777 0 4321",
            "2777 0 4321",
            "2777 0 4321",
            "3777 0 4321",
            "2777 0 4321",
            "644 0 4321",
            "440 0 4321",
            "640 0 4321",
            "2755 0 4321",
        ]
        assert "4321" in (await run_in(node, "look", "id -G")).split()
        await run_in(
            node, "look", "echo x > /claim/file; echo y > /part/file; [ $(cat /empty/made/debug/file) = y ]"
        )
        assert (await run_in(node, "look", "touch /config/new 2>/dev/null || echo no")) == "no\n"
        await run_in(node, "look", "touch /config/inside/here/file && test -f /empty/file")
        kinds = await run_in(
            node, "look", "grep -c ' /secret tmpfs\\| /all tmpfs\\| /memory tmpfs' /proc/mounts"
        )
        assert kinds == "3\n"
        everything = "".join(f"{each.message}" for each in node.kubelet.events()) + repr(node.kubelet.pods())
        assert "s3cret" not in everything
        (node.manifests / "look.yaml").unlink()
        await node.until(lambda: not node.kubelet.pods())
    claim = node.folder / "root" / "volumes" / "claims" / "default" / "kept"
    assert (claim / "file").read_text() == "x\n"


async def test_running_pods_see_changes_at_once_and_whole(node: Node) -> None:
    node.put("objects.yaml", OBJECTS)
    node.write("look", LOOK)
    async with node.running():
        await node.until(lambda: node.is_ready("look"))
        before = await run_in(node, "look", "for i in config all secret; do readlink /$i/..data; done")
        changed = OBJECTS.replace("level: debug, ", "level: info, new: new, ").replace("one=1", "one=2")
        node.put("objects.yaml", changed)
        folder = node.folder / "root" / "pods" / node.pod("look").uid / "volumes" / "kubernetes.io~configmap"
        await node.until(lambda: (folder / "config" / "level").read_text() == "info")
        await node.until(lambda: "info" in (folder.parent / "kubernetes.io~projected/all/level").read_text())
        seen = await run_in(
            node, "look", "cat /config/level /config/new /config/app.conf /one.conf; echo $LEVEL"
        )
        assert seen == "infonewone=2\none=1\ndebug\n", "subPaths and variables stay as they were"
        assert (await run_in(node, "look", "stat -L -c '%a %g' /config/level")) == "644 4321\n"
        after = await run_in(node, "look", "for i in config all secret; do readlink /$i/..data; done")
        assert [a == b for a, b in zip(before.split(), after.split(), strict=True)] == [False, False, True]
        assert node.container("look").restart_count == 0


async def test_what_changed_while_the_kubelet_was_away_is_made_up_for(node: Node) -> None:
    node.put("objects.yaml", OBJECTS)
    node.write("look", LOOK)
    async with node.running(stop_pods=False):
        await node.until(lambda: node.is_ready("look"))
        uid = node.pod("look").uid
        await run_in(node, "look", "echo kept > /memory/file")
    node.put("objects.yaml", OBJECTS.replace("s3cret-token", "changed"))
    async with node.running():
        token = node.folder / "root/pods" / uid / "volumes/kubernetes.io~secret/secret/deep/token"
        await node.until(lambda: token.read_text() == "changed")
        assert await run_in(node, "look", "cat /secret/deep/token /memory/file") == "changedkept\n"
        assert (await run_in(node, "look", "stat -L -c '%a %g' /secret/deep/token")) == "440 4321\n"
        assert node.container("look").restart_count == 0
        assert len([path for path in mounts_below(node.folder) if "/volumes/" in path]) == 3
        (node.manifests / "look.yaml").unlink()
        await node.until(lambda: not node.kubelet.pods())
    assert not mounts_below(node.folder)


async def test_a_pod_waits_for_what_is_missing_and_starts_when_it_comes(node: Node) -> None:
    node.config.retry_period = 1000  # it is told of what comes, and does not merely try again
    node.write("look", LOOK)
    node.write(
        "env",
        """
        terminationGracePeriodSeconds: 0
        containers:
        - name: app
          image: IMAGE
          command: [sh, -c, "sleep 1000"]
          env: [{name: LEVEL, valueFrom: {configMapKeyRef: {name: settings, key: level}}}]
        """,
    )
    async with node.running():

        def messages() -> set[str]:
            return {each.message for each in node.kubelet.events() if each.reason == "FailedMount"}

        await node.until(lambda: len(messages()) == 4)
        assert messages() == {
            'MountVolume.SetUp failed for volume "config" : configmap "settings" not found',
            'MountVolume.SetUp failed for volume "secret" : secret "keys" not found',
            'MountVolume.SetUp failed for volume "all" : '
            '[configmap "settings" not found, secret "keys" not found]',
            'MountVolume.SetUp failed for volume "claim" : persistentvolumeclaim "kept" not found',
        }

        def waiting() -> str:
            state = node.container("env").state.waiting
            return f"{state.reason}: {state.message}" if state is not None else ""

        wanted = 'CreateContainerConfigError: configmap "settings" not found'
        await node.until(lambda: waiting() == wanted)
        node.put("objects.yaml", OBJECTS)
        await node.until(lambda: node.is_ready("look") and node.is_ready("env"))


async def test_a_sub_path_that_is_swapped_for_a_link_leads_nowhere(node: Node) -> None:
    secret = node.folder / "precious"
    secret.mkdir()
    (secret / "canary").write_text("alive")
    swapping = f"""
        terminationGracePeriodSeconds: 0
        containers:
        - name: swap
          image: {IMAGE}
          command:
          - sh
          - -c
          - |
            mkdir -p /v/real; echo mine > /v/real/canary
            while true; do
              ln -s {secret} /v/next; mv -T /v/next /v/sub 2>/dev/null || rm -rf /v/sub /v/next
              rm -f /v/sub; mkdir /v/sub; echo mine > /v/sub/canary; rm -rf /v/sub
            done
          volumeMounts: [{{name: data, mountPath: /v}}]
        - name: app
          image: {IMAGE}
          command: [sh, -c, "grep alive /s/canary && touch /s/caught; exit 1"]
          volumeMounts: [{{name: data, mountPath: /s, subPath: sub}}]
        volumes: [{{name: data, emptyDir: {{}}}}]
    """
    node.config.backoff_initial = node.config.retry_period = 0.01
    node.config.backoff_max = 0.05
    node.write("swap", swapping)
    async with node.running():

        def tried() -> int:
            refused = sum(e.count for e in node.kubelet.events() if " subPath " in e.message)
            return refused + node.container("swap").restart_count

        await node.until(lambda: tried() > 40, 4 * PATIENCE)
    assert [each.name for each in secret.iterdir()] == ["canary"]


async def test_a_link_in_a_volume_is_followed_inside_only(node: Node) -> None:
    for name, path in (("inside", "to-dir/file"), ("outside", "out/canary")):
        node.write(
            name,
            f"""
            terminationGracePeriodSeconds: 0
            restartPolicy: Never
            initContainers:
            - name: first
              image: IMAGE
              command: [sh, -c, "cd /v; mkdir dir; echo found > dir/file; ln -s dir to-dir; ln -s /etc out"]
              volumeMounts: [{{name: data, mountPath: /v}}]
            containers:
            - name: app
              image: IMAGE
              command: [cat, /s]
              volumeMounts: [{{name: data, mountPath: /s, subPath: {path}}}]
            volumes: [{{name: data, emptyDir: {{}}}}]
            """,
        )
    async with node.running():
        await node.until(lambda: node.pod("inside").status.phase == "Succeeded")
        assert node.log("inside") == "found"

        def why() -> str:
            state = node.container("outside").state.waiting
            return f"{state.reason}: {state.message}" if state is not None else ""

        await node.until(lambda: why().startswith("CreateContainerConfigError"))
        assert why().endswith('failed to prepare subPath for volumeMount "data" of container "app"')


async def test_variables_from_a_file_that_an_init_container_wrote(node: Node) -> None:
    node.write(
        "file",
        """
        terminationGracePeriodSeconds: 0
        restartPolicy: Never
        initContainers:
        - name: first
          image: IMAGE
          command: [sh, -c, "echo \\"# made\\nA='one two'\\nB='2' # c\\" > /v/env"]
          volumeMounts: [{name: data, mountPath: /v}]
        containers:
        - name: app
          image: IMAGE
          command: [sh, -c, 'echo "$A-$B-$C-$D"']
          env:
          - {name: A, valueFrom: {fileKeyRef: {volumeName: data, path: env, key: A}}}
          - {name: B, valueFrom: {fileKeyRef: {volumeName: data, path: env, key: B}}}
          - {name: C, valueFrom: {fileKeyRef: {volumeName: data, path: env, key: C, optional: true}}}
          - {name: D, valueFrom: {fileKeyRef: {volumeName: data, path: none, key: D, optional: true}}}
        volumes: [{name: data, emptyDir: {}}]
        """,
    )
    async with node.running():
        await node.until(lambda: node.pod("file").status.phase == "Succeeded")
        assert node.log("file") == "one two-2--"


async def test_a_pod_with_its_own_users(node: Node) -> None:
    client = CriClient(node.config.container_runtime_endpoint)
    status = await client.status()
    await client.close()
    if not any(each.features.user_namespaces for each in status.runtime_handlers):
        pytest.skip("the runtime has no user namespaces here")
    node.put("objects.yaml", OBJECTS)
    for name in ("users", "others"):
        node.write(name, "hostUsers: false\n" + "\n".join(line[4:] for line in LOOK.splitlines()))
    async with node.running():
        await node.until(lambda: node.is_ready("users") and node.is_ready("others"))
        first = [
            int((await run_in(node, name, "cat /proc/self/uid_map")).split()[1])
            for name in ("users", "others")
        ]
        assert sorted(first) == [65536, 131072]
        assert (await run_in(node, "users", "cat /proc/self/uid_map")).split()[2] == "65536"
        owners = await run_in(
            node, "users", "stat -L -c '%u %g' /config/level /secret/deep/token /claim /empty"
        )
        assert owners.splitlines() == ["0 4321"] * 4
        await run_in(node, "users", "touch /empty/mine; echo bye > /dev/termination-log; cat /etc/hosts")
        mine = (
            node.folder
            / "root"
            / "pods"
            / node.pod("users").uid
            / "volumes/kubernetes.io~empty-dir/empty/mine"
        )
        assert (mine.stat().st_uid, mine.stat().st_gid) == (1000, 4321), "files belong to IDs as seen inside"
