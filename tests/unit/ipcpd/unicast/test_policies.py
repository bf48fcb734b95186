"""A routing policy is a member of `LinkStatePolicy`, and the module of its word: no other module of the product names one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ipcpd.unicast.routing.policy import load
from ouroboros.ipcp_options import OPTIONS
from ouroboros.policies import AddressAuthPolicy, LinkStatePolicy

CHECKOUT = Path(__file__).resolve().parents[4]


def test_no_other_module_names_a_routing_policy() -> None:
    words = set(LinkStatePolicy.words())
    naming = {
        str(file.relative_to(CHECKOUT))
        for package in ("ouroboros", "irmd", "ipcpd", "tools")
        for file in (CHECKOUT / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in words
    }
    assert naming == {"ouroboros/policies.py"}


@pytest.mark.parametrize("policy", LinkStatePolicy)
def test_a_routing_policy_is_the_module_of_its_word(policy: LinkStatePolicy) -> None:
    loaded = load(policy)
    assert loaded.routes.__module__ == f"ipcpd.unicast.routing.{policy.word}"
    assert loaded.table({}, {}).entries == {}
    assert OPTIONS["routing"].check(policy.word.upper()) == policy.word


def test_a_policy_is_found_by_number_and_by_word() -> None:
    assert LinkStatePolicy(1) is LinkStatePolicy.of("lfa") is LinkStatePolicy.LFA
    assert AddressAuthPolicy.FLAT_RANDOM is AddressAuthPolicy.FLAT
    with pytest.raises(KeyError):
        LinkStatePolicy.of("unknown")
