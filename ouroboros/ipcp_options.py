"""Options of bootstrap, as facts: their defaults and legal values (docs/reference/irm.md); `ipcp_types` says which type takes which.

Used by the `irm` command, by `ouroboros.irm` and by every reader of a configuration. Options travel to the IPCP as text
under their command-line name; `check_value()` and `IpcpType.check()` turn text that a person wrote into the form that is sent.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import NamedTuple

from .policies import AddressAuthPolicy, CongestionAvoidPolicy, DirectoryPolicy, LinkStatePolicy, Policy

HASHES = ("SHA3_224", "SHA3_256", "SHA3_384", "SHA3_512")
PATTERN_CHARACTERS = "*?["
_LINK_LOCAL = ("fe8", "fe9", "fea", "feb")  # fe80::/10
MAX_NAME = 255  # octets, of any name
MAX_DEVICE = 255  # characters
MAX_RETRIES = 1000000
MAX_ADMIT = 255  # octets of patterns, in all
REQUIREMENTS = ("encryption", "authentication")


class OptionError(ValueError):
    """An option, or its value, is wrong; the text names it and the correct values."""


class Option(NamedTuple):
    """One option: its default (None: there is none), and how its value is checked."""

    key: str
    default: str | None
    check: Callable[[str], str]
    legal: str
    """The legal values, as help shows them."""
    required: bool = False
    repeats: bool = False
    """Its value is a list, separated by commas."""
    fixed: bool = False
    """It has one legal value, which is not sent."""

    def narrowed(
        self, check: Callable[[str], str], *, legal: str | None = None, fixed: bool = False
    ) -> Option:
        """The same option for an IPCP type that takes fewer values."""
        return self._replace(check=check, legal=legal or self.legal, fixed=fixed)


def whole_number(low: int, high: int) -> Callable[[str], str]:
    """A check for a whole number from `low` to `high`."""

    def check(value: str) -> str:
        if not (value.isascii() and value.isdigit() and low <= int(value[:20]) <= high):
            raise ValueError
        return str(int(value))

    return check


def one_word(*words: str) -> Callable[[str], str]:
    """A check for one of some words; neither case nor the kind of dash matters."""
    known = {word.lower().replace("-", "_"): word for word in words}

    def check(value: str) -> str:
        word = known.get(value.lower().replace("-", "_"))
        if word is None:
            raise ValueError
        return word

    return check


_RATE_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_RATE_RANGE = range(64_000, 10**11 + 1)


def _rate(value: str) -> str:
    if value.lower() in ("none", "auto"):
        return value.lower()
    digits = value.rstrip("kMG")
    if not (
        digits.isascii() and digits.isdigit() and len(digits) <= 12 and value[len(digits) :] in _RATE_UNITS
    ):
        raise ValueError
    rate = int(digits) * _RATE_UNITS[value[len(digits) :]]
    if rate not in _RATE_RANGE:
        raise ValueError
    return str(rate)


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


def ip_address(
    what: str, family: socket.AddressFamily | None = None, *, specific: bool = False
) -> Callable[[str], str]:
    """A check for an IP address, of one family or of any; a `specific` one is that of an interface. `what` is for the error."""

    def check(value: str) -> str:
        found = family_of(value)
        if found is None or (family is not None and found != family):
            raise OptionError(f'Invalid {what}{_VERSIONS[family]} address: "{value}".')
        host, percent, zone = value.partition("%")
        binary = socket.inet_pton(found, host)
        if specific and not any(binary):
            raise OptionError(
                f'Cannot use {_VERSIONS[found]} address "{value}"; it must be the address of an interface.'
            )
        return socket.inet_ntop(found, binary) + percent + zone

    return check


_VERSIONS = {None: "IP", socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


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


def _policy(key: str, default: Policy) -> Option:
    words = default.words()
    legal = " ".join(words) if len(words) == 1 else "one of " + " ".join(words)
    return Option(key, default.word, one_word(*words), legal)


_SECONDS = "seconds from {} to {}"

# In the order in which a prefix is looked up, among themselves and after `type layer name`.
_ALL = (
    Option("hash", "SHA3_256", one_word(*HASHES), "one of " + " ".join(HASHES)),
    Option("ip", None, ip_address("", specific=True), "an IP address", required=True),
    Option("dns", None, ip_address("DNS "), "an IP address"),
    Option("port", "3435", whole_number(1, 65535), "a UDP port from 1 to 65535"),
    Option("dev", None, _device, f"a device of up to {MAX_DEVICE} characters", required=True),
    Option("ethertype", "0xA000", _ethertype, "a hexadecimal number from 0x0600 to 0xFFFE"),
    Option("addr", "4", whole_number(4, 4), "4 (octets)"),
    Option("eid", "8", whole_number(8, 8), "8 (octets)"),
    Option("ttl", "60", whole_number(1, 255), "a number from 1 to 255"),
    _policy("addr_auth", AddressAuthPolicy.FLAT),
    _policy("routing", LinkStatePolicy.SIMPLE),
    _policy("congestion", CongestionAvoidPolicy.MB_ECN),
    _policy("directory", DirectoryPolicy.DHT),
    Option("dht_alpha", "3", whole_number(1, 10), "a number from 1 to 10"),
    Option("dht_k", "8", whole_number(1, 20), "a number from 1 to 20"),
    Option("dht_t_expire", "86400", whole_number(10, 86400), _SECONDS.format(10, 86400)),
    Option("dht_t_refresh", "900", whole_number(3, 3600), _SECONDS.format(3, 3600)),
    Option("dht_t_replicate", "900", whole_number(3, 3600), _SECONDS.format(3, 3600)),
    Option("ls_t_recalc", "4", whole_number(1, 86400), _SECONDS.format(1, 86400)),
    Option("ls_t_update", "15", whole_number(1, 86400), _SECONDS.format(1, 86400)),
    Option("ls_t_timeo", "60", whole_number(1, 86400), _SECONDS.format(1, 86400)),
    Option("max_packet", None, whole_number(64, 65535), "a number of octets from 64 to 65535"),
    Option(
        "require",
        None,
        _requirements,
        "one or both of " + " ".join(REQUIREMENTS),
        repeats=True,
    ),
    Option(
        "admit",
        None,
        _patterns,
        f"patterns of common names, of up to {MAX_ADMIT} octets in all",
        repeats=True,
    ),
    Option("rate", "none", _rate, "none, auto, or bits per second from 64k to 100G, with suffix k M G"),
)
OPTIONS: dict[str, Option] = {option.key: option for option in _ALL}


def check_value(key: str, value: str, option: Option | None = None) -> str:
    """The value as it is sent: for the IPCP type that has this `option`, or for any type. Raises OptionError."""
    option = option or OPTIONS.get(key)
    if option is None:
        raise OptionError(f'Unknown option: "{key}"; it must be one of {" ".join(OPTIONS)}.')
    try:
        return option.check(value)
    except OptionError:
        raise
    except ValueError:
        raise OptionError(f'Unknown parameter for {key}: "{value}"; it must be {option.legal}.') from None


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
