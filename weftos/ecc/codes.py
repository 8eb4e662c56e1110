"""Numbers with names and room for one's own: kinds of structures, cross-references and impulses.

An enumeration of the language holds only what was written into it. These sets are open: whoever builds on them takes a
custom number, and it has to survive a file and a wire. So each is a whole number of its own type, which knows its name.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import ClassVar, Final, Self

from weftos.errors import EccError

__all__ = ["Code"]

#: Between the words of a name: ``ResourceTree`` becomes ``RESOURCE_TREE``.
_WORDS: Final = re.compile(r"(?<!^)(?=[A-Z])")


class Code(int):
    """A number of an open set. ``str`` gives its name, ``Custom(…)`` for one that has none.

    Subclasses set the class variables, and get a constant for each name, which they declare for the type checker.
    """

    #: Names by number.
    names: ClassVar[dict[int, str]] = {}
    #: The numbers that :meth:`custom` takes.
    customs: ClassVar[Container[int]] = range(256)
    #: What is added to a custom number, so that it is none of the named ones.
    custom_base: ClassVar[int] = 0
    #: How a custom number is shown.
    custom_form: ClassVar[str] = "Custom(0x{:02X})"
    #: Raised for a number that is none of the set.
    refusal: ClassVar[type[EccError]] = EccError

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        """Make the constants."""
        for number, name in cls.names.items():
            setattr(cls, _WORDS.sub("_", name).upper(), cls(number))

    def __new__(cls, number: int) -> Self:
        """Take a number of the set.

        Raises:
            EccError: the one of the set, for a number that is neither named nor custom.
        """
        if number not in cls.names and number - cls.custom_base not in cls.customs:
            raise cls.refusal(f"{number} is no {cls.__name__}; name one of {', '.join(cls.names.values())}, or Custom")
        return super().__new__(cls, number)

    @classmethod
    def custom(cls, number: int) -> Self:
        """Take a number of one's own, 0 to 255.

        Raises:
            EccError: the one of the set, for a number that is out of range or has a name.
        """
        if number not in cls.customs or number + cls.custom_base in cls.names:
            raise cls.refusal(f"{number} cannot be a custom {cls.__name__}; take another number")
        return cls(number + cls.custom_base)

    @property
    def is_custom(self) -> bool:
        """Whether it has no name."""
        return int(self) not in self.names

    def __str__(self) -> str:
        name = self.names.get(int(self))
        return self.custom_form.format(int(self) - self.custom_base) if name is None else name

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self}"
