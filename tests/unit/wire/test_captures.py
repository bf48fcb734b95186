"""Captures of the C prototype: every packet is decoded and encodes to the same octets."""

from __future__ import annotations

from collections import Counter

import pytest
from ouroboros_tools.ocap import frcp
from ouroboros_tools.ocap.layer import Layer, Packet, Verdict

from ipcpd.wire import connmgr, dht, dix, dt, enrol, eth, fa, link, llc, udp
from ipcpd.wire.lsm import Lsm
from irmd.oap import header
from irmd.oap.algorithms import Cipher, Hash, request_hash
from ouroboros.qos import QOS_BEST_EFFORT, QOS_DATA, QOS_RAW, QOS_VOICE, QoSSpec
from tests.unit.wire.captures import CAPTURES, MISADDRESSED, VECTORS, dissected, values

LINK_LAYERS = {"eth-dix", "eth-llc", "udp layer"}
# Layers behind which there can be data that only an application understands.
WITH_DATA = LINK_LAYERS | {"frcp", "encrypted", "data transfer"}


def test_no_capture_is_missing_and_none_is_not_tested() -> None:
    assert {path.name for path in VECTORS.glob("*.pcap")} == set(CAPTURES)
    readme = (VECTORS / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in CAPTURES)


@pytest.mark.parametrize("name", CAPTURES)
def test_every_packet_is_decoded_and_encodes_to_the_same_octets(name: str) -> None:
    packets = dissected(name)
    assert len(packets) == CAPTURES[name]
    wrong = [packet for packet in packets if packet.verdict is not Verdict.SAME]
    assert [packet.captured.number for packet in wrong] == MISADDRESSED.get(name, [])
    assert {packet.verdict for packet in wrong} <= {Verdict.MALFORMED}
    assert all("endpoint" in packet.reason and "which cannot be" in packet.reason for packet in wrong)
    for packet in packets:
        assert packet.encode() == packet.captured.octets


@pytest.mark.parametrize("name", CAPTURES)
def test_nothing_is_left_over_but_what_belongs_to_applications(name: str) -> None:
    for packet in dissected(name):
        if packet.ours:
            assert {layer.name for layer in packet.layers} & LINK_LAYERS
            assert not packet.data or packet.layers[-1].name in WITH_DATA, packet
        else:
            assert packet.layers[-1].name in ("arp", "ipv6")


@pytest.mark.parametrize("name", sorted(set(CAPTURES) - {"n1.pcap", "u2.pcap"}))
def test_nothing_has_to_be_guessed_where_the_allocation_was_seen(name: str) -> None:
    assert not any(packet.guessed for packet in dissected(name))


def test_every_kind_of_message_is_in_the_captures() -> None:
    seen = {type(layer.value) for name in CAPTURES for packet in dissected(name) for layer in packet.layers}
    eth_messages = {link.FlowRequest, link.FlowReply, eth.NameQuery, eth.NameReply}
    udp_messages = {udp.Datagram, udp.FlowRequest, udp.FlowReply}
    unicast = {fa.FlowRequest, fa.FlowReply, dt.Packet, connmgr.Record, Lsm}
    directory = {dht.Store, dht.FindNode, dht.FindNodeReply, dht.FindValue, dht.FindValueReply}
    enrolment = {enrol.Request, enrol.Response, enrol.Acknowledgement}
    ends = {header.Header, frcp.Header, frcp.Encrypted}
    assert (
        seen >= {dix.Frame, llc.Frame} | eth_messages | udp_messages | unicast | directory | enrolment | ends
    )
    # No prototype was congested while these were taken.
    assert fa.FlowUpdate not in seen


def test_every_reply_has_the_hash_of_its_request() -> None:
    matched = 0
    for name in CAPTURES:
        requests: dict[bytes, tuple[header.Header, bytes]] = {}
        for packet in dissected(name):
            for at, layer in enumerate(packet.layers):
                if not isinstance(layer.value, header.Header):
                    continue
                octets = header.encode(layer.value)
                if layer.value.request_hash:
                    request, asked = requests[layer.value.id]
                    assert layer.value.request_hash == request_hash(asked, request.digest)
                    matched += 1
                else:
                    requests[layer.value.id] = (layer.value, octets)
                assert [behind.name for behind in packet.layers[at + 1 :]] in ([], ["extensions"])
    assert matched == 154


def test_what_the_four_node_network_says() -> None:
    """uni4-ab.pcap is the ethernet link of paper 5.10."""
    names = Counter(layer.name for packet in dissected("uni4-ab.pcap") for layer in packet.layers)
    assert names["connection"] == 6  # enrolment, management, data transfer, both ways
    assert names["link state"] == 24
    assert names["directory"] == 7
    (response,) = values(enrol.Response, "uni4-ab.pcap")
    assert isinstance(response, enrol.Response) and response.configuration is not None
    assert response.configuration.layer == "unicast"
    assert response.configuration.unicast == enrol.UnicastConfig(enrol.DhtConfig(peer=0x72AAE20B))


def test_forwarding_takes_one_off_the_ttl_and_keeps_the_rest() -> None:
    asked = [packet for packet in dissected("uni4-bc.pcap") if _has(packet, fa.FlowRequest)]
    answered = [packet for packet in dissected("uni4-bc.pcap") if _has(packet, fa.FlowReply)]
    assert [_value(packet, dt.Packet).ttl for packet in asked] == [60]
    assert [_value(packet, dt.Packet).ttl for packet in answered] == [59]


def test_ber_is_one_whatever_the_preset_says() -> None:
    """A prototype overwrites it (spec/common 5)."""
    voice = {_qos(request) for request in values(link.FlowRequest, "qos.pcap")}
    voice |= {_qos(request) for request in values(udp.FlowRequest, "qos.pcap")}
    assert voice == {QOS_VOICE.replace(ber=1)}
    presets = {QOS_RAW, QOS_BEST_EFFORT.replace(ber=1), QOS_DATA.replace(ber=1)}
    assert {_qos(request) for request in values(link.FlowRequest, "oping-eth.pcap")} == presets


def test_encryption_is_recognised() -> None:
    ciphers = {e.cipher for e in values(frcp.Encrypted)}  # type: ignore[attr-defined]
    assert ciphers == set(Cipher) - {Cipher.NONE}
    request, reply = values(header.Header, "enc.pcap")
    assert isinstance(request, header.Header) and isinstance(reply, header.Header)
    assert (request.digest, reply.digest) == (Hash.SHA_384, Hash.NONE)
    assert (len(request.certificate), len(request.kex), len(request.signature)) == (323, 44, 72)
    assert (len(reply.certificate), len(reply.request_hash), len(reply.signature)) == (336, 48, 71)


def test_half_open_flow() -> None:
    """h2.pcap: window 0 from an end that has not heard a first packet (spec/frcp FRCP-12)."""
    headers = values(frcp.Header, "h2.pcap")
    flags = frcp.Flag.DATA | frcp.Flag.DRF | frcp.Flag.ACK | frcp.Flag.FC
    assert frcp.Header(flags, 0, 0x6AAE6B50, 0) in headers


def test_keep_alives() -> None:
    kinds = Counter(packet.layers[-1].name for packet in dissected("t2.pcap"))
    assert kinds["keep-alive"] == 9


def _qos(request: object) -> QoSSpec:
    assert isinstance(request, link.FlowRequest | udp.FlowRequest)
    return request.qos


def _has(packet: Packet, kind: type) -> bool:
    return any(isinstance(layer.value, kind) for layer in packet.layers)


def _value(packet: Packet, kind: type[dt.Packet]) -> dt.Packet:
    layers: list[Layer] = [layer for layer in packet.layers if isinstance(layer.value, kind)]
    value = layers[0].value
    assert isinstance(value, kind)
    return value
