"""A name of a system: its policy, its credentials, the programs and processes bound to it and the layers it is registered in (docs/reference/irm.md, docs/reference/api.md).

A library module of tools and applications. One class serves both ways, as in the existing binding: filled in by the
caller to create a name, filled in by the IRMd to show it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntFlag

from .ipcp_types import LoadBalancePolicy


class Requirement(IntFlag):
    """A requirement on every flow to a name, enforced at this end independently of the other."""

    ENCRYPTION = 1
    AUTHENTICATION = 2

    @classmethod
    def from_words(cls, words: Iterable[str]) -> Requirement:
        """From the words of the command line and of the configuration file. Raises ValueError."""
        found = cls(0)
        for word in words:
            known = {one.name.lower(): one for one in cls if one.name}
            if word not in known:
                raise ValueError(f'"{word}" is not one of {", ".join(known)}')
            found |= known[word]
        return found

    @property
    def words(self) -> list[str]:
        """As the command line has them."""
        return [one.name.lower() for one in Requirement if one in self and one.name]


@dataclass(slots=True)
class NameSecPaths:
    """Files that secure a name, at one side; "" means the default place."""

    enc: str = ""
    key: str = ""
    crt: str = ""


@dataclass(slots=True)
class BoundProgram:
    """A program that is bound to a name; `auto`: the IRMd starts it, with `args`, when it is needed."""

    path: str
    auto: bool = False
    args: list[str] = field(default_factory=list)


@dataclass(slots=True)
class BoundProcess:
    """A process that is bound to a name, and how many accepts of it wait now."""

    pid: int
    program: str = ""
    accepting: int = 0


@dataclass(slots=True)
class Registration:
    """Where a name is registered; `hash` is hexadecimal, as the layer knows the name."""

    pid: int
    ipcp: str = ""
    layer: str = ""
    hash: str = ""


@dataclass(slots=True)
class NameInfo:
    """A name. To create one, only `name`, `pol_lb`, the paths and `require` matter; the IRMd reports the other fields."""

    name: str
    pol_lb: LoadBalancePolicy = LoadBalancePolicy.ROUND_ROBIN
    server_sec: NameSecPaths = field(default_factory=NameSecPaths)
    client_sec: NameSecPaths = field(default_factory=NameSecPaths)
    programs: list[BoundProgram] = field(default_factory=list)
    processes: list[BoundProcess] = field(default_factory=list)
    registrations: list[Registration] = field(default_factory=list)
    require: Requirement = Requirement(0)
