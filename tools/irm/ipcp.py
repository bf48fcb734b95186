"""irm ipcp: create, destroy, bootstrap, enroll, connect, disconnect, list, and the readouts of an IPCP (paper 5.7;
docs/reference/irm.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ouroboros import ipcp_options
from ouroboros.cubes import PRESETS
from ouroboros.ipcp_types import ENROLLING, TYPES, IpcpType
from ouroboros.printable import printable

from ..text import end_by_interrupt, print_json, rows_table, table, warn
from .words import Arguments, Command, Group, Key

if TYPE_CHECKING:
    from ouroboros.ipcp_config import IpcpConfig
    from ouroboros.qos import QoSSpec

_COMPONENTS = ("dt", "mgmt")
_ENROLLING = " or ".join(ENROLLING)
_FOREVER = "forever"
_MAX_TIMEOUT = 0xFFFFFFFF  # ms
_COLUMNS = (("pid", 7), ("name", 20), ("type", 10), ("layer", 20))


def _type(word: str, *, prefix: bool = False) -> IpcpType:
    return IpcpType.from_type_name(word, prefix=prefix)


def _name(arguments: Arguments) -> str:
    return ipcp_options.check_name("IPCP", arguments.needed("name"))


def _create(arguments: Arguments) -> int:
    name = ipcp_options.check_new_name("IPCP", arguments.needed("name"))
    ipcp_type = _type(arguments.needed("type"))
    from ouroboros import cli

    pid = cli.create_ipcp(name, ipcp_type)
    arguments.say(f"Created IPCP {name}, pid {pid}.")
    return 0


def _destroy(arguments: Arguments) -> int:
    name = _name(arguments)
    from ouroboros import cli

    cli.destroy_ipcp(
        name, destroyed=lambda ipcp: arguments.say(f"Destroyed IPCP {ipcp.name}, pid {ipcp.pid}.")
    )
    return 0


def _bootstrap(arguments: Arguments) -> int:
    name = _name(arguments)
    layer = ipcp_options.check_new_name("Layer", arguments.needed("layer"))
    options = {
        key: ",".join(values) for key, values in arguments.values.items() if key in ipcp_options.OPTIONS
    }
    word = arguments.one("type")
    ipcp_type = _type(word, prefix=True) if word is not None else None
    if ipcp_type is not None:
        ipcp_type.check(options)
    else:
        for key, value in options.items():
            ipcp_options.check_value(key, value)
    autobind = arguments.flag("autobind")

    def configuration(actual: IpcpType) -> IpcpConfig:
        from ouroboros.ipcp_config import IpcpConfig

        if autobind and not actual.enrols:
            warn("Can not bind this IPCP type, autobind disabled.")
        return IpcpConfig.from_options(actual, layer, options)

    from ouroboros import cli

    end_by_interrupt()
    for ipcp in cli.bootstrap_ipcp(name, configuration, autobind, create=ipcp_type):
        arguments.say(f"Bootstrapped IPCP {ipcp.name} in layer {layer}.")
    return 0


def _enroll(arguments: Arguments) -> int:
    name = _name(arguments)
    dst, layer = arguments.one("dst"), arguments.one("layer")
    word = arguments.one("type")
    ipcp_type = _type(word) if word is not None else None
    if ipcp_type is not None and not ipcp_type.enrols:
        raise ipcp_options.OptionError(
            f'An IPCP of type "{word}" is bootstrapped, never enrolled; type must be {" or ".join(ENROLLING)}.'
        )
    if dst is None and layer is None:
        raise ipcp_options.OptionError(
            'To enrol, give the layer or a destination: "layer <layer>" or "dst <dst>".'
        )
    if layer is not None:
        ipcp_options.check_name("Layer", layer)
    if dst is not None:
        ipcp_options.check_name("Destination", dst)
    retry = _retry(arguments)
    from ouroboros import cli

    end_by_interrupt()
    enrolled = cli.enroll_ipcp(
        name,
        dst,
        arguments.flag("autobind"),
        layer=layer,
        ipcp_type=ipcp_type,
        create=True,
        retry=retry,
        require=arguments.all("require"),
    )
    arguments.say(f"Enrolled IPCP {enrolled.name} in layer {enrolled.layer}.")
    return 0


def _is_retry(word: str) -> bool:
    return word == _FOREVER or word[:1] in tuple("-+0123456789")


def _retry(arguments: Arguments) -> int | None:
    """How many times the command is tried again: 0 without limit, None not at all."""
    if not arguments.flag("retry"):
        return None
    word = arguments.one("retry")
    if word is None or word == _FOREVER:
        return 0
    times = int(word[:20]) if word.isascii() and word.isdigit() else 0
    if not 1 <= times <= ipcp_options.MAX_RETRIES:
        raise ipcp_options.OptionError(
            f'"retry {word}" must be "forever" or a number from 1 to {ipcp_options.MAX_RETRIES}.'
        )
    return times


def _timeout(arguments: Arguments) -> int | None:
    word = arguments.one("timeout")
    if word is None:
        return None
    if not (word.isascii() and word.isdigit() and int(word[:20]) <= _MAX_TIMEOUT):
        raise ipcp_options.OptionError(
            f'Unknown parameter for timeout: "{word}"; it must be milliseconds up to {_MAX_TIMEOUT}, or 0 for never.'
        )
    return int(word)


def _component(arguments: Arguments) -> str:
    component = arguments.one("component")
    if component is not None and component not in _COMPONENTS:
        raise ipcp_options.OptionError(f'Component "{component}" is unknown; it must be dt or mgmt.')
    return component or "*"


def _connect(arguments: Arguments) -> int:
    name, component = _name(arguments), _component(arguments)
    dst = ipcp_options.check_name("Destination", arguments.needed("dst"))
    qos: QoSSpec | None = None
    timeout, retry = _timeout(arguments), _retry(arguments)
    word = arguments.one("qos")
    if word is not None:
        from ouroboros.qos import cube

        try:
            qos = cube(word)
        except ValueError as error:
            raise ipcp_options.OptionError(str(error)) from None
    from ouroboros import cli

    end_by_interrupt()
    cli.connect_ipcp(name, dst, component, qos, timeout=timeout, retry=retry)
    arguments.say(f"Connected {name} to {dst}{_of(component)}.")
    return 0


def _of(component: str) -> str:
    return "" if component == "*" else f" ({component})"


def _disconnect(arguments: Arguments) -> int:
    name, component = _name(arguments), _component(arguments)
    from ouroboros import cli

    dst = arguments.needed("dst")
    cli.disconnect_ipcp(name, dst, component)
    arguments.say(f"Disconnected {name} from {dst}{_of(component)}.")
    return 0


def _list(arguments: Arguments) -> int:
    word = arguments.one("type")
    ipcp_type = _type(word) if word is not None else None
    from ouroboros import cli, irm

    ipcps = cli.list_ipcps(arguments.one("name"), arguments.one("layer"), ipcp_type)
    ended = [] if arguments.values else irm.readout_irmd("ended")
    if arguments.json:
        from ouroboros.facts import IPCPS

        records = [
            IPCPS.row(
                pid=ipcp.pid,
                name=ipcp.name,
                type=ipcp.type.type_name,
                layer=ipcp.layer or None,
                hash=ipcp.hash.name if ipcp.layer else None,
                state=ipcp.state,
                progress=ipcp.progress or None,
                require=list(ipcp.require),
                admit=list(ipcp.admit),
            )
            for ipcp in ipcps
        ]
        print_json({"ipcps": records, "ended": ended})
    elif ipcps:
        rows = [(ipcp.pid, ipcp.name, ipcp.type.type_name, ipcp.layer or "Not enrolled.") for ipcp in ipcps]
        print(table(_COLUMNS, rows), end="\n\n")
        for ipcp in ipcps:
            if ipcp.progress:
                print(f"{printable(ipcp.name)}: {printable(ipcp.progress)}")
    else:
        print("No IPCPs match." if arguments.values else "No IPCPs in system.", end="\n\n")
    if not arguments.json:
        for row in ended:
            print(f"{printable(row['name'])}: the IPCP with pid {row['pid']} {printable(row['how'])}")
    return 0


def _readout(what: str) -> Callable[[Arguments], int]:
    """The command that prints one readout of IPCPs."""

    def show(arguments: Arguments) -> int:
        name = _name(arguments)
        from ouroboros import cli

        rows = cli.readout_ipcp(name, what)
        if arguments.json:
            print_json({what: rows})
        elif rows:
            print(rows_table(rows), end="\n\n")
        else:
            print("No names." if what == "directory" else f"No {what}.", end="\n\n")
        return 0

    return show


def _types() -> str:
    return f"types: {' '.join(TYPES)}"


def _options() -> str:
    """The options of bootstrap, type by type, from the table that checks them."""
    lines = [_types(), "With a type, the IPCP is created if there is none of that name.", ""]
    for ipcp_type in map(IpcpType.from_type_name, TYPES):
        lines.append(f"options for type {ipcp_type.type_name}:")
        if ipcp_type.enrols:
            lines.append(f"    {'autobind':<16} bind the IPCP to its name and to the name of the layer")
        for option in ipcp_type.row.options:
            note = (
                "required"
                if option.required
                else f"default {option.default}"
                if option.default
                else "default none"
            )
            lines.append(f"    {option.key:<16} {option.legal} ({note})")
    return "\n".join(lines)


def _retry_details() -> str:
    return "retry: the command is tried again after a failure, COUNT times or until it succeeds, after growing pauses; Ctrl-C ends it"


_NAME = Key("name", "name", required=True, bare=True)
_DST = Key("dst", "name", required=True)
_COMPONENT = Key("component", "dt|mgmt")
_RETRY = Key("retry", "times|forever", takes=_is_retry)
_READOUTS = (
    ("neighbours", "the neighbours that an IPCP has flows to"),
    ("paths", "what the ways to its neighbours carry, over a network that is not Ouroboros"),
    ("routes", "where packets for each address go, by QoS cube"),
    ("links", "which links between members the layer knows"),
    ("directory", "which names the layer knows, as far as this IPCP does"),
    ("contacts", "which members the directory knows"),
    ("flows", "the flows of the layer at this IPCP, and allocations in progress"),
    ("endpoints", "the components and the flows to neighbours that packets are for"),
    ("counters", "packets: received, sent, forwarded, dropped, and why"),
    ("status", "address, policies, state of the IPCP's components"),
)

GROUP = Group(
    "ipcp",
    "create IPCPs and connect them to layers",
    (
        Command(
            "create",
            "create an IPCP",
            _create,
            keys=(_NAME, Key("type", "type", required=True)),
            details=_types,
        ),
        Command("destroy", "destroy all IPCPs of that name", _destroy, keys=(_NAME,), destructive=True),
        Command(
            "bootstrap",
            "make an IPCP the first of a new layer",
            _bootstrap,
            # A prefix stands for the first word that it fits (docs/reference/irm.md): name and type before all others.
            keys=(
                _NAME,
                Key("layer", "layer", required=True),
                Key("type", "type"),
                *(
                    Key(key, option.legal, option=True, repeats=option.repeats)
                    for key, option in ipcp_options.OPTIONS.items()
                ),
                Key("autobind"),
                Key("sport", "port", alias="port"),
            ),
            retired={
                "cport": "one UDP port serves both directions; give it as port.",
                "pff": f"it follows from routing, which is {ipcp_options.OPTIONS['routing'].legal}.",
            },
            details=_options,
        ),
        Command(
            "enroll",
            "make an IPCP a member of a layer, through a member that is reachable as dst (default: the layer's name)",
            _enroll,
            keys=(
                _NAME,
                Key("layer", "layer"),
                Key("dst", "name"),
                Key("type", "|".join(ENROLLING)),
                Key("autobind"),
                _RETRY,
                Key("require", "encryption|authentication", repeats=True),
            ),
            details=lambda: (
                "require is about the member: it must show a certificate for dst.\n" + _retry_details()
            ),
        ),
        Command(
            "connect",
            "connect an IPCP with another member (default: all components that it has)",
            _connect,
            keys=(
                _NAME,
                _DST,
                _COMPONENT,
                Key("qos", "|".join(PRESETS)),
                Key("timeout", "ms"),
                _RETRY,
            ),
            details=lambda: (
                "qos is for data transfer. A neighbour that has sent nothing for timeout counts as disconnected; 0 is never.\n"
                + _retry_details()
            ),
        ),
        Command(
            "disconnect",
            "undo connect",
            _disconnect,
            keys=(_NAME, _DST, _COMPONENT),
            destructive=True,
        ),
        Command(
            "list",
            "list the IPCPs, all or those that fit; a name or layer may contain wildcards",
            _list,
            keys=(Key("name", "name", bare=True), Key("type", "type"), Key("layer", "layer")),
            json=True,
        ),
        # Behind the older words, so that an abbreviation of one of those keeps its meaning.
        *(
            Command(word, f"show {text}", _readout(word), keys=(_NAME,), json=True)
            for word, text in _READOUTS
        ),
    ),
)
