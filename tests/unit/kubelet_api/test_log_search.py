"""Log queries at /logs/: a program stands in for journalctl, which writes how it was called."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from minikubelet.kubelet.api import log_search
from minikubelet.kubelet.server_config import ServerConfig
from tests.unit.kubelet_api.remote import Ports

JOURNALCTL = """#!/bin/sh
if [ "$1" = --field ]; then
    printf 'cron.service\\nsshd@7.service\\nkernel.slice\\n'
    exit
fi
echo "$@"
echo complaint >&2
[ "$5" = --grep=wait ] && exec sleep 1000
true
"""
USUAL = "--utc --no-pager --output=short-precise"


@pytest.fixture
async def ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ports]:
    logs = tmp_path / "node-logs"
    logs.mkdir()
    (logs / "plain").write_text("of plain\n")
    (logs / "dotted.log").write_text("of dotted\n")
    (logs / "deep").mkdir()
    (logs / "deep" / "deep.log").write_text("of deep\n")
    (logs / "out").symlink_to("/etc/passwd")
    program = tmp_path / "journalctl"
    program.write_text(JOURNALCTL)
    program.chmod(0o755)
    monkeypatch.setattr(log_search, "journalctl", str(program))
    made = Ports(tmp_path, ServerConfig(node_log_dir=str(logs), system_log_query=True))
    await made.api.start()
    yield made
    await made.api.close()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("query=cron", f"{USUAL} --unit=cron\ncomplaint\n"),
        (
            "query=cron&query=sshd@7&tailLines=7&boot=-1&pattern=a.*b",
            f"{USUAL} --pager-end --lines=7 --unit=cron --unit=sshd@7 --grep=a.*b --boot -1\ncomplaint\n",
        ),
        (
            "query=cron&sinceTime=2026-01-02T03:04:05%2B01:00&untilTime=2026-01-03T00:00:00Z",
            f"{USUAL} --since=2026-01-02 02:04:05 UTC --until=2026-01-03 00:00:00 UTC --unit=cron\n"
            "complaint\n",
        ),
        ("query=plain", "of plain\n"),
        ("query=dotted&query=deep", "of dotted\nof deep\n"),
        ("query=nobody", "\nlog not found for nobody\n"),
        ("query=out", "\nerror getting log for out: Invalid cross-device link\n"),
        ("query=/deep/deep.log", "of deep\n"),
        ("query=deep%5Cdeep.log", "of deep\n"),
        (
            "query=plain&tailLines=1",
            "\noptions present and query resolved to log files for ['plain']\n"
            "try without specifying options\n",
        ),
    ],
)
async def test_what_is_found(ports: Ports, query: str, words: str) -> None:
    assert await ports.get(f"/logs/?{query}", ports.admin) == (200, words)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/logs/?query=%20", 400, "query: may not be empty"),
        ("/logs/?query=cron&sinceTime=yesterday", 400, "sinceTime: 'yesterday' is not a time"),
        ("/logs/?query=cron&tailLines=many", 400, "tailLines: 'many' is not a whole number"),
        ("/logs/?tailLines=1", 406, "query: cannot be empty with options"),
        ("/logs/?query=cron&tailLines=100001", 406, "tailLines: must be between 0 and 100000, inclusive"),
        ("/logs/?query=cron&boot=1", 406, "boot: must be less than 1"),
        ("/logs/?query=cron;id", 406, "'cron;id': input contains unsupported characters"),
        ("/logs/?query=" + "x" * 257, 406, "length must be less than 256"),
        ("/logs/?query=a&query=b&query=c&query=d&query=e", 406, "query: must have at most 4 items"),
        ("/logs/?query=cron&query=/plain", 406, "query: cannot specify a file and service"),
        ("/logs/?query=/plain&query=/deep", 406, "query: cannot specify more than one file"),
        ("/logs/?query=/plain&pattern=x", 406, "query: cannot specify file with options"),
        ("/logs/?query=cron&pattern=%5B", 406, "pattern: unterminated character set"),
        ("/logs/plain?query=cron", 406, "path not allowed in query mode"),
        (
            "/logs/?query=cron&sinceTime=2026-01-03T00:00:00Z&untilTime=2026-01-02T00:00:00Z",
            406,
            "untilTime: must be after `sinceTime`",
        ),
        ("/logs/?query=/../root/api-token", 403, "not below the log folder"),
        ("/logs/?query=/nothing", 404, "404 page not found"),
    ],
)
async def test_what_is_refused(ports: Ports, path: str, status: int, words: str) -> None:
    found, body = await ports.get(path, ports.admin)
    assert (found, words in body) == (status, True), body


async def test_answers_may_be_compressed_and_end(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_search, "PATIENCE", 0.5)
    url = f"{ports.base}/logs/?query=cron&pattern=wait"
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=ports.trusting()), auto_decompress=False
        ) as session,
        session.get(url, headers={**ports.admin, "Accept-Encoding": "gzip"}) as response,
    ):
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await response.read()).endswith(b"\nerror: the logs took too long\n")


async def test_without_a_journal_there_are_files(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_search, "journalctl", "/nothing/there")
    assert await ports.get("/logs/?query=plain", ports.admin) == (200, "of plain\n")
    assert await ports.get("/logs/?query=cron", ports.admin) == (200, "\nlog not found for cron\n")


async def test_queries_are_off_unless_asked_for(tmp_path: Path) -> None:
    logs = tmp_path / "node-logs"
    logs.mkdir()
    (logs / "plain").write_text("of plain\n")
    ports = Ports(tmp_path, ServerConfig(node_log_dir=str(logs)))
    await ports.api.start()
    try:
        status, body = await ports.get("/logs/?query=plain", ports.admin)
        assert status == 200 and '<a href="plain">' in body
    finally:
        await ports.api.close()
