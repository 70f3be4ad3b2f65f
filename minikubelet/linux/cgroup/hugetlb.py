"""The hugetlb controller: limits and use of huge pages, one file a page size."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from minikubelet.base.errors import invalid
from minikubelet.linux.cgroup.files import number

_SIZE = re.compile(r"(\d{1,12})(KB|MB|GB)\Z")
_KIB = {"KB": 1, "MB": 1 << 10, "GB": 1 << 20}


def files(limits: Iterable[tuple[str, int]]) -> dict[str, str]:
    """``hugetlb.SIZE.max`` (and ``rsvd.max``, which refuses at mmap(2) and not by SIGBUS).

    Raises NodeError INVALID_ARGUMENT for a page size that is none.
    """
    result: dict[str, str] = {}
    for size, limit in limits:
        if not _SIZE.match(size):
            raise invalid("resources.hugepage_limits", f"{size!r} is no page size such as 2MB or 1GB")
        if limit < 0:
            raise invalid("resources.hugepage_limits", f"{limit} is no number of bytes")
        result[f"hugetlb.{size}.max"] = str(limit)
        result[f"hugetlb.{size}.rsvd.max"] = str(limit)
    return result


def page_sizes(folder: str = "/sys/kernel/mm/hugepages") -> list[str]:
    """The page sizes this kernel has, as ``2MB``; empty without huge pages."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    kibibytes = sorted(int(name[10:-2]) for name in names if re.match(r"hugepages-\d+kB\Z", name))
    return [_name(size) for size in kibibytes]


def _name(kibibytes: int) -> str:
    for unit in ("GB", "MB"):
        if kibibytes % _KIB[unit] == 0:
            return f"{kibibytes // _KIB[unit]}{unit}"
    return f"{kibibytes}KB"


def usage(folder: str, size: str) -> int | None:
    """Bytes of huge pages of one size in use; None without the controller. Raises OSError."""
    return number(folder, f"hugetlb.{size}.current")
