"""A JSON Schema's references to parts of itself, written out, so that every field can be looked at by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["without_references"]

_BY_NAME: Final = {"properties", "patternProperties", "dependentSchemas"}
_DATA: Final = {"enum", "const", "default", "examples"}
_SHELVES: Final = {"$defs", "definitions"}
_EXPANDED_MAX: Final = 1000


def without_references(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    """`schema` with each `$ref` in the place of what it refers to, and without `$defs`.

    Raises ValueError (reference, what would be right): it leads out of the schema, nowhere, into itself, or there are
    more than 1,000 once all are written out.
    """
    return None if schema is None else _Expansion(schema).of_schema()


class _Expansion:
    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._count = 0

    def of_schema(self) -> dict[str, Any]:
        kept = {key: value for key, value in self._schema.items() if key not in _SHELVES}
        found: dict[str, Any] = self._of(kept, ())
        return found

    def _of(self, node: Any, inside: tuple[str, ...]) -> Any:
        if isinstance(node, (list, tuple)):
            return [self._of(item, inside) for item in node]
        if not isinstance(node, Mapping):
            return node
        found: dict[str, Any] = {}
        for key, value in node.items():
            if key in _BY_NAME and isinstance(value, Mapping):
                found[key] = {name: self._of(child, inside) for name, child in value.items()}
            else:
                found[key] = value if key in _DATA else self._of(value, inside)
        reference = found.get("$ref")
        if not isinstance(reference, str):
            return found
        del found["$ref"]
        return self._joined(self._target(reference, inside), found)

    def _target(self, reference: str, inside: tuple[str, ...]) -> Any:
        if not reference.startswith("#/"):
            raise ValueError(reference, "only parts of the schema itself can be referred to, like #/$defs/name")
        if reference in inside:
            raise ValueError(reference, "it contains itself; settings have an end")
        self._count += 1
        if self._count > _EXPANDED_MAX:
            raise ValueError(reference, f"at most {_EXPANDED_MAX} references are read; write the schema more plainly")
        node: Any = self._schema
        for part in reference[2:].split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, Mapping) or name not in node:
                raise ValueError(reference, "the schema has no such part")
            node = node[name]
        return self._of(node, (*inside, reference))

    @staticmethod
    def _joined(target: Any, beside: dict[str, Any]) -> Any:
        """What a reference and the words beside it say together."""
        if not isinstance(target, dict):
            return {**beside, "allOf": [target]} if beside else target
        says = target.keys() & beside.keys() - {"title", "description", "default"}
        return {**beside, "allOf": [*beside.get("allOf", ()), target]} if says else {**target, **beside}
