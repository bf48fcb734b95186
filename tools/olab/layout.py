"""Layout: the position of each element of a picture. Pure geometry in pixels, from a `Survey`; `picture` writes it as SVG.

Systems are columns, side by side. Layers are bands across them, stacked by rank: a layer that uses others is above them.
Layers of one rank that do not meet share a lane. In a column, each IPCP of the lowest rank has an x of its
own, so that lines from above reach it without crossing another; it stands on the side where the other members of its
layer are. Adjacencies between boxes side by side are straight, all others are arcs above the boxes. Links run below.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, permutations

from ouroboros.ipcp_types import ENROLLING, IpcpType

from .survey import Adjacency, Cable, Ipcp, IpcpKey, Survey

BOX_WIDTH, BOX_HEIGHT = 104, 38
SLOT_GAP = 32
COLUMN_PAD, COLUMN_GAP = 20, 64
MARGIN, TITLE, HEADER = 28, 48, 34
LABEL, BAND_PAD, ARC = 20, 12, 17
LANE_GAP, RANK_GAP = 22, 52
PORT_ROOM = 34
CABLE_TOP, CABLE_STEP = 46, 30
FOOT = 46
MAX_PERMUTED = 5
_INSIDE = [one.type_name for one in IpcpType if one.row.is_inside]


@dataclass(frozen=True, slots=True, order=True)
class LayerKey:
    """A layer. Those of type local have one member, so equal names on two systems are two layers."""

    name: str
    type: str
    system: str = ""


@dataclass(slots=True)
class Box:
    """An IPCP; `x`, `y` is its upper left corner."""

    ipcp: Ipcp
    layer: LayerKey
    column: int
    x: float = 0.0
    y: float = 0.0

    @property
    def centre(self) -> float:
        return self.x + BOX_WIDTH / 2


@dataclass(slots=True)
class Column:
    """A system, from `x` on."""

    system: str
    running: bool = True
    x: float = 0.0
    width: float = 0.0


@dataclass(slots=True)
class Strip:
    """A part of a band: between systems that have no member it is `thin`."""

    left: float
    right: float
    thin: bool


@dataclass(slots=True)
class Band:
    """A layer: its strips from left to right, between `y` and `y + height`; `middle` is that of its boxes."""

    layer: LayerKey
    rank: int
    strips: list[Strip]
    y: float
    height: float
    middle: float


@dataclass(slots=True)
class Line:
    """An adjacency. `level` 0 is a straight line between boxes, otherwise an arc above them of that height."""

    adjacency: Adjacency
    start: tuple[float, float]
    end: tuple[float, float]
    level: int = 0


@dataclass(slots=True)
class Port:
    """Where a cable is plugged in."""

    x: float
    device: str
    address: str


@dataclass(slots=True)
class Wire:
    """A cable between two ports, at a depth below the systems that `level` gives."""

    cable: Cable
    ports: tuple[Port, Port]
    y: float


@dataclass(slots=True)
class Layout:
    """A whole picture."""

    width: float = 0.0
    height: float = 0.0
    system_top: float = 0.0
    system_bottom: float = 0.0
    columns: list[Column] = field(default_factory=list)
    boxes: dict[IpcpKey, Box] = field(default_factory=dict)
    bands: list[Band] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    below: list[tuple[tuple[float, float], tuple[float, float]]] = field(default_factory=list)
    """From an IPCP down to one that it uses."""
    wires: list[Wire] = field(default_factory=list)


def arrange(survey: Survey) -> Layout:
    """Compute all positions."""
    layout = Layout()
    layout.columns = [Column(name, name not in survey.silent_systems) for name in survey.systems]
    index = {name: number for number, name in enumerate(survey.systems)}
    layout.boxes = {
        key: Box(ipcp, _layer(ipcp), index[key.system])
        for key, ipcp in survey.ipcps.items()
        if key.system in index
    }
    ranks = rank_layers(layout.boxes.values(), survey)
    _place_columns(layout, ranks, survey)
    _place_lanes(layout, ranks, survey)
    _place_lines(layout, survey)
    _place_wires(layout, survey)
    return layout


def _layer(ipcp: Ipcp) -> LayerKey:
    alone = ipcp.type in _INSIDE or not ipcp.layer
    return LayerKey(ipcp.layer, ipcp.type, ipcp.key.system if alone else "")


# ---------------------------------------------------------------- ranks


def rank_layers(boxes: Iterable[Box], survey: Survey) -> dict[LayerKey, int]:
    """How high each layer stands: above all that its members use; unicast and broadcast never on the ground."""
    boxes = list(boxes)
    layer_of = {box.ipcp.key: box.layer for box in boxes}
    below: dict[LayerKey, set[LayerKey]] = defaultdict(set)
    for box in boxes:
        below[box.layer] |= {layer_of[key] for key in box.ipcp.below if key in layer_of} - {box.layer}
    ranks = {layer: int(layer.type in ENROLLING) for layer in below}
    for _ in ranks:  # once per layer at most: also where layers use each other in a circle
        for layer, used in below.items():
            ranks[layer] = max([ranks[layer], *(ranks[one] + 1 for one in used if ranks[one] < len(ranks))])
    # Without gaps, which a circle leaves, for example.
    order = {rank: number for number, rank in enumerate(sorted({0, *ranks.values()}))}
    return {layer: order[rank] for layer, rank in ranks.items()}


# ---------------------------------------------------------------- columns and their boxes


def _place_columns(layout: Layout, ranks: dict[LayerKey, int], survey: Survey) -> None:
    members: dict[LayerKey, list[int]] = defaultdict(list)
    stacks: dict[tuple[int, int], list[Box]] = defaultdict(list)
    for box in layout.boxes.values():
        members[box.layer].append(box.column)
        stacks[box.column, ranks[box.layer]].append(box)
    cables = _cables_of(survey)
    x = float(MARGIN)
    slot = BOX_WIDTH + SLOT_GAP
    for number, column in enumerate(layout.columns):
        count = max([1, *(len(stack) for (where, _), stack in stacks.items() if where == number)])
        free = len(cables[column.system]) * 0.6
        column.x = x
        column.width = 2 * COLUMN_PAD + max(count, free) * slot - SLOT_GAP
        x += column.width + COLUMN_GAP
        for rank in sorted({rank for where, rank in stacks if where == number}):
            stack = stacks[number, rank]
            if rank == 0:
                stack.sort(key=lambda box: (_side(box, members[box.layer]), box.ipcp.name, box.ipcp.key))
            else:
                stack = _order_upper(stack, layout, survey)
            left = column.x + (column.width - (len(stack) * slot - SLOT_GAP)) / 2
            for place, box in enumerate(stack):
                box.x = left + place * slot
    layout.width = x - COLUMN_GAP + MARGIN


def _side(box: Box, columns: Sequence[int]) -> float:
    """To which side of its column the other members are: negative for left."""
    others = [column for column in columns if column != box.column]
    return sum(others) / len(others) - box.column if others else 0.0


def _order_upper(stack: list[Box], layout: Layout, survey: Survey) -> list[Box]:
    """Neighbours of the left to the left; of few boxes the order in which most neighbours stand side by side."""
    stack = sorted(stack, key=lambda box: (box.ipcp.name, box.ipcp.key))
    if not 1 < len(stack) <= MAX_PERMUTED:
        return stack
    mine = {box.ipcp.key: box for box in stack}
    pull: dict[IpcpKey, list[int]] = defaultdict(list)
    inside: set[frozenset[IpcpKey]] = set()
    for adjacency in survey.adjacencies:
        one, other = adjacency.ends
        for here, there in ((one, other), (other, one)):
            if here in mine and there not in mine and there in layout.boxes:
                pull[here].append(layout.boxes[there].column - mine[here].column)
        if one in mine and other in mine:
            inside.add(frozenset(adjacency.ends))

    def cost(order: Sequence[Box]) -> float:
        keys = [box.ipcp.key for box in order]
        apart = sum(abs(keys.index(one) - keys.index(other)) - 1 for one, other in map(tuple, inside))
        away = sum(
            place if column < 0 else len(keys) - 1 - place
            for place, key in enumerate(keys)
            for column in pull[key]
        )
        return apart + away

    return min(map(list, permutations(stack)), key=cost)


# ---------------------------------------------------------------- lanes


def _place_lanes(layout: Layout, ranks: dict[LayerKey, int], survey: Survey) -> None:
    """Stack the bands from the top rank down, and give boxes their y."""
    by_layer: dict[LayerKey, list[Box]] = defaultdict(list)
    for box in layout.boxes.values():
        by_layer[box.layer].append(box)
    layout.system_top = MARGIN + TITLE
    y = layout.system_top + HEADER
    for rank in sorted(set(ranks.values()), reverse=True):
        spans = {
            layer: (
                min(box.x for box in boxes) - BAND_PAD,
                max(box.x for box in boxes) + BOX_WIDTH + BAND_PAD,
            )
            for layer, boxes in by_layer.items()
            if ranks[layer] == rank
        }
        lanes = pack(spans)
        for lane in lanes:
            levels = max([0, *(_arc_level(adjacency, layout, lane) for adjacency in survey.adjacencies)])
            above = LABEL + ARC * levels
            height = above + BOX_HEIGHT + BAND_PAD
            for layer in sorted(lane):
                boxes = sorted(by_layer[layer], key=lambda box: box.x)
                for box in boxes:
                    box.y = y + above
                middle = y + above + BOX_HEIGHT / 2
                layout.bands.append(Band(layer, rank, _strips(boxes), y, height, middle))
            y += height + LANE_GAP
        y += RANK_GAP - LANE_GAP
    layout.system_bottom = y - RANK_GAP + PORT_ROOM if ranks else y + PORT_ROOM


def pack(spans: dict[LayerKey, tuple[float, float]]) -> list[list[LayerKey]]:
    """Layers into as few lanes as this finds, in none of which two of them meet; wide ones lie low."""
    lanes: list[list[LayerKey]] = []
    for layer in sorted(spans, key=lambda one: (spans[one][1] - spans[one][0], spans[one], one)):
        first, last = spans[layer]
        for lane in lanes:
            if all(last < spans[other][0] or spans[other][1] < first for other in lane):
                lane.append(layer)
                break
        else:
            lanes.append([layer])
    return lanes


def _strips(boxes: Sequence[Box]) -> list[Strip]:
    """A band around its boxes; thin where it passes systems that have none of them."""
    strips = [Strip(boxes[0].x - BAND_PAD, boxes[0].x + BOX_WIDTH + BAND_PAD, False)]
    for one, other in pairwise(boxes):
        if other.column - one.column > 1:
            strips.append(Strip(strips[-1].right, other.x - BAND_PAD, True))
            strips.append(Strip(other.x - BAND_PAD, other.x + BOX_WIDTH + BAND_PAD, False))
        else:
            strips[-1].right = other.x + BOX_WIDTH + BAND_PAD
    return strips


# ---------------------------------------------------------------- adjacencies


def _arc_level(adjacency: Adjacency, layout: Layout, lane: Sequence[LayerKey]) -> int:
    """How high the arc of an adjacency has to go: over as many boxes of its lane as there are in between."""
    ends = [layout.boxes.get(end) for end in adjacency.ends]
    one, other = ends
    if one is None or other is None or one.layer not in lane or other.layer not in lane:
        return 0
    left, right = sorted((one.x, other.x))
    between = sum(1 for box in layout.boxes.values() if box.layer in lane and left < box.x < right)
    return min(between, 4)


def _place_lines(layout: Layout, survey: Survey) -> None:
    lanes: dict[float, list[LayerKey]] = defaultdict(list)
    for band in layout.bands:
        lanes[band.y].append(band.layer)
    lane_of = {layer: lane for lane in lanes.values() for layer in lane}
    for adjacency in survey.adjacencies:
        if not all(end in layout.boxes for end in adjacency.ends):
            continue
        one, other = sorted((layout.boxes[end] for end in adjacency.ends), key=lambda box: box.x)
        level = _arc_level(adjacency, layout, lane_of[one.layer])
        if level:
            start = (one.centre + BOX_WIDTH / 4, one.y)
            end = (other.centre - BOX_WIDTH / 4, other.y)
        else:
            start = (one.x + BOX_WIDTH, one.y + BOX_HEIGHT / 2)
            end = (other.x, other.y + BOX_HEIGHT / 2)
        layout.lines.append(Line(adjacency, start, end, level))
    for box in layout.boxes.values():
        used = sorted(
            (layout.boxes[key] for key in box.ipcp.below if key in layout.boxes), key=lambda one: one.x
        )
        for place, lower in enumerate(used, start=1):
            x = box.x + BOX_WIDTH * place / (len(used) + 1)
            layout.below.append(((x, box.y + BOX_HEIGHT), (lower.centre, lower.y)))


# ---------------------------------------------------------------- cables


def _cables_of(survey: Survey) -> dict[str, list[tuple[Cable, int]]]:
    """For each system the ends of cables that are plugged in there."""
    found: dict[str, list[tuple[Cable, int]]] = defaultdict(list)
    for cable in survey.cables:
        for number, (system, _) in enumerate(cable.ends):
            found[system].append((cable, number))
    return found


def _place_wires(layout: Layout, survey: Survey) -> None:
    ports: dict[tuple[str, int], Port] = {}
    columns = {column.system: column for column in layout.columns}
    index = {column.system: number for number, column in enumerate(layout.columns)}
    for system, ends in _cables_of(survey).items():
        column = columns[system]
        free: list[tuple[Cable, int]] = []
        for cable, number in ends:
            x = _port_of(layout, cable, number)
            if x is None:
                free.append((cable, number))
            else:
                ports[cable.name, number] = _port(cable, number, x)
        free.sort(key=lambda one: (index[one[0].ends[1 - one[1]][0]], one[0].name))
        taken = {ports[cable.name, number].x for cable, number in ends if (cable.name, number) in ports}
        places = len(free) + len(taken)
        choices = [column.x + column.width * (place + 1) / (places + 1) for place in range(places)]
        choices.sort(key=lambda x: -min([1e9, *(abs(x - other) for other in taken)]))
        for (cable, number), x in zip(free, sorted(choices[: len(free)]), strict=True):
            ports[cable.name, number] = _port(cable, number, x)
    levels: list[list[tuple[float, float]]] = []
    for cable in sorted(survey.cables, key=lambda one: abs(ports[one.name, 0].x - ports[one.name, 1].x)):
        one, other = ports[cable.name, 0], ports[cable.name, 1]
        left, right = sorted((one.x, other.x))
        level = next(
            (
                number
                for number, spans in enumerate(levels)
                if not any(a - 8 <= right and left <= b + 8 for a, b in spans)
            ),
            len(levels),
        )
        if level == len(levels):
            levels.append([])
        levels[level].append((left, right))
        layout.wires.append(Wire(cable, (one, other), layout.system_bottom + CABLE_TOP + level * CABLE_STEP))
    depth = CABLE_TOP + len(levels) * CABLE_STEP if levels else CABLE_STEP
    layout.height = layout.system_bottom + depth + FOOT
    layout.wires.sort(key=lambda wire: wire.cable.name)


def _port(cable: Cable, number: int, x: float) -> Port:
    return Port(x, cable.ends[number][1], cable.addresses[number] if cable.addresses else "")


def _port_of(layout: Layout, cable: Cable, number: int) -> float | None:
    """Below the IPCP that works on this device, or on its address; one cable for each."""
    system, device = cable.ends[number]
    address = cable.addresses[number].partition("/")[0] if cable.addresses else None
    used = {key for box in layout.boxes.values() for key in box.ipcp.below}
    there = [
        box
        for box in layout.boxes.values()
        if box.ipcp.key.system == system and box.ipcp.device and box.ipcp.device in (device, address)
    ]
    there.sort(key=lambda box: (box.ipcp.key not in used, box.ipcp.key))
    return there[0].centre if there else None
