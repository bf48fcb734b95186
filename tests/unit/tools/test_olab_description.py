"""Descriptions of labs: their meaning, and that each mistake is refused with its key."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from ouroboros_tools.olab.description import (
    Description,
    DescriptionError,
    End,
    LinkKind,
    LinkSpec,
    Step,
    SystemSpec,
    both,
    check,
    loopback,
    md5,
    veth,
)

A, B, C = (SystemSpec(name=name) for name in "abc")


def describe(*links: LinkSpec, steps: tuple[Step, ...] = ()) -> Description:
    return Description(name="lab", systems=(A, B, C), links=links, steps=steps)


def refused(description: Description) -> DescriptionError:
    with pytest.raises(DescriptionError) as failure:
        check(description)
    return failure.value


def test_whole_description_passes() -> None:
    description = describe(
        veth("a", "b", addresses=("10.0.0.1/24", "10.0.0.2/24"), mtu=9000),
        veth("b", "c", vlan=7),
        loopback("a", "a", name="lo", addresses=("127.0.0.1", "127.0.0.2")),
        steps=(Step(system="a", irm=("ipcp bootstrap name e type eth-dix layer l dev to-b", "n l")),),
    )
    assert check(description) is description


def test_systems_on_a_loopback_link_share_one_network() -> None:
    description = describe(
        veth("a", "b"), loopback("c", "a", name="lo", addresses=("127.0.0.1", "127.0.0.2"))
    )
    assert sorted(map(sorted, description.networks())) == [["a", "c"], ["b"]]
    assert description.devices("c") == {"lo", "to-b"}
    assert description.devices("b") == {"lo", "to-a"}


def test_vlan_adds_a_device() -> None:
    link = veth("a", "b", vlan=7)
    assert describe(link).devices("a") == {"lo", "to-b", "to-b.7"}
    assert (link.interface(0), link.interface(1)) == ("to-b.7", "to-a.7")


def test_emulated_links() -> None:
    plain, lossy = veth("a", "b"), veth("b", "c", emulate=("loss 5%", ""))
    short = loopback("a", "a", name="lo", addresses=("127.0.0.1", "127.0.0.2"))
    description = check(describe(plain, lossy, short).emulated())
    assert [link.emulate for link in description.links] == [both(""), both(("loss 5%", "")), None]
    wrong = describe(replace(short, emulate=both("loss 5%")))
    assert refused(wrong).path == ("link", "lo", "emulate")


def test_hosts_file_has_names_by_their_hash() -> None:
    system = SystemSpec(name="a", hosts={"peer": "10.0.0.9"}, names={"uni2": "10.1.1.1"})
    lines = [line.split("\t") for line in system.hosts_file().splitlines()]
    assert ["10.0.0.9", "peer"] in lines
    assert ["10.1.1.1", "6d4c827b2080bbc7c93ae45df8a3d0fb"] in lines
    assert md5("unicast") == "eebe0851cda7f85aeef4229567441a2d"  # paper Listing 13


def test_commands_of_a_step() -> None:
    step = Step(system="a", irm=("name create 'two words'",), run=("echo $HOME | cat",))
    assert list(step.commands()) == [
        ("irm name create 'two words'", ["irm", "name", "create", "two words"]),
        ("echo $HOME | cat", ["/bin/sh", "-c", "echo $HOME | cat"]),
    ]


def test_links_between_two_systems() -> None:
    one, two, other = veth("a", "b"), veth("b", "a"), veth("b", "c")
    assert describe(one, two, other).link_between("a", "b") == [one, two]
    assert describe(one, two, other).link_between("a", "c") == []


PLAIN = veth("a", "b", name="ab")


@pytest.mark.parametrize(
    ("link", "key", "reason"),
    [
        (replace(PLAIN, name="a b"), "", "cannot be called"),
        (replace(PLAIN, name="b"), "", "a system has this name"),
        (veth("a", "d", name="ad"), "between", 'no system "d"'),
        (
            replace(PLAIN, ends=(End("a", "lo"), End("b", "eth0"))),
            "between",
            "cannot be the name of a device",
        ),
        (replace(PLAIN, ends=(End("a", "e" * 16), End("b", "eth0"))), "between", "1 to 15"),
        (replace(PLAIN, ends=(End("a", "eth0"), End("a", "eth0"))), "between", "same device"),
        (replace(PLAIN, vlan=4095), "vlan", "from 1 to 4094"),
        (replace(PLAIN, vlan=7, ends=(End("a", "e" * 14), End("b", "eth0"))), "between", "VLAN device"),
        (replace(PLAIN, mtu=67), "mtu", "from 68 to 65535"),
        (replace(PLAIN, addresses=(ipaddress.ip_interface("10.0.0.1/24"),)), "addresses", "one for each"),
        (veth("a", "b", name="ab", addresses=("10.0.0.1/24", "fd00::1/64")), "addresses", "same version"),
        (veth("a", "b", name="ab", addresses=("10.0.0.1/24", "10.0.1.1/24")), "addresses", "same subnet"),
        (veth("a", "b", name="ab", addresses=("10.0.0.1/24", "10.0.0.1/24")), "addresses", "both ends"),
        (loopback("a", "b", name="ab", addresses=()), "addresses", "one for each"),
        (
            replace(loopback("a", "b", name="ab", addresses=("127.0.0.1", "127.0.0.2")), mtu=100),
            "mtu",
            "leave it out",
        ),
    ],
)
def test_wrong_link_is_refused(link: LinkSpec, key: str, reason: str) -> None:
    error = refused(describe(link))
    assert error.path == tuple(part for part in ("link", link.name, key) if part)
    assert reason in error.text


def test_device_belongs_to_one_link() -> None:
    error = refused(describe(veth("a", "b", name="one"), veth("a", "b", name="two")))
    assert error.path == ("link", "two", "between")
    assert 'the device "to-b" of system a belongs to link one already' in error.text


def test_device_belongs_to_one_link_among_systems_that_share_them() -> None:
    shared = loopback("a", "b", name="lo", addresses=("127.0.0.1", "127.0.0.2"))
    assert "already" in refused(describe(shared, veth("a", "c", name="one"), veth("b", "c", name="two"))).text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ipcp strap name x", "is unknown"),
        ("ipcp bootstrap name x", "layer"),
        ("ipcp", "not a whole command"),
        ("ipcp list help", "nothing but print help"),
        ("irm ipcp list", 'leave out the word "irm"'),
        ("name create 'x", "No closing quotation"),
        (
            "ipcp bootstrap name e layer l type eth-dix dev eth9",
            'system a has no device "eth9"; it has lo to-b',
        ),
    ],
)
def test_wrong_command_is_refused(line: str, reason: str) -> None:
    step = Step(system="a", irm=("ipcp list", line), path=("step", "1"))
    error = refused(describe(veth("a", "b"), steps=(step,)))
    assert error.path == ("step", "1", "irm")
    assert reason in error.text, error.text
    assert line in error.text


def test_step_needs_a_known_system_and_something_to_do() -> None:
    assert refused(describe(steps=(Step(system="x", run=("true",), path=("step", "1")),))).path == (
        "step",
        "1",
        "system",
    )
    assert "nothing to do" in refused(describe(steps=(Step(system="a", path=("step", "1")),))).text


def test_wrong_systems_are_refused() -> None:
    assert "at least one" in refused(Description(name="lab", systems=())).text
    assert "two systems" in refused(Description(name="lab", systems=(A, A))).text
    assert "cannot be called" in refused(Description(name="../lab", systems=(A,))).text
    assert "cannot be called" in refused(Description(name="lab", systems=(SystemSpec(name="x/y"),))).text
    for key in ("hosts", "names"):
        system = SystemSpec(name="a", **{key: {"peer": "10.0.0"}})
        error = refused(Description(name="lab", systems=(system,)))
        assert error.path == ("system", "a", key, "peer")
    assert (
        "hosts file"
        in refused(Description(name="lab", systems=(SystemSpec(name="a", hosts={"a b": "10.0.0.1"}),))).text
    )


def test_too_many_are_refused() -> None:
    systems = tuple(SystemSpec(name=f"s{number}") for number in range(257))
    assert "there are 257, and there may be 256" in refused(Description(name="lab", systems=systems)).text


def test_kinds_are_spelled_as_in_the_documentation() -> None:
    assert [kind.value for kind in LinkKind] == ["veth", "loopback"]
