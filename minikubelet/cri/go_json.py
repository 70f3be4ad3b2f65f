"""CRI messages as JSON the way Go's encoding/json writes them: snake case, enumerations as numbers."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message


def plain(message: Message) -> dict[str, Any]:
    """The fields that are set."""
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def _value(field: Any, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {str(key): _single(item) for key, item in value.items()}
    if field.is_repeated:
        return [_single(item) for item in value]
    return _single(value)


def _single(value: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    return value.hex() if isinstance(value, bytes) else value
