"""The facts about a type of IPCP are in its row of `ouroboros.ipcp_types` and in its own folder: no other module of the product names
a type, in a text of its own or as a member of `IpcpType`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipcpd.common import types
from ouroboros.ipcp_types import ENROLLING, TYPES, IpcpType, type_name

CHECKOUT = Path(__file__).resolve().parents[2]
TABLE = "ouroboros/ipcp_types.py"
EXCEPTIONS = {
    "ipcpd/common/handshake.py": "a connection record is that of a unicast member if it names a protocol (spec/connections 1)",
    "ipcpd/dataplane/build.py": "C sources",
    "ouroboros/cli.py": "the type that `enroll_ipcp` creates by default, as in the existing binding",
    "ouroboros/facts.py": "which types have which counters",
    "ouroboros/ipcp_config.py": "names of the parts of the public class IpcpConfig",
    "tools/ocap/content.py": "the layer whose packets it decodes",
    "tools/ocap/dissect.py": "the layers whose frames it decodes",
    "ipcpd/wire/enrol.py": "the field of the configuration that is about unicast layers",
    "tools/olab/picture.py": "colours",
}
"""Path -> the reason for which it names types."""


def mentions(text: str) -> Iterator[str]:
    """The types that a module names."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and node.value in {one.type_name for one in IpcpType}:
            yield node.value
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "IpcpType"
            and node.attr in IpcpType.__members__
        ):
            yield node.attr


def own_folder(path: str) -> bool:
    return any(
        path.startswith(one.row.implementation.rpartition(".")[0].replace(".", "/") + "/")
        for one in IpcpType
        if one.row.implementation
    )


def test_no_other_module_names_a_type() -> None:
    naming = {
        path
        for package in ("ouroboros", "irmd", "ipcpd", "tools")
        for file in (CHECKOUT / package).rglob("*.py")
        if next(mentions(file.read_text()), None) and not own_folder(path := str(file.relative_to(CHECKOUT)))
    }
    assert naming == {TABLE, *EXCEPTIONS}


def test_mentions_are_found() -> None:
    assert list(mentions('if kind == "eth-dix": x = IpcpType.LOCAL\n"""A unicast layer."""')) == [
        "eth-dix",
        "LOCAL",
    ]


@pytest.mark.parametrize("ipcp_type", IpcpType)
def test_a_type_is_its_folder_and_its_row(ipcp_type: IpcpType) -> None:
    implementation = types.load(ipcp_type)
    assert (implementation is not None) == (ipcp_type.type_name in TYPES)
    if implementation is not None:
        assert implementation.kind == ipcp_type.type_name
        assert own_folder(implementation.__module__.replace(".", "/"))
    assert ipcp_type.enrols == (ipcp_type.type_name in ENROLLING)
    assert type_name(ipcp_type) == ipcp_type.type_name


def test_an_unknown_number_has_no_implementation() -> None:
    unknown = max(IpcpType) + 1
    assert types.load(unknown) is None
    assert type_name(unknown) == str(unknown)
