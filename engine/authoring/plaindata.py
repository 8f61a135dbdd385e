"""What jobs, flows, makers and configs share: themselves as plain data (`as_dict`, `from_dict`, `to_json`), in monty's shape.

monty is not needed for it, and its encoder, decoder and pydantic hooks take these classes for its own.
"""

from __future__ import annotations

from typing import Any


class PlainData:
    """A class whose constructor's arguments are its attributes."""

    __slots__ = ()

    def _told(self) -> dict[str, Any]:
        """What the constructor is to be given."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """Plain data, in the shape that monty reads: with `@module`, `@class` and `@version`. Leaves are kept."""
        from towline.engine.codec import mson

        told: dict[str, Any] = mson.unfolded(self._told())
        return {**mson.named(type(self)), **told}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Any:
        """What `as_dict` wrote."""
        from towline.engine.codec import mson

        return cls(**{name: mson.revive(value) for name, value in d.items() if not name.startswith("@")})

    def to_json(self) -> str:
        """`as_dict` as JSON text, in which what is no JSON names its class. TypeError for a value that has no such form."""
        import json

        from towline.engine.codec import mson

        return json.dumps(self.as_dict(), default=mson.written)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        from towline.engine.codec import mson

        return core_schema.no_info_plain_validator_function(
            cls._of, serialization=core_schema.plain_serializer_function_ser_schema(lambda value: mson.sanitize(value.as_dict()))
        )

    @classmethod
    def _of(cls, value: Any) -> Any:
        from towline.engine.codec import mson

        made = mson.revive(value) if isinstance(value, dict) else value
        if isinstance(made, dict):
            made = cls(**made)
        if not isinstance(made, cls):
            raise ValueError(f"expected a {cls.__name__}, or what its as_dict gives, not a {type(value).__name__}")
        return made
