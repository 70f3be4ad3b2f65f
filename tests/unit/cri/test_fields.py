"""No field of a request is silently ignored: each one makes another configuration, or an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from minikubelet.base.errors import Code, NodeError
from minikubelet.cri import from_proto
from minikubelet.cri.image_service import reference
from minikubelet.cri.runtime_service import RuntimeService
from minikubelet.criapi import api_pb2 as api
from minikubelet.runtime.validation import RUNTIME_HANDLERS

Path = tuple[FieldDescriptor, ...]

MEANINGLESS = {
    "image.image_ref",  # the runtime's own answer, in statuses
    "mounts.image.image_ref",
}
INSTEAD_OF_OTHERS = {
    # Read where the field that replaces it isn't there.
    "linux.security_context.seccomp_profile_path": "unconfined",
    "linux.security_context.apparmor_profile": "unconfined",
}
NEEDS = {
    # What must be there for a message to mean anything.
    "mounts.image": {"image": "app"},
}


def leaves(message: Any, path: Path = ()) -> Iterator[Path]:
    """The paths to all fields that are no messages; maps count as fields."""
    for field in message.fields:
        inner = field.message_type
        if inner is not None and not inner.GetOptions().map_entry:
            yield from leaves(inner, (*path, field))
        else:
            yield (*path, field)


def name(path: Path) -> str:
    return ".".join(field.name for field in path)


def filled(make: Callable[[], Any], path: Path, value: bool) -> Any:
    """A message with everything on the way to a field, and with the field itself if ``value``."""
    message = here = make()
    here.metadata.SetInParent()
    for number, field in enumerate(path[:-1], 1):
        here = getattr(here, field.name)
        if field.is_repeated:
            here = here.add()
        else:
            here.SetInParent()
        for key, given in NEEDS.get(name(path[:number]), {}).items():
            setattr(here, key, given)
    if value:
        _set(here, path[-1], INSTEAD_OF_OTHERS.get(name(path)))
    return message


def _set(message: Any, field: FieldDescriptor, given: str | None) -> None:
    if field.message_type is not None:
        getattr(message, field.name)["net.a"] = "b"
        return
    kinds: dict[int, Any] = {
        FieldDescriptor.CPPTYPE_BOOL: True,
        FieldDescriptor.CPPTYPE_STRING: b"v" if field.type == FieldDescriptor.TYPE_BYTES else given or "v",
        FieldDescriptor.CPPTYPE_ENUM: 1,
    }
    value = kinds.get(field.cpp_type, 3)
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


CASES = [
    pytest.param(make, convert, path, id=f"{make.__name__}.{name(path)}")
    for make, convert in (
        (api.PodSandboxConfig, from_proto.sandbox_config),
        (api.ContainerConfig, from_proto.container_config),
    )
    for path in leaves(make.DESCRIPTOR)
]


@pytest.mark.parametrize(("make", "convert", "path"), CASES)
def test_a_field_changes_the_configuration_or_is_refused(
    make: Callable[[], Any], convert: Callable[[Any], Any], path: Path
) -> None:
    try:
        without = convert(filled(make, path, False))
        given = convert(filled(make, path, True))
    except NodeError as exc:
        assert exc.code in (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED)
        assert path[0].name in str(exc)
        return
    assert (given == without) == (name(path) in MEANINGLESS), f"{name(path)} is ignored"


async def test_status_has_the_features_of_each_handler_that_is_taken() -> None:
    runtime = SimpleNamespace(
        ready=lambda: (True, "", ""),
        network=SimpleNamespace(status=lambda: (False, "NoNetwork", "none")),
        host=SimpleNamespace(maps_users=True),
    )
    service = RuntimeService(runtime, None)  # type: ignore[arg-type]
    status = await service.Status(api.StatusRequest())
    assert [handler.name for handler in status.runtime_handlers] == list(RUNTIME_HANDLERS)
    for handler in status.runtime_handlers:
        assert handler.features.recursive_read_only_mounts and handler.features.user_namespaces
    assert status.features.supplemental_groups_policy and status.features.mount_options
    assert not status.features.user_namespaces_host_network
    assert [condition.status for condition in status.status.conditions] == [True, False]


async def test_windows_resources_are_refused() -> None:
    request = api.UpdateContainerResourcesRequest(
        container_id="c",
        linux=api.LinuxContainerResources(cpu_shares=5),
        windows=api.WindowsContainerResources(cpu_shares=5),
    )
    with pytest.raises(NodeError) as caught:
        await RuntimeService(None, None).UpdateContainerResources(request)  # type: ignore[arg-type]
    assert caught.value.code is Code.UNIMPLEMENTED
    assert "windows" in str(caught.value)


async def test_annotations_of_an_update_are_refused() -> None:
    """They may ask for anything that isn't in the message; nothing is known that they could."""
    request = api.UpdateContainerResourcesRequest(
        container_id="c", linux=api.LinuxContainerResources(cpu_shares=5), annotations={"x/y": "1"}
    )
    with pytest.raises(NodeError, match=r"annotations\['x/y'\]") as caught:
        await RuntimeService(None, None).UpdateContainerResources(request)  # type: ignore[arg-type]
    assert caught.value.code is Code.UNIMPLEMENTED


def test_an_image_for_an_unknown_handler_is_refused() -> None:
    """ImageSpec: "If the runtime handler is unknown, the request should be rejected"."""
    with pytest.raises(NodeError) as caught:
        reference("image", api.ImageSpec(image="a", runtime_handler="kata"))
    assert (caught.value.code, caught.value.field) == (Code.INVALID_ARGUMENT, "image.runtime_handler")
    assert reference("image", api.ImageSpec(image="a", runtime_handler="runc")) == "a"
