"""Impairment: loss, delay and other settings of one direction of a link, in the words and units of tc-netem(8).

    loss 5% delay 20ms 2ms duplicate 3% reorder 10% corrupt 0.1% rate 100mbit limit 1000 seed 7

Pure. docs/reference/olab.md explains each word, and the differences from netem.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

ALWAYS = (1 << 64) - 1
MAX_LIMIT = 100_000
DEFAULT_LIMIT = 10_000
MAX_SEED = (1 << 64) - 1
MAX_TIME = 3600 * 10**9
MIN_RATE = 1000
MAX_RATE = 10**12

_TIMES = {"ns": 1, "us": 10**3, "usec": 10**3, "ms": 10**6, "msec": 10**6, "s": 10**9, "sec": 10**9}
_RATES = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_NUMBER = re.compile(r"(\d{1,15}(?:\.\d{1,12})?)([A-Za-z%]*)")


class ImpairmentError(ValueError):
    """The words are no impairment; the text names the wrong word and a correct form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Impairment:
    """The settings of one direction. By default all frames pass unchanged.

    loss, duplicate, reorder, corrupt  chances, 0 to 1
    delay, jitter                      seconds
    rate                               bits per second; None: without limit
    limit                              frames that may wait at a time; a frame that arrives then is dropped
    seed                               of the chances: the same seed, the same fate of frame n
    """

    loss: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    rate: int | None = None
    limit: int = DEFAULT_LIMIT
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges of the values. Raises ImpairmentError."""
        for name in ("loss", "duplicate", "reorder", "corrupt"):
            if not 0 <= (chance := getattr(self, name)) <= 1:
                raise ImpairmentError(f"{name} {chance} is not a chance; it is from 0 to 1 (0% to 100%)")
        for name in ("delay", "jitter"):
            if not 0 <= (time := getattr(self, name)) * 1e9 <= MAX_TIME:
                raise ImpairmentError(f"{name} {time} s is not from 0 to {MAX_TIME // 10**9} s")
        if self.rate is not None and not MIN_RATE <= self.rate <= MAX_RATE:
            raise ImpairmentError(f"rate {self.rate}bit is not from {MIN_RATE}bit to {MAX_RATE // 10**9}gbit")
        if not 1 <= self.limit <= MAX_LIMIT:
            raise ImpairmentError(f"limit {self.limit} is not from 1 to {MAX_LIMIT} frames")
        if not 0 <= self.seed <= MAX_SEED:
            raise ImpairmentError(f"seed {self.seed} is not from 0 to {MAX_SEED}")
        if self.reorder and not self.delay:
            raise ImpairmentError(
                "reorder needs a delay: frames overtake others by not being delayed; as in `delay 10ms reorder 10%`"
            )

    def __str__(self) -> str:
        """The words that mean this, without those that change nothing; "" when none does."""
        words = []
        if self.loss:
            words.append(f"loss {_percent(self.loss)}")
        if self.delay or self.jitter:
            words.append(f"delay {_time(self.delay)}" + (f" {_time(self.jitter)}" if self.jitter else ""))
        for name in ("duplicate", "reorder", "corrupt"):
            if chance := getattr(self, name):
                words.append(f"{name} {_percent(chance)}")
        if self.rate is not None:
            words.append(f"rate {_rate(self.rate)}")
        if self.limit != DEFAULT_LIMIT:
            words.append(f"limit {self.limit}")
        if self.seed:
            words.append(f"seed {self.seed}")
        return " ".join(words)

    def fill(self, struct: Any) -> None:
        """Write this into a `struct impairment` of C (all but the seed)."""
        for name in ("loss", "duplicate", "reorder", "corrupt"):
            setattr(struct, name, chance(getattr(self, name)))
        struct.delay, struct.jitter = round(self.delay * 1e9), round(self.jitter * 1e9)
        struct.rate, struct.limit = self.rate or 0, self.limit


def chance(share: float) -> int:
    """A chance as the C has it: in parts of 2^64, and all bits set for certainty."""
    return ALWAYS if share >= 1 else int(share * (1 << 64))


# ---------------------------------------------------------------- from words


def parse(text: str | Sequence[str]) -> Impairment:
    """The impairment that the words describe, each at most once; without words frames pass unchanged. Raises ImpairmentError."""
    words = list(shlex.split(text) if isinstance(text, str) else text)
    values: dict[str, Any] = {}
    while words:
        word = words.pop(0)
        if word not in WORDS:
            raise ImpairmentError(_unknown(word))
        if word in values:
            raise ImpairmentError(f'"{word}" is there twice')
        if not words:
            raise ImpairmentError(f"{word} needs a value, as in `{_EXAMPLES[word]}`")
        values[word] = WORDS[word](word, words.pop(0))
        if word == "delay" and words and _NUMBER.fullmatch(words[0]):
            values["jitter"] = _parse_time("delay", words.pop(0))
        elif words and _NUMBER.fullmatch(words[0]):
            raise ImpairmentError(f'{word} takes one value; correlations ("{words[0]}") are not emulated')
    return Impairment(**values)


def _unknown(word: str) -> str:
    return f'"{word}" is not something that a link does; it must be one of: {", ".join(WORDS)}'


def _split(word: str, text: str, units: Sequence[str], what: str) -> tuple[float, str]:
    found = _NUMBER.fullmatch(text)
    if found is None or found[2].lower() not in units:
        raise ImpairmentError(f'{word}: "{text}" is not {what}, as in `{_EXAMPLES[word]}`')
    return float(found[1]), found[2].lower()


def _parse_percent(word: str, text: str) -> float:
    number, _ = _split(word, text, ["%"], "a percentage")
    if number > 100:
        raise ImpairmentError(f"{word}: {text} is more than 100%")
    return number / 100


def _parse_time(word: str, text: str) -> float:
    number, unit = _split(word, text, list(_TIMES), f"a time ({', '.join(_TIMES)})")
    return number * _TIMES[unit] / 1e9


def _parse_rate(word: str, text: str) -> int:
    number, unit = _split(word, text, list(_RATES), f"a rate ({', '.join(_RATES)}; bits per second)")
    return round(number * _RATES[unit])


def _parse_whole(word: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ImpairmentError(f'{word}: "{text}" is not a whole number, as in `{_EXAMPLES[word]}`')
    return int(text)


WORDS: dict[str, Callable[[str, str], Any]] = {
    "loss": _parse_percent,
    "delay": _parse_time,
    "duplicate": _parse_percent,
    "reorder": _parse_percent,
    "corrupt": _parse_percent,
    "rate": _parse_rate,
    "limit": _parse_whole,
    "seed": _parse_whole,
}
_EXAMPLES = {
    "loss": "loss 5%",
    "delay": "delay 20ms 2ms",
    "duplicate": "duplicate 3%",
    "reorder": "reorder 10%",
    "corrupt": "corrupt 0.1%",
    "rate": "rate 100mbit",
    "limit": "limit 1000",
    "seed": "seed 7",
}


# ---------------------------------------------------------------- to words


def _short(number: float) -> str:
    return f"{number:.12f}".rstrip("0").rstrip(".")


def _percent(share: float) -> str:
    return f"{_short(share * 100)}%"


def _time(seconds: float) -> str:
    whole = round(seconds * 1e9)
    unit = next((unit for unit in ("s", "ms", "us") if whole and whole % _TIMES[unit] == 0), None)
    if unit is None:
        unit = next((unit for unit in ("s", "ms", "us") if whole >= _TIMES[unit]), "ns" if whole else "s")
    return f"{_short(whole / _TIMES[unit])}{unit}"


def _rate(bits: int) -> str:
    unit = next(unit for unit in ("gbit", "mbit", "kbit", "bit") if bits % _RATES[unit] == 0)
    return f"{bits // _RATES[unit]}{unit}"
