"""The configuration file of the IRMd: read and checked as a whole before anything is done (spec/rpc 6).

TOML. `[irmd]` and `[pool]` set limits; `[name.N]` and `[TYPE.I]` define names and IPCPs. An unknown key or an
invalid value is an error that names it.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ouroboros import ipcp_options as options
from ouroboros.cubes import PRESETS
from ouroboros.ipcp_types import COMPONENT_WORDS, CONFIG_ALIASES, DT_COMP, ENROLLING, TYPES, IpcpType
from ouroboros.name_info import Requirement
from ouroboros.qos import DEFAULT_PEER_TIMEOUT, UINT32_MAX
from ouroboros.rpc.limits import CONFIG_FILE
from ouroboros.rpc.messages_pb2 import ROUND_ROBIN, SPILLOVER
from ouroboros.rpc.service import Refusal
from ouroboros.rundir import VARIABLE, configuration_folder

from .manager import check_program
from .memory import PoolConfig
from .node import Adjacency, IpcpEntry, NameEntry, Node, Program
from .oap.credentials import Policy, SecurityPaths
from .registry import check_name, check_new_name
from .settings import LIMITS, Applications, Settings

_CONN_KEYS = ("dst", "component", "qos", "timeout")
_LB = {"spill": SPILLOVER, "spillover": SPILLOVER, "round-robin": ROUND_ROBIN}
_FILES = tuple(f"{side}_{what}_file" for side in ("server", "client") for what in ("enc", "crt", "key"))
_NAME_KEYS = ("prog", "args", "user", "lb", "require", *_FILES)
_PROGRAM_KEYS = ("path", "args", "user")
_IPCP_KEYS = ("bootstrap", "enrol", "enroll", "layer", "autobind", "bind", "reg", "conn", "retry")
_SPELLINGS = {
    "addr_size": "addr",
    "eid_size": "eid",
    "max_ttl": "ttl",
    "addr-auth": "addr_auth",
    "dht_t_expiry": "dht_t_expire",
}
"""Keys that the prototype's file spells otherwise than its command line."""


FILE_NAME = "irmd.conf"


class ConfigError(Exception):
    """The file cannot be read, or a value in it is wrong; the text names it."""


@dataclass(slots=True, frozen=True)
class Config:
    """The contents of the file; `entries` in the order in which they are carried out, `path` of a file that was read."""

    settings: Settings = Settings()
    pool: PoolConfig = PoolConfig()
    entries: tuple[NameEntry | IpcpEntry, ...] = field(default=())
    path: str | None = field(default=None, compare=False)

    @property
    def node(self) -> Node:
        """The names and IPCPs of the file."""
        return Node(
            {entry.name: entry for entry in self.entries if isinstance(entry, NameEntry)},
            {entry.name: entry for entry in self.entries if isinstance(entry, IpcpEntry)},
        )


def read(path: str) -> Config:
    """Read the file at `path`. Raises ConfigError.

    A system of root takes its configuration only from a file that no other user can write: it names programs to start.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if os.geteuid() == 0 and stat.S_ISREG(status.st_mode):
                _check_writers(path, status)
            octets = file.read(CONFIG_FILE + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    return replace(loads(octets, path), path=os.path.abspath(path))


def default_path() -> str | None:
    """The file of this user's system, where there is one. A system with a run directory of its own has none: there may be several."""
    if os.environ.get(VARIABLE):
        return None
    path = os.path.join(configuration_folder(), FILE_NAME)
    return path if os.path.exists(path) else None


def _check_writers(path: str, status: os.stat_result) -> None:
    if status.st_uid != 0:
        raise ConfigError(f"{path} belongs to uid {status.st_uid}, not to root: `chown root {path}`")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{path} can be written by others than root: `chmod go-w {path}`")


def loads(octets: bytes, path: str) -> Config:
    """Parse and check the text of a file. Raises ConfigError, with `path` and, where it is known, the line."""
    if len(octets) > CONFIG_FILE:
        raise ConfigError(f"{path} is longer than {CONFIG_FILE} octets")
    try:
        text = octets.decode()
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    except ValueError:  # Python's limit for the digits of a number
        raise ConfigError(f"{path} is not TOML: a number in it has too many digits") from None
    except RecursionError:
        raise ConfigError(f"{path} is not TOML: it is nested too deeply") from None
    try:
        return parse(tables)
    except ConfigError as error:
        raise ConfigError(f"{path}{_place(text, str(error))}: {error}") from None


def _place(text: str, error: str) -> str:
    """`:LINE` of the table that an error begins with, of the key where the error names one that is there; or nothing."""
    found = re.match(r"\[([^\]]+)\]:? *(?:key )?(\w[\w-]*)?", error)
    if found is None:
        return ""
    table, key = found.groups()
    at = 0
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if line.startswith("["):
            inside = line.lstrip("[").partition("]")[0].replace('"', "").replace("'", "").replace(
                " ", ""
            ) == table.replace(" ", "")
            at = number if inside else at
        elif inside and key and re.match(rf"[\"']?{re.escape(key)}[\"']?\s*=", line):
            return f":{number}"
    return f":{at}" if at else ""


def parse(tables: dict[str, Any]) -> Config:
    """Check the parsed file. Raises ConfigError."""
    settings, pool = Settings(), PoolConfig()
    entries: list[NameEntry | IpcpEntry] = []
    ipcps: set[str] = set()
    for table_name, content in tables.items():
        table = CONFIG_ALIASES.get(table_name, table_name)
        if not isinstance(content, dict):
            raise ConfigError(f"{table} = ... is not a table; known tables: {_known_tables()}")
        if table == "irmd":
            settings = _settings(content)
        elif table == "pool":
            pool = _pool(content)
        elif table == "name" or table in TYPES:
            for name, keys in content.items():
                where = f"[{table_name}.{name}]"
                if not isinstance(keys, dict):
                    raise ConfigError(f"{table}.{name} is not a table: write [{table}.NAME] above it")
                _check_name(where, name, check_new_name)
                if table == "name":
                    entries.append(_name(where, name, keys))
                    continue
                if name in ipcps:
                    raise ConfigError(f"{where}: there is another IPCP with that name")
                ipcps.add(name)
                entries.append(_ipcp(where, table, name, keys))
        else:
            raise ConfigError(f"table [{table}] is unknown; known tables: {_known_tables()}")
    return Config(settings, pool, tuple(entries))


def _known_tables() -> str:
    return ", ".join(["irmd", "pool", "name", *sorted(TYPES)])


def _check_name(where: str, name: str, check: Callable[[str], None] = check_name) -> None:
    try:
        check(name)
    except Refusal as refused:
        raise ConfigError(f"{where}: {refused.text}") from None


def _only(where: str, keys: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in keys:
        if key not in known:
            raise ConfigError(f"{where}: key {key} is unknown; known keys: {', '.join(known)}")


def _value(where: str, keys: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    """The value of a key, of the type it must have. A boolean is not a number here."""
    value = keys.get(key, default)
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ConfigError(f"{where}: {key} must be a {_KINDS[kind]}")
    return value


_KINDS = {str: "string", bool: "boolean (true or false)", int: "whole number", float: "number", list: "list"}


def _strings(where: str, keys: dict[str, Any], key: str) -> tuple[str, ...]:
    values = _value(where, keys, key, list, [])
    if any(type(value) is not str for value in values):
        raise ConfigError(f"{where}: {key} must be a list of strings")
    return tuple(values)


# ---------------------------------------------------------------- [irmd] and [pool]


def _settings(keys: dict[str, Any]) -> Settings:
    where = "[irmd]"
    default = Settings()
    _only(where, keys, tuple(one.name for one in fields(Settings)))
    values: dict[str, Any] = {}
    for key, (low, high) in LIMITS.items():
        value = _value(where, keys, key, type(getattr(default, key)), getattr(default, key))
        if not low <= value <= high:
            raise ConfigError(f"{where}: {key} = {value} is not between {low:g} and {high:g}")
        values[key] = value
    text = _value(where, keys, "applications", str, default.applications.value)
    try:
        values["applications"] = Applications(text)
    except ValueError:
        legal = ", ".join(one.value for one in Applications)
        raise ConfigError(f'{where}: applications = "{text}" is not one of {legal}') from None
    values["debug"] = _value(where, keys, "debug", bool, default.debug)
    values["security"] = _value(where, keys, "security", str, default.security)
    if values["security"] and not os.path.isdir(values["security"]):
        raise ConfigError(f"{where}: security = {values['security']} does not exist or is not a directory")
    return Settings(**values)


def _pool(keys: dict[str, Any]) -> PoolConfig:
    where = "[pool]"
    default = PoolConfig()
    _only(where, keys, ("classes", "user_scale"))
    scale = _value(where, keys, "user_scale", int, default.user_scale)
    if not 1 <= scale <= 1024:
        raise ConfigError(f"{where}: user_scale = {scale} is not between 1 and 1024")
    rows = _value(where, keys, "classes", list, [list(row) for row in default.classes])
    if len(rows) != len(default.classes):
        raise ConfigError(f"{where}: classes must have {len(default.classes)} rows")
    classes: list[tuple[int, int, int]] = []
    for row in rows:
        if type(row) is not list or len(row) != 3 or any(type(number) is not int for number in row):
            raise ConfigError(
                f"{where}: a row of classes is [octets of a block, blocks, blocks for IPCPs only]"
            )
        octets, blocks, reserve = row
        if octets % 64 or not 512 <= octets <= 1 << 20:
            raise ConfigError(
                f"{where}: a block of {octets} octets: must be a multiple of 64 from 512 to 1048576"
            )
        if blocks % 64 or not 64 <= blocks <= 1 << 20 or not 0 <= reserve < blocks:
            raise ConfigError(
                f"{where}: {blocks} blocks, {reserve} of them reserved: the first must be a multiple of 64 from 64 "
                "to 1048576, the second less"
            )
        if classes and octets <= classes[-1][0]:
            raise ConfigError(f"{where}: the rows of classes must be in order of size")
        classes.append((octets, blocks, reserve))
    return PoolConfig(classes=tuple(classes), user_scale=scale)


# ---------------------------------------------------------------- [name.N]


def _name(where: str, name: str, keys: dict[str, Any]) -> NameEntry:
    _only(where, keys, _NAME_KEYS)
    text = _value(where, keys, "lb", str, "spill")
    if text not in _LB:
        raise ConfigError(f'{where}: lb = "{text}" is not one of spill, round-robin')
    paths = {key: _value(where, keys, key, str, "") for key in _FILES}
    for key, path in paths.items():
        if path and not os.path.isfile(path):
            raise ConfigError(f"{where}: {key} = {path} does not exist or is not a file")
    bound = _programs(where, keys)
    return NameEntry(
        name,
        _LB[text],
        Policy(
            SecurityPaths(paths["server_enc_file"], paths["server_crt_file"], paths["server_key_file"]),
            SecurityPaths(paths["client_enc_file"], paths["client_crt_file"], paths["client_key_file"]),
            _require(where, keys),
        ),
        bound,
    )


def _programs(where: str, keys: dict[str, Any]) -> tuple[Program, ...]:
    """The elements of `prog`: paths, with their arguments in `args`, or tables."""
    elements = _value(where, keys, "prog", list, [])
    user = _value(where, keys, "user", str, "")
    args = _value(where, keys, "args", list, [])
    if len(args) > len(elements):
        raise ConfigError(f"{where}: args has {len(args)} elements, prog only {len(elements)}")
    bound: list[Program] = []
    for at, element in enumerate(elements):
        if type(element) is str:
            element = {"path": element, **({"args": args[at]} if at < len(args) else {})}
        if type(element) is not dict:
            raise ConfigError(
                f"{where}: an element of prog must be a path, or a table with {', '.join(_PROGRAM_KEYS)}"
            )
        _only(f"{where} prog", element, _PROGRAM_KEYS)
        path = _value(f"{where} prog", element, "path", str, None)
        words = _arguments(where, element["args"]) if "args" in element else None
        try:
            real = check_program(path, auto=words is not None)
        except Refusal as refused:
            raise ConfigError(f"{where}: {refused.text}") from None
        if real in (one.path for one in bound):
            raise ConfigError(f"{where}: prog has {path} twice")
        bound.append(Program(real, words, _value(f"{where} prog", element, "user", str, user)))
    return tuple(bound)


def _arguments(where: str, value: object) -> tuple[str, ...]:
    """A list of strings, or one string with the arguments separated by spaces."""
    if type(value) is str:
        return tuple(value.split())
    if type(value) is list and all(type(one) is str for one in value):
        return tuple(value)
    raise ConfigError(f"{where}: the args of a program must be a list of strings")


def _require(where: str, keys: dict[str, Any]) -> Requirement:
    try:
        return Requirement.from_words(_strings(where, keys, "require"))
    except ValueError as error:
        raise ConfigError(f"{where}: require: {error}") from None


# ---------------------------------------------------------------- [TYPE.I]


def _ipcp(where: str, type_name: str, name: str, keys: dict[str, Any]) -> IpcpEntry:
    ipcp_type = IpcpType.from_type_name(type_name)
    spellings = {option.key: option.key for option in ipcp_type.row.options}
    spellings |= {other: key for other, key in _SPELLINGS.items() if key in spellings}
    _only(where, keys, (*_IPCP_KEYS, *spellings))
    if "enrol" in keys and "enroll" in keys:
        raise ConfigError(f"{where}: enrol and enroll are the same key")
    enroll = _value(where, keys, "enroll" if "enroll" in keys else "enrol", str, "")
    bootstrap = _value(where, keys, "bootstrap", str, "")
    autobind = _value(where, keys, "autobind", bool, False)
    layer = _value(where, keys, "layer", str, "")
    register, bind = _unique(where, keys, "reg"), _unique(where, keys, "bind")
    for key, value in (
        ("enrol", enroll),
        ("autobind", autobind),
        ("bind", bind),
        ("conn", keys.get("conn")),
    ):
        if value and not ipcp_type.enrols:
            raise ConfigError(f"{where}: key {key} is for {' and '.join(ENROLLING)} IPCPs only")
    connect = _connections(where, ipcp_type, keys)
    for other in (enroll, layer, *(one.dst for one in connect)):
        if other:
            _check_name(where, other)
    retry = _retry(where, keys, default=bool(enroll or connect))
    for new in (bootstrap, *register, *bind):
        if new:
            _check_name(where, new, check_new_name)
    if layer and not enroll:
        raise ConfigError(f"{where}: layer needs enrol")
    if "retry" in keys and not (enroll or connect):
        raise ConfigError(f"{where}: retry needs enrol or conn")
    for key, value in (("reg", register), ("conn", connect), ("autobind", autobind), ("bind", bind)):
        if value and not (enroll or bootstrap):
            raise ConfigError(f"{where}: {key} needs bootstrap or enrol: the IPCP is not a member of a layer")
    given = {key: _option(where, key, keys[other]) for other, key in spellings.items() if other in keys}
    try:
        if bootstrap and not enroll:
            given = ipcp_type.check(given)
        else:  # not used, but valid
            given = {key: options.check_value(key, value) for key, value in given.items()}
    except options.OptionError as error:
        raise ConfigError(f"{where}: {error}") from None
    bound = tuple(one for one in bind if not autobind or one not in (name, bootstrap or layer))
    if enroll:
        given = {key: value for key, value in given.items() if key == "require"}
        bootstrap = ""
    return IpcpEntry(
        name, ipcp_type, bootstrap, enroll, layer, given, autobind, bound, register, connect, retry
    )


def _unique(where: str, keys: dict[str, Any], key: str) -> tuple[str, ...]:
    """The strings of a list, each once."""
    return tuple(dict.fromkeys(_strings(where, keys, key)))


def _retry(where: str, keys: dict[str, Any], *, default: bool) -> int | None:
    """`true` is without limit, a number the number of repetitions."""
    value = keys.get("retry", default)
    if type(value) is bool:
        return 0 if value else None
    if type(value) is not int or not 1 <= value <= options.MAX_RETRIES:
        raise ConfigError(
            f"{where}: retry must be true (for ever), false, or a number from 1 to {options.MAX_RETRIES}"
        )
    return value


def _connections(where: str, ipcp_type: IpcpType, keys: dict[str, Any]) -> tuple[Adjacency, ...]:
    """The elements of `conn`: names, or tables with more keys than the name."""
    found: list[Adjacency] = []
    for element in _value(where, keys, "conn", list, []):
        if type(element) is str:
            element = {"dst": element}
        if type(element) is not dict:
            raise ConfigError(
                f"{where}: an element of conn must be a name, or a table with {', '.join(_CONN_KEYS)}"
            )
        _only(f"{where} conn", element, _CONN_KEYS)
        dst = _value(f"{where} conn", element, "dst", str, None)
        components, qos, timeout = _adjacency(f"{where} conn {dst}", ipcp_type, element)
        # Routing needs no QoS: management flows are raw (docs/reference/irm.md).
        found += [Adjacency(dst, one, qos if one == DT_COMP else "raw", timeout) for one in components]
    return tuple(dict.fromkeys(found))


def _adjacency(
    where: str, ipcp_type: IpcpType, keys: dict[str, Any]
) -> tuple[tuple[str, ...], str, int | None]:
    component = _value(where, keys, "component", str, "")
    components = ipcp_type.row.components
    if component:
        if COMPONENT_WORDS.get(component) not in components:
            legal = ", ".join(key for key, name in COMPONENT_WORDS.items() if name in components)
            raise ConfigError(f'{where}: component = "{component}" is not one of {legal}')
        components = (COMPONENT_WORDS[component],)
    qos = _value(where, keys, "qos", str, "raw")
    if qos not in PRESETS:
        raise ConfigError(f'{where}: qos = "{qos}" is not one of {", ".join(PRESETS)}')
    timeout = keys.get("timeout")
    if timeout is not None:
        timeout = _value(where, keys, "timeout", int, None)
        if not 0 <= timeout <= UINT32_MAX:
            raise ConfigError(f"{where}: timeout = {timeout} is not between 0 (never) and {UINT32_MAX} ms")
        timeout = None if timeout == DEFAULT_PEER_TIMEOUT else timeout
    return components, qos, timeout


def _option(where: str, key: str, value: object) -> str:
    """The value of an option of bootstrap, as it is on the command line; a list where it has one."""
    if type(value) is list and options.OPTIONS[key].repeats and all(type(one) is str for one in value):
        return ",".join(value)
    return _text(where, key, value)


def _text(where: str, key: str, value: object) -> str:
    if type(value) is int and key == "ethertype":
        return f"0x{value:04X}"
    if type(value) not in (str, int):
        raise ConfigError(f"{where}: {key} must be a string or a whole number")
    return str(value)
