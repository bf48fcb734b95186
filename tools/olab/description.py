"""Description: a lab as Python objects: systems, links between them, and the commands that set them up.

A library module of olab; it changes nothing on the machine. `check` finds every mistake that can be found before the
lab is made, and names its key. `reading` makes these objects from TOML; tests make them directly.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from .emulator.impairment import Impairment, parse

MAX_SYSTEMS = 256
MAX_LINKS = 4096
MIN_MTU = 68
MAX_MTU = 65535
MAX_VLAN = 4094
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_DEVICE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,14}")
_RESERVED = {"lo", "all", "default"}

Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class DescriptionError(ValueError):
    """A description is wrong. `path` is the wrong key, from the top; the text has the reason and a correct form."""

    def __init__(self, path: Sequence[str], text: str) -> None:
        super().__init__(f"{'.'.join(path)}: {text}" if path else text)
        self.path = tuple(path)
        self.text = text


class LinkKind(Enum):
    """Kinds of links."""

    VETH = "veth"
    """A virtual cable: an ethernet device in each of two systems."""
    LOOPBACK = "loopback"
    """The loopback device: the systems share their devices, and each has an IP address of its own."""


@dataclass(frozen=True, slots=True)
class End:
    """One end of a link: a system, and its device there (`lo` for a loopback link)."""

    system: str
    device: str

    def __str__(self) -> str:
        return f"{self.system}:{self.device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """A link. `addresses`, if any, has one IP address with its prefix length for each end.

    With `vlan` each end also has the sub-interface DEVICE.VLAN, and that one gets the address. `mtu` is in octets.
    With `emulate` an emulator stands in the link: impairments of frames from the first end, and of those from the second.
    """

    name: str
    ends: tuple[End, End]
    kind: LinkKind = LinkKind.VETH
    addresses: tuple[Address, ...] = ()
    vlan: int | None = None
    mtu: int | None = None
    emulate: tuple[Impairment, Impairment] | None = None

    def interface(self, end: int) -> str:
        """The device that has the address: the VLAN's, if there is one."""
        device = self.ends[end].device
        return device if self.vlan is None else f"{device}.{self.vlan}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Commands that are run in a system, one after the other: of `irm` (without that word), or of the shell."""

    system: str
    irm: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    """The key of the description that has this step."""

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """Each command as it is shown and as it is executed."""
        for line in self.irm:
            yield f"irm {line}", ["irm", *shlex.split(line)]
        for line in self.run:
            yield line, ["/bin/sh", "-c", line]


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSpec:
    """A system. `hosts` are lines of its own /etc/hosts, name to address; `names` the same by Ouroboros name.

    A UDP layer looks for the MD5 hash of a name (paper 5.10): an entry of `names` becomes a line for that hash.
    """

    name: str
    hosts: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def hosts_file(self) -> str:
        """The text of /etc/hosts in this system."""
        entries = [("127.0.0.1", "localhost"), ("::1", "localhost"), ("127.0.1.1", self.name)]
        entries += [(address, name) for name, address in self.hosts.items()]
        entries += [(address, md5(name)) for name, address in self.names.items()]
        return "".join(f"{address}\t{name}\n" for address, name in entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A whole lab. Steps are run in this order when all systems and links are there."""

    name: str
    systems: tuple[SystemSpec, ...]
    links: tuple[LinkSpec, ...] = ()
    steps: tuple[Step, ...] = ()

    def link_between(self, one: str, other: str) -> list[LinkSpec]:
        """All links between two systems."""
        return [link for link in self.links if {end.system for end in link.ends} == {one, other}]

    def networks(self) -> list[list[str]]:
        """Systems that share one set of devices: loopback links join them, all others are by themselves."""
        group = {system.name: [system.name] for system in self.systems}
        for link in self.links:
            one, other = (group[end.system] for end in link.ends)
            if link.kind is LinkKind.LOOPBACK and one is not other:
                one += other
                group.update(dict.fromkeys(other, one))
        found: list[list[str]] = []
        for system in self.systems:
            if not any(group[system.name] is known for known in found):
                found.append(group[system.name])
        return found

    def devices(self, system: str) -> set[str]:
        """The devices that a system will have."""
        share = next(network for network in self.networks() if system in network)
        found = {"lo"}
        for link in self.links:
            for index, end in enumerate(link.ends):
                if end.system in share:
                    found |= {end.device, link.interface(index)}
        return found

    def emulated(self) -> Description:
        """The same with an emulator in every link that can have one; each forwards all frames until it gets an impairment."""
        links = (
            replace(link, emulate=link.emulate or both("")) if link.kind is LinkKind.VETH else link
            for link in self.links
        )
        return replace(self, links=tuple(links))

    def only_links(self) -> Description:
        """The same systems and links without the commands."""
        return replace(self, steps=())


def md5(name: str) -> str:
    """The hash by which a UDP layer knows a name, in hexadecimal."""
    return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


# ---------------------------------------------------------------- shorthand for programs


def both(words: str | tuple[str, str]) -> tuple[Impairment, Impairment]:
    """The impairments of the two directions; one text is for both. Raises ImpairmentError."""
    one, other = (words, words) if isinstance(words, str) else words
    return parse(one), parse(other)


def veth(
    one: str,
    other: str,
    *,
    name: str = "",
    devices: tuple[str, str] = ("", ""),
    addresses: Sequence[str] = (),
    vlan: int | None = None,
    mtu: int | None = None,
    emulate: str | tuple[str, str] | None = None,
) -> LinkSpec:
    """A cable between two systems. By default its name is ONE-OTHER, and its devices are named after the far end.

    emulate  impairments of frames, as in "loss 5% delay 20ms"; two texts for the two directions. Raises ImpairmentError.
    """
    return LinkSpec(
        name=name or f"{one}-{other}",
        ends=(End(one, devices[0] or f"to-{other}"), End(other, devices[1] or f"to-{one}")),
        addresses=tuple(ipaddress.ip_interface(address) for address in addresses),
        vlan=vlan,
        mtu=mtu,
        emulate=None if emulate is None else both(emulate),
    )


def loopback(one: str, other: str, *, name: str = "", addresses: Sequence[str]) -> LinkSpec:
    """A path over the loopback device between two systems, which share their devices."""
    return LinkSpec(
        name=name or f"{one}-{other}",
        ends=(End(one, "lo"), End(other, "lo")),
        kind=LinkKind.LOOPBACK,
        addresses=tuple(ipaddress.ip_interface(address) for address in addresses),
    )


# ---------------------------------------------------------------- checks


def check(description: Description) -> Description:
    """The description, when `check` finds no mistake in it. Raises DescriptionError."""
    check_name((), "the lab", description.name)
    if not description.systems:
        raise DescriptionError(("system",), "a lab needs at least one system, as in [system.a]")
    _check_limit(("system",), len(description.systems), MAX_SYSTEMS)
    _check_limit(("link",), len(description.links), MAX_LINKS)
    known: set[str] = set()
    for system in description.systems:
        check_name(("system", system.name), "a system", system.name)
        if system.name in known:
            raise DescriptionError(("system", system.name), "there are two systems of this name")
        known.add(system.name)
        _check_hosts(system)
    _check_links(description, known)
    for step in description.steps:
        _check_step(description, step, known)
    return description


def check_name(path: Sequence[str], what: str, name: str) -> None:
    """Check that a name can be part of a path and of a host name. Raises DescriptionError."""
    if not _NAME.fullmatch(name):
        raise DescriptionError(
            path, f'{what} cannot be called "{name}"; a name has 1 to 32 letters, digits, "-" and "_"'
        )


def _check_limit(path: tuple[str, ...], count: int, limit: int) -> None:
    if count > limit:
        raise DescriptionError(path, f"there are {count}, and there may be {limit}")


def _check_hosts(system: SystemSpec) -> None:
    for key, entries in (("hosts", system.hosts), ("names", system.names)):
        for name, address in entries.items():
            path = ("system", system.name, key, name)
            try:
                ipaddress.ip_address(address)
            except ValueError:
                raise DescriptionError(path, f'"{address}" is not an IP address') from None
            if not name or (key == "hosts" and any(mark.isspace() or mark == "#" for mark in name)):
                raise DescriptionError(path, f'"{name}" cannot be a name in a hosts file')


def _check_links(description: Description, known: set[str]) -> None:
    names: set[str] = set()
    devices: dict[tuple[int, str], str] = {}
    for link in description.links:
        path = ("link", link.name)
        check_name(path, "a link", link.name)
        if link.name in names:
            raise DescriptionError(path, "there are two links of this name")
        if link.name in known:
            raise DescriptionError(
                path, "a system has this name already; the argument of `olab cut` would be ambiguous"
            )
        names.add(link.name)
        for end in link.ends:
            if end.system not in known:
                raise DescriptionError((*path, "between"), f'there is no system "{end.system}"')
        if link.kind is LinkKind.VETH:
            _check_veth(link)
        else:
            _check_loopback(link)
    place = {name: index for index, network in enumerate(description.networks()) for name in network}
    for link in description.links:
        for index, end in enumerate(link.ends if link.kind is LinkKind.VETH else ()):
            for device in {end.device, link.interface(index)}:
                other = devices.setdefault((place[end.system], device), link.name)
                if other != link.name:
                    raise DescriptionError(
                        ("link", link.name, "between"),
                        f'the device "{device}" of system {end.system} belongs to link {other} already',
                    )
        one, other_end = link.ends
        if link.kind is LinkKind.VETH and one.device == other_end.device:
            if place[one.system] == place[other_end.system]:
                raise DescriptionError(("link", link.name, "between"), "its two ends have the same device")


def _check_veth(link: LinkSpec) -> None:
    path = ("link", link.name)
    for end in link.ends:
        if not _DEVICE.fullmatch(end.device) or end.device in _RESERVED:
            raise DescriptionError(
                (*path, "between"),
                f'"{end.device}" cannot be the name of a device; it has 1 to 15 letters, digits, "-" and "_"',
            )
    if link.vlan is not None:
        if not 1 <= link.vlan <= MAX_VLAN:
            raise DescriptionError((*path, "vlan"), f"{link.vlan} is not a VLAN; it is from 1 to {MAX_VLAN}")
        for index in (0, 1):
            if len(link.interface(index)) > 15:
                raise DescriptionError(
                    (*path, "between"),
                    f'the name "{link.interface(index)}" of its VLAN device has over 15 letters',
                )
    if link.mtu is not None and not MIN_MTU <= link.mtu <= MAX_MTU:
        raise DescriptionError((*path, "mtu"), f"{link.mtu} is not an MTU; it is from {MIN_MTU} to {MAX_MTU}")
    _check_addresses(link, needed=False)


def _check_loopback(link: LinkSpec) -> None:
    path = ("link", link.name)
    for key, value in (("vlan", link.vlan), ("mtu", link.mtu), ("emulate", link.emulate)):
        if value is not None:
            raise DescriptionError((*path, key), "a loopback link has none; leave it out")
    _check_addresses(link, needed=True)


def _check_addresses(link: LinkSpec, *, needed: bool) -> None:
    path = ("link", link.name, "addresses")
    if not link.addresses and not needed:
        return
    if len(link.addresses) != 2:
        raise DescriptionError(path, f"it has {len(link.addresses)}; it takes one for each of the two ends")
    one, other = link.addresses
    if one.version != other.version:
        raise DescriptionError(path, f"{one} and {other} are not of the same version of IP")
    if one.ip == other.ip:
        raise DescriptionError(path, f"both ends have the address {one.ip}")
    if not needed and one.network != other.network:
        raise DescriptionError(
            path, f"{one} and {other} are not in the same subnet: they could not reach each other"
        )


def _check_step(description: Description, step: Step, known: set[str]) -> None:
    if step.system not in known:
        raise DescriptionError((*step.path, "system"), f'there is no system "{step.system}"')
    if not step.irm and not step.run:
        raise DescriptionError(step.path, "there is nothing to do; give it `irm` or `run`")
    for line in step.irm:
        _check_irm(description, step, line)


def _check_irm(description: Description, step: Step, line: str) -> None:
    """Parse the command as `irm` would, without running it."""
    from ..irm.main import resolve, split
    from ..irm.words import Command, HelpWanted, UsageError, WrongWord, parse

    path = (*step.path, "irm")
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise DescriptionError(path, f'"{line}": {error}') from None
    if words[:1] == ["irm"]:
        raise DescriptionError(path, f'"{line}": leave out the word "irm"')
    parts = split(words)
    try:
        found = resolve(parts.words)
        if not isinstance(found.target, Command):
            raise DescriptionError(path, f'"{line}" is not a whole command; see `{found.path} help`')
        arguments = parse(found.path, found.target, found.words, parts.after)
    except HelpWanted:
        raise DescriptionError(path, f'"{line}" does nothing but print help') from None
    except (UsageError, WrongWord) as error:
        raise DescriptionError(path, f'"{line}": {error}') from None
    device = arguments.one("dev") if "dev" in arguments.values else None
    if device is not None and device not in (there := description.devices(step.system)):
        raise DescriptionError(
            path, f'"{line}": system {step.system} has no device "{device}"; it has {" ".join(sorted(there))}'
        )
