"""irm bind, irm unbind: programs, processes and IPCPs to names (paper 2.9, 5.7; docs/reference/irm.md)."""

from __future__ import annotations

from ouroboros import ipcp_options

from .words import Arguments, Command, Group, Key


def _name(arguments: Arguments) -> str:
    return ipcp_options.check_new_name("The", arguments.needed("name"))


def _optional_name(arguments: Arguments) -> str | None:
    name = arguments.one("name")
    return None if name is None else ipcp_options.check_name("The", name)


def _pid(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 10 and int(word)):
        raise ipcp_options.OptionError(f'"{word}" is not a valid process id.')
    return int(word)


def _bind_program(arguments: Arguments) -> int:
    name = _name(arguments)
    automatic = arguments.flag("auto")
    if arguments.rest and not automatic:
        raise ipcp_options.OptionError(
            'Arguments after "--" are for a program that the IRMd starts; add "auto" before "--".'
        )
    from ouroboros import cli, irm

    cli.bind_program(
        arguments.operands[0],
        name,
        irm.BIND_AUTO if automatic else 0,
        list(arguments.rest),
        user=arguments.one("user") or "",
    )
    arguments.say(f"Bound {arguments.operands[0]} to {name}.")
    return 0


def _unbind_program(arguments: Arguments) -> int:
    name = _optional_name(arguments)
    from ouroboros import cli

    return _unbound(arguments, arguments.operands[0], cli.unbind_program(arguments.operands[0], name))


def _bind_process(arguments: Arguments) -> int:
    pid, name = _pid(arguments.operands[0]), _name(arguments)
    from ouroboros import cli

    cli.bind_process(pid, name)
    arguments.say(f"Bound process {pid} to {name}.")
    return 0


def _unbind_process(arguments: Arguments) -> int:
    pid, name = _pid(arguments.operands[0]), _optional_name(arguments)
    from ouroboros import cli

    return _unbound(arguments, f"process {pid}", cli.unbind_process(pid, name))


def _bind_ipcp(arguments: Arguments) -> int:
    name = _name(arguments)
    from ouroboros import cli

    cli.bind_ipcp(arguments.operands[0], name)
    arguments.say(f"Bound IPCP {arguments.operands[0]} to {name}.")
    return 0


def _unbind_ipcp(arguments: Arguments) -> int:
    name = _optional_name(arguments)
    from ouroboros import cli

    return _unbound(arguments, arguments.operands[0], cli.unbind_ipcp(arguments.operands[0], name))


def _unbound(arguments: Arguments, what: str, names: list[str]) -> int:
    # A process that was bound by its pid and has not connected to the IRMd yet is in no list of names.
    arguments.say(f"Unbound {what} from {', '.join(names) or 'all names'}.")
    return 0


_NAME = Key("name", "name", required=True, bare=True)
_ANY_NAME = Key("name", "name", bare=True)

BIND = Group(
    "bind",
    "bind programs, processes and IPCPs to names",
    (
        Command(
            "program",
            "bind a program, a path or looked up in PATH; with auto the IRMd starts it when a flow asks for it",
            _bind_program,
            operands=("program",),
            keys=(_NAME, Key("auto"), Key("user", "user")),
            rest="argument",
        ),
        Command("process", "bind a running process", _bind_process, operands=("pid",), keys=(_NAME,)),
        Command("ipcp", "bind an IPCP, by its own name", _bind_ipcp, operands=("ipcp",), keys=(_NAME,)),
    ),
)

UNBIND = Group(
    "unbind",
    "undo bind; without a name, for all names",
    (
        Command("program", "unbind a program", _unbind_program, operands=("program",), keys=(_ANY_NAME,)),
        Command("process", "unbind a process", _unbind_process, operands=("pid",), keys=(_ANY_NAME,)),
        Command("ipcp", "unbind an IPCP", _unbind_ipcp, operands=("ipcp",), keys=(_ANY_NAME,)),
    ),
    destructive=True,
)
