"""irm doctor: is this machine fit, and is the system well? (docs/howto/observe.md)"""

from __future__ import annotations

from ouroboros.printable import printable

from ..text import coloured, print_json
from .words import Arguments, Command

_COLOURS = {"bad": "red", "note": "yellow", "good": "dim"}


def _doctor(arguments: Arguments) -> int:
    from ..observe.doctor import Grade, examine

    findings = list(examine())
    if arguments.json:
        print_json(
            {"findings": [{**finding._asdict(), "grade": finding.grade.value} for finding in findings]}
        )
    else:
        for finding in findings:
            grade = coloured(f"{finding.grade.value:<4}", _COLOURS[finding.grade.value])
            print(f"{grade}  {printable(finding.subject)}: {printable(finding.text)}")
            if finding.advice:
                print(f"      {printable(finding.advice)}")
    return 1 if any(finding.grade is Grade.BAD for finding in findings) else 0


DOCTOR = Command(
    "doctor",
    "check this machine and the system, and say what to do; exit status 1: something is bad",
    _doctor,
    json=True,
)
