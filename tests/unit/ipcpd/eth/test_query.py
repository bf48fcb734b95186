"""Name queries of an Ethernet IPCP: every one is answered, whenever the answer comes."""

from __future__ import annotations

import asyncio

import pytest

from ipcpd.eth.eth import EthDixIpcp
from ipcpd.wire.eth import NameReply
from ouroboros.rpc.service import Refusal

NAME = bytes(32)
PEER = bytes.fromhex("020000000001")
QUERIES = 5


class Unattached(EthDixIpcp):
    """Without a device: messages of the machines are dropped, their answers are passed on."""

    def _run_due(self) -> None:
        self._directory.take_messages()
        for answer in self._directory.take_answers():
            self._answered(answer)


@pytest.mark.parametrize("known", [True, False])
def test_an_answer_that_comes_before_the_task_of_the_query_runs(known: bool) -> None:
    """Several queries in one turn of the loop, and in the same turn the frame that answers the question of the first."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        ipcp = Unattached("e", loop)
        waiting = [ipcp.query(NAME) for _ in range(QUERIES)]
        if known:
            ipcp._directory.received(NameReply(NAME), PEER, loop.time())
        else:
            ipcp._directory.expired(loop.time() + 60)
        ipcp._run_due()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert len(outcomes) == QUERIES
        assert all(one is None if known else isinstance(one, Refusal) for one in outcomes), outcomes
        await asyncio.sleep(0)
        assert not ipcp._questions

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())
