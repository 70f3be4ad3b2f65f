"""What plugins may see and change: the places where the runtime asks them. Implemented by ``nri``.

Without plugins each place costs one look at ``active``.
"""

from __future__ import annotations

from typing import Protocol

from minikubelet.runtime.models import Adjusted, Container, LinuxResources, Sandbox
from minikubelet.wire.messages import StartContainer


class Plugins(Protocol):
    """Calls may raise NodeError where a plugin's refusal fails the request; the others never do."""

    @property
    def active(self) -> bool:
        """Whether there is anybody to ask.

        The runtime doesn't wait between a look that says no and the record of what it makes: a plugin that
        comes later finds it among what exists.
        """

    async def run_sandbox(self, sandbox: Sandbox) -> None:
        """It is up. Raises NodeError."""

    async def update_sandbox(
        self, sandbox: Sandbox, overhead: LinuxResources | None, resources: LinuxResources | None
    ) -> None:
        """Its resources are about to change. Raises NodeError."""

    async def sandbox_updated(self, sandbox: Sandbox) -> None:
        """They have changed."""

    async def stop_sandbox(self, sandbox: Sandbox, netns: int) -> None:
        """It has stopped; ``netns`` is its network namespace (a descriptor of the caller's), -1: gone."""

    async def remove_sandbox(self, sandbox: Sandbox) -> None:
        """It is about to go."""

    async def create_container(self, container: Container, request: StartContainer) -> Adjusted | None:
        """It is about to be made, to be started by ``request``. Raises NodeError."""

    async def container_created(self, container: Container) -> None:
        """It is made."""

    async def start_container(self, container: Container) -> None:
        """It is about to start. Raises NodeError."""

    async def container_started(self, container: Container) -> None:
        """It runs."""

    async def update_container(self, container: Container, update: LinuxResources) -> LinuxResources:
        """Its resources are about to change; returns what they change to. Raises NodeError."""

    async def container_updated(self, container: Container) -> None:
        """They have changed."""

    async def stop_container(self, container: Container) -> None:
        """It has ended."""

    async def remove_container(self, container: Container) -> None:
        """It is about to go."""


class NoPlugins:
    """Nobody to ask, ever."""

    active = False

    async def run_sandbox(self, sandbox: Sandbox) -> None: ...

    async def update_sandbox(
        self, sandbox: Sandbox, overhead: LinuxResources | None, resources: LinuxResources | None
    ) -> None: ...

    async def sandbox_updated(self, sandbox: Sandbox) -> None: ...

    async def stop_sandbox(self, sandbox: Sandbox, netns: int) -> None: ...

    async def remove_sandbox(self, sandbox: Sandbox) -> None: ...

    async def create_container(self, container: Container, request: StartContainer) -> Adjusted | None:
        return None

    async def container_created(self, container: Container) -> None: ...

    async def start_container(self, container: Container) -> None: ...

    async def container_started(self, container: Container) -> None: ...

    async def update_container(self, container: Container, update: LinuxResources) -> LinuxResources:
        return update

    async def container_updated(self, container: Container) -> None: ...

    async def stop_container(self, container: Container) -> None: ...

    async def remove_container(self, container: Container) -> None: ...
