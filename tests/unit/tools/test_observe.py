"""The reader, the statistics tree and the metrics, of a system whose answers the test gives."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
from ouroboros_tools.observe import events, listing, metrics, mount, reader, top, tree
from ouroboros_tools.observe.board import board
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from textual.widgets import DataTable, Static

from ouroboros import facts, irm
from ouroboros.errors import IrmError
from ouroboros.ipcp_types import IpcpType
from ouroboros.name_info import NameInfo, Registration
from ouroboros.readout import FlowEnd, FlowInfo, IpcpInfo, PoolClass, PoolInfo

UNI = IpcpInfo(11, "uni/1", IpcpType.UNICAST, "net", state="operational", instance=1)
EVIL = IpcpInfo(12, '<script>"\\\n', IpcpType.LOCAL, "l\N{SNOWMAN}", state="operational", instance=2)
NEW = IpcpInfo(13, "proc.1", IpcpType.UDP4, "", state="init", instance=3)
FLOW = FlowInfo(7, "allocated", "name", "", (FlowEnd(5, 64, "a", 1, 2), FlowEnd(6, 65, "b", 0, 3, 4, 5)))


def unicast_rows(what: str) -> list[facts.Row]:
    """Every column of every read-out of a unicast IPCP."""
    if what == "counters":
        rows: list[facts.Row] = []
        for group in facts.GROUPS:
            if "unicast" in group.types:
                of = {"": "", "flow": "flow 66", "cube": "voice"}.get(group.scope, "directory")
                names = ["FlowDealloc"] if group.open else [fact.name for fact in group.facts]
                rows += group.rows({name: at for at, name in enumerate(names)}, of)
        return rows
    table = facts.tables_of("unicast")[what]
    kinds: dict[facts.Kind, object] = {facts.Kind.TEXT: "a.b", facts.Kind.STATE: True}
    row = table.row(**{fact.name: kinds.get(fact.kind, 3) for fact in table.facts})
    if "state" in row:
        row["state"] = "up"
    if what == "flows":
        row["fd"] = 66
    return [row]


class System:
    """Answers of the library, and how often each was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken: set[str] = set()
        self.ipcps: list[IpcpInfo] = [UNI, EVIL, NEW]
        self.hold: threading.Event | None = None

    def list_ipcps(self) -> list[IpcpInfo]:
        self.asked.append("ipcps")
        if self.hold:
            self.hold.wait()
        return self.ipcps

    def readout_ipcp(self, ipcp: IpcpInfo, what: str) -> list[facts.Row]:
        self.asked.append(what)
        if ipcp.name in self.broken:
            raise IrmError(errno.ETIMEDOUT, "it does not answer")
        if ipcp.type is IpcpType.UNICAST:
            return unicast_rows(what)
        return facts.LATE.rows({"FlowDealloc": 4}) if what == "counters" else []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(irm, "list_ipcps", self.list_ipcps)
        monkeypatch.setattr(irm, "readout_ipcp", self.readout_ipcp)
        monkeypatch.setattr(irm, "readout_irmd", lambda what: facts.LATE.rows({"Bye": 1}))
        monkeypatch.setattr(irm, "list_flows", lambda: [FLOW])
        pool = PoolInfo("system", 0, 1 << 20, 2, [PoolClass(224, 10, 9, ())], 1 << 19)
        monkeypatch.setattr(irm, "list_pools", lambda: [pool])


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    found = System()
    found.install(monkeypatch)
    return found


# ---------------------------------------------------------------- reader


def test_an_answer_is_used_for_a_moment(system: System) -> None:
    now = [0.0]
    source = reader.Reader(kept=1.0, clock=lambda: now[0])
    source.ipcps()
    source.ipcps()
    assert system.asked == ["ipcps"]
    now[0] = 1.0
    source.ipcps()
    assert system.asked == ["ipcps"] * 2
    assert len(source._answers) == 1, "old answers are deleted"


def test_an_error_is_kept_as_an_answer_is(system: System) -> None:
    system.broken.add(UNI.name)
    source = reader.Reader(clock=lambda: 0.0)
    for _ in range(2):
        with pytest.raises(IrmError, match="does not answer"):
            source.rows(UNI, "status")
    assert system.asked == ["status"]


def test_an_irmd_that_does_not_answer_holds_no_reader_for_ever(system: System) -> None:
    system.hold = threading.Event()
    source = reader.Reader(kept=0.0, limit=0.01)
    for _ in range(2):
        with pytest.raises(TimeoutError, match="IRMd"):
            source.ipcps()
    assert system.asked == ["ipcps"], "and there is one question at a time"
    system.hold.set()
    assert source._asking is not None
    source._asking.join()
    assert source.ipcps() == system.ipcps


# ---------------------------------------------------------------- tree


def walk(node: tree.Node, path: str = "") -> Iterator[tuple[str, tree.File]]:
    if isinstance(node, tree.File):
        yield path, node
        return
    for name, entry in node.entries().items():
        assert "/" not in name and name not in ("", ".", "..")
        yield from walk(entry, f"{path}/{name}")


def test_every_file_of_the_tree_has_a_text(system: System) -> None:
    files = dict(walk(tree.root(reader.Reader())))
    for path in (
        "/uni%2F1/info/_state",
        "/uni%2F1/counters/data transfer voice",
        "/uni%2F1/counters/late messages",
        "/uni%2F1/lsdb/.a.b a.b",
        "/uni%2F1/lsdb/a.b--a.b",
        "/uni%2F1/dht/stats",
        "/uni%2F1/dht/database",
        "/uni%2F1/dt.a.b/a.b",
        "/uni%2F1/dt.a.b/cube.0",
        "/uni%2F1/flow-allocator/66",
        "/proc.1.13/info/_layer",
        "/proc.6/65/flow",
        "/irmd/counters/late messages",
        "/irmd/pools/system",
    ):
        assert path in files, (path, list(files))
    for path, file in files.items():
        text = file.text()
        assert text.endswith("\n") or "/lsdb/." in path, path
    assert files["/uni%2F1/info/_state"].text() == "operational\n"
    assert files["/proc.1.13/info/_layer"].text() == "(null)\n"


def test_an_entry_of_the_link_state_database_is_as_the_prototype_prints_it() -> None:
    row = facts.LINKS.row(**{"from": "48.4a.c0.a7", "to": "70.13.87.7a"}, sequence=41, age=0.0)
    lines = listing.link(row).splitlines()
    assert lines[:3] == [
        "src:          48.4a.c0.a7",
        "dst:          70.13.87.7a",
        "seqno:                 41",
    ]
    assert lines[3].startswith("upd: 20") and lines[3].endswith("(UTC)")


def test_a_path_that_is_not_there(system: System) -> None:
    top = tree.root(reader.Reader())
    with pytest.raises(FileNotFoundError, match="weather"):
        tree.find(top, "uni%2F1/weather")
    with pytest.raises(NotADirectoryError):
        tree.find(top, "/uni%2F1/info/_state/x")
    assert tree.find(top, "//./") is top


def test_a_flow_that_was_deallocated_meanwhile(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tree.find(tree.root(reader.Reader(kept=0.0)), "proc.5/64/flow")
    monkeypatch.setattr(irm, "list_flows", list)
    with pytest.raises(FileNotFoundError, match="deallocated"):
        cast(tree.File, file).text()


@pytest.mark.parametrize("name", [".", "..", "a/b", "%2F", "", "/", "\0", "x" * 255])
def test_names_of_entries(name: str) -> None:
    entry = tree.entry_name(name)
    assert entry not in ("", ".", "..") and "/" not in entry and "\0" not in entry


class Info:
    fh = 0
    direct_io = False


def test_files_that_are_never_closed_are_bounded(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mfusepy", exc_type=Exception)
    monkeypatch.setattr(mount, "MAX_OPEN", 2)
    operations = mount.Tree(lambda: None)
    path = "/irmd/pools/system"
    handles = [Info(), Info()]
    for handle in handles:
        operations.open(path, handle)
    with pytest.raises(OSError) as caught:
        operations.open(path, Info())
    assert caught.value.errno == errno.EMFILE
    assert (
        operations.read(path, 4, 0, handles[0]) == b"name"
        and operations.read(path, 9, 1 << 30, handles[0]) == b""
    )
    operations.release(path, handles[0])
    operations.open(path, Info())


def test_errors_reach_the_kernel_as_it_knows_them(system: System) -> None:
    pytest.importorskip("mfusepy", exc_type=Exception)
    operations = mount.Tree(lambda: None)
    system.broken.add(UNI.name)
    for call, number in (
        (lambda: operations.getattr("/weather"), errno.ENOENT),
        (lambda: operations.readdir("/uni%2F1/lsdb", 0), errno.ETIMEDOUT),
        (lambda: operations.readdir("/irmd/pools/system", 0), errno.ENOTDIR),
        (lambda: operations.open("/irmd", Info()), errno.EISDIR),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == number
    assert mount._number(OSError(1002, "the IRMd")) == errno.EIO


# ---------------------------------------------------------------- metrics


def parsed(samples: metrics.Samples) -> dict[str, Any]:
    """Families by name, as the official parser reads them."""
    return {family.name: family for family in text_string_to_metric_families(metrics.text(samples))}


def test_the_official_parser_reads_all_metrics(system: System) -> None:
    found = parsed(metrics.collect(reader.Reader(), facts.METRICS_SERVER.rows({"served": 1, "refused": 2})))
    sent = found["ouroboros_data_transfer_sent_packets"]
    assert (sent.type, sent.unit) == ("counter", "packets")
    (sample,) = sent.samples
    assert sample.value == 4
    assert sample.labels == {"ipcp": "uni/1", "type": "unicast", "layer": "net", "cube": "voice"}
    states = {
        s.labels["ouroboros_neighbours_state"]: s.value for s in found["ouroboros_neighbours_state"].samples
    }
    assert states == {"up": 1, "down": 0, "silent": 0, "connecting": 0}
    assert found["ouroboros_data_transfer_flow_limit_octets"].samples[0].labels["flow"] == "66"
    assert found["ouroboros_metrics_server_refused"].samples[0].value == 2
    names = [sample.labels["name"] for sample in found["ouroboros_ipcp"].samples]
    assert names == [UNI.name, EVIL.name, NEW.name], "whatever is in them"


def test_every_declared_number_of_a_type_is_a_metric(system: System) -> None:
    found = parsed(metrics.collect(reader.Reader()))
    for declared, fact, family in metrics.families():
        if "unicast" in declared.types:
            assert family.name in found, (declared, fact)


def test_an_ipcp_that_does_not_answer_hides_no_other(system: System) -> None:
    system.broken.add(UNI.name)
    found = parsed(metrics.collect(reader.Reader()))
    assert found["ouroboros_ipcp_unreadable"].samples[0].value == 1
    assert len(found["ouroboros_ipcp"].samples) == 3
    assert "ouroboros_flow_ends_queued_packets" in found


def test_families_of_one_name_are_of_one_kind() -> None:
    kinds: dict[str, tuple[str, str]] = {}
    for _, _, family in metrics.families():
        assert kinds.setdefault(family.name, (family.kind, family.unit)) == (family.kind, family.unit)


def test_the_board_has_a_panel_for_every_metric() -> None:
    made = board()
    panels = [panel for panel in made["panels"] if panel["type"] != "row"]
    shown = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    for _, fact, family in metrics.families():
        suffix = "_total" if fact.kind is facts.Kind.COUNTER else ""
        assert f"{family.name}{suffix}{{" in shown
    taken = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(taken)) == len(taken) and len({panel["id"] for panel in made["panels"]}) == len(
        made["panels"]
    )


# ---------------------------------------------------------------- events


def test_the_events_between_two_looks() -> None:
    before: events.Things = {
        ("ipcp", "a", "1"): {"layer": ""},
        ("ipcp", "b", "2"): {"layer": "l"},
        ("neighbour", "a", "n", "dt", "64"): {"state": "up"},
        ("neighbour", "a", "m", "dt", "65"): {"state": "up"},
        ("route", "a", "1.2.3.4", "voice"): {"next": ["x"]},
        ("flow", "1"): {"state": "alloc-pending", "name": "n"},
        ("flow", "2"): {"state": "allocated", "name": "n"},
        ("name", "n"): {},
    }
    after: events.Things = {
        ("ipcp", "a", "1"): {"layer": "l"},
        ("ipcp", "b", "3"): {"layer": "l"},
        ("ipcp", "c", "4"): {"layer": ""},
        ("neighbour", "a", "n", "dt", "64"): {"state": "silent"},
        ("neighbour", "a", "o", "dt", "66"): {"state": "connecting"},
        ("route", "a", "1.2.3.4", "voice"): {"next": ["y"]},
        ("flow", "1"): {"state": "allocated", "name": "n"},
        ("flow", "3"): {"state": "accept-pending", "name": "n"},
        ("name", "n"): {},
        ("registration", "n", "a"): {"layer": "l"},
    }
    assert [event.event for event in events.changes(before, after)] == [
        "ipcp restarted",
        "ipcp created",
        "ipcp changed",
        "neighbour lost",
        "neighbour connecting",
        "neighbour silent",
        "route changed",
        "flow deallocated",
        "flow accept-pending",
        "flow up",
        "registration added",
    ]
    assert not events.changes(after, after)
    event = events.changes({}, {("flow", "3"): {"state": "allocated", "name": "n", "layer": ""}})[0]
    assert event.line() == "flow up flow_id=3 state=allocated name=n"
    assert event.record() == {
        "event": "flow up",
        "flow_id": "3",
        "state": "allocated",
        "name": "n",
        "layer": "",
    }


def test_a_look_at_a_system(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    name = NameInfo("n", registrations=[Registration(11, "uni/1", "net", "00")])
    monkeypatch.setattr(irm, "list_names", lambda: [name])
    kinds = {key[0] for key in events.look(reader.Reader())}
    assert kinds == {"ipcp", "neighbour", "route", "flow", "name", "registration"}
    system.broken.add(UNI.name)
    found = events.look(reader.Reader())
    assert ("ipcp", "uni/1", "11") in found and not any(key[0] == "route" for key in found)


# ---------------------------------------------------------------- top


def test_rates_are_of_one_process() -> None:
    before = top.Look(1.0, (), {("a",): 10.0, ("b",): 5.0})
    after = top.Look(3.0, (), {("a",): 30.0, ("b",): 1.0, ("c",): 7.0})
    assert top.rates(before, after) == {("a",): 10.0, ("b",): 0.0}
    assert top.rates(None, after) == {} == top.rates(after, after)


def test_rows_are_filtered_and_sorted() -> None:
    rows: list[list[top.Cell]] = [["Alpha", 2.0], ["beta", 10.0], ["gamma", 1.0]]
    assert [row[0] for row in top.chosen(rows, by=1, reverse=True, word="")] == ["beta", "Alpha", "gamma"]
    assert [row[0] for row in top.chosen(rows, by=0, reverse=False, word="ALPH")] == ["Alpha"]


def test_the_screen_in_80_columns(system: System) -> None:
    """Lists, sorting, filter and pause; a name from elsewhere is shown as it is."""
    system.ipcps = [UNI, EVIL]

    async def use() -> None:
        app = top.Top(reader.Reader(kept=0), interval=3600.0)
        async with app.run_test(size=(80, 24)) as pilot:

            async def shown() -> tuple[str, list[list[str]]]:
                await app.workers.wait_for_complete()
                await pilot.pause()
                table = app.query_one(DataTable)
                rows = [[str(cell) for cell in table.get_row_at(at)] for at in range(table.row_count)]
                assert table.virtual_size.width <= 80 or app._shown == 3
                return str(app.query_one("#head", Static).render()), rows

            head, rows = await shown()
            assert head.startswith("Flows") and [row[3] for row in rows] == ["5/64", "6/65"]
            await pilot.press("4")
            head, rows = await shown()
            assert head.startswith("Counters") and any(
                row[0] == '<script>"\\\\n' or "script" in row[0] for row in rows
            )
            await pilot.press("slash", *"voice", "enter")
            head, rows = await shown()
            assert "filter: voice" in head and rows and all("voice" in " ".join(row) for row in rows)
            await pilot.press("s", "r", "space")
            head, _ = await shown()
            assert "paused" in head and "sorted by ipcp v" in head
            asked = len(system.asked)
            app._look()
            await app.workers.wait_for_complete()
            assert len(system.asked) == asked
            await pilot.press("2")
            head, rows = await shown()
            assert head.startswith("Neighbours")
            await pilot.press("q")

    asyncio.run(use())
