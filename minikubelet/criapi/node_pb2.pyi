from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import Any as _Any, ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ArchiveFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ARCHIVE_FORMAT_OCI_LAYOUT: _ClassVar[ArchiveFormat]
    ARCHIVE_FORMAT_DOCKER: _ClassVar[ArchiveFormat]
ARCHIVE_FORMAT_OCI_LAYOUT: ArchiveFormat
ARCHIVE_FORMAT_DOCKER: ArchiveFormat

class RegistryAuth(_message.Message):
    __slots__ = ("username", "password", "auth", "server_address", "identity_token", "registry_token")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    AUTH_FIELD_NUMBER: _ClassVar[int]
    SERVER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    username: str
    password: str
    auth: str
    server_address: str
    identity_token: str
    registry_token: str
    def __init__(self, username: _Optional[str] = ..., password: _Optional[str] = ..., auth: _Optional[str] = ..., server_address: _Optional[str] = ..., identity_token: _Optional[str] = ..., registry_token: _Optional[str] = ...) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("reference", "auth")
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    AUTH_FIELD_NUMBER: _ClassVar[int]
    reference: str
    auth: RegistryAuth
    def __init__(self, reference: _Optional[str] = ..., auth: _Optional[_Union[RegistryAuth, _Mapping[str, _Any]]] = ...) -> None: ...

class LayerProgress(_message.Message):
    __slots__ = ("digest", "offset", "total", "status")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    digest: str
    offset: int
    total: int
    status: str
    def __init__(self, digest: _Optional[str] = ..., offset: _Optional[int] = ..., total: _Optional[int] = ..., status: _Optional[str] = ...) -> None: ...

class PullProgress(_message.Message):
    __slots__ = ("layer", "image_id")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    layer: LayerProgress
    image_id: str
    def __init__(self, layer: _Optional[_Union[LayerProgress, _Mapping[str, _Any]]] = ..., image_id: _Optional[str] = ...) -> None: ...

class LoadChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class LoadProgress(_message.Message):
    __slots__ = ("message", "loaded")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    message: str
    loaded: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, message: _Optional[str] = ..., loaded: _Optional[_Iterable[str]] = ...) -> None: ...

class SaveRequest(_message.Message):
    __slots__ = ("references", "format")
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    references: _containers.RepeatedScalarFieldContainer[str]
    format: ArchiveFormat
    def __init__(self, references: _Optional[_Iterable[str]] = ..., format: _Optional[_Union[ArchiveFormat, str]] = ...) -> None: ...

class SaveChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...
