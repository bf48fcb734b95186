"""Reading: a description in TOML, or as the table that TOML becomes; and back.

A mistake is reported with the file, the line and the key. TOML keeps no lines, so the line is looked for in the text only when there
is a mistake to report. docs/reference/olab.md has all keys.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .description import (
    Address,
    Description,
    DescriptionError,
    End,
    LinkKind,
    LinkSpec,
    Step,
    SystemSpec,
    both,
    check,
)
from .emulator.impairment import Impairment, ImpairmentError

TOP_KEYS = ("name", "system", "link", "step")
SYSTEM_KEYS = ("hosts", "names", "irm", "run")
LINK_KEYS = ("type", "between", "addresses", "vlan", "mtu", "emulate")
STEP_KEYS = ("system", "irm", "run")
MAX_OCTETS = 1 << 20


class FileError(ValueError):
    """A file cannot be read as a description; the text begins with its name and, where there is one, the line."""


def read(path: Path) -> Description:
    """The description in a TOML file, checked. Raises FileError."""
    try:
        with open(path, "rb") as file:
            octets = file.read(MAX_OCTETS + 1)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from None
    if len(octets) > MAX_OCTETS:
        raise FileError(f"{path}: it has more than {MAX_OCTETS} octets")
    try:
        text = octets.decode()
        table = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: it is not UTF-8 text: {error.reason}") from None
    except tomllib.TOMLDecodeError as error:
        raise FileError(f"{path}: {error}") from None
    except ValueError:  # Python's limit for the digits of a number
        raise FileError(f"{path}: a number in it has too many digits") from None
    except RecursionError:
        raise FileError(f"{path}: it is nested too deeply") from None
    try:
        return check(from_table(table, name=path.stem))
    except DescriptionError as error:
        line = find_line(text, error.path)
        raise FileError(f"{path}:{line}: {error}" if line else f"{path}: {error}") from None


# ---------------------------------------------------------------- from a table


def from_table(table: Mapping[str, Any], *, name: str = "") -> Description:
    """The description that a table holds; of the right types, not yet checked. Raises DescriptionError."""
    _check_keys((), table, TOP_KEYS)
    systems = _tables((), table, "system")
    steps = [
        Step(system=key, irm=irm, run=run, path=("system", key))
        for key, value in systems.items()
        if (irm := _texts(("system", key), value, "irm")) + (run := _texts(("system", key), value, "run"))
    ]
    return Description(
        name=_text((), table, "name") or name,
        systems=tuple(_system(key, value) for key, value in systems.items()),
        links=tuple(_link(key, value) for key, value in _tables((), table, "link").items()),
        steps=(*steps, *_steps(table.get("step", []))),
    )


def _system(name: str, table: Mapping[str, Any]) -> SystemSpec:
    path = ("system", name)
    _check_keys(path, table, SYSTEM_KEYS)
    return SystemSpec(
        name=name, hosts=_text_table(path, table, "hosts"), names=_text_table(path, table, "names")
    )


def _link(name: str, table: Mapping[str, Any]) -> LinkSpec:
    path = ("link", name)
    _check_keys(path, table, LINK_KEYS)
    word = _text(path, table, "type") or LinkKind.VETH.value
    try:
        kind = LinkKind(word)
    except ValueError:
        known = ", ".join(kind.value for kind in LinkKind)
        raise DescriptionError(
            (*path, "type"), f'"{word}" is not a type of link; it must be one of: {known}'
        ) from None
    between = _texts(path, table, "between")
    if len(between) != 2:
        raise DescriptionError((*path, "between"), 'it takes two ends, as in ["a:eth1", "b:eth0"]')
    return LinkSpec(
        name=name,
        kind=kind,
        ends=(_end(path, kind, between[0]), _end(path, kind, between[1])),
        addresses=tuple(_address(path, text) for text in _texts(path, table, "addresses")),
        vlan=_number(path, table, "vlan"),
        mtu=_number(path, table, "mtu"),
        emulate=_emulate(path, table),
    )


def _end(path: tuple[str, ...], kind: LinkKind, text: str) -> End:
    system, colon, device = text.partition(":")
    if kind is LinkKind.VETH and not (system and device):
        raise DescriptionError((*path, "between"), f'"{text}" is not SYSTEM:DEVICE, as in "a:eth1"')
    if kind is LinkKind.LOOPBACK and colon:
        raise DescriptionError(
            (*path, "between"), f'"{text}": a loopback link has no devices; "{system}" will do'
        )
    return End(system, device or "lo")


def _emulate(path: tuple[str, ...], table: Mapping[str, Any]) -> tuple[Impairment, Impairment] | None:
    if "emulate" not in table:
        return None
    texts = _texts(path, table, "emulate")
    if len(texts) not in (1, 2):
        raise DescriptionError(
            (*path, "emulate"),
            "it takes one text, or two: for frames from the first end, and from the second",
        )
    try:
        return both((texts[0], texts[-1]))
    except ImpairmentError as error:
        raise DescriptionError((*path, "emulate"), str(error)) from None


def _address(path: tuple[str, ...], text: str) -> Address:
    try:
        return ipaddress.ip_interface(text)
    except ValueError:
        raise DescriptionError(
            (*path, "addresses"), f'"{text}" is not an IP address with a prefix length, as in "10.1.1.1/24"'
        ) from None


def _steps(tables: Any) -> list[Step]:
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        raise DescriptionError(("step",), "steps are written as [[step]]")
    found = []
    for number, table in enumerate(tables, start=1):
        path = ("step", str(number))
        _check_keys(path, table, STEP_KEYS)
        system = _text(path, table, "system")
        if system is None:
            raise DescriptionError(path, "it needs a system")
        found.append(
            Step(system=system, irm=_texts(path, table, "irm"), run=_texts(path, table, "run"), path=path)
        )
    return found


def _check_keys(path: tuple[str, ...], table: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            raise DescriptionError((*path, key), f"the key is unknown; it must be one of: {', '.join(known)}")


def _tables(path: tuple[str, ...], table: Mapping[str, Any], key: str) -> dict[str, Mapping[str, Any]]:
    value = table.get(key, {})
    if not isinstance(value, Mapping):
        raise DescriptionError((*path, key), f"it is written as [{key}.NAME]")
    for name, one in value.items():
        if not isinstance(one, Mapping):
            raise DescriptionError((*path, key, name), f"it is written as [{key}.{name}]")
    return dict(value)


def _text(path: tuple[str, ...], table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise DescriptionError((*path, key), f"it must be a text, not {value!r}")
    return value


def _texts(path: tuple[str, ...], table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise DescriptionError((*path, key), 'it must be a list of texts, as in ["one", "two"]')
    return tuple(value)


def _text_table(path: tuple[str, ...], table: Mapping[str, Any], key: str) -> dict[str, str]:
    value = table.get(key, {})
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise DescriptionError((*path, key), 'it must be a table of addresses, as in { name = "10.1.1.1" }')
    return dict(value)


def _number(path: tuple[str, ...], table: Mapping[str, Any], key: str) -> int | None:
    value = table.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise DescriptionError((*path, key), f"it must be a whole number, not {value!r}")
    return value


# ---------------------------------------------------------------- to a table


def to_table(description: Description) -> dict[str, Any]:
    """The table that `from_table` makes this description of; all its steps are [[step]]."""
    return {
        "name": description.name,
        "system": {
            system.name: {"hosts": dict(system.hosts), "names": dict(system.names)}
            for system in description.systems
        },
        "link": {link.name: _link_table(link) for link in description.links},
        "step": [
            {"system": step.system, "irm": list(step.irm), "run": list(step.run)}
            for step in description.steps
        ],
    }


def _link_table(link: LinkSpec) -> dict[str, Any]:
    table: dict[str, Any] = {
        "type": link.kind.value,
        "between": [end.system if link.kind is LinkKind.LOOPBACK else str(end) for end in link.ends],
        "addresses": [str(address) for address in link.addresses],
    }
    for key, value in (("vlan", link.vlan), ("mtu", link.mtu)):
        if value is not None:
            table[key] = value
    if link.emulate is not None:
        table["emulate"] = [str(impairment) for impairment in link.emulate]
    return table


# ---------------------------------------------------------------- where it is in the file


def find_line(text: str, path: Sequence[str]) -> int | None:
    """The line of a TOML text that has the key, or the table that it would be in; None when neither is found."""
    if not path:
        return None
    number, best, best_depth = 0, None, 0
    here: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\[?([^\[\]]+)\]\]?\s*(#.*)?$", line):
            here = _split_key(header[1])
            if line.lstrip().startswith("[["):
                seen = sum(1 for one in text.splitlines()[:number] if re.match(r"\s*\[\[\s*step\s*\]\]", one))
                here.append(str(seen))
            found = here
        elif key := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            found = here + _split_key(key[1])
        else:
            continue
        depth = len(found) if found == list(path[: len(found)]) else 0
        if depth > best_depth:
            best, best_depth = number, depth
    return best


def _split_key(key: str) -> list[str]:
    return [part.strip().strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", key)]
