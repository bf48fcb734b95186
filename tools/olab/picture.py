"""Picture: a survey as SVG. `layout` determines the positions; this module draws.

Systems are boxes side by side, layers are coloured bands across them, IPCPs boxes in the bands. Thick lines are
adjacencies, thin ones lead to the layer that is used, and the links between devices run at the bottom. A cut, silent
or down line is red and dashed.
"""

from __future__ import annotations

import html

from ouroboros.printable import printable

from .layout import (
    BOX_HEIGHT,
    BOX_WIDTH,
    FOOT,
    LABEL,
    MARGIN,
    Band,
    Box,
    LayerKey,
    Layout,
    Line,
    Port,
    Wire,
    arrange,
)
from .survey import Cable, Survey

# Fill of the band, and line and text of its boxes; several layers of a type take the next ones.
_COLOURS = {
    "unicast": (("#dbe7fb", "#1f57b8"), ("#d9f0fa", "#0b6f94"), ("#e3e1fb", "#4a3fb5")),
    "broadcast": (("#efe0fa", "#7a2fb0"), ("#fbe0f1", "#a8287f"), ("#f6e3e3", "#9c3b3b")),
    "ethernet": (
        ("#dff3e1", "#2b7a35"),
        ("#d8f1ea", "#1b7563"),
        ("#e8f2d5", "#55751b"),
        ("#d6eef0", "#1d6f78"),
    ),
    "udp": (("#fdebd3", "#a85a00"), ("#fbe3d6", "#b2481b")),
    "local": (("#e9ebee", "#4d5663"),),
}
_RED, _INK, _GREY, _FAINT = "#c8102e", "#1f2733", "#6b7583", "#c3cad4"
_FONT = "'DejaVu Sans', 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
_NOT_UP = ("connecting", "silent", "down")


def draw(survey: Survey, *, title: str) -> str:
    """The picture, as the text of an SVG file."""
    layout = arrange(survey)
    colours = _choose(layout)
    width, height = max(layout.width, 520.0), layout.height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="{_FONT}" font-size="12" fill="{_INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<text x="{MARGIN}" y="{MARGIN + 20}" font-size="20" font-weight="bold">{escape(title)}</text>',
        *_systems(layout),
        *(_band(band, colours[band.layer]) for band in layout.bands),
        *(_down_to(start, end) for start, end in layout.below),
        *(_line(line, layout, colours) for line in layout.lines),
        *(_box(box, colours[box.layer]) for box in layout.boxes.values()),
        *(_label(band, colours[band.layer]) for band in layout.bands),
        *(_wire(wire, layout) for wire in layout.wires),
        *(_wire_label(wire, width) for wire in layout.wires),
        *_legend(layout, colours, height),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _choose(layout: Layout) -> dict[LayerKey, tuple[str, str]]:
    """A colour for each layer; equal names of local layers on several systems look alike."""
    taken: dict[str, list[str]] = {}
    chosen = {}
    for band in layout.bands:
        family = band.layer.type.partition("-")[0].rstrip("46")
        family = "ethernet" if family == "eth" else family
        names = taken.setdefault(family, [])
        if band.layer.name not in names:
            names.append(band.layer.name)
        colours = _COLOURS.get(family, _COLOURS["local"])
        chosen[band.layer] = colours[names.index(band.layer.name) % len(colours)]
    return chosen


def _systems(layout: Layout) -> list[str]:
    parts = []
    height = layout.system_bottom - layout.system_top
    for column in layout.columns:
        note = "" if column.running else f'<tspan fill="{_RED}" font-weight="normal"> (no IRMd)</tspan>'
        parts.append(
            f'<rect x="{column.x:.1f}" y="{layout.system_top:.1f}" width="{column.width:.1f}" height="{height:.1f}" '
            f'rx="10" fill="#fafbfc" stroke="{_FAINT}" stroke-width="1.5"/>'
            f'<text x="{column.x + 14:.1f}" y="{layout.system_top + 22:.1f}" font-size="14" font-weight="bold" '
            f'fill="{_GREY}">system <tspan fill="{_INK}">{escape(column.system)}</tspan>{note}</text>'
        )
    return parts


def _band(band: Band, colour: tuple[str, str]) -> str:
    fill, ink = colour
    parts = []
    for strip in band.strips:
        y, height = (band.middle - 5, 10.0) if strip.thin else (band.y, band.height)
        parts.append(
            f'<rect x="{strip.left:.1f}" y="{y:.1f}" width="{strip.right - strip.left:.1f}" height="{height:.1f}" '
            f'rx="{0 if strip.thin else 9}" fill="{fill}" stroke="{ink}" stroke-opacity="0.35"/>'
        )
    return "".join(parts)


def _label(band: Band, colour: tuple[str, str]) -> str:
    left, right = band.strips[0].left, band.strips[0].right
    name = band.layer.name or "not enrolled"
    kind = "" if band.layer.name == band.layer.type else f" {band.layer.type}"
    room = int((right - left - 16) / 6.2)
    if len(name) + len(kind) > room:
        kind = ""
    place = f'<text x="{left + 10:.1f}" y="{band.y + LABEL - 6:.1f}" font-size="11"'
    text = f'<tspan font-weight="bold">{escape(_short(name, room))}</tspan>{escape(kind)}</text>'
    # Lines may pass below: first in the colour of the band, and wider.
    under = f'{place} stroke="{colour[0]}" stroke-width="4" stroke-linejoin="round" fill="{colour[0]}">{text}'
    return f'{under}{place} fill="{colour[1]}">{text}'


def _box(box: Box, colour: tuple[str, str]) -> str:
    ipcp = box.ipcp
    ink = colour[1]
    detail = ipcp.member if ipcp.type == "unicast" else ipcp.device
    facts = [f"{ipcp.type} IPCP {ipcp.name} (pid {ipcp.key.pid}) on system {ipcp.key.system}"]
    facts += [f"layer {ipcp.layer}"] if ipcp.layer else ["not enrolled"]
    facts += [f"member {ipcp.member}"] if ipcp.member else []
    facts += [f"on {ipcp.device}"] if ipcp.device else []
    middle = box.y + BOX_HEIGHT / 2
    name_y = middle - 2 if detail else middle + 4
    below = (
        f'<text x="{box.centre:.1f}" y="{middle + 12:.1f}" text-anchor="middle" font-size="10" fill="{_GREY}">'
        f"{escape(_short(detail, 16))}</text>"
    )
    return (
        f"<g><title>{escape(', '.join(facts))}</title>"
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="#ffffff" '
        f'stroke="{ink}" stroke-width="1.5"{"" if ipcp.layer else _dashes()}/>'
        f'<text x="{box.centre:.1f}" y="{name_y:.1f}" text-anchor="middle" font-weight="bold" fill="{ink}">'
        f"{escape(_short(ipcp.name, 13))}</text>{below if detail else ''}</g>"
    )


def _down_to(start: tuple[float, float], end: tuple[float, float]) -> str:
    """A curve to above the lower IPCP, and straight down from there: that way it crosses no other box."""
    (x1, y1), (x2, y2) = start, end
    knee = min(y1 + 46, y2)
    bend = (y1 + knee) / 2
    return (
        f'<path d="M{x1:.1f},{y1:.1f} C{x1:.1f},{bend:.1f} {x2:.1f},{bend:.1f} {x2:.1f},{knee:.1f} V{y2:.1f}" '
        f'fill="none" stroke="{_GREY}" stroke-width="1.2" stroke-opacity="0.75"/>'
    )


def _line(line: Line, layout: Layout, colours: dict[LayerKey, tuple[str, str]]) -> str:
    adjacency = line.adjacency
    ipcps = [layout.boxes[end].ipcp for end in adjacency.ends]
    bad = adjacency.state in _NOT_UP
    ink = _RED if bad else colours[layout.boxes[adjacency.ends[0]].layer][1]
    (x1, y1), (x2, y2) = line.start, line.end
    if line.level:
        rise = 14 + 17 * line.level * 1.1
        shape = (
            f"M{x1:.1f},{y1:.1f} C{x1 + 8:.1f},{y1 - rise:.1f} {x2 - 8:.1f},{y2 - rise:.1f} {x2:.1f},{y2:.1f}"
        )
    else:
        shape = f"M{x1:.1f},{y1:.1f} L{x2:.1f},{y2:.1f}"
    words = f"{ipcps[0].name} - {ipcps[1].name}: {adjacency.state}"
    return (
        f'<path d="{shape}" fill="none" stroke="{ink}" stroke-width="2.6"{_dashes() if bad else ""}>'
        f"<title>{escape(words)}</title></path>"
    )


def _wire(wire: Wire, layout: Layout) -> str:
    cable = wire.cable
    one, other = wire.ports
    bottom = layout.system_bottom
    ink = _RED if cable.cut else _INK
    dashes = _dashes() if cable.cut else ' stroke-dasharray="2 4"' if cable.kind == "loopback" else ""
    path = (
        f"M{one.x:.1f},{bottom:.1f} V{wire.y - 8:.1f} Q{one.x:.1f},{wire.y:.1f} {_inward(one.x, other.x):.1f},{wire.y:.1f} "
        f"H{_inward(other.x, one.x):.1f} Q{other.x:.1f},{wire.y:.1f} {other.x:.1f},{wire.y - 8:.1f} V{bottom:.1f}"
    )
    return (
        f'<path d="{path}" fill="none" stroke="{ink}" stroke-width="2"{dashes}/>'
        f"{_port(one, bottom, ink)}{_port(other, bottom, ink)}"
    )


def _wire_label(wire: Wire, width: float) -> str:
    """Over all wires, because those that lie deeper may cross it."""
    cable = wire.cable
    ink = _RED if cable.cut else _INK
    text = cable.name + (f"  ✕ cut ({cable.cut})" if cable.cut else "")
    middle = (wire.ports[0].x + wire.ports[1].x) / 2
    half = len(text) * 2.9 + 7
    return (
        f'<rect x="{middle - half:.1f}" y="{wire.y - 9:.1f}" width="{2 * half:.1f}" height="18" fill="#ffffff"/>'
        f'<text x="{middle:.1f}" y="{wire.y + 4:.1f}" text-anchor="middle" font-size="11" fill="{ink}">{escape(text)}</text>'
        + _emulated_label(cable, middle, wire.y, width)
    )


def _emulated_label(cable: Cable, middle: float, y: float, width: float) -> str:
    """Below the name; in full in the tooltip."""
    whole = _emulated(cable)
    if not whole:
        return ""
    text = _short(whole, int(2 * (min(middle, width - middle) - MARGIN) / 5.6))
    half = len(text) * 2.8 + 6
    return (
        f"<g><title>{escape(whole)}</title>"
        f'<rect x="{middle - half:.1f}" y="{y + 7:.1f}" width="{2 * half:.1f}" height="13" fill="#ffffff"/>'
        f'<text x="{middle:.1f}" y="{y + 16:.1f}" text-anchor="middle" font-size="10" fill="{_GREY}">{escape(text)}</text></g>'
    )


def _emulated(cable: Cable) -> str:
    """Its impairments, by end when the two differ; nothing when it has none."""
    if not any(cable.emulated):
        return ""
    one, other = (words or "nothing" for words in cable.emulated)
    if one == other:
        return one
    (left, _), (right, _) = cable.ends
    return f"from {left}: {one}; from {right}: {other}"


def _inward(x: float, other: float) -> float:
    return x + 8 if other > x else x - 8 if other < x else x


def _port(port: Port, bottom: float, ink: str) -> str:
    address = (
        f'<text x="{port.x + 7:.1f}" y="{bottom + 15:.1f}" font-size="10" fill="{_GREY}">{escape(port.address)}</text>'
        if port.address
        else ""
    )
    return (
        f'<rect x="{port.x - 5:.1f}" y="{bottom - 5:.1f}" width="10" height="10" rx="2" fill="#ffffff" stroke="{ink}" '
        f'stroke-width="1.6"/>'
        f'<text x="{port.x:.1f}" y="{bottom - 10:.1f}" text-anchor="middle" font-size="10" fill="{_GREY}">'
        f"{escape(port.device)}</text>{address}"
    )


def _legend(layout: Layout, colours: dict[LayerKey, tuple[str, str]], height: float) -> list[str]:
    """The meaning of the lines; only of those in the picture."""
    entries = []
    if layout.lines:
        ink = colours[layout.boxes[layout.lines[0].adjacency.ends[0]].layer][1]
        entries.append(("adjacency", ink, 2.6, ""))
    if layout.below:
        entries.append(("uses", _GREY, 1.2, ""))
    if layout.wires:
        entries.append(("link", _INK, 2.0, ""))
    if any(line.adjacency.state in _NOT_UP for line in layout.lines) or any(
        wire.cable.cut for wire in layout.wires
    ):
        entries.append(("cut, silent or down", _RED, 2.4, _dashes()))
    parts, x, y = [], float(MARGIN), height - FOOT / 2 + 4
    for text, ink, width, dashes in entries:
        parts.append(
            f'<path d="M{x:.1f},{y - 4:.1f} h30" stroke="{ink}" stroke-width="{width}"{dashes}/>'
            f'<text x="{x + 37:.1f}" y="{y:.1f}" font-size="11" fill="{_GREY}">{text}</text>'
        )
        x += 37 + len(text) * 6.6 + 26
    return parts


def _dashes() -> str:
    return ' stroke-dasharray="7 5"'


def escape(text: str) -> str:
    """Text in XML, which has no control characters; other systems choose the names of layers and IPCPs."""
    return html.escape(printable(text))


def _short(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 1, 1)] + "…"
