"""The end of a process, as the log describes it."""

from __future__ import annotations

import pytest

from irmd.exit_status import status_text


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "exited with status 0"),
        (-9, "was killed by SIGKILL"),
        (-64, "was killed by SIGRTMAX"),
        (-99, "was killed by signal 99"),
    ],
)
def test_what_became_of_it(status: int, text: str) -> None:
    assert status_text(status) == text
