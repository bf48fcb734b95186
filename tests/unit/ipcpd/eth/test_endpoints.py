"""Endpoints: claimed in blocks, shared with others on the device, rested before they are used again."""

from __future__ import annotations

from random import Random

from ipcpd.eth.framing import DixFraming, LlcFraming
from ipcpd.link.endpoints import ENOUGH, REST, Endpoints
from ouroboros.wire import FIRST_EID, MAX_EID


class Blocks:
    """What all IPCPs on a device have claimed."""

    def __init__(self) -> None:
        self.owner: dict[int, str] = {}

    def claims(self, who: str) -> object:
        def claim(block: int) -> bool:
            return self.owner.setdefault(block, who) == who

        return claim


def dix(blocks: Blocks, who: str = "a", seed: int = 1) -> Endpoints:
    framing = DixFraming(0xA000)
    return Endpoints(framing.endpoints, framing.block, blocks.claims(who), Random(seed))  # type: ignore[arg-type]


def llc(blocks: Blocks, who: str = "a") -> Endpoints:
    framing = LlcFraming()
    return Endpoints(framing.endpoints, framing.block, blocks.claims(who), Random(1))  # type: ignore[arg-type]


def test_every_endpoint_can_be_used_and_none_twice() -> None:
    endpoints = dix(Blocks())
    taken = [endpoints.take(0.0) for _ in range(MAX_EID - FIRST_EID + 1)]
    assert sorted(t for t in taken if t is not None) == list(range(FIRST_EID, MAX_EID + 1))
    assert endpoints.take(0.0) is None
    assert endpoints.used == len(taken)


def test_a_sap_is_never_out_of_range() -> None:
    endpoints = llc(Blocks())
    taken = [endpoints.take(0.0) for _ in range(62)]
    assert sorted(t for t in taken if t is not None) == list(range(2, 64))
    assert endpoints.take(0.0) is None


def test_several_ipcps_on_a_device_share_them() -> None:
    blocks = Blocks()
    sharing = [dix(blocks, who, seed) for seed, who in enumerate("abcd")]
    taken = [endpoints.take(0.0) for endpoints in sharing for _ in range(300)]
    assert None not in taken
    assert len(set(taken)) == len(taken)


def test_one_that_is_alone_keeps_the_first_block_for_last() -> None:
    # A prototype on the same device takes 64 first, then 65 ...
    blocks = Blocks()
    endpoints = dix(blocks)
    for _ in range(MAX_EID - FIRST_EID + 1 - 64 - ENOUGH):
        endpoints.take(0.0)
    assert 0 not in blocks.owner


def test_what_another_has_given_up_can_be_claimed() -> None:
    blocks = Blocks()
    other, endpoints = llc(blocks, "other"), llc(blocks)
    while other.take(0.0):
        pass
    assert endpoints.take(0.0) is None
    blocks.owner.clear()  # it has ended
    assert endpoints.take(0.0) is not None


def test_one_that_was_given_back_rests_and_the_longest_rested_comes_first() -> None:
    endpoints = llc(Blocks())
    taken = [endpoints.take(0.0) for _ in range(62)]
    for at, endpoint in enumerate(taken):
        assert endpoint is not None
        endpoints.give_back(endpoint, 1.0 + at / 100)
    assert endpoints.take(1.0 + REST / 2) is None
    again = [endpoints.take(1.0 + REST + 1.0) for _ in taken]
    assert again == taken


def test_a_longer_rest_does_not_hold_up_the_others() -> None:
    endpoints = llc(Blocks())
    first, second = endpoints.take(0.0), endpoints.take(0.0)
    while endpoints.take(0.0):
        pass
    assert first and second
    endpoints.give_back(first, 0.0, 30.0)
    endpoints.give_back(second, 0.0)
    assert endpoints.take(REST) == second
    assert endpoints.take(REST) is None
    assert endpoints.take(30.0) == first


def test_what_was_not_taken_cannot_be_given_back() -> None:
    endpoints = llc(Blocks())
    endpoints.give_back(5, 0.0)
    endpoints.give_back(4000, 0.0)
    assert sorted(e for e in (endpoints.take(9.0) for _ in range(64)) if e) == list(range(2, 64))


def test_after_a_restart_it_does_not_begin_where_it_began() -> None:
    assert len({dix(Blocks(), seed=seed).take(0.0) for seed in range(20)}) > 10


def test_quiet_ones_are_left_alone_while_there_are_others() -> None:
    endpoints = llc(Blocks())
    first = endpoints.take(0.0)
    assert first is not None
    endpoints.give_back(first, 0.0, quiet=131.0)
    others = [endpoints.take(2.0) for _ in range(61)]
    assert first not in others and None not in others
    assert endpoints.take(0.5) is None, "it rests in any case"
    assert endpoints.take(2.0) == first, "nobody is refused for the sake of quiet"


def test_flows_one_after_the_other() -> None:
    """Reliable ones, in less time than one of them wants quiet: as many as there are, and then those that have rested longest."""
    endpoints = dix(Blocks())
    seen: dict[int, int] = {}
    every = MAX_EID - FIRST_EID + 1
    for i in range(10_000):
        endpoint = endpoints.take(i / 100)
        assert endpoint is not None
        assert i - seen.get(endpoint, i - every) == every
        seen[endpoint] = i
        endpoints.give_back(endpoint, i / 100, quiet=131.0)


def test_one_that_is_given_back_twice_is_used_once() -> None:
    endpoints = llc(Blocks())
    while endpoints.take(0.0):
        pass
    endpoints.give_back(5, 0.0)
    endpoints.give_back(5, 0.0)
    assert endpoints.used == 61
    assert endpoints.take(9.0) == 5
    assert endpoints.take(9.0) is None


def test_of_those_given_back_together_the_first_comes_first() -> None:
    endpoints = llc(Blocks())
    taken = [endpoint for endpoint in (endpoints.take(0.0) for _ in range(62)) if endpoint is not None]
    for endpoint in reversed(taken):
        endpoints.give_back(endpoint, 1.0)
    assert [endpoints.take(1.0 + REST) for _ in taken] == taken[::-1]


def test_the_rest_is_that_of_the_layer() -> None:
    endpoints = Endpoints(range(2, 4), 2, lambda _: True, Random(1), rest=0.25)
    taken = {endpoints.take(0.0), endpoints.take(0.0)}
    assert taken == {2, 3}
    endpoints.give_back(2, 0.0)
    assert endpoints.take(0.2) is None
    assert endpoints.take(0.25) == 2


def test_after_a_restart_it_begins_in_another_block() -> None:
    begun = {(dix(Blocks(), seed=seed).take(0.0) or 0) // DixFraming(0xA000).block for seed in range(20)}
    assert len(begun) > 5
