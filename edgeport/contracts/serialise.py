"""Contracts as JSON and back, and the digests that name them.

JSON is canonical (sorted keys, no spaces), so equal contracts have equal bytes and equal digests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgeport.errors import ContractError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["digest_bytes", "digest_file", "digest_json", "dump_json", "load_json", "to_jsonable"]

T = TypeVar("T")


_ADAPTERS: dict[object, TypeAdapter[Any]] = {}


def _adapter(cls: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    if cls not in _ADAPTERS:
        _ADAPTERS[cls] = TypeAdapter(cls)
    return _ADAPTERS[cls]


def to_jsonable(contract: object) -> Any:
    """The contract as JSON values (dicts, lists, strings, numbers); infinities become strings."""
    return _adapter(type(contract)).dump_python(contract, mode="json")


def canonical(values: Any) -> bytes:
    """JSON values as canonical UTF-8 bytes."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=True).encode()


def dump_json(contract: object) -> bytes:
    """The contract as canonical JSON bytes."""
    return canonical(to_jsonable(contract))


def load_json(cls: type[T], data: bytes | str) -> T:
    """The contract of class `cls` that `dump_json` wrote.

    Raises:
        ContractError: The JSON is damaged, has unknown or missing fields, or another schema version.

    """
    from pydantic import ValidationError

    name = cls.__name__
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ContractError(asked=f"read a {name}", found=f"damaged JSON ({error})", fix="write it again") from error
    wanted = getattr(cls, "schema_version", None)
    if wanted is not None and isinstance(values, dict) and values.get("schema_version") != wanted:
        raise ContractError(
            asked=f"read a {name} of schema version {wanted}",
            found=f"schema version {values.get('schema_version')!r}",
            fix="write it again with this release of Edgeport",
        )
    try:
        result: T = _adapter(cls).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ContractError(
            asked=f"read a {name}", found=f"{where or 'the whole'}: {first['msg']}", fix="write it again"
        ) from error
    return result


def digest_bytes(parts: Iterable[bytes]) -> str:
    """SHA-256, hexadecimal, of the parts; each part's length is hashed too, so that moving a byte over shows."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


def digest_json(values: Any) -> str:
    """SHA-256, hexadecimal, of JSON values or of a contract."""
    plain = values if isinstance(values, dict | list | tuple | str | int | float | bool | None) else to_jsonable(values)
    return hashlib.sha256(canonical(plain)).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256, hexadecimal, of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
