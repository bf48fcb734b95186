"""Scripts of the packets that FRCP sends and receives, with their times, in the manner of packetdrill.

A file has many scripts. Each begins with a line `== what it shows (section of the spec)`; the same title must not come
twice. Then comes one statement a line; `#` begins a comment. `+SECONDS` before a statement lets that time
pass first, to the nanosecond; a packet that is sent meanwhile is an error.

    with KEY VALUE, ...     how the end is made, before everything else: mode data|lossy, mpl MS, timeout MS, max OCTETS,
                            message OCTETS, window PACKETS, first N, peer N (first number of the other end),
                            fragments, selective, ends, lossless, direct
    > FLAG|FLAG FIELDS      the next packet that is sent is this one, now. Flags DATA DRF ACK FC RDV FFGM MFGM; fields seq N,
                            ack N, win N, len N. Omitted fields are 0, on the wire.
    < FLAG|FLAG FIELDS      a packet comes in
    > raw HEX [+N]          the same as octets, and N octets of data; likewise `< raw`
    > keepalive             an empty packet; likewise `<`
    write N [ERROR]         write N octets; the error that comes, if any
    writes N                write one octet, N times
    read N[..M] [OCTETS]    the next packet read is what packet N (the fragments N to M) of the peer carried
    reads N..M              the same for each of these packets
    read nothing            nothing can be read
    direct < ...            a packet arrives while a reader waits, which gets it immediately
    room N | room any       the flow below takes N more packets
    state KEY VALUE, ...    una nxt lim want edge (relative), rto srtt dev (ms), and every counter
    writable yes|no [N]     whether a write (of N octets) would be taken
    deadline S | never      when it wants to run next, from now
    flags N [M]             set flags; they read M (N) afterwards
    finish [ERROR]          write no more; the error that comes, if any
    ended yes|no            whether the other end writes no more
    close / lingers yes|no / quiet S / down ERROR|no / max N

Numbers of the script count from the first number of the end that sends data under them: `seq 3` going out and `ack 3` coming in
are `first` + 3; `seq 3` coming in, `ack 3` and `win 3` going out are `peer` + 3. With 0x they are as on the wire. A run of equal
packets is written once for all: `> DATA seq 5..9 len 100`.

The data of sent packets are checked octet by octet: new sequence numbers carry the data that were written, and a
retransmission carries the data of the first transmission.
"""

from __future__ import annotations

import errno
import re
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ouroboros_tools.ocap.frcp import Flag, Header

from ouroboros import errors
from ouroboros.testing.frcp import Frcp

SECOND = 1_000_000_000
START = 1000 * SECOND  # not 0: nothing may take a time of 0 for "never"
COUNTERS = "sent resent control received delivered duplicate early refused malformed skipped".split()


@dataclass(frozen=True, slots=True)
class Script:
    """A script: its position, its title, its statements."""

    place: str
    title: str
    lines: tuple[tuple[int, str], ...]


def load(path: Path) -> list[Script]:
    """The scripts of a file."""
    scripts: list[Script] = []
    title, lines = "", list[tuple[int, str]]()

    def finish() -> None:
        if title:
            assert lines, f"{path.name}: {title!r} says nothing"
            scripts.append(Script(path.name, title, tuple(lines)))

    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.partition("#")[0].strip()
        if line.startswith("=="):
            finish()
            title, lines = line[2:].strip(), []
        elif line:
            assert title, f"{path.name}:{number}: statement outside of a script"
            lines.append((number, line))
    finish()
    return scripts


def pattern(number: int, length: int) -> bytes:
    """The data of packet `number` of the peer."""
    return bytes((number * 31 + i * 7) & 0xFF for i in range(length))


def error_number(word: str) -> int:
    """The number of an error by its name."""
    number = getattr(errors, word, None) or getattr(errno, word, None)
    assert isinstance(number, int), f"there is no error {word!r}"
    return number


def words(text: str) -> list[list[str]]:
    """`a 1, b 2` as [[a, 1], [b, 2]]."""
    return [item.split() for item in text.split(",")]


@dataclass(slots=True)
class Player:
    """Plays one script against one end."""

    now: int = START
    first: int = 0
    peer: int = 0
    out: deque[tuple[int, bytes]] = field(default_factory=deque)
    written: bytearray = field(default_factory=bytearray)
    sent: dict[int, bytes] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    room: int | None = None
    end: Any = None

    def play(self, script: Script) -> None:
        """Raises AssertionError that names the line."""
        lines = list(script.lines)
        settings = lines.pop(0)[1][5:] if lines[0][1].startswith("with ") else ""
        self.make(settings)
        number = 0
        try:
            for number, line in lines:  # noqa: B007
                self.statement(line)
            self.expect_silence("at the end")
        except AssertionError as failure:
            raise AssertionError(f"{script.place}:{number}: {script.title}: {failure}") from None

    def make(self, settings: str) -> None:
        """The end that `with` describes."""
        names = {"mpl": "mpl_ms", "timeout": "timeout_ms", "max": "max_packet", "message": "max_message"}
        options: dict[str, Any] = {}
        for item in words(settings) if settings else []:
            key, value = item[0], item[1] if len(item) > 1 else "1"
            if key == "mode":
                options["retransmit"] = {"data": True, "lossy": False}[value]
            elif key == "peer":
                self.peer = int(value, 0)
            elif key in ("fragments", "selective", "ends", "lossless", "direct"):
                options[key] = True
            else:
                options[names.get(key, key)] = int(value, 0)
        self.first = options.get("first", 0)
        self.end = Frcp(self.now, send=self.send, **options)

    def send(self, packet: bytes) -> bool:
        """The functions that the end calls."""
        if self.room is not None:
            if not self.room:
                return False
            self.room -= 1
        self.out.append((self.now, packet))
        return True

    # ---- time

    def expect_silence(self, when: str) -> None:
        assert not self.out, f"{when}: unexpected {self.show(self.out[0][1])}"

    def advance(self, span: int) -> None:
        """Let time pass, and the end run when it wants to."""
        target = self.now + span
        if span:
            self.expect_silence("before time passes")
        while (deadline := self.end.deadline) is not None and deadline <= target:
            assert deadline > self.now or not span, "the end wants to run again at once"
            self.now = max(self.now, deadline)
            self.end.run(self.now)
            if self.now < target:
                self.expect_silence(f"{(target - self.now) / SECOND:.6f} s too early")
            if self.now == target:
                break
        self.now = target

    # ---- statements

    def statement(self, line: str) -> None:
        """Execute a line."""
        if match := re.match(r"\+([0-9.]+)\s*", line):
            self.advance(round(float(match[1]) * SECOND))
            line = line[match.end() :]
            if not line:
                return
        word, _, rest = line.partition(" ")
        do = {">": self.expect, "<": self.inject}.get(word) or getattr(self, f"do_{word}", None)
        assert do is not None, f"there is no statement {word!r}"
        do(rest.strip())

    def expect(self, text: str) -> None:
        """A packet, or a run of them, goes out now."""
        for fields in runs(text):
            wanted, length = self.packet(fields, outgoing=True)
            assert self.out, f"nothing goes out, not {self.show(wanted)}"
            at, packet = self.out.popleft()
            assert at == self.now, f"{self.show(packet)} {(self.now - at) / SECOND:.6f} s too early"
            head = packet[:12]
            assert head == wanted[:12] and len(packet) - len(head) == length, (
                f"{self.show(packet)}, not {self.show(wanted)} len {length}"
            )
            if "map" in fields:
                assert packet[12:].hex() == fields.split("map")[1].strip(), f"map {packet[12:].hex()}"
            elif packet:
                self.check_data(Header.decode(packet)[0], packet[12:])

    def check_data(self, header: Header, data: bytes) -> None:
        if not header.flags & Flag.DATA:
            return
        if header.sequence in self.sent:
            assert data == self.sent[header.sequence], "not the same data as when it was first sent"
            return
        self.sent[header.sequence] = data
        assert data == self.written[: len(data)], "not the data that was written"
        del self.written[: len(data)]

    def inject(self, text: str, reader: bool = False) -> None:
        """A packet, or a run of them, comes in."""
        for fields in runs(text):
            packet, length = self.packet(fields, outgoing=False)
            header = Header.decode(packet)[0] if len(packet) >= 12 else Header(Flag(0), 0, 0, 0)
            number = (header.sequence - self.peer) & 0xFFFFFFFF
            if "map" in fields:
                packet += bytes.fromhex(fields.split("map")[1].strip())
            else:
                packet += pattern(number, length)
                if header.flags & Flag.DATA:
                    self.sizes[number] = length
            got = self.end.receive(packet, self.now, reader=reader)
            self.end.run(self.now)
            if reader:
                assert got == pattern(number, length), f"the reader gets {got!r}"

    def do_direct(self, text: str) -> None:
        self.inject(text.removeprefix("< "), reader=True)

    def do_write(self, text: str) -> None:
        size, _, error = text.partition(" ")
        data = bytes((len(self.sent) + 13 * i) & 0xFF for i in range(int(size)))
        result = self.end.write(data, self.now)
        if result > 0:
            self.written += data
        self.end.run(self.now)
        wanted = -error_number(error) if error else int(size)
        assert result == wanted, f"the write gives {result}"

    def do_writes(self, text: str) -> None:
        for _ in range(int(text)):
            self.do_write("1")

    def do_finish(self, text: str) -> None:
        result = self.end.send_fin(self.now)
        self.end.run(self.now)
        assert result == (-error_number(text) if text else 0), f"finishing gives {result}"

    def do_ended(self, text: str) -> None:
        assert self.end.fin_received == (text == "yes"), (
            "it has ended" if self.end.fin_received else "it has not ended"
        )

    def do_read(self, text: str) -> None:
        data = self.end.read(self.now)
        self.end.run(self.now)
        if text == "nothing":
            assert data is None, f"{len(data or b'')} octets can be read"
            return
        low, _, high = text.partition("..")
        wanted = b"".join(pattern(n, self.sizes[n]) for n in range(int(low), int(high or low) + 1))
        assert data == wanted, f"{None if data is None else len(data)} octets, not {len(wanted)}"

    def do_reads(self, text: str) -> None:
        for number in runs(text):
            self.do_read(number)

    def do_room(self, text: str) -> None:
        self.room = None if text == "any" else int(text)

    def do_state(self, text: str) -> None:
        c = self.end.c
        for key, value in words(text):
            if key in ("una", "nxt", "lim"):
                is_now: float = (getattr(c.tx, key) - self.first) & 0xFFFFFFFF
            elif key in ("want", "edge"):
                is_now = (getattr(c.rx, key) - self.peer) & 0xFFFFFFFF
            elif key in ("rto", "srtt", "dev"):
                is_now = getattr(c.tx.rtt, key) / 1e6
            elif key in ("octets", "unread", "spoilt", "messages"):
                is_now = getattr(c.rx.recvq, key)
            elif key == "kept":
                is_now = c.tx.sendq.size
            else:
                assert key in COUNTERS, f"there is no state {key!r}"
                is_now = getattr(c.counters, key)
            assert is_now == float(value), f"{key} is {is_now}"

    def do_writable(self, text: str) -> None:
        word, _, size = text.partition(" ")
        assert self.end.writable(int(size or 1)) == (word == "yes"), f"writable is not {word}"

    def do_deadline(self, text: str) -> None:
        deadline = self.end.deadline
        if text == "never":
            assert deadline is None, f"it wants to run in {(deadline or 0) - self.now} ns"
        else:
            assert deadline == self.now + round(float(text) * SECOND), f"{(deadline or 0) - self.now} ns"

    def do_flags(self, text: str) -> None:
        flags, _, after = text.partition(" ")
        self.end.flags = int(flags)
        assert self.end.flags == int(after or flags), f"flags are {self.end.flags}"
        self.end.run(self.now)

    def do_close(self, text: str) -> None:
        self.end.close(self.now)

    def do_lingers(self, text: str) -> None:
        assert self.end.lingers == (text == "yes"), f"lingers is not {text}"

    def do_quiet(self, text: str) -> None:
        assert self.end.quiet_time(self.now) == int(text), f"{self.end.quiet_time(self.now)} s"

    def do_down(self, text: str) -> None:
        wanted = 0 if text == "no" else -error_number(text)
        assert self.end.down == wanted, f"down is {self.end.down}"

    def do_max(self, text: str) -> None:
        assert self.end.max_packet == int(text), f"it takes {self.end.max_packet} octets"

    # ---- packets

    def packet(self, text: str, *, outgoing: bool) -> tuple[bytes, int]:
        """The header that a line describes, and how much data follows."""
        if text.startswith("keepalive"):
            return b"", 0
        if text.startswith("raw"):
            octets, _, length = text[3:].partition("+")
            return bytes.fromhex(octets), int(length or 0)
        flags, *fields = text.partition("map")[0].split()
        values = dict(zip(fields[::2], fields[1::2], strict=True))
        ours, theirs = (self.first, self.peer) if outgoing else (self.peer, self.first)
        known = {"seq": ours, "ack": theirs, "win": theirs, "len": 0}
        assert values.keys() <= known.keys(), f"fields are {', '.join(known)}"
        numbers = {
            key: (int(value, 0) + (0 if value.startswith("0x") else known[key])) & 0xFFFFFFFF
            for key, value in values.items()
        }
        header = Header(
            Flag(sum(Flag[flag] for flag in flags.split("|"))) if flags != "none" else Flag(0),
            numbers.get("win", 0) & 0xFFFFFF,
            numbers.get("seq", 0),
            numbers.get("ack", 0),
        )
        length = numbers.get("len", 0)
        if "map" in text:
            length = len(bytes.fromhex(text.partition("map")[2].strip()))
        return header.encode(b""), length

    def show(self, packet: bytes) -> str:
        """A packet in the words of the scripts."""
        if not packet:
            return "keepalive"
        header, data = Header.decode(packet)
        text = "|".join(flag.name or "" for flag in header.flags) or "none"
        if header.flags & (Flag.DATA | Flag.DRF) or header.sequence:
            text += f" seq {(header.sequence - self.first) & 0xFFFFFFFF}"
        if header.flags & Flag.ACK or header.acknowledgement:
            text += f" ack {(header.acknowledgement - self.peer) & 0xFFFFFFFF}"
        if header.flags & Flag.FC or header.window:
            text += f" win {(header.window - self.peer) & 0xFFFFFF}"
        return text + f" len {len(data)} ({packet[:12].hex()})"


def runs(text: str) -> list[str]:
    """`seq 3..5` is three packets."""
    match = re.search(r"(\d+)\.\.(\d+)", text)
    if match is None:
        return [text]
    return [
        text[: match.start()] + str(n) + text[match.end() :] for n in range(int(match[1]), int(match[2]) + 1)
    ]
