"""Hypothesis strategies for messages that may be sent, and the table of all codecs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import strategies as st

from ipcpd.wire import connmgr, dht, dix, dt, enrol, eth, fa, link, link_state, llc, udp
from ipcpd.wire.lsm import MAX_SEQUENCE, MAX_WEIGHT, Lsm
from irmd.oap import extension, header
from irmd.oap.algorithms import Cipher, Hash, request_hash_length
from ouroboros.access import Access
from ouroboros.ipcp_types import DirectoryHashAlgo, IpcpType
from ouroboros.name_info import Requirement
from ouroboros.policies import LinkStatePolicy
from ouroboros.qos import UINT32_MAX, UINT64_MAX, QoSSpec
from ouroboros.wire import HASH_LENGTHS

HASH_LENGTH = 32

u8 = st.integers(0, 255)
u32 = st.integers(0, UINT32_MAX)
u64 = st.integers(0, UINT64_MAX)
negative = st.integers(-(1 << 31), -1)
data = st.binary(max_size=80)
hashes = st.binary(min_size=HASH_LENGTH, max_size=HASH_LENGTH)
qos = st.builds(QoSSpec, u32, u64, u8, u32, u32, u8, u32, u32)
macs = st.binary(min_size=6, max_size=6)
senders = macs.filter(lambda mac: not mac[0] & 1)
short_eids = st.integers(1, 4095)
saps = st.integers(2, 63)
addresses = st.integers(1, UINT32_MAX)
eids = st.integers(64, UINT64_MAX - 1)


def eth_messages(endpoints: st.SearchStrategy[int]) -> st.SearchStrategy[eth.Message]:
    """Management messages of an ethernet layer."""
    return st.one_of(
        st.builds(link.FlowRequest, endpoints, hashes, qos, data),
        st.builds(link.FlowReply, endpoints, endpoints, st.just(0), data),
        st.builds(link.FlowReply, endpoints, endpoints, negative),
        st.builds(eth.NameQuery, hashes),
        st.builds(eth.NameReply, hashes),
    )


dix_frames = st.builds(dix.Frame, macs, senders, st.integers(0, 4095), data, st.integers(0x0600, 0xFFFE))
llc_frames = st.one_of(
    st.builds(llc.Frame, macs, senders, saps, saps, data),
    st.builds(llc.Frame, macs, senders, st.just(1), st.just(1), data),
)
udp_messages = st.one_of(
    st.builds(udp.Datagram, short_eids, data),
    st.builds(udp.FlowRequest, short_eids, st.binary(min_size=16, max_size=16), qos, data),
    st.builds(udp.FlowReply, short_eids, short_eids, st.just(0), data),
    st.builds(udp.FlowReply, short_eids, u32, negative),
)
fa_messages = st.one_of(
    st.builds(fa.FlowRequest, addresses, eids, hashes, qos, data),
    st.builds(fa.FlowReply, eids, eids, st.just(0), data),
    st.builds(fa.FlowReply, eids, u64, negative),
    st.builds(fa.FlowUpdate, eids, st.integers(0, 0xFFFF)),
)
dt_packets = st.builds(
    dt.Packet, addresses, st.one_of(eids, st.sampled_from([0, 1])), data, u8, st.integers(1, 255), u8
)
weights = st.tuples(*[st.integers(1, MAX_WEIGHT)] * 3)
lsms = st.builds(
    Lsm, addresses, addresses, st.integers(0, MAX_SEQUENCE), st.none() | weights, st.booleans()
).filter(lambda message: message.valid)
words = st.text(max_size=20)
records = st.builds(
    connmgr.Record,
    words,
    st.text(max_size=3),
    st.integers(-9, 9),
    st.integers(-9, 9),
    st.integers(0, UINT32_MAX),
).filter(lambda record: len((record.component + record.protocol).encode()) < 80) | st.builds(
    connmgr.Record,
    st.text(max_size=4),
    address=addresses,
    reason=st.text(max_size=8),
    member=st.integers(0, UINT64_MAX),
    tree=st.integers(0, UINT64_MAX),
    timeout=st.integers(0, UINT32_MAX),
    error=st.integers(0, 4095),
)

contacts = st.builds(dht.Contact, hashes, addresses)
cookies = st.integers(1, UINT64_MAX)
several = st.lists(contacts, min_size=1, max_size=20).map(tuple)
kept = st.lists(st.binary(min_size=1, max_size=64), max_size=8).map(tuple)
dht_messages = st.one_of(
    st.builds(dht.Store, contacts, hashes, st.binary(min_size=1, max_size=64), u32),
    st.builds(dht.FindNode, contacts, cookies, hashes),
    st.builds(dht.FindValue, contacts, cookies, hashes),
    st.builds(dht.FindNodeReply, contacts, cookies, hashes, several),
    st.builds(dht.FindValueReply, contacts, cookies, hashes, several, kept),
)

ids = st.binary(min_size=8, max_size=8)
times = st.integers(1, UINT32_MAX)
link_state_configs = st.builds(enrol.LinkStateConfig, st.sampled_from(LinkStatePolicy), times, times, times)
dht_configs = st.builds(enrol.DhtConfig, addresses, times, times, times, times, times)
unicast_configs = st.builds(
    enrol.UnicastConfig, dht_configs, link_state_configs, st.integers(1, 255), max_packet=u32
)
names = st.text(min_size=1, max_size=60)
patterns = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters=","), min_size=1, max_size=20
)
accesses = st.builds(
    Access,
    st.sampled_from([Requirement(bits) for bits in range(4)]),
    st.lists(patterns, max_size=3).map(tuple),
)
configurations = st.one_of(
    st.builds(
        enrol.Configuration,
        names,
        st.just(IpcpType.UNICAST),
        st.sampled_from(sorted(HASH_LENGTHS)),
        unicast_configs,
        accesses,
    ),
    st.builds(
        enrol.Configuration,
        names,
        st.just(IpcpType.BROADCAST),
        st.just(DirectoryHashAlgo.SHA3_256),
        st.none(),
        accesses,
    ),
)
requests = st.builds(enrol.Request, ids, words, st.just(0) | addresses)
clock = (st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 999_999_999))
responses = st.one_of(
    st.builds(enrol.Response, ids, *clock, configurations),
    st.builds(enrol.Response, ids, *clock, st.none(), negative, words),
)
acknowledgements = st.builds(enrol.Acknowledgement, ids, st.integers(-(1 << 31), (1 << 31) - 1), words)


@st.composite
def headers(draw: st.DrawFn, *, reply: bool) -> header.Header:
    """Handshakes; a reply is to a request that names no digest."""
    certificate = draw(data)
    kex = draw(data)
    length = request_hash_length(Hash.NONE) if reply else 0
    return header.Header(
        draw(st.binary(min_size=16, max_size=16)),
        draw(u64),
        draw(st.sampled_from(Cipher)),
        draw(st.sampled_from(Hash)),
        draw(st.sampled_from(Hash)),
        certificate,
        kex,
        bool(kex) and draw(st.booleans()),
        bool(kex) and draw(st.booleans()),
        draw(data),
        draw(st.binary(min_size=length, max_size=length)),
        draw(st.binary(min_size=1, max_size=80)) if certificate else b"",
    )


items = st.builds(
    extension.Item,
    st.integers(0, 0xFFFF).filter(lambda kind: kind != extension.MARKER),
    st.binary(max_size=20),
)
offers = st.builds(
    extension.Extensions, st.lists(items, max_size=8, unique_by=lambda item: item.type).map(tuple), u8
)


@dataclass(frozen=True, slots=True)
class Codec:
    """A pair of functions, what it may be given, and whether the octets of a message are the only ones that mean it."""

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    values: st.SearchStrategy[Any]


CODECS = {
    "eth-dix frame": Codec(dix.decode, dix.encode, dix_frames),
    "eth-dix message": Codec(
        partial(dix.decode_message, hash_length=HASH_LENGTH), dix.encode_message, eth_messages(short_eids)
    ),
    "eth-llc frame": Codec(llc.decode, llc.encode, llc_frames),
    "eth-llc message": Codec(
        partial(llc.decode_message, hash_length=HASH_LENGTH), llc.encode_message, eth_messages(saps)
    ),
    "udp": Codec(udp.decode, udp.encode, udp_messages),
    "data transfer": Codec(dt.decode, dt.encode, dt_packets),
    "flow allocator": Codec(partial(fa.decode, hash_length=HASH_LENGTH), fa.encode, fa_messages),
    "link state": Codec(link_state.decode, link_state.encode, lsms),
    "connection": Codec(connmgr.decode, connmgr.encode, records),
    "directory": Codec(partial(dht.decode, key_length=HASH_LENGTH), dht.encode, dht_messages),
    "enrolment request": Codec(enrol.decode_request, enrol.encode_request, requests),
    "enrolment response": Codec(enrol.decode_response, enrol.encode_response, responses),
    "enrolment ack": Codec(enrol.decode_acknowledgement, enrol.encode_acknowledgement, acknowledgements),
    "handshake request": Codec(header.decode_request, header.encode, headers(reply=False)),
    "handshake reply": Codec(
        partial(header.decode_reply, digest=Hash.NONE), header.encode, headers(reply=True)
    ),
    "extensions": Codec(extension.decode, extension.encode, offers),
}
