"""Options, and the processor clocks."""

from __future__ import annotations

import os

import pytest

from tests.bench.cpu import descendants, private_mib, spent, spent_by
from tests.bench.main import Bench, parser
from tests.bench.paths import PATHS, find
from tests.bench.row import What


def test_filters_may_be_repeated() -> None:
    options = parser().parse_args(
        ["--path", "direct", "--path", "system", "--what", "pps", "--subject", "floor"]
    )
    assert (options.path, options.what, options.subject) == (["direct", "system"], ["pps"], ["floor"])
    assert not options.json and not options.quick


@pytest.mark.parametrize("option", ["--path", "--what", "--subject"])
def test_unknown_word_is_a_usage_error(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parser().parse_args([option, "nonsense"])
    assert stopped.value.code == 2
    assert "nonsense" in capsys.readouterr().err


def test_no_filter_wants_everything() -> None:
    bench = Bench([], [], [], True, lambda text: None)
    assert all(map(bench.wanted, What)) and bench.selected("direct")


def test_a_filter_wants_only_its_words() -> None:
    bench = Bench(["local"], ["pps"], [], True, lambda text: None)
    assert [w for w in What if bench.wanted(w)] == [What.PPS]
    assert bench.selected("local") and not bench.selected("direct")


def test_sizes_are_those_of_the_paths_that_are_asked_for() -> None:
    paths = [PATHS["direct"], PATHS["data/direct"]]
    assert Bench([], [], [], True, lambda text: None)._sizes(paths) == [64, 1400, 1500, 65000]
    assert Bench([], [], [], True, lambda text: None, sizes=[64, 9])._sizes(paths) == [64]


def test_a_flow_of_data_may_go_over_any_path() -> None:
    assert find("data/chain-8") is not None and find("data/nothing") is None
    assert "data/unicast/udp4" in PATHS


def test_processor_time_only_grows() -> None:
    before = spent(os.getpid())
    sum(range(100_000))
    assert spent(os.getpid()) > before > 0


def test_processes_that_are_gone_count_as_nothing() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(ProcessLookupError, match=str(child)):
        spent(child)
    assert spent_by([child]) == 0


def test_descendants_and_memory_of_this_process() -> None:
    assert os.getpid() in descendants(os.getppid())
    assert private_mib(os.getpid()) > 1
