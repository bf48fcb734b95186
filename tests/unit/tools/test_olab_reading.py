"""Descriptions in TOML: read, written back, and refused with the line that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ouroboros_tools.olab.description import DescriptionError, LinkKind, check
from ouroboros_tools.olab.reading import FileError, find_line, from_table, read, to_table

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples" / "olab").glob("*.toml"))

WHOLE = """\
name = "small"

[system.a]
hosts = { peer = "10.0.0.2" }
names = { uni2 = "10.0.0.2" }
irm = ["ipcp list", "name list"]
run = "true"

[system.b]

[link.cable]
between = ["a:eth1", "b:eth0"]
addresses = ["10.0.0.1/24", "10.0.0.2/24"]
vlan = 5
mtu = 1400
emulate = ["loss 5%", "delay 20ms 2ms seed 7"]

[link.short]
type = "loopback"
between = ["a", "b"]
addresses = ["127.0.0.1", "127.0.0.2"]

[[step]]
system = "b"
irm = "flow list"

[[step]]
system = "a"
run = ["echo one", "echo two"]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "some.toml"
    path.write_text(text)
    return path


def test_whole_file(tmp_path: Path) -> None:
    description = read(write(tmp_path, WHOLE))
    assert description.name == "small"
    assert [system.name for system in description.systems] == ["a", "b"]
    cable, short = description.links
    assert [str(end) for end in cable.ends] == ["a:eth1", "b:eth0"]
    assert (cable.vlan, cable.mtu, str(cable.addresses[1])) == (5, 1400, "10.0.0.2/24")
    assert short.kind is LinkKind.LOOPBACK
    assert [(step.system, step.irm, step.run) for step in description.steps] == [
        ("a", ("ipcp list", "name list"), ("true",)),
        ("b", ("flow list",), ()),
        ("a", (), ("echo one", "echo two")),
    ]


def test_name_is_that_of_the_file(tmp_path: Path) -> None:
    assert read(write(tmp_path, "[system.a]")).name == "some"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_right(path: Path) -> None:
    description = read(path)
    assert description.steps and description.links
    assert check(from_table(to_table(description))).links == description.links


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    description = read(write(tmp_path, WHOLE))
    again = from_table(to_table(description))
    assert (again.name, again.systems, again.links) == (
        description.name,
        description.systems,
        description.links,
    )
    assert [(step.system, step.irm, step.run) for step in again.steps] == [
        (step.system, step.irm, step.run) for step in description.steps
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "complaint"),
    [
        ("mtu = 1400", "mtu = 14", 15, "link.cable.mtu: 14 is not an MTU"),
        ("mtu = 1400", 'mtu = "big"', 15, "link.cable.mtu: it must be a whole number, not 'big'"),
        (
            '"loss 5%", "delay',
            '"loss 5", "delay',
            16,
            'link.cable.emulate: loss: "5" is not a percentage, as in `loss 5%`',
        ),
        ('"loss 5%", "delay', '"", "", "delay', 16, "link.cable.emulate: it takes one text, or two"),
        ("mtu = 1400", "mtu = true", 15, "link.cable.mtu: it must be a whole number"),
        (
            "mtu = 1400",
            "color = 3",
            15,
            "link.cable.color: the key is unknown; it must be one of: type, between",
        ),
        (
            '"loopback"',
            '"pigeon"',
            19,
            'link.short.type: "pigeon" is not a type of link; it must be one of: veth, loopback',
        ),
        ('["a:eth1", "b:eth0"]', '["a:eth1"]', 12, "link.cable.between: it takes two ends"),
        ('["a:eth1", "b:eth0"]', '["a:eth1", "b"]', 12, 'link.cable.between: "b" is not SYSTEM:DEVICE'),
        ('["a", "b"]', '["a:lo", "b"]', 20, "link.short.between"),
        ('"10.0.0.1/24"', '"10.0.0.300"', 13, 'link.cable.addresses: "10.0.0.300" is not an IP address'),
        ('peer = "10.0.0.2"', 'peer = "nowhere"', 4, 'system.a.hosts.peer: "nowhere" is not an IP address'),
        ('"name list"', '"nme list"', 6, 'system.a.irm: "nme list"'),
        ('irm = ["ipcp list", "name list"]', "irm = 5", 6, "system.a.irm: it must be a list of texts"),
        ("[system.b]", "[system.b]\ncolour = 1", 10, "system.b.colour: the key is unknown"),
        ('irm = "flow list"', 'irm = "flow lost"', 25, 'step.1.irm: "flow lost"'),
        ('system = "a"\nrun', 'system = "x"\nrun', 28, 'step.2.system: there is no system "x"'),
        ('system = "a"\nrun', "run", 27, "step.2: it needs a system"),
        ('name = "small"', "systems = 3", 1, "systems: the key is unknown"),
        ('name = "small"', 'name = "two words"', None, 'the lab cannot be called "two words"'),
    ],
)
def test_mistake_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, line: int | None, complaint: str
) -> None:
    assert WHOLE.count(old) == 1
    path = write(tmp_path, WHOLE.replace(old, new))
    with pytest.raises(FileError) as failure:
        read(path)
    place = f"{path}:{line}: " if line else f"{path}: "
    assert str(failure.value).startswith(place + complaint), failure.value


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"[system.a]\nx = ]\ny = 3\n", "line 2"),
        (b"\xff\xfe", "not UTF-8"),
        (b"#" * ((1 << 20) + 1), "more than"),
        (b"a = " + b"9" * 5000, "too many digits"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
        (b"system = 3", "it is written as [system.NAME]"),
        (b"[system]\na = 3", "it is written as [system.a]"),
        (b"[system.a]\n[step]\nsystem = 'a'", "steps are written as [[step]]"),
        (b"", "at least one system"),
    ],
)
def test_what_is_no_description(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"bad\.toml") as failure:
        read(path)
    assert complaint in str(failure.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file"):
        read(tmp_path / "none.toml")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "system", "link", "step", "between", "addresses", "irm", "hosts", "type", "a", "b"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["name", "system", "link", "step", "x"]), VALUES, max_size=4))
def test_any_table_is_read_or_refused(table: dict[str, object]) -> None:
    try:
        check(from_table(table, name="lab"))
    except DescriptionError as error:
        assert str(error)


def test_line_of_a_key_that_is_not_there_is_that_of_its_table() -> None:
    assert find_line("[link.x]\nmtu = 3\n", ("link", "x", "addresses")) == 1
    assert find_line("[link.x]\n", ("system", "y")) is None
    assert find_line('[system."a"]\nirm = []\n', ("system", "a", "irm")) == 2
