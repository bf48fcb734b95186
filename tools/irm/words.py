"""Words: the grammar of the `irm` command line, and its commands as data (docs/reference/irm.md).

A word stands for the first entry of a table that begins with it: `irm i l` is `irm ipcp list`; for a command that destroys it
stands only when it can mean no other. A command takes its operands first, then `key value` pairs and flags in any order. `help` where an operand, a key or a flag could stand
asks for help; where a value stands (`name help`), or after `--`, it is a word like any other. This module only
parses, and raises UsageError or WrongWord.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ouroboros.printable import printable

HELP = "help"


class UsageError(Exception):
    """The command line is incomplete, or contradicts itself; the text is one line with the correct form."""


class WrongWord(ValueError):
    """A word that the grammar does not know at its place; the text is one line that names it and the words that fit."""


class HelpWanted(Exception):
    """The command line asks for help instead."""


class Key(NamedTuple):
    """A word that introduces a value, or, without a `value`, a flag.

    `alias`: another spelling of that key. `option`: one of many, which the usage does not list one by one. `takes`:
    the value may be left out; it is there when the next word is one that this accepts. `bare`: the first value of the command, which
    may stand without its key.
    """

    word: str
    value: str = ""
    required: bool = False
    repeats: bool = False
    alias: str = ""
    option: bool = False
    takes: Callable[[str], bool] | None = None
    bare: bool = False


class Arguments(NamedTuple):
    """The operands, keys and flags that a command line gives a command."""

    operands: Sequence[str]
    values: Mapping[str, list[str]]  # by key; a flag has an empty list
    rest: Sequence[str]  # the words behind `--`, for a command that passes them on
    json: bool = False
    quiet: bool = False

    def say(self, text: str) -> None:
        """Print what the command has made, changed or removed, in one line, unless it was asked to be quiet."""
        if not self.quiet:
            print(printable(text))

    def one(self, key: str) -> str | None:
        """The value of a key that is given at most once."""
        values = self.values.get(key)
        return values[0] if values else None

    def needed(self, key: str) -> str:
        """The value of a required key."""
        return self.values[key][0]

    def all(self, key: str) -> list[str]:
        """All values of a key that may be repeated."""
        return self.values.get(key, [])

    def flag(self, key: str) -> bool:
        """Whether a flag, or any key, is there."""
        return key in self.values

    def operand(self) -> str | None:
        """The first operand, where it may be left out."""
        return self.operands[0] if self.operands else None


class Command(NamedTuple):
    """A command: its operands and keys, its purpose, and the function that runs it."""

    word: str
    summary: str
    run: Callable[[Arguments], int]
    operands: Sequence[str] = ()
    optional: int = 0  # number of operands, from the last, that may be left out
    keys: Sequence[Key] = ()
    retired: Mapping[str, str] = {}  # words of old versions, with what to do now
    rest: str = ""  # name of the words behind `--`
    json: bool = False
    details: Callable[[], str] | None = None  # more for its help
    destructive: bool = False  # an abbreviation that fits another word too never stands for it

    @property
    def bare(self) -> Key | None:
        """The key whose value may stand without it."""
        return next((key for key in self.keys if key.bare), None)


class Group(NamedTuple):
    """Commands behind one word."""

    word: str
    summary: str
    commands: Sequence[Command]
    destructive: bool = False


def find(word: str, known: Iterable[str]) -> str | None:
    """The first of the known words that begins with `word`."""
    for candidate in known:
        if candidate.startswith(word):
            return candidate
    return None


def find_entry(word: str, table: Sequence[Group | Command], path: str) -> Group | Command | None:
    """The first entry that begins with `word`; a destructive one only when no other does, or the word is whole.

    Raises WrongWord.
    """
    fitting = [entry for entry in table if entry.word.startswith(word)]
    for entry in fitting:
        if entry.word == word:
            return entry
    if len(fitting) > 1 and fitting[0].destructive:
        words = " or ".join(entry.word for entry in fitting)
        raise WrongWord(f'"{word}" could be {words}; write it out. Try "{path} {HELP}".')
    return fitting[0] if fitting else None


def unknown(word: str, known: Sequence[str], path: str) -> WrongWord:
    """The error for a word that is not in a table."""
    from difflib import get_close_matches

    close = get_close_matches(word, known, 1)
    hint = f'did you mean "{close[0]}"?' if close else f"it must be one of: {', '.join(known)}."
    return WrongWord(f'"{word}" is unknown, {hint} Try "{path} {HELP}".')


def usage(path: str, command: Command) -> str:
    """The command in one line; optional parts are in brackets."""
    parts = [path]
    first_optional = len(command.operands) - command.optional
    for index, operand in enumerate(command.operands):
        parts.append(f"<{operand}>" if index < first_optional else f"[<{operand}>]")
    for key in command.keys:
        if key.alias or key.option:
            continue
        value = f"[<{key.value}>]" if key.takes else f"<{key.value}>"
        word = f"[{key.word}]" if key.bare and key.required else key.word
        text = f"{word} {value}" if key.value else key.word
        parts.append((text if key.required else f"[{text}]") + ("..." if key.repeats else ""))
    if any(key.option for key in command.keys):
        parts.append("[<option> <value>]...")
    if command.rest:
        parts.append(f"[-- <{command.rest}>...]")
    if command.json:
        parts.append("[--json]")
    return " ".join(parts)


def parse(path: str, command: Command, words: Sequence[str], after: Sequence[str] | None) -> Arguments:
    """Read the words of a command; `after` has the words behind `--`, None without it.

    Raises UsageError, WrongWord, HelpWanted.
    """
    rest: Sequence[str] = ()
    literal_from = len(words)
    if after is not None:
        if command.rest:
            rest = after
        else:
            words = [*words, *after]
    operands: list[str] = []
    values: dict[str, list[str]] = {}
    position = 0
    while position < len(words):
        word = words[position]
        literal = position >= literal_from
        position += 1
        if word == HELP and not literal:
            raise HelpWanted
        if _introduces_operand(command, operands, words[position - 1 :]):
            word = words[position]
            position += 1
        if len(operands) < len(command.operands) and (
            find(word, [key.word for key in command.keys]) is None
            if values
            else not _skips_operand(command, operands, word)
        ):
            operands.append(word)
            continue
        bare = _bare(command, operands, values, words[position - 1 :], literal=literal)
        if bare is not None:
            values[bare.word] = [word]
            continue
        key = _key(path, command, words[:position], values)
        if key.value and not (key.takes and not (position < len(words) and key.takes(words[position]))):
            if position == len(words):
                raise UsageError(f'"{word}" needs a value: {key.word} <{key.value}>. Try "{path} {HELP}".')
            values.setdefault(key.alias or key.word, []).append(words[position])
            position += 1
        else:
            values.setdefault(key.word, [])
    _check(path, command, operands, values)
    return Arguments(operands, values, rest)


def _introduces_operand(command: Command, operands: Sequence[str], words: Sequence[str]) -> bool:
    """Whether the operand is written as a pair, as the paper does: `name N` instead of N."""
    if operands or not command.operands or len(words) < 2 or words[0] != command.operands[0]:
        return False
    return find(words[1], [key.word for key in command.keys]) is None


def _skips_operand(command: Command, operands: Sequence[str], word: str) -> bool:
    """Whether an operand that may be left out is, because a key of the command follows in full."""
    needed = len(command.operands) - command.optional
    return len(operands) >= needed and any(word == key.word for key in command.keys)


def _bare(
    command: Command,
    operands: Sequence[str],
    values: Mapping[str, list[str]],
    words: Sequence[str],
    *,
    literal: bool,
) -> Key | None:
    """The key whose value the first of these words is, without the key: no key was given yet, and the word is none itself.

    An abbreviation is a key if a value follows, that is a word that is no key of the command.
    """
    key = command.bare
    if key is None or values or len(operands) < len(command.operands):
        return None
    known = [each.word for each in command.keys]
    found = None if literal or not words[0] else find(words[0], known)
    if found is None:
        return key
    is_flag = not command.keys[known.index(found)].value
    has_value = len(words) > 1 and words[1] not in known
    return None if found == words[0] or is_flag or has_value else key


def _unknown_key(
    path: str, command: Command, words: Sequence[str], values: Mapping[str, list[str]]
) -> WrongWord:
    """The error for the last of `words`; or for the one before, if that was taken for a bare value and is more likely a key that is
    misspelt."""
    from difflib import get_close_matches

    word = words[-1]
    if command.bare is not None and values == {command.bare.word: list(words[-2:-1])}:
        if get_close_matches(words[-2], [key.word for key in command.keys], 1):
            word = words[-2]
    return unknown(word, [key.word for key in command.keys if not key.alias], path)


def _key(path: str, command: Command, words: Sequence[str], values: Mapping[str, list[str]]) -> Key:
    """The key that the last of `words` is."""
    word = words[-1]
    known = [key.word for key in command.keys]
    found = find(word, known)
    if found is not None:
        return command.keys[known.index(found)]
    if word in command.retired:
        raise WrongWord(f'"{word}" was removed: {command.retired[word]} Try "{path} {HELP}".')
    if not known:
        raise WrongWord(f'"{word}" is too much: {usage(path, command)}')
    raise _unknown_key(path, command, words, values)


def _check(path: str, command: Command, operands: Sequence[str], values: Mapping[str, list[str]]) -> None:
    if len(operands) < len(command.operands) - command.optional:
        raise UsageError(f"<{command.operands[len(operands)]}> is missing: {usage(path, command)}")
    for key in command.keys:
        if key.required and key.word not in values:
            raise UsageError(f'"{key.word} <{key.value}>" is missing: {usage(path, command)}')
        if not key.repeats and len(values.get(key.word, ())) > 1:
            raise UsageError(f'"{key.word}" is there twice: {" and ".join(values[key.word])}.')
