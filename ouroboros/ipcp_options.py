"""Options of bootstrap, as facts: which IPCP type takes which, their defaults and legal values (docs/reference/irm.md).

Used by the `irm` command, by `ouroboros.irm` and by every reader of a configuration. Options travel to the IPCP as text
under their command-line name; `check()` turns text that a person wrote into the form that is sent.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

# In the order in which a prefix is looked up: `udp` is udp4, `eth` is eth-dix.
TYPES = ("unicast", "broadcast", "udp4", "udp6", "eth-dix", "eth-llc", "local")
TYPE_ALIASES = {"udp": "udp4"}  # the paper's word

HASHES = ("SHA3_224", "SHA3_256", "SHA3_384", "SHA3_512")
BROADCAST_HASH = "SHA3_256"
PATTERN_CHARACTERS = "*?["
_LINK_LOCAL = ("fe8", "fe9", "fea", "feb")  # fe80::/10
MAX_NAME = 255  # octets, of any name
MAX_DEVICE = 255  # characters
MAX_RETRIES = 1000000
MAX_ADMIT = 255  # octets of patterns, in all
REQUIREMENTS = ("encryption", "authentication")


class OptionError(ValueError):
    """An option, or its value, is wrong; the text names it and the correct values."""


class Option:
    """One option: the IPCP types that take it, its default (None: there is none), and how its value is checked.
    The value of an option with `repeats` is a list, separated by commas."""

    __slots__ = ("check", "default", "key", "legal", "repeats", "required", "types")

    def __init__(
        self,
        key: str,
        types: str,
        default: str | None,
        check: Callable[[str], str],
        legal: str,
        *,
        required: bool = False,
        repeats: bool = False,
    ) -> None:
        self.key = key
        self.types = tuple(types.split())
        self.default = default
        self.check = check
        self.legal = legal
        self.required = required
        self.repeats = repeats


def _number(low: int, high: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not (value.isascii() and value.isdigit() and low <= int(value[:20]) <= high):
            raise ValueError
        return str(int(value))

    return check


def _word(*words: str) -> Callable[[str], str]:
    known = {word.lower().replace("-", "_"): word for word in words}

    def check(value: str) -> str:
        word = known.get(value.lower().replace("-", "_"))
        if word is None:
            raise ValueError
        return word

    return check


def is_device(text: str) -> bool:
    """Whether it can be the name of a network device."""
    return 0 < len(text) <= MAX_DEVICE and "/" not in text and text.isprintable()


def _device(value: str) -> str:
    if not is_device(value):
        raise ValueError
    return value


def _ethertype(value: str) -> str:
    digits = value[2:] if value[:2] in ("0x", "0X") else value
    if not 0 < len(digits) <= 8 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
        number = 0
    else:
        number = int(digits, 16)
    if not 0x0600 <= number < 0xFFFF:
        raise OptionError(f'Invalid Ethertype: "{value}". Recommended range: 0xA000-0xEFFF.')
    return f"0x{number:04X}"


def _address(what: str, *, specific: bool) -> Callable[[str], str]:
    def check(value: str) -> str:
        family = family_of(value)
        if family is None:
            raise OptionError(f'Invalid {what}IP address: "{value}".')
        host, percent, zone = value.partition("%")
        binary = socket.inet_pton(family, host)
        if specific and not any(binary):
            version = "IPv4" if family == socket.AF_INET else "IPv6"
            raise OptionError(
                f'Cannot use {version} address "{value}"; it must be the address of an interface.'
            )
        return socket.inet_ntop(family, binary) + percent + zone

    return check


def family_of(address: str) -> socket.AddressFamily | None:
    """AF_INET or AF_INET6; None when it is not an address. A link-local one of IPv6 may have its device behind a %."""
    address, percent, zone = address.partition("%")
    if percent and not (zone and is_device(zone) and address[:3].lower() in _LINK_LOCAL):
        return None
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address)
        except (OSError, ValueError):
            continue
        return family
    return None


def _requirements(value: str) -> str:
    words = value.split(",")
    if not set(words) <= set(REQUIREMENTS):
        raise ValueError
    return ",".join(word for word in REQUIREMENTS if word in words)


def _patterns(value: str) -> str:
    if not value.isprintable() or not all(value.split(",")) or len(value.encode()) > MAX_ADMIT:
        raise ValueError
    return value


_SECONDS = "seconds from {} to {}"
_HASHED = "unicast broadcast local eth-llc eth-dix"

# In the order in which a prefix is looked up, among themselves and after `type layer name`.
_ALL = (
    Option("hash", _HASHED, "SHA3_256", _word(*HASHES), "one of " + " ".join(HASHES)),
    Option("ip", "udp4 udp6", None, _address("", specific=True), "an IP address", required=True),
    Option("dns", "udp4 udp6", None, _address("DNS ", specific=False), "an IP address"),
    Option("port", "udp4 udp6", "3435", _number(1, 65535), "a UDP port from 1 to 65535"),
    Option(
        "dev", "eth-llc eth-dix", None, _device, f"a device of up to {MAX_DEVICE} characters", required=True
    ),
    Option("ethertype", "eth-dix", "0xA000", _ethertype, "a hexadecimal number from 0x0600 to 0xFFFE"),
    Option("addr", "unicast", "4", _number(4, 4), "4 (octets)"),
    Option("eid", "unicast", "8", _number(8, 8), "8 (octets)"),
    Option("ttl", "unicast", "60", _number(1, 255), "a number from 1 to 255"),
    Option("addr_auth", "unicast", "flat", _word("flat"), "flat"),
    Option(
        "routing",
        "unicast",
        "link_state",
        _word("link_state", "lfa", "ecmp"),
        "one of link_state lfa ecmp",
    ),
    Option("congestion", "unicast", "mb-ecn", _word("none", "mb-ecn"), "one of none mb-ecn"),
    Option("directory", "unicast", "DHT", _word("DHT"), "DHT"),
    Option("dht_alpha", "unicast", "3", _number(1, 10), "a number from 1 to 10"),
    Option("dht_k", "unicast", "8", _number(1, 20), "a number from 1 to 20"),
    Option("dht_t_expire", "unicast", "86400", _number(10, 86400), _SECONDS.format(10, 86400)),
    Option("dht_t_refresh", "unicast", "900", _number(3, 3600), _SECONDS.format(3, 3600)),
    Option("dht_t_replicate", "unicast", "900", _number(3, 3600), _SECONDS.format(3, 3600)),
    Option("ls_t_recalc", "unicast", "4", _number(1, 86400), _SECONDS.format(1, 86400)),
    Option("ls_t_update", "unicast", "15", _number(1, 86400), _SECONDS.format(1, 86400)),
    Option("ls_t_timeo", "unicast", "60", _number(1, 86400), _SECONDS.format(1, 86400)),
    Option("max_packet", "unicast", None, _number(64, 65535), "a number of octets from 64 to 65535"),
    Option(
        "require",
        "unicast broadcast",
        None,
        _requirements,
        "one or both of " + " ".join(REQUIREMENTS),
        repeats=True,
    ),
    Option(
        "admit",
        "unicast broadcast",
        None,
        _patterns,
        f"patterns of common names, of up to {MAX_ADMIT} octets in all",
        repeats=True,
    ),
)
OPTIONS: dict[str, Option] = {option.key: option for option in _ALL}


def type_name(word: str, *, prefix: bool = False) -> str:
    """The IPCP type that `word` names, exactly or, where the grammar allows it, by a prefix. Raises OptionError."""
    if word in TYPES:
        return word
    if word in TYPE_ALIASES:
        return TYPE_ALIASES[word]
    if prefix:
        for known in TYPES:
            if known.startswith(word):
                return known
    raise OptionError(f'IPCP type "{word}" is unknown; it must be one of {" ".join(TYPES)}.')


def options_of(ipcp_type: str) -> list[Option]:
    """The options that a type takes."""
    return [option for option in _ALL if ipcp_type in option.types]


def legal(option: Option, ipcp_type: str) -> str:
    """The legal values of an option for one type, as help shows them."""
    if option.key == "hash" and ipcp_type == "broadcast":
        return BROADCAST_HASH
    return option.legal


def check_value(key: str, value: str) -> str:
    """The value as it is sent, for any IPCP type. Raises OptionError."""
    option = OPTIONS.get(key)
    if option is None:
        raise OptionError(f'Unknown option: "{key}"; it must be one of {" ".join(OPTIONS)}.')
    try:
        return option.check(value)
    except OptionError:
        raise
    except ValueError:
        raise OptionError(f'Unknown parameter for {key}: "{value}"; it must be {option.legal}.') from None


def check(ipcp_type: str, options: Mapping[str, str]) -> dict[str, str]:
    """All options of one bootstrap as they are sent: legal, of that type, and none missing. Raises OptionError."""
    checked = {}
    for key, value in options.items():
        if key in OPTIONS and ipcp_type not in OPTIONS[key].types:
            fitting = " ".join(option.key for option in options_of(ipcp_type)) or "none"
            raise OptionError(
                f"Option {key} is not for an IPCP of type {ipcp_type}; its options are: {fitting}."
            )
        if key in ("ip", "dns"):
            _check_family(ipcp_type, key, value)
        checked[key] = check_value(key, value)
    if ipcp_type == "broadcast" and checked.pop("hash", BROADCAST_HASH) != BROADCAST_HASH:
        raise OptionError(f"A broadcast layer has the hash {BROADCAST_HASH} and no other.")
    if "admit" in checked and "authentication" not in checked.get("require", ""):
        raise OptionError(
            'Option admit is about the certificates of members; it needs "require authentication".'
        )
    for option in options_of(ipcp_type):
        if option.required and option.key not in checked:
            raise OptionError(
                f"An IPCP of type {ipcp_type} needs the option {option.key}, which is {option.legal}."
            )
    return checked


def _check_family(ipcp_type: str, key: str, address: str) -> None:
    wanted = socket.AF_INET if ipcp_type == "udp4" else socket.AF_INET6
    if family_of(address) != wanted:
        what = "DNS " if key == "dns" else ""
        version = "IPv4" if ipcp_type == "udp4" else "IPv6"
        raise OptionError(f'Invalid {what}{version} address: "{address}".')


def check_name(what: str, name: str) -> str:
    """A name that the system can hold: 1 to 255 octets of UTF-8. `what` names the option in the error."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise OptionError(f"{what} name {name!r} is not valid UTF-8.") from None
    if length > MAX_NAME:
        raise OptionError(f"{what} name too long: it has {length} octets and may have {MAX_NAME}.")
    if not length or "\0" in name:
        raise OptionError(f'{what} name "{name}" is not usable; it needs 1 to {MAX_NAME} octets.')
    return name


def is_pattern(text: str) -> bool:
    """Whether a text has the characters of a shell-style pattern, which selects names and can be none."""
    return any(character in text for character in PATTERN_CHARACTERS)


def check_new_name(what: str, name: str) -> str:
    """A name that can be given: one that the system can hold, and that is not a pattern of others."""
    check_name(what, name)
    if is_pattern(name):
        raise OptionError(
            f'{what} name "{name}" is not usable: * ? and [ are for patterns that select names; leave them out.'
        )
    return name
