"""What is made before a monitor's fork: places for its descriptors, which each fork gets filled anew."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Iterator

import pytest

from minikubelet.spawner.host import Host
from minikubelet.spawner.loop import ChildWatcher, Loop
from minikubelet.spawner.monitor import Monitor
from minikubelet.wire import channel
from minikubelet.wire import messages as m

_ENOUGH = 8
"""Blocks of memory for what a monitor can't find made: its two names, and the like."""


def pair() -> tuple[socket.socket, socket.socket]:
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    mine.settimeout(5)
    return mine, theirs


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    host = object.__new__(Host)
    host.null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    made = Monitor(host)
    yield made
    signal.set_wakeup_fd(-1)
    # Sockets and epoll own their descriptors: they would be closed again when the objects go.
    for peer in made._peers:
        peer._sock.close()
    made._listener.close()
    made._pod.loop._epoll.close()
    for fd in (made._pod.children._reader, made._pod.children.writer):
        os.close(fd)
    os.close(host.null)


def test_a_renewed_loop_has_an_epoll_instance_of_its_own() -> None:
    loop = Loop()
    reader, writer = os.pipe()
    loop.watch(reader, lambda _events: loop.stop())
    with select.epoll.fromfd(os.dup(loop.descriptors()[0])) as parents:
        loop.renew()
        os.write(writer, b"x")
        loop.run()
        loop.forget(reader)
        assert [fd for fd, _ in parents.poll(0)] == [reader]
    os.close(reader)
    os.close(writer)


def test_a_renewed_watcher_has_a_pipe_of_its_own_under_the_old_numbers() -> None:
    loop = Loop()
    watcher = ChildWatcher(loop)
    places = [*loop.descriptors()[1:], watcher.writer]
    before = [os.fstat(fd).st_ino for fd in places]
    watcher.renew()
    assert [*loop.descriptors()[1:], watcher.writer] == places
    after = [os.fstat(fd).st_ino for fd in places]
    assert after[0] == after[1] and after[0] not in before
    assert not any(os.get_inheritable(fd) or os.get_blocking(fd) for fd in places)


def test_the_places_are_filled_for_one_fork_after_the_other(monitor: Monitor) -> None:
    kept = []
    for number in range(2):
        mine, theirs = pair()
        listener, theirs_too = pair()
        monitor.fit(theirs.fileno(), listener.fileno())
        for sock in (theirs, listener, theirs_too):
            sock.close()
        pid = os.fork()
        if pid == 0:
            try:
                monitor.run(f"s{number}", "/nowhere")
            finally:
                os._exit(0)
        monitor.clear()
        kept.append((pid, mine))
    for number, (pid, mine) in enumerate(kept):
        channel.send(mine, m.GetState(id=7))
        answer, _ = channel.receive(mine)
        assert isinstance(answer, m.Reply) and isinstance(answer.body, m.State)
        assert answer.body.sandbox_id == f"s{number}"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with pytest.raises(ConnectionError):  # nobody else holds its socket
            channel.receive(mine)
        mine.close()


def test_coming_to_life_makes_next_to_nothing(monitor: Monitor) -> None:
    mine, theirs = pair()
    monitor.fit(theirs.fileno(), theirs.fileno())
    monitor._pod.loop.stop()
    sandbox, folder = "sandbox", "/run/sandbox"
    before = sys.getallocatedblocks()
    monitor.run(sandbox, folder)
    assert sys.getallocatedblocks() - before <= _ENOUGH
    mine.close()
    theirs.close()
