"""Contracts as JSON and back, and the digests that name them.

JSON is canonical (sorted keys, no spaces), so equal contracts have equal bytes and equal digests.
"""

from __future__ import annotations

import hashlib
import json
import math
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
    """The contract as JSON values (dicts, lists, strings, numbers).

    JSON has no infinities and no NaN; they become the strings "Infinity", "-Infinity" and "NaN", which float fields
    take back.
    """
    return _finite(_adapter(type(contract)).dump_python(contract, mode="json"))


def _finite(values: Any) -> Any:
    if isinstance(values, float):
        return values if math.isfinite(values) else "NaN" if math.isnan(values) else f"{'-' * (values < 0)}Infinity"
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_finite(value) for value in values]
    return values


def canonical(values: Any) -> bytes:
    """JSON values as canonical UTF-8 bytes."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=True).encode()


def dump_json(contract: object) -> bytes:
    """The contract as canonical JSON bytes."""
    return canonical(to_jsonable(contract))


def load_json(cls: type[T], data: bytes | str) -> T:
    """The contract of class `cls` that `dump_json` wrote.

    Raises:
        ContractError: The JSON is damaged, lacks a field that has no default, has an unknown field at any depth, or
            is of another schema version.

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
    unknown = _unknown(values, to_jsonable(result), ())
    if unknown is not None:
        raise ContractError(asked=f"read a {name}", found=f"unknown field {unknown!r}", fix="write it again")
    return result


def _unknown(given: Any, known: Any, where: tuple[str, ...]) -> str | None:
    """Path of the first field that was given and is not in what came of it; pydantic skips such fields silently."""
    if isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key not in known:
                return ".".join((*where, str(key)))
            found = _unknown(value, known[key], (*where, str(key)))
            if found is not None:
                return found
    elif isinstance(given, list) and isinstance(known, list):
        for index, (value, kept) in enumerate(zip(given, known, strict=False)):
            found = _unknown(value, kept, (*where, str(index)))
            if found is not None:
                return found
    return None


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
