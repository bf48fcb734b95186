"""irm name, irm register, irm unregister: names and where they are registered (paper 2.9, 5.7; docs/reference/irm.md)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ouroboros import ipcp_options
from ouroboros.printable import printable

from ..text import coloured, print_json, table
from .words import HELP, Arguments, Command, Group, Key, UsageError

if TYPE_CHECKING:
    from ouroboros.name_info import NameInfo, NameSecPaths

_COLUMNS = (("name", 50), ("load-balance policy", 20))
_PATHS = {"encpath": "enc", "crtpath": "crt", "keypath": "key"}
_NONE, _DEFAULT = "none", "default"
_HASHES = (*ipcp_options.HASHES, "MD5")


def _checked(name: str) -> str:
    return ipcp_options.check_name("The", name)


def _create(arguments: Arguments) -> int:
    name = ipcp_options.check_new_name("The", arguments.operands[0])
    from ouroboros.ipcp_types import LoadBalancePolicy

    word = arguments.one("lb")
    policy = LoadBalancePolicy.from_policy_name(word or "round-robin")
    server, client = _files(arguments, "s"), _files(arguments, "c")
    required = _requirements(arguments)
    from ouroboros import cli

    given = {"lb": word, "server": server, "client": client}
    cli.create_name(
        name,
        policy,
        server,
        client,
        require=required or (),
        given=[key for key, each in given.items() if each],
    )
    arguments.say(f"Created name {name}.")
    return 0


def _set(arguments: Arguments) -> int:
    name = _checked(arguments.operands[0])
    if not arguments.values:
        raise UsageError(f'Nothing to change; give "lb", "require" or a path. Try "irm name set {HELP}".')
    from ouroboros.ipcp_types import LoadBalancePolicy

    word = arguments.one("lb")
    policy = LoadBalancePolicy.from_policy_name(word) if word else None
    server, client = _files(arguments, "s"), _files(arguments, "c")
    required = _requirements(arguments)
    from ouroboros import cli

    cli.set_name(name, policy, server, client, require=required)
    arguments.say(f"Changed name {name}.")
    return 0


def _requirements(arguments: Arguments) -> list[str] | None:
    """The words of `require`; None when it is not there, and [] for `require none`."""
    from ouroboros.name_info import Requirement

    words = arguments.all("require")
    if not words:
        return None
    if words == [_NONE]:
        return []
    try:
        Requirement.from_words(words)
    except ValueError as error:
        raise ipcp_options.OptionError(f"Wrong requirement: {error}.") from None
    return words


def _files(arguments: Arguments, side: str) -> NameSecPaths | None:
    """The paths that are given for one side: absolute, for the IRMd has another working directory."""
    from ouroboros.name_info import NameSecPaths

    found = {word: _path(arguments.one(side + key)) for key, word in _PATHS.items()}
    return NameSecPaths(**found) if any(found.values()) else None


def _path(path: str | None) -> str:
    if path is None or path == _DEFAULT:
        return path or ""
    try:
        os.stat(path)
    except OSError as error:
        raise ValueError(f"Failed to check path {path}: {error.strerror}.") from None
    return os.path.abspath(path)


def _destroy(arguments: Arguments) -> int:
    name = arguments.operands[0]
    from ouroboros import cli

    cli.destroy_name(_checked(name))
    arguments.say(f"Destroyed name {name}.")
    return 0


def _register(arguments: Arguments) -> int:
    name = ipcp_options.check_new_name("The", _registered_name(arguments))
    if not (arguments.flag("ipcp") or arguments.flag("layer")):
        raise UsageError(f'To register {name}, give a layer or an IPCP: "layer <layer>" or "ipcp <ipcp>".')
    from ouroboros import cli

    done = cli.reg_name(name, ipcps=arguments.all("ipcp"), layers=arguments.all("layer"))
    arguments.say(f"Registered {name} with {', '.join(ipcp.name for ipcp in done)}.")
    return 0


def _unregister(arguments: Arguments) -> int:
    name = _registered_name(arguments)
    from ouroboros import cli

    undone = cli.unreg_name(name, ipcps=arguments.all("ipcp"), layers=arguments.all("layer"))
    arguments.say(f"Unregistered {name} with {', '.join(ipcp.name for ipcp in undone)}.")
    return 0


def _registered_name(arguments: Arguments) -> str:
    name = arguments.operand()
    return _checked(arguments.needed("name") if name is None else name)


def _list(arguments: Arguments) -> int:
    from ouroboros import cli

    names = cli.list_names(arguments.one("name"))
    if arguments.json:
        print_json({"names": [_record(info) for info in names]})
    elif names:
        print(table(_COLUMNS, [(info.name, info.pol_lb.policy_name) for info in names]))
    else:
        print("No names match." if arguments.values else "No names in system.", end="\n\n")
    return 0


def _show(arguments: Arguments) -> int:
    name = arguments.operand()
    from ouroboros import cli

    names = cli.list_names() if name is None else [cli.show_name(_checked(name))]
    if arguments.json:
        print_json({"names": [_record(info) for info in names]})
        return 0
    if not names:
        print("No names in system.", end="\n\n")
    for info in names:
        print("\n".join(_description(info)))
    return 0


def _record(info: NameInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "lb": info.pol_lb.policy_name,
        "server": {"enc": info.server_sec.enc, "crt": info.server_sec.crt, "key": info.server_sec.key},
        "client": {"enc": info.client_sec.enc, "crt": info.client_sec.crt, "key": info.client_sec.key},
        "require": info.require.words,
        "programs": [{"path": p.path, "auto": p.auto, "args": list(p.args)} for p in info.programs],
        "processes": [{"pid": p.pid, "program": p.program, "accepting": p.accepting} for p in info.processes],
        "registrations": [
            {"pid": r.pid, "ipcp": r.ipcp, "layer": r.layer, "hash": r.hash} for r in info.registrations
        ],
    }


def _description(info: NameInfo) -> list[str]:
    lines = [f"{coloured(printable(info.name), 'bold')} ({info.pol_lb.policy_name})"]
    for side, paths in (("server", info.server_sec), ("client", info.client_sec)):
        given = [path for path in (paths.enc, paths.crt, paths.key) if path]
        if given:
            lines.append(f"    {side}: {', '.join(map(printable, given))}")
    if info.require:
        lines.append(f"    requires {' and '.join(info.require.words)}")
    for reg in info.registrations:
        layer = printable(reg.layer)
        lines.append(
            f"    registered in layer {layer} by IPCP {printable(reg.ipcp)} (pid {reg.pid}) as {reg.hash}"
        )
    for program in info.programs:
        command = printable(" ".join([program.path, *program.args]))
        lines.append(f"    bound program {command}{' (started on demand)' if program.auto else ''}")
    for process in info.processes:
        program_name = f" ({printable(process.program)})" if process.program else ""
        lines.append(f"    bound process {process.pid}{program_name}, accepting {process.accepting}")
    if len(lines) == 1:
        lines.append("    not registered, nothing bound")
    return lines


def _hash(arguments: Arguments) -> int:
    from hashlib import new

    word = arguments.one("algo")
    if word is not None and word.upper() not in _HASHES:
        raise ipcp_options.OptionError(f'Hash "{word}" is unknown; it must be one of {" ".join(_HASHES)}.')
    octets = _checked(arguments.operands[0]).encode()
    chosen = [word.upper()] if word is not None else list(_HASHES)
    hashes = {algo: new(algo.lower(), octets, usedforsecurity=False).hexdigest() for algo in chosen}
    if arguments.json:
        print_json({"name": arguments.operands[0], "hashes": hashes})
    elif word is not None:
        print(hashes[chosen[0]])
    else:
        print("\n".join(f"{algo:<8} {value}" for algo, value in hashes.items()))
    return 0


def _hash_details() -> str:
    return f"hashes: {' '.join(_HASHES)}; a layer over UDP knows a name by its MD5, which is the host name in /etc/hosts"


_POLICIES = (
    Key("lb", "round-robin|spillover"),
    *(Key(side + key, "path") for side in ("s", "c") for key in _PATHS),
    Key("require", "encryption|authentication", repeats=True),
)
_WHERE = (Key("ipcp", "ipcp", repeats=True), Key("layer", "layer", repeats=True))
_NAME = Key("name", "name", required=True, bare=True)

GROUP = Group(
    "name",
    "names: create, register, show",
    (
        Command(
            "create",
            "create a name; one that exists stays as it is",
            _create,
            operands=("name",),
            keys=_POLICIES,
            details=lambda: "s is for the server's side, c for the client's; a path given must exist",
        ),
        Command("destroy", "forget a name", _destroy, operands=("name",), destructive=True),
        Command(
            "register",
            "make a name known in layers, by layer or by IPCP; wildcards are possible",
            _register,
            operands=("name",),
            keys=_WHERE,
        ),
        Command(
            "unregister", "undo register", _unregister, operands=("name",), keys=_WHERE, destructive=True
        ),
        Command("list", "list the names", _list, keys=(Key("name", "name", bare=True),), json=True),
        # Behind the older words, so that an abbreviation of one of those keeps its meaning.
        Command(
            "show",
            "show the processes and programs bound to a name and the layers where it is registered",
            _show,
            operands=("name",),
            optional=1,
            json=True,
        ),
        Command(
            "set",
            "change the policies of a name; flows that exist keep what they have",
            _set,
            operands=("name",),
            keys=_POLICIES,
            details=lambda: (
                "s is for the server's side, c for the client's; \"default\" in place of a path means the security directory, and "
                '"require none" that nothing is required'
            ),
        ),
        Command(
            "hash",
            "print by which hash a layer knows a name",
            _hash,
            operands=("name",),
            keys=(Key("algo", "hash"),),
            json=True,
            details=_hash_details,
        ),
    ),
)

# The paper's spelling.
REGISTER = Command("register", "the paper's irm name register", _register, keys=(_NAME, *reversed(_WHERE)))
UNREGISTER = Command(
    "unregister",
    "the paper's irm name unregister",
    _unregister,
    keys=(_NAME, *reversed(_WHERE)),
    destructive=True,
)
