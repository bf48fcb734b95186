"""Facts: every counter, gauge and state that a system shows, declared once (docs/reference/facts.md; paper 5.3).

A daemon builds the rows of its read-outs from these declarations, and a value without a declaration is an error. Tables and JSON of `irm`,
the statistics tree, the metrics and the page docs/reference/facts.md come from them too. Nothing here runs: the values are where `Group` and
`Table` are used, in the machine or the C structure that counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from .fact import Fact as Fact
from .fact import Group as Group
from .fact import Kind as Kind
from .fact import Row as Row
from .fact import Table as Table


def _packets(name: str, help: str) -> Fact:
    return Fact(name, help, Kind.COUNTER, "packets")


def _octets(name: str, help: str) -> Fact:
    return Fact(name, help, Kind.COUNTER, "octets")


def _messages(name: str, help: str) -> Fact:
    return Fact(name, help, Kind.COUNTER, "messages")


def _count(name: str, help: str) -> Fact:
    return Fact(name, help)


def _gauge(name: str, help: str, unit: str = "") -> Fact:
    return Fact(name, help, Kind.GAUGE, unit)


def _state(name: str, help: str, *states: str) -> Fact:
    return Fact(name, help, Kind.STATE, "", states)


def _text(name: str, help: str) -> Fact:
    return Fact(name, help, Kind.TEXT)


IRMD = "irmd"
IRM = "irm"
_UNICAST, _BROADCAST = ("unicast",), ("broadcast",)
_ETH, _UDP = ("eth-dix", "eth-llc"), ("udp4", "udp6")
_LINK = (*_ETH, *_UDP)
_LAYER = (*_UNICAST, *_BROADCAST)
_ALL = (*_UNICAST, *_BROADCAST, "local", *_LINK, IRMD)

# ---------------------------------------------------------------- counters

DT_CUBE = Group(
    "data transfer",
    _UNICAST,
    "Packets of one QoS cube",
    (
        _packets("received", "from neighbours"),
        _packets("forwarded", "sent on to a neighbour"),
        _packets("delivered", "put into flows of the layer"),
        _packets("punted", "passed to components of this IPCP"),
        _packets("sent", "from flows of the layer, and from components"),
        _packets("malformed", "dropped: shorter than a header, or with an invalid field"),
        _packets("expired", "dropped: the TTL had run out"),
        _packets("no_route", "dropped: no forwarding entry for the destination"),
        _packets("no_room", "dropped: the next flow, or the component, did not take it"),
        _packets("unknown", "dropped: there is no such endpoint"),
    ),
    scope="cube",
)
DT_MEMBER = Group(
    "data transfer",
    _UNICAST,
    "Data transfer as a whole",
    (_packets("keepalives", "empty packets that neighbours sent"),),
)
DT_FLOW = Group(
    "data transfer",
    _UNICAST,
    "Packets of one flow of the layer, and its congestion avoidance",
    (
        _packets("received", "for the flow"),
        _packets("sent", "by the flow"),
        _packets("dropped", "received, and not taken by the process"),
        _packets("no_route", "dropped: no forwarding entry for the destination"),
        _packets("marked", "received with a congestion mark"),
        _messages("updates", "congestion updates received"),
        _gauge("limit", "octets that the flow may send in a time slot", "octets"),
        _gauge("slot", "length of the time slot", "ns"),
        _gauge("level", "congestion level of the last congestion update"),
    ),
    scope="flow",
)
UNICAST_FA = Group(
    "flow allocator",
    _UNICAST,
    "Messages and flows of the flow allocator",
    (
        _messages("requests", "requests received"),
        _messages("replies", "replies received"),
        _messages("updates", "congestion updates received"),
        _messages("malformed", "dropped: the message could not be decoded"),
        _messages("unknown", "replies and updates for an endpoint id that no flow has"),
        _messages("late", "replies for a flow that has its reply already"),
        _messages("duplicates", "requests that had been received before"),
        _count("refused", "flows that this member refused, or that were refused to it"),
        _count("timeouts", "flows that ended because no answer arrived in time"),
        _messages("again", "requests that were sent because an earlier one had no answer"),
        _messages("unsent", "messages for which there was no route"),
        _messages("requests_sent", "requests sent"),
        _messages("replies_sent", "replies sent"),
        _messages("updates_sent", "congestion updates sent"),
        _messages("given_up", "refusals that were not sent again, because too many waited for that"),
        _messages("congestion_malformed", "dropped: levels from the data plane that could not be decoded"),
    ),
)
LINK_STATE = Group(
    "link state",
    _UNICAST,
    "Link-state messages, and computations of routes",
    (
        _messages("received", "link-state messages received"),
        _messages("forwarded", "link-state messages sent on to other neighbours"),
        _messages("stale", "received messages that were not newer than the database"),
        _messages("malformed", "dropped: the message could not be decoded"),
        _messages("refused", "dropped: the database is full"),
        _count("computations", "computations of the forwarding tables"),
        _count("contradicted", "announcements of this member that another member contradicted"),
        _count("phantoms", "links to nowhere that this member announced, for prototypes"),
        _messages("unsent", "dropped: a management flow did not take the message"),
    ),
)
DIRECTORY = Group(
    "directory",
    _UNICAST,
    "Messages and look-ups of the distributed hash table",
    (
        _messages("received", "messages received"),
        _messages("dropped", "dropped: the message could not be decoded, or answers no query"),
        _messages("refused", "stores that were refused"),
        _count("lookups", "look-ups that were started"),
        _count("lost", "nodes that stopped answering"),
        _count("crowded", "look-ups and queries for other members that were omitted or postponed: too many"),
    ),
)
CONNECTIONS = Group(
    "connections",
    _LAYER,
    "Connections with neighbours: outcomes of handshakes",
    (
        _count("accepted", "connections that a neighbour initiated"),
        _count("initiated", "connections that this member initiated"),
        _count("refused", "connections refused by this IPCP, or by the peer"),
        _count(
            "unauthenticated",
            "connections not made: the peer's identity does not satisfy the layer's rule, or its claim",
        ),
        _count("silent", "flows on which the peer's record did not arrive before the deadline"),
        _messages("malformed", "records that could not be decoded"),
        _count("lost", "connections that ended without a request of this member"),
        _count("superseded", "connections that gave way to a new one of the same neighbour"),
        _count("crowded", "flows released or refused: too many other flows waited for their first record"),
    ),
)
LOWERS = Group(
    "lower flows",
    _LAYER,
    "Flows of the layers below that this IPCP uses",
    (
        _packets("strays", "dropped: packets of flows without a listener"),
        _count("failures", "packets and events whose handler raised an exception: defects of this program"),
        _count("late", "uses of a flow that had been released"),
    ),
)
ENROLMENT = Group(
    "enrolment",
    _LAYER,
    "Enrolments that this member served",
    (
        _count("enrolled", "newcomers that became members"),
        _count("refused", "refused by this member, or by a newcomer that rejected the configuration"),
        _messages("malformed", "messages that could not be decoded"),
        _count("deserted", "the newcomer ended the flow, or its deadline expired"),
        _count("crowded", "given up, because another newcomer arrived when too many were being served"),
    ),
)
MACHINES = Group(
    "machines",
    _UNICAST,
    "The protocol machines together",
    (_count("defects", "exceptions in a machine: defects of this program"),),
)
PUNT = Group(
    "punt",
    _UNICAST,
    "Packets from the data plane to one component",
    (
        _packets("passed", "passed to the component"),
        _packets("dropped", "dropped: the quota of the component was used up"),
    ),
    scope="component",
)
LATE = Group(
    "late messages",
    _ALL,
    "Messages that arrived after the flow, process or IPCP that they name had ended, by the name of the message",
    (_messages("message", "late messages of this name"),),
    open=True,
)
REFUSED = Group(
    "refused messages",
    _ALL,
    "Messages that a limit refused, by the name of the message",
    (_messages("message", "refused messages"),),
    open=True,
)
BROADCAST_DT = Group(
    "data transfer",
    _BROADCAST,
    "Packets of all members",
    (
        _packets("received", "from members"),
        _packets("keepalives", "empty packets among those received: they are not forwarded"),
        _packets("too_large", "dropped: received packets beyond the largest of the layer"),
        _packets("sent", "copies to members"),
        _packets("dropped", "copies that a member did not take"),
        _count("defects", "exceptions in a handler: defects of this program"),
    ),
)
FRAMES = Group(
    "frames",
    _ETH,
    "Frames of the device",
    (
        _packets("received", "frames received"),
        _packets("delivered", "packets delivered to flows"),
        _packets("management", "frames for the control plane"),
        _packets("path", "marks and reports that measure paths"),
        _packets("sent", "packets sent"),
        _count("full", "times that the device was full; no packet is lost by it"),
        _packets("dropped_short", "dropped: shorter than the headers, or of another kind"),
        _packets("dropped_length", "dropped: the length field exceeds the frame, or is out of range"),
        _packets(
            "dropped_foreign", "dropped: for another machine, or a packet of a flow that was sent to all"
        ),
        _packets("dropped_endpoint", "dropped: no flow has the endpoint"),
        _packets("dropped_source", "dropped: the frame is not from the flow's peer"),
        _packets("dropped_full", "dropped: the process does not read, or its pool is empty"),
        _packets("dropped_management", "dropped: the control plane did not take the frame"),
        _packets(
            "dropped_oversize", "dropped: a process wrote a packet that is larger than the device takes"
        ),
        _packets("dropped_device", "dropped: the device is down, or was removed"),
        _packets("foreign", "management frames of other layers"),
        _messages("unasked", "answers of the directory that answer no query"),
        _messages("unsent", "dropped: management messages that the device did not take"),
        _packets("cut", "received frames that the kernel had cut"),
    ),
)
DATAGRAMS = Group(
    "datagrams",
    _UDP,
    "Datagrams of the socket",
    (
        _packets("received", "packets delivered to flows"),
        _octets("received_octets", "octets of these"),
        _packets("sent", "packets sent"),
        _octets("sent_octets", "octets of these"),
        _packets("management", "management messages received"),
        _packets("management_lost", "dropped: the control plane did not take the message"),
        _packets("management_long", "dropped: the message is too long"),
        _packets("path", "marks and reports that measure paths"),
        _packets("short_header", "dropped: shorter than a header"),
        _packets("unknown", "dropped: no flow has the endpoint"),
        _packets("stranger", "dropped: not from the flow's peer"),
        _packets("too_long", "dropped: received packets beyond the largest of the layer"),
        _packets("no_room", "dropped: the flow did not take the packet"),
        _packets("send_too_long", "dropped: a process wrote a packet beyond the largest of the layer"),
        _packets("message_size", "dropped: larger than the path takes (EMSGSIZE)"),
        _packets("unreachable", "dropped: no route to the peer's address"),
        _packets("refused", "dropped: the peer's machine has no such port"),
        _packets("failed", "dropped: the kernel refused the packet for another reason"),
        _count("full", "times that the socket was full; no packet is lost by it"),
        _messages("unsent", "dropped: management messages that the socket did not take"),
    ),
)
LINK_FA = Group(
    "flow allocator",
    _LINK,
    "Messages and flows of the flow allocator of a link-level IPCP",
    (
        _messages("flow_requests", "requests sent"),
        _messages("flow_replies", "replies sent or received"),
        _messages("flow_arrivals", "requests received"),
        _messages("flow_unregistered", "requests for names that are not registered here"),
        _messages("flow_again", "requests that were sent because an earlier one had no answer"),
        _messages("flow_repeated", "requests that arrived twice"),
        _count("flow_crowded", "requests dropped, or refused, because too many wait"),
        _messages("flow_strange", "replies for which no request waits"),
        _count("flow_stale", "flows of which the other end had ended without notice"),
    ),
)
LINK_MACHINES = Group(
    "machines",
    _LINK,
    "The protocol machines together",
    (
        _messages("malformed", "dropped: management messages that could not be decoded"),
        _count("defects", "exceptions in a machine: defects of this program"),
    ),
)
METRICS_SERVER = Group(
    "metrics server",
    (IRM,),
    "Requests to `irm metrics serve`",
    (
        _count("served", "requests that were answered"),
        _count(
            "refused",
            "requests that were refused, connections that were closed, and clients that were too slow",
        ),
    ),
)

GROUPS: tuple[Group, ...] = (
    DT_CUBE,
    DT_MEMBER,
    DT_FLOW,
    UNICAST_FA,
    LINK_STATE,
    DIRECTORY,
    CONNECTIONS,
    LOWERS,
    ENROLMENT,
    MACHINES,
    PUNT,
    LATE,
    REFUSED,
    BROADCAST_DT,
    FRAMES,
    DATAGRAMS,
    LINK_FA,
    LINK_MACHINES,
    METRICS_SERVER,
)

# ---------------------------------------------------------------- lists of IPCPs

_NEIGHBOUR = (
    _text("name", "of the neighbour, where this member connected to it by name"),
    _text("layer", "that carries the flow"),
    _text("certificate", "common name of the neighbour's certificate"),
    _state("encrypted", "whether the flow is encrypted"),
)
_REQUIRE = (
    _text("require", "what the layer requires of flows between members"),
    _text("admit", "patterns of the common names of admitted members"),
)
_LINK_FLOWS = (
    _gauge("flows", "of the layer at this IPCP"),
    _gauge("pending", "allocations that wait for an answer"),
    _gauge("endpoints", "that the layer can have at this IPCP"),
)
_ADJACENCY = ("up", "down", "silent", "connecting")

UNICAST_NEIGHBOURS = Table(
    "neighbours",
    _UNICAST,
    "Connections with neighbours, and those that are being made again",
    (
        *_NEIGHBOUR,
        _text("address", "of the neighbour in the layer"),
        _text("component", "dt (data transfer) or mgmt (management)"),
        _state("state", "up; down, as the layer below reports; silent; connecting", *_ADJACENCY),
        _text("fd", "descriptor of the lower flow"),
        _text("cube", "of the lower flow"),
        _text("weights", "of the link, by cube"),
        _gauge("timeout_ms", "for which the neighbour may be silent", "ms"),
        _gauge("max_packet", "largest packet that the flow takes", "octets"),
        _gauge("since", "age of the connection", "seconds"),
        _gauge("attempts", "to connect again"),
        _text("trouble", "why the last attempt failed"),
    ),
    key=("name", "component", "fd"),
)
BROADCAST_NEIGHBOURS = Table(
    "neighbours",
    _BROADCAST,
    "Connections with other members, and those that are being made again",
    (
        *_NEIGHBOUR,
        _text("member", "number of the neighbour"),
        _text("component", "dt (data transfer)"),
        _state("state", "up; down, as the layer below reports; silent; connecting", *_ADJACENCY),
        _text("fd", "descriptor of the lower flow"),
        _gauge("timeout_ms", "for which the neighbour may be silent", "ms"),
        _gauge("max_packet", "largest packet that the flow takes", "octets"),
        _gauge("since", "age of the connection", "seconds"),
        _packets("received", "from the neighbour"),
        _packets("sent", "to the neighbour"),
        _packets("dropped", "that the flow to the neighbour did not take"),
        _gauge("attempts", "to connect again"),
        _text("trouble", "why the last attempt failed"),
    ),
    key=("name", "component", "fd"),
)
ETH_NEIGHBOURS = Table(
    "neighbours",
    _ETH,
    "Machines that answered a query for a name",
    (
        _text("name", "hash of the name"),
        _text("machine", "MAC address"),
        _gauge("heard", "time since the answer", "seconds"),
    ),
    key=("name", "machine"),
)
PATHS = Table(
    "paths",
    _LINK,
    "The paths to machines that this IPCP has flows to: counts, and the results of their reports",
    (
        _text("peer", "link address of the machine"),
        _gauge("flows", "flows on the path", "flows"),
        _gauge("waiting", "flows whose packets wait for the pace", "flows"),
        _state(
            "limits",
            "the party that limits what is sent",
            "senders",
            "path",
            "device",
            "hand",
            "silence",
            "nothing",
            "not measured",
        ),
        _gauge("rate", "pace of packets that leave; 0: none", "bit/s"),
        _gauge("delivered", "packets that arrived in the last round trip that was measured", "bit/s"),
        _gauge("rtt_ms", "smoothed round trip", "ms"),
        _gauge("min_rtt_ms", "least round trip", "ms"),
        _gauge("queue_ms", "time in queues beyond this machine", "ms"),
        _gauge("jitter_ms", "smoothed variation of the round trip", "ms"),
        _gauge("loss", "share of packets that the path loses while no queue is full"),
        _packets("sent_packets", "sent on the path, marks and reports included"),
        _octets("sent_octets", "of these packets, with their frame's or datagram's header"),
        _packets("arrived_packets", "that arrived from the machine, marks and reports included"),
        _octets("arrived_octets", "of these packets, with their header"),
        _messages("marks", "marks sent"),
        _messages("reports", "reports that answered one"),
        _messages("answered", "marks of the machine that were answered"),
        _messages("refused_report", "dropped reports: forged, replayed or too late"),
        _messages("absurd_report", "dropped reports: more arrived than was sent, or less than before"),
        _messages("refused_mark", "dropped messages: malformed, or too many"),
        _count("waits", "times that packets began to wait for the pace"),
    ),
    key=("peer",),
)
UDP_NEIGHBOURS = Table(
    "neighbours",
    _UDP,
    "Machines that are known to hold a name",
    (
        _text("name", "hash of the name"),
        _text("machine", "IP address and port"),
        _gauge("heard", "time since the answer", "seconds"),
        _text("source", "where the answer came from"),
    ),
    key=("name", "machine"),
)
ROUTES = Table(
    "routes",
    _UNICAST,
    "For each member that can be reached, the flows that lead there, cube by cube",
    (
        _text("address", "of the member"),
        _gauge("distance", "links on the shortest path"),
        _text("cube", "of the packets"),
        _text("next", "addresses of the next hops"),
        _text("fds", "descriptors of the flows to them"),
    ),
    key=("address", "cube"),
)
LINKS = Table(
    "links",
    _UNICAST,
    "The link-state database",
    (
        _text("from", "address of the member that announced the link"),
        _text("to", "address of the other end"),
        _gauge("sequence", "number of the announcement"),
        _text("state", "of the entry"),
        _text("weights", "of the link, by cube"),
        _gauge("age", "time since the announcement", "seconds"),
    ),
    key=("from", "to"),
)
UNICAST_DIRECTORY = Table(
    "directory",
    _UNICAST,
    "Names that are registered at this IPCP, and values that it keeps for other members",
    (
        _text("hash", "of the name"),
        _text("address", "of the member that registered it"),
        _text("kept", "own, or for others"),
        _gauge("copies", "of an own value at other members"),
        _gauge("expires", "when a value of another member expires, in Unix time", "seconds"),
    ),
    key=("hash", "address"),
)
LINK_DIRECTORY = Table(
    "directory",
    _LINK,
    "Names that are registered at this IPCP",
    (_text("name", "hash of the name"),),
    key=("name",),
)
CONTACTS = Table(
    "contacts",
    _UNICAST,
    "Members that the directory knows",
    (_text("address", "of the member"), _text("id", "of its node in the directory")),
    key=("address",),
)
UNICAST_FLOWS = Table(
    "flows",
    _UNICAST,
    "Flows of the layer at this IPCP, and allocations in progress",
    (
        _text("fd", "descriptor"),
        _state(
            "state",
            "of the allocation",
            "resolving",
            "requested",
            "announced",
            "offered",
            "allocated",
            "ended",
        ),
        _text("address", "of the other end's member"),
        _text("eid", "endpoint id of this end"),
        _text("peer_eid", "endpoint id of the other end"),
        _text("cube", "of its packets"),
    ),
    key=("fd",),
)
ENDPOINTS = Table(
    "endpoints",
    _UNICAST,
    "Endpoints of data transfer: components, and flows to neighbours",
    (
        _text("id", "number of the component, or descriptor of the flow"),
        _text("endpoint", "name of the component, or address of the neighbour"),
        _gauge("since", "when it was established, in Unix time", "seconds"),
        _gauge("queued", "packets that wait for the layer below", "packets"),
        _packets("received", "from the neighbour; passed to the component"),
        _octets("received_octets", "octets of these"),
        _packets("sent", "to the neighbour"),
        _packets("dropped", "not taken by the flow or the component"),
        _packets("refused", "invalid packets from the flow"),
    ),
    key=("id",),
)
UNICAST_STATUS = Table(
    "status",
    _UNICAST,
    "Identity and condition of the member",
    (
        _text("layer", "name"),
        _text("address", "of this member"),
        _gauge("since", "when it became a member, in Unix time", "seconds"),
        _text("hash", "of names in the layer"),
        _text("routing", "policy"),
        _text("congestion", "policy"),
        _gauge("ttl", "initial TTL of packets"),
        _gauge("max_packet", "largest packet of the layer", "octets"),
        *_REQUIRE,
        _gauge("neighbours", "with a data transfer flow that is up"),
        _gauge("unreachable", "members that do not answer requests"),
        _state("contested", "whether another member claims the address"),
        _gauge("members", "that can be reached, this one included"),
        _gauge("links", "in the link-state database"),
        _gauge("contacts", "of the directory"),
        _gauge("names", "registered at this IPCP"),
        _gauge("values", "kept for other members"),
        _gauge("flows", "of the layer at this IPCP"),
        _gauge("waiting", "requests of other members that wait for the IRMd"),
        _text("dht_id", "of this member's node in the directory"),
        _gauge("dht_alpha", "queries of a look-up in progress"),
        _gauge("dht_k", "copies of a value"),
        _gauge("dht_t_expire", "after which a value expires", "seconds"),
        _gauge("dht_t_refresh", "after which a bucket of contacts is refreshed", "seconds"),
        _gauge("dht_t_replicate", "after which an own value is stored again", "seconds"),
    ),
)
BROADCAST_STATUS = Table(
    "status",
    _BROADCAST,
    "Identity and condition of the member",
    (
        _text("layer", "name"),
        _text("member", "number of this member"),
        _text("tree", "number of the tree of connections"),
        _gauge("max_packet", "largest packet of the layer", "octets"),
        *_REQUIRE,
        _gauge("neighbours", "connections"),
        _gauge("unreachable", "neighbours whose flow is not usable"),
        _gauge("joined", "flows of processes that joined here"),
    ),
)
ETH_STATUS = Table(
    "status",
    _ETH,
    "The device, and the layer on it",
    (
        _text("device", "name"),
        _state("state", "of the device", "up", "down"),
        _text("mac", "address of the device"),
        _gauge("mtu", "of the device", "octets"),
        _gauge("max_packet", "largest packet of the layer", "octets"),
        *_LINK_FLOWS,
        _text("ethertype", "of frames; none with LLC"),
    ),
)
UDP_STATUS = Table(
    "status",
    _UDP,
    "The socket, and the layer on it",
    (
        _text("address", "IP address and port"),
        _state("state", "of the socket", "up"),
        _text("dns", "server that names are registered with"),
        _text("hosts", "file of names"),
        _gauge("max_packet", "largest packet of the layer", "octets"),
        *_LINK_FLOWS,
    ),
)

# ---------------------------------------------------------------- lists of the IRMd

ENDED = Table(
    "ended",
    (IRMD,),
    "IPCPs that were killed or failed, and were not created again",
    (_text("name", "of the IPCP"), _gauge("pid", "its process"), _text("how", "how it ended")),
    key=("name",),
)
IPCPS = Table(
    "ipcps",
    (IRMD,),
    "IPCPs",
    (
        _text("pid", "process"),
        _text("name", "of the IPCP"),
        _text("type", "of the IPCP"),
        _text("layer", "of which it is a member"),
        _text("hash", "of names in the layer"),
        _state("state", "in the life of an IPCP"),
        _text("progress", "of an operation that is repeated"),
        *_REQUIRE,
    ),
    key=("name", "pid"),
)
FLOW_ENDS = Table(
    "flow ends",
    (IRMD,),
    "Ends of flows at processes of the system",
    (
        _text("flow_id", "of the flow"),
        _text("state", "of the flow: of its allocation, or down"),
        _text("name", "to which it was allocated"),
        _text("layer", "that carries it; empty: it is direct"),
        _text("pid", "process of this end"),
        _text("fd", "descriptor in that process"),
        _text("program", "of that process"),
        _gauge("queued", "packets that wait to be read at this end", "packets"),
        _packets("packets", "written at this end"),
        _packets("dropped", "that the IPCP at this end could not put into the flow"),
        _packets("refused", "from the flow that were invalid, or could not be decrypted"),
    ),
    key=("flow_id", "name", "layer", "pid", "fd", "program"),
)
POOLS = Table(
    "pools",
    (IRMD,),
    "Packet pools",
    (
        _text("name", "of the pool"),
        _text("uid", "of the user that it belongs to"),
        _gauge("octets", "of memory that the pool may take", "octets"),
        _gauge("taken", "of memory that it takes", "octets"),
        _count("failures", "times that no block was free"),
    ),
    key=("name",),
)
POOL_CLASSES = Table(
    "pool blocks",
    (IRMD,),
    "Blocks of one size in a packet pool",
    (
        _text("name", "of the pool"),
        _text("size", "octets of a block"),
        _gauge("total", "blocks", "blocks"),
        _gauge("free", "blocks that hold no packet", "blocks"),
    ),
    key=("name", "size"),
)

TABLES: tuple[Table, ...] = (
    UNICAST_NEIGHBOURS,
    BROADCAST_NEIGHBOURS,
    ETH_NEIGHBOURS,
    UDP_NEIGHBOURS,
    PATHS,
    ROUTES,
    LINKS,
    UNICAST_DIRECTORY,
    LINK_DIRECTORY,
    CONTACTS,
    UNICAST_FLOWS,
    ENDPOINTS,
    UNICAST_STATUS,
    BROADCAST_STATUS,
    ETH_STATUS,
    UDP_STATUS,
    ENDED,
    IPCPS,
    FLOW_ENDS,
    POOLS,
    POOL_CLASSES,
)


def tables_of(type_name: str) -> dict[str, Table]:
    """The read-outs of an IPCP of this type, by the word that asks for each; "counters" is in none."""
    return {table.what: table for table in TABLES if type_name in table.types}


def words_of(type_name: str) -> list[str]:
    """Every word that asks an IPCP of this type for a read-out."""
    return [*tables_of(type_name), "counters"]


def group_of(type_name: str, component: str, of: str, counter: str) -> Group | None:
    """The group of a row of counters; None: the process is of another version."""
    for group in GROUPS:
        if group.component == component and type_name in group.types and bool(group.scope) == bool(of):
            if group.open or any(fact.name == counter for fact in group.facts):
                if (group.scope == "flow") == of.startswith("flow "):
                    return group
    return None


def fact_of(facts: Iterable[Fact], name: str) -> Fact | None:
    """The fact of that name."""
    return next((fact for fact in facts if fact.name == name), None)
