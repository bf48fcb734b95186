"""The reference is complete: it contains every public name, every option, every key."""

from __future__ import annotations

import importlib
import re
from dataclasses import fields

import pytest
from ouroboros_tools.olab import commands as olab
from ouroboros_tools.olab import reading

from irmd.memory import PoolConfig
from irmd.settings import Settings
from ouroboros import errors, ipcp_options, ipcp_types
from tests.system.conftest import CHECKOUT

REFERENCE = CHECKOUT / "docs" / "reference"


def words(page: str) -> set[str]:
    return set(re.findall(r"[\w-]+", (REFERENCE / page).read_text()))


@pytest.mark.parametrize(
    "module", ["ouroboros", *(f"ouroboros.{name}" for name in ("dev", "event", "irm", "cli", "aio"))]
)
def test_every_public_name(module: str) -> None:
    assert not set(importlib.import_module(module).__all__) - words("api.md")


@pytest.mark.parametrize("module", ["ouroboros.dev", "ouroboros.event", "ouroboros.aio"])
def test_every_public_method(module: str) -> None:
    for name in importlib.import_module(module).__all__:
        thing = getattr(importlib.import_module(module), name)
        if isinstance(thing, type) and thing.__module__ == module:
            # The names of the existing binding are in the page as a rule: get_ and set_ before a property.
            public = {re.sub(r"^[gs]et_", "", one) for one in vars(thing) if not one.startswith("_")}
            assert not public - words("api.md"), thing


def test_every_error() -> None:
    classes = {
        name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, OSError)
    }
    numbers = {name for name, value in vars(errors).items() if name.isupper() and name.startswith("E")}
    assert not (classes | numbers) - words("api.md")


def test_every_option_of_bootstrap() -> None:
    assert not (set(ipcp_options.OPTIONS) | set(ipcp_types.TYPES) - {"raptor"}) - words("irm.md")


def test_every_command_and_option_of_olab() -> None:
    (commands,) = [action for action in olab.parser()._actions if isinstance(action.choices, dict)]
    assert isinstance(commands.choices, dict)
    text = (REFERENCE / "olab.md").read_text()
    for name, command in commands.choices.items():
        assert f"`{name}" in text or f"olab {name}" in text, name
        for option in (option for action in command._actions for option in action.option_strings):
            assert option in ("-h",) or re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), (
                name,
                option,
            )


def test_every_key_of_a_lab() -> None:
    keys = {*reading.TOP_KEYS, *reading.SYSTEM_KEYS, *reading.LINK_KEYS, *reading.STEP_KEYS}
    assert not keys - words("olab.md")


def test_every_key_of_the_configuration() -> None:
    keys = {one.name for one in (*fields(Settings), *fields(PoolConfig))}
    assert not keys - words("config.md")
