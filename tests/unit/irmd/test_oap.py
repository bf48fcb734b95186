"""The IRMd's end of the handshake: extensions offered and granted, headers refused, and the lines in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from irmd.oap import extension, header
from irmd.oap.algorithms import Hash
from irmd.oap.credentials import Policy
from irmd.oap.extension import Extensions, Item, encode
from irmd.oap.header import Header, decode_reply
from irmd.oap.header import encode as encode_header
from irmd.oap.oap import Oap
from ouroboros.errors import EAUTH, ECRYPT
from ouroboros.log import BURST, LogLimiter
from ouroboros.rpc.service import Refusal
from tests import handshake

NOW = 1_795_334_382_869_341_919
POLICY = Policy()
BOTH = Extensions((Item(1), Item(2)))


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


def oap(*supported: int, clock: Clock | None = None) -> Oap:
    numbers = iter(range(1000))
    return Oap(
        LogLimiter(logging.getLogger("test/oap"), lambda: 0.0),
        supported=frozenset(supported),
        clock=clock or Clock(),
        random=lambda length: next(numbers).to_bytes(length, "big"),
    )


@pytest.mark.parametrize(
    ("asked", "supported", "wanted", "on"),
    [
        ({1, 2}, (1,), {1, 2}, {1}),
        ({1, 2}, (), {1, 2}, set()),
        (set(), (1, 2), {1, 2}, set()),
        ({1, 2}, (1, 2, 3), {1, 2, 3}, {1, 2}),
        ({1, 2}, (1, 2), {2}, {2}),
        ({1, 2, 9}, (1, 2, 9), {1}, {1}),
    ],
)
def test_extensions_are_on_when_both_want_them(
    asked: set[int], supported: tuple[int, ...], wanted: set[int], on: set[int]
) -> None:
    ours, theirs = oap(*range(10)), oap(*supported)
    request = ours.request("n", POLICY, frozenset(asked))
    received = theirs.received(request.octets, "n", POLICY, "l", frozenset(wanted))
    agreed = ours.complete(request, theirs.reply(received, "n"), "n", "l")
    assert received.outcome.extensions == agreed.extensions == on
    assert (received.outcome.data, agreed.data) == (b"", b"")


def test_what_only_an_offer_makes_too_long_has_none() -> None:
    ours, theirs, both = oap(1, 2), oap(1, 2), frozenset({1, 2})
    length = len(ours.request("n", POLICY, both).octets)
    assert len(ours.request("n", POLICY, both, max_octets=length).octets) == length
    assert len(ours.request("n", POLICY, both, max_octets=length - 1).octets) == 36
    assert len(ours.request("n", POLICY, both, max_octets=35).octets) == length  # it would be too long anyway

    request = ours.request("n", POLICY, both)
    received = theirs.received(request.octets, "n", POLICY, "l", both)
    length = len(theirs.reply(received, "n"))
    assert received.outcome.extensions == both
    reply = theirs.reply(received, "n", max_octets=length - 1)
    assert len(reply) == 84 and received.outcome.extensions == frozenset()
    assert ours.complete(request, reply, "n", "l").extensions == frozenset()


def test_a_prototype_sees_what_it_knows() -> None:
    """Plain request and reply of spec/oap 3: 36 and 84 octets, no data."""
    asked = oap().request("n", POLICY)
    request = asked.octets
    assert len(request) == 36 and request[24:] == bytes(12)
    reply = oap().reply(oap().received(request, "n", POLICY, "l"), "n")
    assert len(reply) == 84 and reply[:16] == request[:16] and reply[24:36] == bytes(12)


def test_each_header_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request by the acceptor, the reply by the requester: an end does not decode its own header."""
    decoded: list[str] = []
    for module, name in ((header, "_decode"), (extension, "decode")):
        original = getattr(module, name)

        def counting(
            *arguments: object, name: str = name, original: Callable[..., object] = original
        ) -> object:
            decoded.append(name)
            return original(*arguments)

        monkeypatch.setattr(module, name, counting)
    ours, theirs = oap(1, 2), oap(1)
    request = ours.request("n", POLICY, frozenset({1, 2}), lasts_ms=5000)
    received = theirs.received(request.octets, "n", POLICY, "l", frozenset({1}))
    outcome = ours.complete(request, theirs.reply(received, "n"), "n", "l")
    assert outcome.extensions == received.outcome.extensions == {1}
    assert sorted(decoded) == ["_decode", "_decode", "decode", "decode"]


def test_an_offer_with_a_mistake_is_no_offer() -> None:
    theirs = oap(1)
    request = encode_header(Header(b"m" * 16, NOW, data=encode(BOTH)[:-1]))
    received = theirs.received(request, "n", POLICY, "l")
    assert received.granted is None and received.outcome.data == b""


def test_what_is_granted_beyond_the_offer_is_refused() -> None:
    ours = oap(1)
    request = ours.request("n", POLICY, frozenset({1}))
    reply = handshake.make_reply(request.octets, now=NOW, granted=BOTH)
    with pytest.raises(Refusal) as refused:
        ours.complete(request, reply, "n", "l")
    assert refused.value.errno == EAUTH and "not offered" in refused.value.text


def test_data_of_the_application_both_ways() -> None:
    ours = oap()
    received = ours.received(encode_header(Header(b"d" * 16, NOW, data=b"hello")), "n", POLICY, "l")
    assert received.outcome.data == b"hello"
    request = ours.request("n", POLICY)
    answer = decode_reply(ours.reply(ours.received(request.octets, "n", POLICY, "l"), "n"), digest=Hash.NONE)
    reply = encode_header(Header(answer.id, NOW, data=b"you too", request_hash=answer.request_hash))
    assert ours.complete(request, reply, "n", "l").data == b"you too"


def test_time_is_checked_when_the_request_comes() -> None:
    clock = Clock()
    theirs = oap(clock=clock)
    request = oap().request("n", POLICY)
    clock.now += 20_000_000_000
    theirs.received(request.octets, "n", POLICY, "l")
    clock.now += 1_000_000
    with pytest.raises(Refusal) as refused:
        theirs.received(oap().request("n", POLICY).octets, "n", POLICY, "l")
    assert refused.value.errno == EAUTH and "too old" in refused.value.text


@pytest.mark.parametrize(
    ("header", "number"),
    [
        (Header(b"k" * 16, NOW, kex=b"a key"), ECRYPT),
        (Header(b"c" * 16, NOW, certificate=b"who", signature=b"me"), EAUTH),
    ],
)
def test_what_this_version_cannot_do(header: Header, number: int) -> None:
    with pytest.raises(Refusal) as refused:
        oap().received(encode_header(header), "n", POLICY, "l")
    assert refused.value.errno == number and "\n" not in refused.value.text


def test_the_log_has_the_reason_but_no_flood_of_it(caplog: pytest.LogCaptureFixture) -> None:
    one = oap()
    with caplog.at_level(logging.WARNING, logger="test/oap"):
        for _ in range(BURST + 5):
            with pytest.raises(Refusal):
                one.received(b"garbage", "n", POLICY, "ether")
        assert len(caplog.records) == BURST
        assert "refused a flow to" in caplog.records[0].getMessage()
        with pytest.raises(Refusal):
            one.complete(one.request("n", POLICY), b"garbage", "n", "ether")
        assert "is not good" in caplog.records[-1].getMessage()  # another culprit
