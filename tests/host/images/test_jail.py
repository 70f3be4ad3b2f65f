"""The worker's jail, tried from inside."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from minikubelet.images.unpack import UnpackRequest, Worker
from tests.images.build import Layer, digest_of

INSIDE = """
import errno, json, os, socket, stat, sys
from minikubelet.images.unpacker import enter_jail
root = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
outside = os.open(sys.argv[2], os.O_RDONLY)
address = (socket.inet_ntoa(bytes([127, 0, 0, 1])), int(sys.argv[3]))
enter_jail(root, [0, 1, 2])
def attempt(function, *arguments, **named):
    try:
        return repr(function(*arguments, **named))
    except OSError as exc:
        return errno.errorcode[exc.errno]
connection = socket.socket()
os.mknod("device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
print(json.dumps({
    "root": sorted(os.listdir("/")),
    "above": sorted(os.listdir("/../..")),
    "host file": attempt(os.open, "/etc/passwd", os.O_RDONLY),
    "old descriptor": attempt(os.read, outside, 1),
    "open device": attempt(os.open, "device", os.O_RDWR),
    "overlay mark": attempt(os.setxattr, "/", "trusted.overlay.opaque", b"y"),
    "network": attempt(connection.connect, address),
    "chown": attempt(os.chown, "/", 1, 1),
    "chroot": attempt(os.chroot, "/"),
    "kill": attempt(os.kill, 1, 0),
    "owner": os.stat("/device").st_uid,
}))
"""


def test_nothing_outside_is_within_reach(tmp_path: Path) -> None:
    import socket

    folder = tmp_path / "layer"
    folder.mkdir()
    before = Path("/proc/self/mountinfo").read_text()
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = subprocess.run(
            [sys.executable, "-c", INSIDE, str(folder), __file__, str(server.getsockname()[1])],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).resolve().parents[3],
        )
    seen = json.loads(done.stdout)
    assert seen == {
        "root": ["device"],
        "above": ["device"],
        "host file": "ENOENT",
        "old descriptor": "EBADF",
        "open device": "EACCES",
        "overlay mark": "EPERM",
        "network": "ENETUNREACH",
        "chown": "None",
        "chroot": "EPERM",
        "kill": "EPERM",
        "owner": 0,
    }
    assert Path("/proc/self/mountinfo").read_text() == before


async def test_worker_that_is_killed_is_an_error_and_leaves_no_process(tmp_path: Path) -> None:
    data = Layer().file("a", b"x").tar()
    blob = tmp_path / "blob"
    blob.write_bytes(data[:100])
    (tmp_path / "layer").mkdir()
    fd = os.open(blob, os.O_RDONLY)
    worker = Worker(UnpackRequest(fd, len(data), str(tmp_path / "layer"), digest_of(data)))
    worker.start()
    os.close(fd)
    pid = worker._pid
    waiting = asyncio.ensure_future(worker.finish())
    await asyncio.sleep(0.2)
    os.kill(pid, 9)
    results = await asyncio.gather(waiting, return_exceptions=True)
    assert "died without a report" in str(results[0])
    assert not os.path.exists(f"/proc/{pid}")
