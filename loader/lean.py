"""What the resident process does without `typing` for, and `contextlib`: to import the first takes 1.9 MB, and one of
us sits in each pod.

Modules on its path (tests/unit/test_lean.py lists what they import) annotate freely, under

    from __future__ import annotations
    TYPE_CHECKING = False  # a type checker takes a variable by this name for true

and make their records of the NamedTuple below.
"""

from __future__ import annotations

from _operator import itemgetter  # `operator` is the same and more of it, in Python

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import NamedTuple as NamedTuple
    from typing import Self
else:

    class NamedTuple(tuple):
        """typing.NamedTuple, as far as we use it: fields by annotation, without defaults."""

        __slots__ = ()
        _fields = ()

        def __init_subclass__(cls):
            cls._fields = tuple(cls.__annotations__)
            for index, name in enumerate(cls._fields):
                setattr(cls, name, property(itemgetter(index)))

        def __new__(cls, *values, **named):
            values += tuple(named.pop(name) for name in cls._fields[len(values) :] if name in named)
            if named or len(values) != len(cls._fields):
                raise TypeError(f"{cls.__name__} takes {', '.join(cls._fields)}")
            return tuple.__new__(cls, values)

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **named):
            return type(self)(**{**self._asdict(), **named})

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"


class Resource:
    """What holds something of the kernel's, until close() or the end of a `with`: contextlib.closing, as a base."""

    def close(self) -> None:
        """Let go of it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
