"""What the configuration's schema is written in: `Table`, and `Meta`, what is to be known about a
key beside its type.

The schema needs no library, so that a server whose command line says all there is to say starts
without one: importing msgspec takes longer than all else that `wherry serve` has to do of its own.
`config_reading` has msgspec check what a person wrote. Classes made by `dataclasses` take ten times
as long to be made, and a named tuple would be equal to any tuple. Annotations are no strings (no
`from __future__ import annotations`), which would have to be compiled.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Self, dataclass_transform
else:

    def dataclass_transform(**_options: Any) -> Any:
        return lambda cls: cls


__all__ = ["Meta", "Table"]


class Meta(NamedTuple):
    """What a key may be, and what it is for."""

    description: str = ""
    gt: float | None = None
    ge: float | None = None
    le: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    # How text is read, if not by its type alone: see `config_reading.convert`.
    kind: str | None = None
    # The option of `wherry serve` for it.
    flag: str | None = None


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Table:
    """A table of the file: annotations with defaults in the class, values by name in an object,
    which never change. A key that was not given is the class's.
    """

    def __init__(self, **values: Any) -> None:
        for name in values:
            if name not in self.names():
                raise TypeError(f"{type(self).__name__} has no '{name}'")
        self.__dict__.update(values)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Its keys, in the order of the schema."""
        return tuple(cls.__annotations__)

    def replace(self, **changes: Any) -> "Self":
        """The same with some changed."""
        return type(self)(**{**self.__dict__, **changes})

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.names())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} does not change: use replace({name}=)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} does not change")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        assert isinstance(other, Table)
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        pairs = zip(self.names(), self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"
