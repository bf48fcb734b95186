// The page of `irm web`: asks for the state every second, and draws it. Every text from the system is set as text, never as markup.
"use strict";

const PERIOD = 1000, KEPT = 300, MOST_FLOWS = 200;
const SVG = "http://www.w3.org/2000/svg";
let before = null, now = null;
const history = [];

const by = id => document.getElementById(id);

function make(tag, attributes, ...inside) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    element.append(...inside);
    return element;
}

function draw(tag, attributes, text) {
    const element = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
}

function short(text, most) {
    return text.length > most ? text.slice(0, most - 1) + "\u2026" : text;
}

function shown(rate) {
    return rate >= 1e6 ? (rate / 1e6).toFixed(1) + " M/s" : rate >= 1e3 ? (rate / 1e3).toFixed(1) + " k/s" : Math.round(rate) + "/s";
}

// How fast a number grows: `number` finds it in a state.
function rate(number) {
    if (!before || now.time <= before.time) return 0;
    const old = number(before);
    return old === undefined ? 0 : Math.max(0, (number(now) - old) / (now.time - before.time));
}

function indexed(state) {
    state.ends = new Map();
    state.links = new Map();
    let packets = 0;
    for (const flow of state.flows)
        for (const end of flow.ends) {
            state.ends.set(flow.id + " " + end.pid + " " + end.fd, end);
            packets += end.packets;
        }
    for (const ipcp of state.ipcps)
        for (const link of ipcp.neighbours) state.links.set(ipcp.pid + " " + link.fd, link);
    state.packets = packets;
    return state;
}

// ------------------------------------------------------------ layers

// Layers from the top: one is above those that carry the flows of its members to their neighbours.
function stacked() {
    const lower = new Map();
    for (const ipcp of now.ipcps) {
        if (!ipcp.layer) continue;
        const below = lower.get(ipcp.layer) || new Set();
        for (const link of ipcp.neighbours) if (link.layer && link.layer !== ipcp.layer) below.add(link.layer);
        lower.set(ipcp.layer, below);
    }
    const ranks = new Map();
    const rank = (layer, path) => {
        if (ranks.has(layer)) return ranks.get(layer);
        if (path.includes(layer)) return 0;
        let most = 0;
        for (const below of lower.get(layer) || []) most = Math.max(most, 1 + rank(below, [...path, layer]));
        ranks.set(layer, most);
        return most;
    };
    return [...lower.keys()].sort((a, b) => rank(b, []) - rank(a, []) || a.localeCompare(b));
}

function chosen() {
    const found = /^#name=(.*)$/.exec(location.hash);
    return found ? decodeURIComponent(found[1]) : null;
}

// The layers and IPCPs on the way of packets to a name, from the layer where it is registered down to the wire.
function pathOf(name) {
    const steps = [], seen = new Set();
    const known = now.names.find(one => one.name === name);
    const visit = (ipcp, depth, why) => {
        if (!ipcp || seen.has(ipcp.pid)) return;
        seen.add(ipcp.pid);
        steps.push({depth, ipcp, why});
        for (const layer of new Set(ipcp.neighbours.map(link => link.layer)))
            for (const below of now.ipcps) if (layer && below.layer === layer) visit(below, depth + 1, "carries the flows of " + ipcp.name);
    };
    for (const one of known ? known.registrations : []) visit(now.ipcps.find(ipcp => ipcp.name === one.ipcp), 0, "has the name");
    return {known, steps, seen};
}

function drawLayers(path) {
    const svg = by("layers"), width = Math.max(320, svg.clientWidth || 320), parts = [], groups = [], places = new Map();
    let top = 0;
    for (const layer of stacked()) {
        const members = now.ipcps.filter(ipcp => ipcp.layer === layer);
        const across = Math.max(1, Math.floor((width - 20) / 150)), rows = Math.ceil(members.length / across);
        const height = 34 + rows * 84;
        parts.push(draw("rect", {class: "band", x: 0, y: top, width, height: height - 8, rx: 8}));
        parts.push(draw("text", {x: 10, y: top + 20, class: "layer"}, short(layer, 40)));
        members.forEach((ipcp, at) => {
            places.set(ipcp.pid, {x: 10 + (at % across) * 150, y: top + 30 + Math.floor(at / across) * 84, ipcp});
        });
        top += height;
    }
    const names = new Map(now.ipcps.map(ipcp => [ipcp.layer + "\n" + ipcp.name, ipcp.pid]));
    for (const {x, y, ipcp} of places.values()) {
        const group = draw("g", {class: path && path.seen.has(ipcp.pid) ? "on" : "", "data-ipcp": ipcp.name});
        ipcp.neighbours.slice(0, 12).forEach((link, at) => {
            const peer = places.get(names.get(ipcp.layer + "\n" + link.peer));
            const key = ipcp.pid + " " + link.fd;
            const speed = rate(state => (state.links.get(key) || {}).packets);
            const style = "link " + link.state + (speed > 0 ? " busy" : "");
            const line = peer
                ? draw("line", {class: style, x1: x + 65, y1: y + 20, x2: peer.x + 65, y2: peer.y + 20})
                : draw("line", {class: style, x1: x + 8 + at * 11, y1: y + 40, x2: x + 8 + at * 11, y2: y + 54});
            line.append(draw("title", {}, `${link.component} with ${link.peer}: ${link.state}, ${shown(speed)}`));
            if (peer) parts.push(line); else group.append(line);
        });
        group.append(draw("rect", {class: "box", x, y, width: 130, height: 40, rx: 6}));
        group.append(draw("text", {x: x + 8, y: y + 17}, short(ipcp.name, 16)));
        group.append(draw("text", {x: x + 8, y: y + 32, class: "quiet"}, short(`${ipcp.type}  ${ipcp.state}`, 22)));
        const total = ipcp.neighbours.reduce(
            (sum, link) => sum + rate(state => (state.links.get(ipcp.pid + " " + link.fd) || {}).packets), 0);
        const count = ipcp.neighbours.length;
        group.append(draw("text", {x: x + 8, y: y + 68, class: "quiet"},
            count ? `${count} connection${count > 1 ? "s" : ""}, ${shown(total)}` : ""));
        groups.push(group);
    }
    svg.setAttribute("viewBox", `0 0 ${width} ${Math.max(top, 20)}`);
    svg.setAttribute("height", Math.max(top, 20));
    svg.replaceChildren(...parts, ...groups);
}

// ------------------------------------------------------------ lists

function drawPath(path, name) {
    const section = by("path");
    section.hidden = path === null;
    if (path === null) return;
    const lines = [make("p", {}, path.known
        ? `${name}: ${path.known.processes} processes and ${path.known.programs} programs are bound to it`
        : `${name}: there is no such name`)];
    if (path.known && !path.steps.length) lines.push(make("p", {}, "It is in no layer: only this system reaches it."));
    for (const {depth, ipcp, why} of path.steps)
        lines.push(make("p", {}, "\u2003".repeat(depth) + `${ipcp.layer}: ${ipcp.name} (${ipcp.type}) ${why}`));
    section.replaceChildren(...lines);
}

function drawNames(name) {
    by("names").replaceChildren(...now.names.map(one => {
        const button = make("button", {"aria-pressed": String(one.name === name)}, short(one.name, 40));
        button.addEventListener("click", () => {
            location.hash = one.name === chosen() ? "" : "#name=" + encodeURIComponent(one.name);
        });
        return button;
    }));
}

function drawFlows() {
    const head = make("tr", {}, ...["flow", "name", "layer", "state", "ends", "queued", "packets", "lost"].map(title => make("th", {}, title)));
    const rows = now.flows.slice(0, MOST_FLOWS).map(flow => {
        const sum = key => flow.ends.reduce((total, end) => total + end[key], 0);
        const speed = flow.ends.reduce((total, end) => {
            const key = flow.id + " " + end.pid + " " + end.fd;
            return total + rate(state => (state.ends.get(key) || {}).packets);
        }, 0);
        const cells = [flow.id, flow.name, flow.layer || (flow.state.endsWith("pending") ? "" : "(direct)"), flow.state,
            flow.ends.map(end => `${end.program || "?"} ${end.pid}/${end.fd}`).join(", "), sum("queued"), shown(speed), sum("lost")];
        return make("tr", {}, ...cells.map(cell => make("td", typeof cell === "number" ? {class: "number"} : {}, String(cell))));
    });
    by("flows").replaceChildren(head, ...rows);
}

function drawEvents() {
    by("events").replaceChildren(...[...now.events].reverse().map(event => {
        const at = new Date(event.time * 1000);
        return make("li", {}, make("time", {datetime: at.toISOString()}, at.toLocaleTimeString()), event.line);
    }));
}

function drawHistory() {
    const most = Math.max(1, ...history), step = 300 / (KEPT - 1);
    const points = history.map((value, at) => `${((KEPT - history.length + at) * step).toFixed(1)},${(38 - 36 * value / most).toFixed(1)}`);
    by("history").replaceChildren(draw("path", {d: points.length > 1 ? "M" + points.join("L") : ""}),
        draw("title", {}, `at most ${shown(most)}`));
}

function show() {
    if (!now) return;
    const name = chosen(), path = name === null ? null : pathOf(name);
    const more = now.flows.length > MOST_FLOWS ? ` (the first ${MOST_FLOWS} are shown)` : "";
    const summary = by("summary");
    summary.className = "";
    summary.textContent = `${now.ipcps.length} IPCPs, ${now.names.length} names, ${now.flows.length} flows${more}, ` +
        `${shown(history[history.length - 1] || 0)} packets`;
    drawLayers(path);
    drawPath(path, name);
    drawNames(name);
    drawFlows();
    drawEvents();
    drawHistory();
}

async function look() {
    try {
        const answer = await fetch("state", {cache: "no-store"});
        if (!answer.ok) throw new Error((await answer.text()).trim());
        before = now;
        now = indexed(await answer.json());
        history.push(rate(state => state.packets));
        if (history.length > KEPT) history.shift();
        show();
    } catch (error) {
        by("summary").textContent = `The system does not answer: ${error.message}`;
        by("summary").className = "bad";
    }
    setTimeout(look, document.hidden ? 5 * PERIOD : PERIOD);
}

addEventListener("hashchange", show);
addEventListener("resize", show);
look();
