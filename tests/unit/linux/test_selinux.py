"""SELinux on files that stand for the kernel's and the policy's (tests/vm has a kernel with it)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from minikubelet.linux import selinux
from minikubelet.linux.selinux import Context


def test_enabled(tmp_path: Path) -> None:
    paths = str(tmp_path / "enforce"), str(tmp_path / "current")
    assert not selinux.enabled(*paths)
    (tmp_path / "enforce").write_text("0")
    assert not selinux.enabled(*paths)
    (tmp_path / "current").write_text("kernel\0")
    assert not selinux.enabled(*paths), "no policy is loaded"
    (tmp_path / "current").write_text("system_u:system_r:init_t:s0\0")
    assert selinux.enabled(*paths)


def test_contexts_are_the_policys(tmp_path: Path) -> None:
    assert selinux.container_contexts(str(tmp_path)) == (selinux.PROCESS, selinux.FILE)
    (tmp_path / "config").write_text("# SELINUXTYPE=mls\nSELINUX=enforcing\nSELINUXTYPE=strict\n")
    folder = tmp_path / "strict" / "contexts"
    folder.mkdir(parents=True)
    (folder / "lxc_contexts").write_text(
        'process = "system_u:system_r:own_t:s0"\n'
        'file = "system_u:object_r:own_file_t:s0:c1,c2"\ncontent = "x"\n'
    )
    process, file = selinux.container_contexts(str(tmp_path))
    assert str(process) == "system_u:system_r:own_t:s0"
    assert file == Context("system_u", "object_r", "own_file_t", "s0:c1,c2")
    (folder / "lxc_contexts").write_text("process = nonsense\n")
    assert selinux.container_contexts(str(tmp_path)) == (selinux.PROCESS, selinux.FILE)


def test_a_level_of_its_own() -> None:
    levels = {selinux.own_level(f"pod-{number}") for number in range(300)}
    assert len(levels) > 295
    assert selinux.own_level("pod-1") == selinux.own_level("pod-1")
    for level in levels:
        low, high = (int(part) for part in level.removeprefix("s0:c").split(",c"))
        assert 0 <= low < high < 1024


def test_what_is_given_replaces() -> None:
    changed = selinux.changed(selinux.PROCESS, type="spc_t", level="s0:c1,c2")
    assert str(changed) == "system_u:system_r:spc_t:s0:c1,c2"
    assert Context.parse(str(changed)) == changed


def test_the_policy_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "context"
    path.touch()
    assert selinux.valid("a:b:c:s0", str(path)) and path.read_bytes() == b"a:b:c:s0\0"

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(errno.EINVAL, "no")

    monkeypatch.setattr(os, "write", refuse)
    assert not selinux.valid("a:b:c:s0", str(path))
    with pytest.raises(FileNotFoundError):
        selinux.valid("x", str(tmp_path / "missing"))


def labels(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Collects what is set, by real path of the folder and name."""
    found: dict[str, bytes] = {}

    def setxattr(path: str, attribute: str, value: bytes, *, follow_symlinks: bool) -> None:
        assert attribute == "security.selinux" and not follow_symlinks
        folder, _, name = path.rpartition("/")
        found[f"{os.path.realpath(folder)}/{name}"] = value

    monkeypatch.setattr(os, "setxattr", setxattr)
    return found


def test_relabelling_follows_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = tmp_path / "volume"
    (volume / "sub").mkdir(parents=True)
    (volume / "sub" / "file").touch()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").touch()
    (volume / "folder-link").symlink_to(outside)
    (volume / "file-link").symlink_to(outside / "secret")
    (tmp_path / "link").symlink_to(volume)
    found = labels(monkeypatch)
    selinux.relabel(str(tmp_path / "link"), "u:r:t:s0")
    inside = ("", "/sub", "/sub/file", "/folder-link", "/file-link")
    assert found == {f"{volume}{name}": b"u:r:t:s0\0" for name in inside}


def test_the_host_is_not_relabelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = labels(monkeypatch)
    (tmp_path / "link").symlink_to("/etc")
    for path in ("/", "/usr", "/etc/", "/var/../etc", str(tmp_path / "link")):
        with pytest.raises(OSError, match="not relabelled"):
            selinux.relabel(path, "u:r:t:s0")
    assert found == {}


def test_file_systems_without_labels_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def setxattr(path: str, *_: object, follow_symlinks: bool) -> None:
        raise OSError(number, "no", path)

    monkeypatch.setattr(os, "setxattr", setxattr)
    number = errno.ENOTSUP
    selinux.relabel(str(tmp_path), "u:r:t:s0")
    number = errno.EROFS
    with pytest.raises(OSError, match="no"):
        selinux.relabel(str(tmp_path), "u:r:t:s0")
