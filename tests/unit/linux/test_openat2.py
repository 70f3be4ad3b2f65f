"""Lookups that stay inside, on a folder full of traps."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikubelet.linux import interpreter, openat2, pidfd, program
from minikubelet.linux.libc import filesystem_type
from minikubelet.linux.mounts import PROC_SUPER_MAGIC


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    folder = tmp_path / "root"
    folder.mkdir()
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    yield folder, fd
    os.close(fd)


def path_of(fd: int) -> str:
    path = os.readlink(f"/proc/self/fd/{fd}")
    os.close(fd)
    return path


def test_links_and_dots_stay_inside(root: tuple[Path, int], tmp_path: Path) -> None:
    folder, fd = root
    (folder / "etc").mkdir()
    (folder / "link").symlink_to("/etc")
    (folder / "up").symlink_to("../../../../etc")
    for path in ("/link", "up", "../../etc", "/etc/../../etc"):
        assert path_of(openat2.open_in_root(fd, path)) == str(folder / "etc")
    with pytest.raises(OSError):
        openat2.open_beneath(fd, "link")
    with pytest.raises(OSError):
        openat2.open_beneath(fd, "../x")


def test_magic_links_are_refused() -> None:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(OSError) as refused:
        openat2.open_in_root(root, "/proc/self/cwd")
    assert refused.value.errno == errno.ELOOP
    os.close(root)


def test_folders_are_made_inside(root: tuple[Path, int], tmp_path: Path) -> None:
    folder, fd = root
    assert path_of(openat2.make_folder_in_root(fd, "/a/b/c")) == str(folder / "a/b/c")
    assert path_of(openat2.make_folder_in_root(fd, "a//b/./d")) == str(folder / "a/b/d")
    assert path_of(openat2.make_folder_in_root(fd, "/")) == str(folder)
    (folder / "var").mkdir()
    (folder / "var/run").symlink_to("/run")  # dangling
    (folder / "var/lock").symlink_to("../locks")
    assert path_of(openat2.make_folder_in_root(fd, "/var/run/secrets")) == str(folder / "run/secrets")
    assert path_of(openat2.make_folder_in_root(fd, "/var/lock/x")) == str(folder / "locks/x")
    (folder / "out").symlink_to(str(tmp_path / "outside"))
    openat2.make_folder_in_root(fd, "/out/x")
    assert not (tmp_path / "outside").exists()


def test_folders_that_cannot_be_made(root: tuple[Path, int]) -> None:
    folder, fd = root
    (folder / "loop").symlink_to("loop2")
    (folder / "loop2").symlink_to("loop")
    (folder / "file").write_text("")
    for path, number in (("/loop/x", errno.ELOOP), ("/file/x", errno.ENOTDIR), ("/a/../b", errno.EINVAL)):
        with pytest.raises(OSError) as refused:
            openat2.make_folder_in_root(fd, path)
        assert refused.value.errno == number
    (folder / "link").symlink_to("/elsewhere")
    with pytest.raises(OSError) as refused:
        openat2.make_folder_in_root(fd, "/link/x", resolve=openat2.RESOLVE_NO_SYMLINKS)
    assert refused.value.errno == errno.ELOOP


def test_files_are_made_inside(root: tuple[Path, int]) -> None:
    folder, fd = root
    assert path_of(openat2.make_file_in_root(fd, "/etc/deep/hosts")) == str(folder / "etc/deep/hosts")
    (folder / "etc/deep/hosts").write_text("kept")
    assert path_of(openat2.make_file_in_root(fd, "/etc/deep/hosts")) == str(folder / "etc/deep/hosts")
    assert (folder / "etc/deep/hosts").read_text() == "kept"
    (folder / "dangling").symlink_to("/nowhere")
    with pytest.raises(OSError):
        openat2.make_file_in_root(fd, "/dangling")
    assert not (folder / "nowhere").exists()


def test_only_regular_files_are_read(root: tuple[Path, int]) -> None:
    folder, fd = root
    proc = interpreter.proc_handle()
    assert filesystem_type(proc) == PROC_SUPER_MAGIC
    (folder / "file").write_bytes(b"x" * 100)
    (folder / "link").symlink_to("/file")
    os.mkfifo(folder / "fifo")
    assert openat2.read_regular_in_root(fd, proc, "/link", 100) == b"x" * 100
    for path, number in (
        ("/file", errno.EFBIG),
        ("/fifo", errno.EINVAL),
        ("/", errno.EINVAL),
        ("/no", errno.ENOENT),
    ):
        with pytest.raises(OSError) as refused:
            openat2.read_regular_in_root(fd, proc, path, 99)
        assert refused.value.errno == number
    os.close(proc)


def test_processes_are_told_from_their_pids_next_owner() -> None:
    ticks = pidfd.start_ticks(os.getpid())
    assert ticks > 0
    os.close(pidfd.open_exact(os.getpid(), ticks))
    with pytest.raises(ProcessLookupError):
        pidfd.open_exact(os.getpid(), ticks + 1)
    assert pidfd.start_ticks(2**22 + 1) == 0


def test_programs_are_found_as_users_expect(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("")
    search = os.fsencode(tmp_path) + b":/no/such"
    with pytest.raises(OSError, match=r'exec: "tool": executable file not found in \$PATH'):
        program.find(b"tool", search)
    (tmp_path / "tool").chmod(0o755)
    assert program.find(b"tool", search) == os.fsencode(tmp_path / "tool")
    with pytest.raises(OSError, match='exec: "/no/x": stat /no/x: no such file or directory'):
        program.find(b"/no/x", search)
    with pytest.raises(OSError, match="is a directory"):
        program.find(os.fsencode(tmp_path), search)
