"""The documentation's examples run on systems like those of the system tests."""

from tests.system.conftest import clean_world, make_system, namespaces

__all__ = ["clean_world", "make_system", "namespaces"]
