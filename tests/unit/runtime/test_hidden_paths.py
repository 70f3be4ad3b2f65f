"""Which paths of /proc and /sys a container doesn't see, or can't write to."""

from __future__ import annotations

from minikubelet.runtime.models import ContainerSecurity
from minikubelet.runtime.security import MASKED_PATHS, READONLY_PATHS, Hidden, hidden_paths

GIVEN = ContainerSecurity(masked_paths=("/a",), readonly_paths=("/b",))


def test_given_paths_are_taken() -> None:
    for own_users in (True, False):
        assert hidden_paths(GIVEN, own_users) == Hidden(("/a",), ("/b",))


def test_no_paths_mean_none_only_with_users_of_the_pods_own() -> None:
    assert hidden_paths(ContainerSecurity(), own_users=False) == Hidden(MASKED_PATHS, READONLY_PATHS)
    assert hidden_paths(ContainerSecurity(), own_users=True) == Hidden((), ())


def test_nothing_is_hidden_from_a_privileged_container() -> None:
    assert hidden_paths(ContainerSecurity(privileged=True), own_users=False) == Hidden((), ())
