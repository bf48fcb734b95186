"""Options of bootstrap: what each type of IPCP takes, its defaults and its legal values.

One set of facts for the `irm` request, for the configuration file and for the types themselves
(spec/cli-api.md 1.3, 2.5; spec/irm-rpc.md 8). Pure data, imports next to nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass

HASHES = ("SHA3_224", "SHA3_256", "SHA3_384", "SHA3_512")


class OptionError(Exception):
    """An option is unknown, missing or has a value that is not legal; the text says what would be."""

    errno = errno.EINVAL


@dataclass(slots=True, frozen=True)
class Option:
    """One option. `choices` or `low` to `high` bound its values; `required` has no default."""

    key: str
    default: str = ""
    choices: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    required: bool = False
    aliases: tuple[str, ...] = ()
    """Other spellings of the key: the command line and the file of the prototype differ."""

    @property
    def legal(self) -> str:
        """The legal values, for a person."""
        if self.choices:
            return ", ".join(self.choices)
        if self.low is not None:
            return f"{self.low} to {self.high}" if self.high is not None else f"{self.low} or more"
        return "any text"

    def check(self, value: str) -> str:
        """The value in its canonical spelling. Raises OptionError."""
        if self.choices:
            folded = value.replace("-", "_").lower()
            for choice in self.choices:
                if choice.replace("-", "_").lower() == folded:
                    return choice
        elif self.low is not None:
            try:
                number = int(value, 0)
            except ValueError:
                number = self.low - 1
            if number >= self.low and (self.high is None or number <= self.high):
                return str(number)
        elif value:
            return value
        raise OptionError(f'option {self.key} cannot be "{value}": {self.legal}')


HASH = Option("hash", "SHA3_256", choices=HASHES)
_DEV = Option("dev", required=True)
_UDP = (
    Option("ip", required=True),
    Option("port", "3435", low=1, high=65535),
    Option("dns"),
)

SCHEMAS: dict[str, tuple[Option, ...]] = {
    "local": (HASH,),
    "eth-llc": (_DEV, HASH),
    "eth-dix": (_DEV, Option("ethertype", "40960", low=0x0600, high=0xFFFE), HASH),
    "udp4": _UDP,
    "udp6": _UDP,
    "broadcast": (),
    "unicast": (
        Option("addr", "4", low=4, high=4, aliases=("addr_size",)),
        Option("eid", "8", low=8, high=8, aliases=("eid_size",)),
        Option("ttl", "60", low=1, high=255, aliases=("max_ttl",)),
        Option("addr_auth", "flat", choices=("flat",), aliases=("addr-auth",)),
        Option("routing", "link_state", choices=("link_state", "lfa", "ecmp")),
        Option("pff", "simple", choices=("simple", "alternate", "multipath")),
        Option("congestion", "mb-ecn", choices=("none", "mb-ecn")),
        Option("directory", "DHT", choices=("DHT",)),
        HASH,
        Option("dht_alpha", "3", low=1, high=10),
        Option("dht_k", "8", low=1, high=20),
        Option("dht_t_expire", "86400", low=10, high=86400, aliases=("dht_t_expiry",)),
        Option("dht_t_refresh", "900", low=3, high=3600),
        Option("dht_t_replicate", "900", low=3, high=3600),
        Option("ls_t_recalc", "4", low=1, high=86400),
        Option("ls_t_update", "15", low=1, high=86400),
        Option("ls_t_timeo", "60", low=1, high=86400),
    ),
    "raptor": (),
}


def find(schema: tuple[Option, ...], key: str) -> Option | None:
    """The option with this key or alias."""
    for option in schema:
        if key == option.key or key in option.aliases:
            return option
    return None


def check(kind: str, schema: tuple[Option, ...], given: Mapping[str, str]) -> dict[str, str]:
    """Every option of `schema` with its value, given or default. Raises OptionError.

    An option without a default that was not given is absent from the result.
    """
    values: dict[str, str] = {}
    for key, value in given.items():
        option = find(schema, key)
        if option is None:
            known = ", ".join(option.key for option in schema) or "none"
            raise OptionError(f'option "{key}" is unknown for type {kind}; its options: {known}')
        values[option.key] = option.check(value)
    for option in schema:
        if option.key not in values:
            if option.required:
                raise OptionError(f"type {kind} needs option {option.key}")
            if option.default:
                values[option.key] = option.default
    return values
