"""Configuration of layers: objects and options have the same meaning (docs/reference/irm.md, docs/reference/api.md)."""

from __future__ import annotations

import pytest

from ouroboros.ipcp_config import (
    DhtConfig,
    DirConfig,
    DirectoryHashAlgo,
    DtConfig,
    EthConfig,
    IpcpConfig,
    IpcpType,
    LinkStateConfig,
    RoutingConfig,
    Udp4Config,
    Udp6Config,
    UnicastConfig,
)
from ouroboros.ipcp_options import OptionError
from ouroboros.ipcp_types import TYPES
from ouroboros.policies import CongestionAvoidPolicy, LinkStatePolicy

NEEDED = {
    "udp4": {"ip": "10.0.0.1"},
    "udp6": {"ip": "fe80::1"},
    "eth-dix": {"dev": "eth0"},
    "eth-llc": {"dev": "e"},
}


@pytest.mark.parametrize("word", TYPES)
def test_defaults_are_the_same_in_both(word: str) -> None:
    config = IpcpConfig.from_options(IpcpType.from_type_name(word), "net", NEEDED.get(word, {}))
    options = config.options()
    for option in IpcpType.from_type_name(word).row.options:
        if option.default is not None and not (word == "broadcast" and option.key == "hash"):
            assert options[option.key] == option.default
    assert IpcpConfig.from_options(config.ipcp_type, "net", options) == config
    proto = config.to_proto()
    assert (proto.layer, proto.type, dict(proto.options)) == ("net", config.ipcp_type, options)


def test_objects_as_in_the_binding() -> None:
    config = IpcpConfig(
        IpcpType.UNICAST,
        "net",
        DirectoryHashAlgo.SHA3_512,
        unicast=UnicastConfig(
            DtConfig(routing=RoutingConfig(ls=LinkStateConfig(LinkStatePolicy.ECMP, t_update=20))),
            DirConfig(dht=DhtConfig(k=4)),
            cong_avoid=CongestionAvoidPolicy.NONE,
        ),
    )
    options = config.options()
    assert {key: options[key] for key in ("hash", "routing", "ls_t_update", "dht_k", "congestion")} == {
        "hash": "SHA3_512",
        "routing": "ecmp",
        "ls_t_update": "20",
        "dht_k": "4",
        "congestion": "none",
    }
    eth = IpcpConfig(IpcpType.ETH_DIX, "net", eth=EthConfig("eth0", 0xBEEF))
    assert eth.options() == {"dev": "eth0", "ethertype": "0xBEEF", "hash": "SHA3_256", "rate": "none"}
    assert IpcpConfig(IpcpType.UDP4, "net", udp4=Udp4Config("10.0.0.1", "10.0.0.2", 99)).options() == {
        "ip": "10.0.0.1",
        "dns": "10.0.0.2",
        "port": "99",
        "rate": "none",
    }
    assert IpcpConfig(IpcpType.UDP6, "net", udp6=Udp6Config("fe80::1")).options() == {
        "ip": "fe80::1",
        "port": "3435",
        "rate": "none",
    }


@pytest.mark.parametrize(
    "config",
    [
        IpcpConfig(IpcpType.ETH_DIX, "net"),
        IpcpConfig(IpcpType.ETH_DIX, "net", eth=EthConfig("eth0", 5)),
        IpcpConfig(IpcpType.UDP4, "net", udp4=Udp4Config("0.0.0.0")),
        IpcpConfig(IpcpType.UNICAST, "net", DirectoryHashAlgo.MD5),
        IpcpConfig(IpcpType.UNICAST, "net", unicast=UnicastConfig(DtConfig(max_ttl=0))),
        IpcpConfig(IpcpType.LOCAL, ""),
        IpcpConfig(IpcpType.LOCAL, "x" * 256),
    ],
)
def test_what_is_illegal(config: IpcpConfig) -> None:
    with pytest.raises(OptionError):
        config.to_proto()


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(OptionError, match='Unknown option: "colour"; it must be one of hash ip'):
        IpcpType.from_type_name("local").check({"colour": "red"})


def test_canonical_values() -> None:
    assert IpcpType.UNICAST.check(
        {"routing": "link-state", "hash": "sha3_224", "ttl": "007", "directory": "dht"}
    ) == {
        "routing": "link_state",
        "hash": "SHA3_224",
        "ttl": "7",
        "directory": "DHT",
    }
    assert IpcpType.from_type_name("udp6").check({"ip": "FE80:0::1"}) == {"ip": "fe80::1"}
    assert IpcpType.from_type_name("udp6").check({"ip": "FE80:0::1%eth0", "dns": "fe80::2%3"}) == {
        "ip": "fe80::1%eth0",
        "dns": "fe80::2%3",
    }
    config = IpcpConfig.from_options(IpcpType.UDP6, "net", {"ip": "fe80::1%eth0"})
    assert config.options()["ip"] == "fe80::1%eth0"


@pytest.mark.parametrize(
    "ip", ["fe80::1%", "fe80::1%a/b", "2001:db8::1%eth0", "::1%lo", "10.0.0.1%eth0", "%eth0", "fe80%eth0"]
)
def test_only_a_link_local_address_has_a_device(ip: str) -> None:
    for ipcp_type in ("udp4", "udp6"):
        with pytest.raises(OptionError, match="address"):
            IpcpType.from_type_name(ipcp_type).check({"ip": ip})


def test_type_words() -> None:
    assert IpcpType.from_type_name("udp").type_name == "udp4"
    assert IpcpType.from_type_name("eth", prefix=True).type_name == "eth-dix"
    assert IpcpType.from_type_name("u", prefix=True).type_name == "unicast"
    for word in ("eth", "LOCAL", "", "u"):
        with pytest.raises(OptionError, match=f'IPCP type "{word}" is unknown'):
            IpcpType.from_type_name(word)
    assert [IpcpType.from_type_name(word).type_name for word in TYPES] == list(TYPES)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("none", "none"), ("AUTO", "auto"), ("64k", "64000"), ("50M", "50000000"), ("1000000", "1000000")],
)
def test_rates(text: str, rate: str) -> None:
    config = IpcpConfig.from_options(IpcpType.ETH_DIX, "layer", {"dev": "eth0", "rate": text})
    assert config.options()["rate"] == rate


@pytest.mark.parametrize("text", ["", "fast", "63k", "101G", "-1", "1.5M", "5T", "Mk", "9" * 30])
def test_rates_that_are_none(text: str) -> None:
    with pytest.raises(OptionError, match="rate"):
        IpcpConfig.from_options(IpcpType.UDP4, "layer", {"ip": "127.0.0.1", "rate": text})
