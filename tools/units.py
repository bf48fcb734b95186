"""Durations, rates and sizes as a user types them.

Every traffic tool reads its options through these three functions, so that `90s`, `1.5m` or `10M`
mean the same everywhere (paper 5.9). Pure; runs in the tool's process while it parses its arguments.
"""

_MS_PER_UNIT = {"ms": 1.0, "s": 1e3, "m": 60e3, "h": 3600e3, "d": 86400e3}
_PER_SUFFIX = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_MAX_S = 366 * 86400.0
"""A year: more than any test, less than any clock or time-out can hold."""
MAX_COUNT = (1 << 63) - 1
_BYTES_PER_SUFFIX = {"": 1, "k": 1 << 10, "m": 1 << 20}


class UnitError(ValueError):
    """The text is not a duration, rate or size; the message names it and a correct form."""


def duration(text: str, *, unit: str = "ms") -> float:
    """Seconds in `text`: a number and one of ms s m h d; a bare number counts in `unit`."""
    number, suffix = _split(text)
    factor = _MS_PER_UNIT.get(suffix or unit)
    if number is None or factor is None:
        raise UnitError(
            f'"{text}" is not a duration; give a number and ms, s, m, h or d, such as 500ms or 2s'
        )
    seconds = number * factor / 1e3
    if seconds > _MAX_S:
        raise UnitError(f'"{text}" is too long; give a duration of at most 366d')
    return seconds


def positive_duration(text: str, *, unit: str = "ms") -> float:
    """A duration above 0."""
    value = duration(text, unit=unit)
    if value == 0:
        raise UnitError(f'"{text}" is too short; give a duration above 0, such as 10s')
    return value


def rate(text: str) -> float:
    """Bits per second in `text`: a number and, optionally, k, M or G (powers of 1000)."""
    number, suffix = _split(text)
    factor = _PER_SUFFIX.get(suffix.lower())
    if number is None or factor is None or number == 0:
        raise UnitError(f'"{text}" is not a rate; give bits per second above 0, such as 500k, 10M or 1G')
    return number * factor


def size(text: str) -> int:
    """Bytes in `text`: a whole number and, optionally, k or M (powers of 1024)."""
    number, suffix = _split(text)
    factor = _BYTES_PER_SUFFIX.get(suffix.lower())
    if number is None or factor is None or number * factor != int(number * factor):
        raise UnitError(f'"{text}" is not a size; give whole bytes, such as 1500 or 64k')
    return int(number * factor)


def packet_size(text: str, smallest: int, largest: int) -> int:
    """A size between two limits."""
    value = size(text)
    if not smallest <= value <= largest:
        raise UnitError(f'"{text}" is not a packet size; give {smallest} to {largest} bytes')
    return value


def count(text: str) -> int:
    """A whole number from 1 to MAX_COUNT."""
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:20]) <= MAX_COUNT:
        raise UnitError(f'"{text}" is not a count; give a whole number from 1 to {MAX_COUNT}')
    return int(text)


def _split(text: str) -> tuple[float | None, str]:
    """Number and suffix of `text`; the number is None where there is none (signs and exponents are not)."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    suffix = text[len(digits) :]
    if not digits.isascii() or not digits.replace(".", "", 1).isdigit() or len(digits) > 20:
        return None, suffix
    return float(digits), suffix
