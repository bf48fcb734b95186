"""The link emulator without a link: the meaning of words, the fate of frame n, and the time of its departure."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ouroboros_tools.olab.emulator.impairment import (
    MAX_LIMIT,
    MAX_SEED,
    WORDS,
    Impairment,
    ImpairmentError,
    chance,
    parse,
)
from ouroboros_tools.olab.emulator.line import CopyFate, Line, fate

MANY = 20_000

# ---------------------------------------------------------------- words

WHOLE = "loss 5% delay 20ms 2ms duplicate 3% reorder 10% corrupt 0.1% rate 100mbit limit 1000 seed 7"


def test_all_words() -> None:
    found = parse(WHOLE)
    assert found == Impairment(
        loss=0.05,
        delay=0.02,
        jitter=0.002,
        duplicate=0.03,
        reorder=0.1,
        corrupt=0.001,
        rate=100_000_000,
        limit=1000,
        seed=7,
    )
    assert str(found) == WHOLE
    assert parse("") == Impairment() and str(Impairment()) == ""


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("delay 1.5s", Impairment(delay=1.5)),
        ("delay 100us 7ns", Impairment(delay=1e-4, jitter=7e-9)),
        ("delay 20MSEC", Impairment(delay=0.02)),
        ("rate 1kbit", Impairment(rate=1000)),
        ("rate 2.5gbit", Impairment(rate=2_500_000_000)),
        ("loss 100%", Impairment(loss=1.0)),
        ("limit 1 seed 18446744073709551615", Impairment(limit=1, seed=MAX_SEED)),
    ],
)
def test_units(text: str, means: Impairment) -> None:
    assert parse(text) == means


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("lost 5%", '"lost" is not something that a link does; it must be one of: loss, delay'),
        ("loss", "loss needs a value, as in `loss 5%`"),
        ("loss 5", '"5" is not a percentage, as in `loss 5%`'),
        ("loss -5%", '"-5%" is not a percentage'),
        ("loss 101%", "101% is more than 100%"),
        ("loss 5% 25%", 'loss takes one value; correlations ("25%") are not emulated'),
        ("loss 5% loss 5%", '"loss" is there twice'),
        ("delay 20", '"20" is not a time'),
        ("delay 2h", '"2h" is not a time'),
        ("delay 3601s", "delay 3601.0 s is not from 0 to 3600 s"),
        ("delay 20ms 2", '"2" is not a time'),
        ("reorder 5%", "reorder needs a delay"),
        ("rate 100", '"100" is not a rate'),
        ("rate 1bit", "rate 1bit is not from 1000bit"),
        ("limit 0", "limit 0 is not from 1"),
        ("limit 1.5", '"1.5" is not a whole number'),
        (f"limit {MAX_LIMIT + 1}", f"is not from 1 to {MAX_LIMIT}"),
        ("seed 18446744073709551616", "is not from 0 to 18446744073709551615"),
        ("seed \u0663", "is not a whole number"),
    ],
)
def test_wrong_words_are_named(text: str, complaint: str) -> None:
    with pytest.raises(ImpairmentError) as error:
        parse(text)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


shares = st.integers(0, 10**6).map(lambda part: part / 10**6)
times = st.integers(0, 10**12).map(lambda ns: ns / 1e9)
impairments = st.builds(
    Impairment,
    loss=shares,
    delay=st.integers(1, 10**12).map(lambda ns: ns / 1e9),
    jitter=times,
    duplicate=shares,
    reorder=shares,
    corrupt=shares,
    rate=st.none() | st.integers(1000, 10**12),
    limit=st.integers(1, MAX_LIMIT),
    seed=st.integers(0, MAX_SEED),
)


@given(impairments)
def test_what_is_written_is_read_again(impairment: Impairment) -> None:
    assert str(parse(str(impairment))) == str(impairment)
    again = parse(str(impairment))
    assert (again.rate, again.limit, again.seed) == (impairment.rate, impairment.limit, impairment.seed)
    assert math.isclose(again.delay, impairment.delay) and math.isclose(again.jitter, impairment.jitter)
    assert math.isclose(again.loss, impairment.loss) and math.isclose(again.corrupt, impairment.corrupt)


@given(st.lists(st.sampled_from([*WORDS, "5%", "20ms", "7", "", "1gbit", "x"]), max_size=8))
def test_any_words_are_understood_or_refused(words: list[str]) -> None:
    try:
        parse(words)
    except ImpairmentError:
        pass


# ---------------------------------------------------------------- the fate of frame n

BITS = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & BITS
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & BITS
    return x ^ (x >> 31)


def model(impairment: Impairment, n: int, direction: int) -> list[CopyFate]:
    """The same in Python, from what docs/reference/olab.md says."""
    frame = mix((mix((impairment.seed + (direction + 1) * GOLDEN) & BITS) + n * GOLDEN) & BITS)

    def draw(question: int) -> int:
        return mix((frame + (question + 1) * GOLDEN) & BITS)

    def happens(question: int, share: float) -> bool:
        return share >= 1 or draw(question) < chance(share)

    if happens(0, impairment.loss):
        return []
    copies = []
    for first in (0, 8)[: 1 + happens(1, impairment.duplicate)]:
        overtakes = happens(first + 2, impairment.reorder)
        jitter = round(impairment.jitter * 1e9)
        delay = round(impairment.delay * 1e9)
        delay += (draw(first + 5) * (2 * jitter + 1) >> 64) - jitter
        copies.append(
            CopyFate(
                0 if overtakes else max(delay, 0),
                overtakes,
                happens(first + 3, impairment.corrupt),
                draw(first + 4),
            )
        )
    return copies


def test_mix_is_that_of_splitmix64() -> None:
    """The first numbers that SplitMix64 gives from 0, as published with it and used everywhere."""
    assert [mix(GOLDEN * n & BITS) for n in (1, 2)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


@given(impairments, st.integers(0, BITS), st.integers(0, 1))
@settings(max_examples=500)
def test_fate_is_that_of_the_model(impairment: Impairment, n: int, direction: int) -> None:
    assert fate(impairment, n, direction=direction) == model(impairment, n, direction)


SEVEN = [1, 1, 0, 1, 1, 1, 0, 2, 1, 0, 0, 1, 1, 0, 1, 0, 2, 1, 1, 2]


def test_fate_is_the_same_every_time_and_everywhere() -> None:
    """Numbers that must never change: somebody has written down what happened with seed 7."""
    impairment = parse("loss 20% delay 20ms 2ms duplicate 10% seed 7")
    assert [len(fate(impairment, n)) for n in range(20)] == SEVEN
    assert [len(fate(impairment, n, direction=1)) for n in range(20)] != SEVEN
    assert [len(fate(parse("loss 20% duplicate 10% seed 8"), n)) for n in range(20)] != SEVEN


def assert_share(count: int, of: int, share: float) -> None:
    """Within five standard deviations: a seed that is not would be one in a million."""
    assert abs(count - of * share) <= 5 * math.sqrt(of * share * (1 - share)), (count, of, share)


@pytest.mark.parametrize("seed", [0, 1, 7, MAX_SEED])
@pytest.mark.parametrize("direction", [0, 1])
def test_chances_are_kept(seed: int, direction: int) -> None:
    impairment = parse(f"loss 5% delay 20ms 2ms duplicate 3% reorder 10% corrupt 1% seed {seed}")
    fates = [fate(impairment, n, direction=direction) for n in range(MANY)]
    there = [copies for copies in fates if copies]
    assert_share(MANY - len(there), MANY, 0.05)
    assert_share(sum(len(copies) == 2 for copies in there), len(there), 0.03)
    assert_share(sum(copies[0].overtakes for copies in there), len(there), 0.1)
    assert_share(sum(copies[0].corrupt for copies in there), len(there), 0.01)
    delays = [copies[0].delay for copies in there if not copies[0].overtakes]
    assert min(delays) >= 18_000_000 and max(delays) <= 22_000_000
    deviation = 2_000_000 / math.sqrt(3)  # of numbers that are spread evenly
    assert abs(sum(delays) / len(delays) - 20_000_000) <= 5 * deviation / math.sqrt(len(delays))
    # In each quarter of the range there are as many.
    for quarter in range(4):
        low = 18_000_000 + quarter * 1_000_000
        assert_share(sum(low <= delay < low + 1_000_000 for delay in delays), len(delays), 0.25)


def test_losses_do_not_depend_on_each_other() -> None:
    """After a frame that was lost, the next is lost as often as any."""
    lost = [not fate(parse("loss 10% seed 3"), n) for n in range(MANY)]
    assert_share(sum(one and other for one, other in pairwise(lost)), MANY - 1, 0.01)


def test_one_word_changes_nothing_about_what_another_does() -> None:
    plain = [len(fate(parse("loss 5% seed 3"), n)) > 0 for n in range(MANY)]
    more = parse("loss 5% delay 5ms 1ms duplicate 50% reorder 10% corrupt 10% seed 3")
    assert [len(fate(more, n)) > 0 for n in range(MANY)] == plain
    worse = [len(fate(parse("loss 10% seed 3"), n)) > 0 for n in range(MANY)]
    assert all(before or not after for before, after in zip(plain, worse, strict=True))


def test_never_and_always() -> None:
    assert not any(fate(parse("loss 100%"), n) for n in range(MANY))
    always = parse("delay 1ms duplicate 100% reorder 100% corrupt 100%")
    for n in range(MANY):
        copies = fate(always, n)
        assert len(copies) == 2 and all(copy.overtakes and copy.corrupt for copy in copies)
    assert all(fate(Impairment(), n)[0].delay == 0 and len(fate(Impairment(), n)) == 1 for n in range(MANY))


# ---------------------------------------------------------------- a line


def frame(n: int, size: int = 60) -> bytes:
    return n.to_bytes(4, "big") + bytes(size - 4)


def number(octets: bytes) -> int:
    return int.from_bytes(octets[:4], "big")


def balance(line: Line) -> None:
    """Nothing has vanished uncounted."""
    c = line.counters
    assert c["received"] + c["duplicated"] == (
        c["lost"] + c["full"] + c["sent"] + c["refused"] + c["held"]
    ), c


def test_frames_pass_as_they_are_and_at_once() -> None:
    line = Line()
    for n in range(100):
        assert line.offer(frame(n), now=1.0)
    assert line.deadline == 1.0
    assert [number(one) for one in line.due(now=1.0)] == list(range(100))
    assert line.deadline is None
    assert line.counters["sent_octets"] == line.counters["received_octets"] == 6000


def test_delay() -> None:
    line = Line(parse("delay 20ms"))
    line.offer(frame(1), now=1.0)
    line.offer(frame(2), now=1.001)
    assert line.due(now=1.0199) == []
    assert line.deadline == pytest.approx(1.02)
    assert [number(one) for one in line.due(now=1.02)] == [1]
    assert [number(one) for one in line.due(now=2.0)] == [2]


def test_order_is_kept_without_reordering() -> None:
    line = Line(parse("loss 20% delay 20ms duplicate 20% seed 4"))
    out: list[int] = []
    for n in range(5000):
        line.offer(frame(n), now=n * 1e-4)
        out += [number(one) for one in line.due(now=n * 1e-4)]
        balance(line)
    out += [number(one) for one in line.due(now=20)]
    assert out == sorted(out)
    assert len(out) == line.counters["sent"] > len(set(out))
    assert len(out) - len(set(out)) == line.counters["duplicated"]


def test_frames_overtake() -> None:
    line = Line(parse("delay 10ms reorder 25% seed 1"))
    out: list[int] = []
    for n in range(2000):
        line.offer(frame(n), now=n * 1e-3)
        out += [number(one) for one in line.due(now=n * 1e-3)]
    out += [number(one) for one in line.due(now=10)]
    assert sorted(out) == list(range(2000))
    early = [n for n in range(2000) if fate(parse("delay 10ms reorder 25% seed 1"), n)[0].overtakes]
    assert line.counters["reordered"] == len(early)
    place = {n: at for at, n in enumerate(out)}
    for n in early[100:110]:  # in front of those of the last 10 ms that were delayed
        before = [m for m in range(n - 9, n) if m not in early]
        assert all(place[n] < place[m] for m in before)
    late = [n for n in out if n not in set(early)]
    assert late == sorted(late)


def test_jitter_reorders_as_netem_does() -> None:
    line = Line(parse("delay 10ms 5ms seed 1"))
    for n in range(1000):
        line.offer(frame(n), now=n * 1e-3)
    out = [number(one) for one in line.due(now=10)]
    assert sorted(out) == list(range(1000)) and out != sorted(out)


def test_same_seed_same_run() -> None:
    def run(words: str, direction: int = 0) -> list[bytes]:
        line = Line(parse(words), direction=direction)
        for n in range(2000):
            line.offer(frame(n), now=n * 1e-3)
        return line.due(now=100)

    words = "loss 5% delay 20ms 2ms duplicate 3% reorder 10% corrupt 1% rate 10mbit seed"
    assert run(f"{words} 7") == run(f"{words} 7")
    assert run(f"{words} 7") != run(f"{words} 8")
    assert run(f"{words} 7") != run(f"{words} 7", direction=1)


def test_setting_counts_frames_from_0_again() -> None:
    line = Line(parse("loss 50% seed 7"))
    runs = []
    for _ in range(2):
        line.set(parse("loss 50% seed 7"))
        for n in range(100):
            line.offer(frame(n), now=0.0)
        runs.append(line.due(now=0.0))
        balance(line)
    assert runs[0] == runs[1]


def test_what_is_held_when_it_is_set_comes_out_when_it_would_have() -> None:
    line = Line(parse("delay 1s"))
    line.offer(frame(1), now=0.0)
    line.set(parse("loss 100%"))
    line.offer(frame(2), now=0.5)
    assert line.due(now=0.9) == []
    assert [number(one) for one in line.due(now=1.0)] == [1]
    balance(line)


def test_corruption_flips_one_bit_of_one_copy() -> None:
    line = Line(parse("delay 1ms duplicate 100% corrupt 50% seed 2"))
    flips = 0
    for n in range(500):
        line.offer(bytes(64), now=n)
        for one in line.due(now=n + 0.5):
            bits = sum(octet.bit_count() for octet in one)
            assert bits <= 1
            flips += bits
    assert flips == line.counters["corrupted"]
    assert_share(flips, 1000, 0.5)


def test_rate_spaces_frames() -> None:
    line = Line(parse("rate 1mbit delay 10ms"))
    for n in range(10):
        line.offer(frame(n, 125), now=1.0)  # 1000 bits: 1 ms each
    for n in range(10):
        assert line.deadline == pytest.approx(1.011 + n * 1e-3)
        assert [number(one) for one in line.due(now=1.0110001 + n * 1e-3)] == [n]
    line.offer(frame(11, 125), now=5.0)
    assert line.deadline == pytest.approx(5.011)


def test_limit_drops_what_comes_last() -> None:
    line = Line(parse("rate 1mbit limit 5"))
    assert [line.offer(frame(n, 125), now=1.0) for n in range(8)] == [True] * 8
    assert [number(one) for one in line.due(now=2.0)] == [0, 1, 2, 3, 4]
    assert line.counters["full"] == 3
    balance(line)


def test_limit_is_no_limit_for_frames_that_do_not_wait() -> None:
    line = Line(parse("limit 1"))
    for n in range(100):
        line.offer(frame(n), now=1.0)
    assert len(line.due(now=1.0)) == 100


def test_memory_is_bounded_when_nobody_takes() -> None:
    line = Line(room=60)
    took = sum(line.offer(frame(n), now=0.0) for n in range(MAX_LIMIT + 5000))
    assert MAX_LIMIT <= took < MAX_LIMIT + 5000
    assert line.counters["full"] == MAX_LIMIT + 5000 - took
    balance(line)


def test_time_does_not_go_back() -> None:
    line = Line(parse("delay 1ms"))
    line.offer(frame(1), now=2.0)
    line.offer(frame(2), now=1.0)
    assert [number(one) for one in line.due(now=2.001)] == [1, 2]


def test_frame_that_is_too_long_is_refused() -> None:
    with pytest.raises(OSError):
        Line(room=60).offer(bytes(61), now=0.0)


@given(
    impairments,
    st.lists(st.tuples(st.integers(0, 50_000_000), st.integers(1, 200)), max_size=60),
)
def test_nothing_vanishes(impairment: Impairment, arrivals: list[tuple[int, int]]) -> None:
    line = Line(impairment, room=200)
    now = 0.0
    for gap, size in arrivals:
        now += gap / 1e9
        line.offer(bytes(size), now=now)
        line.due(now=now)
        balance(line)
    line.due(now=1e9)
    balance(line)
    assert line.counters["held"] == 0
