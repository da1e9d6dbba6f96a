"""Bytes travel as base64: JSON has none.

pydantic has a switch for it, but only validation of JSON text obeys it, and each model, dataclass and TypedDict sets
its own. What goes in has been parsed already, and the way of bytes must not hang on how deep they lie.
"""

import base64
from typing import Any, Final, TypeVar, cast

from pydantic import TypeAdapter
from pydantic_core import PydanticCustomError, SchemaSerializer, SchemaValidator, core_schema

T = TypeVar("T")
_URL_SAFE: Final = str.maketrans("-_", "+/")


def carrying_bytes(adapter: TypeAdapter[T]) -> TypeAdapter[T]:
    """Let `adapter` read bytes from base64, of either alphabet, and write them so, at any depth."""
    schema = cast("core_schema.CoreSchema", _rewritten(adapter.core_schema))
    if schema != adapter.core_schema:
        # Without the validators that models have made for themselves: those know nothing of this.
        adapter.validator = SchemaValidator(schema, _use_prebuilt=False)
        adapter.serializer = SchemaSerializer(schema, _use_prebuilt=False)
    return adapter


def _rewritten(part: Any) -> Any:
    if isinstance(part, dict):
        fields = cast("dict[str, Any]", part)
        if fields.get("type") == "bytes":
            written = core_schema.plain_serializer_function_ser_schema(_encoded, when_used="json")
            return core_schema.no_info_before_validator_function(
                _decoded, cast("core_schema.CoreSchema", fields), serialization=written
            )
        return {name: _rewritten(value) for name, value in fields.items()}
    if isinstance(part, list):
        return [_rewritten(value) for value in cast("list[Any]", part)]
    if isinstance(part, tuple):
        return tuple(_rewritten(value) for value in cast("tuple[Any, ...]", part))
    return part


def _decoded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value.translate(_URL_SAFE), validate=True)
    except ValueError:
        raise PydanticCustomError("bytes_base64", "Bytes are written as base64") from None


def _encoded(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
