"""Access to a layer: its conditions for members and for the flows between them (paper 5.3, which leaves it to the future).

A library module of tools and of IPCPs: data. A layer has it from its bootstrap; newcomers get it with their enrolment.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from .name_info import Requirement


@dataclass(frozen=True, slots=True)
class Access:
    """Requirements of a layer on the flows between its members, and patterns of the common names of admitted members (none: any
    name). Without requirements every process that reaches a member may become one."""

    require: Requirement = Requirement(0)
    admit: tuple[str, ...] = ()

    @classmethod
    def from_texts(cls, require: str, admit: str) -> Access:
        """From options of bootstrap, which have been checked: words, and patterns, separated by commas."""
        words = require.split(",") if require else ()
        return cls(Requirement.from_words(words), tuple(admit.split(",")) if admit else ())

    @property
    def text(self) -> str:
        """The patterns as they travel."""
        return ",".join(self.admit)

    def names(self, common_name: str) -> bool:
        """Whether a process with this common name may be a member."""
        return not self.admit or any(fnmatchcase(common_name, pattern) for pattern in self.admit)
