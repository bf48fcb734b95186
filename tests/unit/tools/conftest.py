"""Fixtures of the traffic tools' tests."""

from tests.unit.tools.fakes import fake_dev

__all__ = ["fake_dev"]
