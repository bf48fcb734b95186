"""The allocation handshake: time and replay with numbers for a clock, request hash, extensions."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmd.oap import extension, header
from irmd.oap.algorithms import Cipher, Hash, request_hash, request_hash_length
from irmd.oap.extension import Extensions, Item
from irmd.oap.handshake import ReplyRefused
from irmd.oap.replay import Fault, Refused, ReplayGuard
from ouroboros.errors import EAUTH
from ouroboros.extension import Extension
from ouroboros.wire import MalformedPacket, UnsendablePacket
from tests import handshake

MS = 1_000_000
NOW = 1_795_334_382_869_341_919
A, B = bytes(16), bytes(15) + b"\x01"
OFFER = Extensions((Item(Extension.FRAGMENTATION), Item(Extension.FRCP_CHECK), Item(999, b"from the future")))


# ---------------------------------------------------------------- time and replay


@pytest.mark.parametrize(
    ("age_ms", "fault"),
    [
        (0, None),
        (19_999, None),
        (20_000, None),
        (20_001, Fault.OLD),
        (-100, None),
        (-101, Fault.AHEAD),
        (-(10**9), Fault.AHEAD),
        (10**9, Fault.OLD),
    ],
)
def test_age(age_ms: int, fault: Fault | None) -> None:
    guard = ReplayGuard()
    if fault is None:
        guard.check(NOW - age_ms * MS, A, now=NOW)
        return
    with pytest.raises(Refused) as refused:
        guard.check(NOW - age_ms * MS, A, now=NOW)
    assert refused.value.fault is fault and refused.value.errno == EAUTH
    assert len(guard) == 0


def test_ages_are_whole_milliseconds() -> None:
    """As in the prototype: part of a millisecond does not count, in either direction."""
    ReplayGuard().check(NOW - 20_000 * MS - 999_999, A, now=NOW)
    ReplayGuard().check(NOW + 100 * MS + 999_999, A, now=NOW)


def test_a_request_is_accepted_once() -> None:
    guard = ReplayGuard()
    guard.check(NOW, A, now=NOW)
    for later in (0, 1, 19_999, 20_000):
        with pytest.raises(Refused) as refused:
            guard.check(NOW, A, now=NOW + later * MS)
        assert refused.value.fault is Fault.REPLAYED
    guard.check(NOW, B, now=NOW)
    guard.check(NOW + 1, A, now=NOW)


def test_what_would_be_too_old_is_forgotten() -> None:
    guard = ReplayGuard()
    guard.check(NOW, A, now=NOW)
    guard.check(NOW + 10_000 * MS, A, now=NOW + 10_000 * MS)
    assert len(guard) == 2
    guard.check(NOW + 20_001 * MS, A, now=NOW + 20_001 * MS)
    assert len(guard) == 2
    with pytest.raises(Refused) as refused:
        guard.check(NOW, A, now=NOW + 20_001 * MS)
    assert refused.value.fault is Fault.OLD


def test_a_flood_is_bounded() -> None:
    guard = ReplayGuard(capacity=2)
    guard.check(NOW, A, now=NOW, layer="one")
    guard.check(NOW, B, now=NOW, layer="other")
    with pytest.raises(Refused) as refused:
        guard.check(NOW + 1, A, now=NOW, layer="third")
    assert refused.value.fault is Fault.FLOOD
    guard.check(NOW + 20_002 * MS, A, now=NOW + 20_002 * MS)
    assert len(guard) == 1


def test_a_flood_over_one_layer_leaves_room_for_requests_over_others() -> None:
    guard = ReplayGuard(capacity=6)
    for number in range(3):
        guard.check(NOW + number, A, now=NOW, layer="one")
    with pytest.raises(Refused) as refused:
        guard.check(NOW + 3, A, now=NOW, layer="one")
    assert refused.value.fault is Fault.FLOOD
    guard.check(NOW + 3, A, now=NOW, layer="other")
    with pytest.raises(Refused) as refused:
        guard.check(NOW, A, now=NOW, layer="other")
    assert refused.value.fault is Fault.REPLAYED, "also when it came over another layer before"
    guard.check(NOW + 20_002 * MS, A, now=NOW + 20_002 * MS, layer="one")
    assert len(guard) == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 60_000), st.integers(-30_000, 30_000), st.sampled_from([A, B])), max_size=40
    )
)
def test_no_pair_is_accepted_twice_while_time_goes_on(steps: list[tuple[int, int, bytes]]) -> None:
    guard, now = ReplayGuard(), NOW
    accepted = set()
    for forward, age, identity in steps:
        now += forward * MS
        pair = (now - age * MS, identity)
        try:
            guard.check(*pair, now=now)
        except Refused:
            continue
        assert pair not in accepted
        accepted.add(pair)


# ---------------------------------------------------------------- request hash and reply


@pytest.mark.parametrize("digest", Hash)
def test_length_of_the_request_hash(digest: Hash) -> None:
    assert len(request_hash(b"request", digest)) == request_hash_length(digest)


def test_the_request_names_the_hash() -> None:
    request = header.encode(header.Header(A, NOW, digest=Hash.SHA3_256))
    reply = handshake.make_reply(request, now=NOW)
    assert reply[36:] == hashlib.sha3_256(request).digest()
    assert handshake.check_reply(request, reply)[0].id == A


def test_a_reply_belongs_to_one_request() -> None:
    first = handshake.make_request(identity=A, now=NOW)
    second = handshake.make_request(identity=B, now=NOW)
    later = handshake.make_request(identity=A, now=NOW + 1)
    reply = handshake.make_reply(first, now=NOW)
    handshake.check_reply(first, reply)
    with pytest.raises(ReplyRefused, match="id of another") as refused:
        handshake.check_reply(second, reply)
    assert refused.value.errno == EAUTH
    with pytest.raises(ReplyRefused, match="request hash"):
        handshake.check_reply(later, reply)
    with pytest.raises(MalformedPacket):
        handshake.check_reply(first, first)  # a reply without the hash


def test_signed_part() -> None:
    signed = header.Header(A, NOW, certificate=b"cert", signature=b"signature")
    octets = header.encode(signed)
    assert header.signed_part(octets, signed) == octets[:-9]
    assert header.signed_part(octets[:36], replace(signed, signature=b"")) == octets[:36]


@pytest.mark.parametrize("cipher", Cipher)
def test_sizes_of_ciphers(cipher: Cipher) -> None:
    """spec/oap 2."""
    expected = (0, 0) if not cipher else (16, 0) if "CTR" in cipher.name else (12, 16)
    assert (cipher.iv_length, cipher.tag_length) == expected


# ---------------------------------------------------------------- extensions


def test_offer_and_grant() -> None:
    guard = ReplayGuard()
    request = handshake.make_request(identity=A, now=NOW, offer=OFFER)
    asked, offer = handshake.accept_request(request, guard, now=NOW)
    assert asked.id == A and offer == OFFER
    granted = extension.grant(offer, {Extension.FRCP_CHECK, 17})
    assert granted == Extensions((Item(Extension.FRCP_CHECK),))
    reply = handshake.make_reply(request, now=NOW, granted=granted)
    assert handshake.check_reply(request, reply)[1] == {Extension.FRCP_CHECK}
    with pytest.raises(Refused):
        handshake.accept_request(request, guard, now=NOW)


def test_a_prototype_makes_no_offer_and_grants_nothing() -> None:
    request = handshake.make_request(identity=A, now=NOW)
    _, offer = handshake.accept_request(request, ReplayGuard(), now=NOW)
    assert offer is None and extension.grant(offer, {Extension.FRCP_CHECK}) is None
    offering = handshake.make_request(identity=A, now=NOW, offer=OFFER)
    assert handshake.check_reply(offering, handshake.make_reply(offering, now=NOW))[1] == frozenset()


def test_nothing_can_be_granted_that_was_not_offered() -> None:
    request = handshake.make_request(identity=A, now=NOW)
    reply = handshake.make_reply(request, now=NOW, granted=Extensions((Item(Extension.FRCP_CHECK),)))
    with pytest.raises(MalformedPacket, match="not offered"):
        handshake.check_reply(request, reply)


def test_data_that_is_no_extension_is_not_refused() -> None:
    request = header.encode(header.Header(A, NOW, data=b"hello"))
    assert handshake.accept_request(request, ReplayGuard(), now=NOW)[1] is None
    broken = header.encode(header.Header(A, NOW, data=extension.encode(OFFER)[:-1]))
    assert handshake.accept_request(broken, ReplayGuard(), now=NOW)[1] is None


@pytest.mark.parametrize(
    "items",
    [
        (Item(1), Item(1)),
        (Item(extension.MARKER),),
        (Item(1, bytes(250)),),
        (Item(1 << 16),),
        tuple(Item(kind) for kind in range(33)),
    ],
)
def test_extensions_that_cannot_be_sent(items: tuple[Item, ...]) -> None:
    with pytest.raises(UnsendablePacket):
        extension.encode(Extensions(items))


def test_value() -> None:
    assert OFFER.value(999) == b"from the future"
    assert OFFER.value(Extension.FRCP_CHECK) == b""
    assert OFFER.value(5) is None


def _header(**fields: object) -> header.Header:
    return replace(header.Header(bytes(16), 0), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"id": bytes(15)},
        {"id": bytes(17)},
        {"request_hash": bytes(33)},
        {"kex": bytes(0x4000)},
        {"hybrid": True},
        {"encapsulated": True},
        {"certificate": b"c"},
        {"signature": b"s"},
        {"data": bytes(header.MAX_LENGTH - 35)},
    ],
)
def test_headers_that_cannot_be_sent(fields: dict[str, object]) -> None:
    with pytest.raises(UnsendablePacket):
        header.encode(_header(**fields))


def test_the_longest_header() -> None:
    data = bytes(header.MAX_LENGTH - 36)
    octets = header.encode(_header(data=data))
    assert len(octets) == header.MAX_LENGTH and header.decode_request(octets).data == data
    with pytest.raises(MalformedPacket):
        header.decode_request(octets + b"x")


@pytest.mark.parametrize("length", [0, 32, 48, 64])
def test_each_length_of_a_request_hash(length: int) -> None:
    assert header.encode(_header(request_hash=bytes(length))).endswith(bytes(length))
