// Shows what the daemon's stream of events says, and sends the three orders that it takes.
//
// Everything from the daemon is put in as text, never as HTML: names of nodes and servers' words are anybody's.
"use strict";

const SLOTS = 16384;
const COLUMNS = 128;
/** Pixels of the canvas for a cell; the canvas is made for it. */
const CELL = 6;
/** The daemon speaks twice a second: after so long something is wrong. */
const SILENT_AFTER_MS = 5000;
const CONNECT_AGAIN_AFTER_MS = 2000;
const ANSWER_WITHIN_MS = 10000;
/** The rate is taken over so many seconds. */
const RATE_OVER_S = 10;
/** Told apart also by those who do not see all colours (Paul Tol's bright and muted sets). */
const COLOURS = [
  "#4477aa", "#ccbb44", "#228833", "#ee6677", "#66ccee", "#aa3377", "#999933", "#332288", "#88ccee", "#cc6677", "#44aa99", "#882255",
];

const now = { status: null, topology: null, plan: null, history: null };
const at = (id) => document.getElementById(id);

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

const count = (number) => number.toLocaleString("en");
const plural = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;

function span(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 59.5) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  // Rounded first: 119.6 s are 2 minutes, and not one and sixty seconds.
  const two = (unit, part, names) => {
    const parts = Math.round(seconds / part);
    return `${Math.floor((parts * part) / unit)} ${names[0]} ${(parts % (unit / part))} ${names[1]}`;
  };
  if (seconds < 3599.5) return two(60, 1, ["min", "s"]);
  if (seconds < 86370) return two(3600, 60, ["h", "min"]);
  return two(86400, 3600, ["d", "h"]);
}

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
  return `${unit === 0 ? bytes : bytes.toFixed(1)} ${units[unit]}`;
}

function clock(time) {
  if (time === null) return "";
  const day = new Date(time);
  const today = day.toDateString() === new Date().toDateString();
  return today ? day.toLocaleTimeString("en-GB") : `${day.toLocaleDateString("en-CA")} ${day.toLocaleTimeString("en-GB")}`;
}

/** Calls back with every slot of "0-99,866". */
function eachSlot(ranges, callback) {
  if (ranges === "") return;
  for (const range of ranges.split(",")) {
    const [first, last = first] = range.split("-").map(Number);
    for (let slot = first; slot <= last; slot += 1) callback(slot);
  }
}

// Nodes ---------------------------------------------------------------------------------------------------------------

/** The shards in an order that no failover changes, by the least address of their nodes, each with its colour. */
let shards = [];
let shardOf = new Map();

function placeShards() {
  const compare = (a, b) => a.localeCompare(b, "en", { numeric: true });
  const key = (shard) => [shard.primary, ...shard.replicas].map((node) => node.address ?? node.id).sort(compare)[0];
  const sorted = [...now.topology.shards].sort((a, b) => compare(key(a), key(b)));
  const colour = (index) => COLOURS[index] ?? `hsl(${Math.round(index * 137.5) % 360} 60% ${45 + (index % 3) * 10}%)`;
  shards = sorted.map((shard, index) => ({ ...shard, colour: colour(index) }));
  shardOf = new Map(shards.map((shard) => [shard.primary.id, shard]));
}

function name(id) {
  const shard = shardOf.get(id);
  return shard ? nodeName(shard.primary) : id.slice(0, 8);
}

const nodeName = (node) => node.hostname ?? node.address ?? node.id.slice(0, 8);

const STANDINGS = {
  half_known: "not known to every node yet", failing: "thought to have failed", not_serving: "does not serve", alone: "knows no other node", silent: "does not answer",
};

function showNodes() {
  const lines = new Map((now.plan?.nodes ?? []).map((line) => [line.node, line]));
  const most = Math.max(1, ...shards.map((shard) => Math.max(shard.slots.count, lines.get(shard.primary.id)?.target ?? 0)));
  at("nodes").replaceChildren(...shards.map((shard) => nodeItem(shard, lines.get(shard.primary.id), most)));
}

let drainable = "";

/** Redrawn only when there are other nodes: a choice that is being made must stay. */
function showDrainable() {
  const key = JSON.stringify(shards.map((shard) => shard.primary.id));
  if (key === drainable) return;
  drainable = key;
  at("draining").hidden = false;
  at("drain-node").replaceChildren(...shards.map((shard) => element("option", { value: shard.primary.id }, nodeName(shard.primary))));
}

let drainsShown = "";

function showDrains({ drains }) {
  const now = (drain) => drain.replica_of === null ? "" : `It is a replica of ${name(drain.replica_of)} now. `;
  const key = JSON.stringify(drains.map((drain) => [drain.node, name(drain.node), now(drain)]));
  if (key === drainsShown) return;
  drainsShown = key;
  at("drains").replaceChildren(...drains.map((drain) => element("li", {},
    `${name(drain.node)} is drained, as somebody told it. ${now(drain)}`,
    element("button", { type: "button", onclick: () => order("undrain", { node: drain.node }) }, "Give it its share again"))));
}

function nodeItem(shard, line, most) {
  const { primary, replicas } = shard;
  const flag = shard.standing === "sound" ? null : element("span", { className: "flag" }, STANDINGS[shard.standing] ?? shard.standing);
  const part = { drained: "to hold nothing", ignored: "left alone" }[line?.part];
  const note = part === undefined ? null : element("span", { className: "note" }, part);
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = shard.colour;
  const share = line ? `${count(shard.slots.count)} of ${count(line.target)}` : count(shard.slots.count);
  const server = primary.server;
  const memory = server && `${size(server.used_memory_bytes)}${server.max_memory_bytes ? ` of ${size(server.max_memory_bytes)}` : ""}`;
  const failing = replicas.filter((replica) => replica.failing !== "no" || replica.server === null).length;
  const facts = [
    replicas.length === 0 ? "no replica" : plural(replicas.length, "replica") + (failing ? `, ${failing} not well` : ""),
    ...(server ? [server.version, `${count(server.keys)} keys`, memory] : ["says nothing of itself"]),
    ...(server?.loading ? ["is loading its data"] : []),
    ...(line?.weight !== null && line !== undefined && line.weight !== 1 ? [`weight ${line.weight}`] : []),
  ];
  const names = [primary, ...replicas].map((node) => `${nodeName(node)} ${node.id}`).join("\n");
  return element("li", { title: names },
    element("div", { className: "row" }, swatch, element("span", { className: "name" }, nodeName(primary)), flag, note,
      element("span", { className: "end" }, share)),
    shareBar(shard, line, most),
    element("div", { className: "small" }, facts.join(" · ")));
}

function shareBar(shard, line, most) {
  const svg = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const percent = (slots) => (slots / most) * 100;
  const bar = svg("svg", { class: "share", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  bar.append(svg("rect", { class: "track", x: 0, y: 1, width: 100, height: 8 }));
  bar.append(svg("rect", { x: 0, y: 1, width: percent(shard.slots.count), height: 8, fill: shard.colour }));
  if (line) bar.append(svg("rect", { class: "target", x: Math.min(percent(line.target), 99.6), y: 0, width: 0.4, height: 10 }));
  return bar;
}

// The slot map --------------------------------------------------------------------------------------------------------

let owners = new Array(SLOTS).fill(null);
let goals = new Map();
let opened = new Set();

function takeSlots() {
  owners = new Array(SLOTS).fill(null);
  for (const shard of shards) eachSlot(shard.slots.ranges, (slot) => { owners[slot] = shard; });
  goals = new Map();
  const wanted = (moves) => {
    for (const move of moves) {
      const target = shardOf.get(move.target);
      if (target) eachSlot(move.slots.ranges, (slot) => { if (owners[slot] !== target) goals.set(slot, target); });
    }
  };
  wanted(now.plan?.moves ?? []);
  wanted(now.status?.moves ?? []);
  opened = new Set();
  eachSlot(now.status?.open_slots.ranges ?? "", (slot) => opened.add(slot));
}

function drawMap() {
  if (pointed !== null) tellSlot(pointed);
  const context = at("map").getContext("2d");
  const ink = getComputedStyle(document.body).getPropertyValue("--ink");
  context.clearRect(0, 0, COLUMNS * CELL, COLUMNS * CELL);
  for (let slot = 0; slot < SLOTS; slot += 1) {
    const [x, y] = [(slot % COLUMNS) * CELL, Math.floor(slot / COLUMNS) * CELL];
    if (owners[slot]) {
      context.fillStyle = owners[slot].colour;
      context.fillRect(x, y, CELL, CELL);
    }
    if (goals.has(slot)) {
      context.fillStyle = goals.get(slot).colour;
      context.beginPath();
      context.moveTo(x + CELL, y);
      context.lineTo(x + CELL, y + CELL);
      context.lineTo(x, y + CELL);
      context.fill();
    }
    if (opened.has(slot)) {
      context.strokeStyle = ink;
      context.lineWidth = 1.5;
      context.strokeRect(x + 0.75, y + 0.75, CELL - 1.5, CELL - 1.5);
    }
  }
}

/** The slot that was last pointed at. */
let pointed = null;

function pointAt(event) {
  const box = at("map").getBoundingClientRect();
  const cell = (position, length) => Math.min(COLUMNS - 1, Math.max(0, Math.floor((position / length) * COLUMNS)));
  pointed = cell(event.clientY - box.top, box.height) * COLUMNS + cell(event.clientX - box.left, box.width);
  tellSlot(pointed);
}

function tellSlot(slot) {
  const owner = owners[slot];
  const about = owner?.primary.server && owner.primary.server.keys / Math.max(1, owner.slots.count);
  at("slot").textContent = [
    `Slot ${slot}: ${owner ? nodeName(owner.primary) : "nobody owns it, or the nodes disagree"}`,
    ...(about === undefined || about === null ? [] : [`about ${about < 10 ? about.toFixed(1) : count(Math.round(about))} keys, as any slot of that node`]),
    ...(goals.has(slot) ? [`on its way to ${nodeName(goals.get(slot).primary)}`] : []),
    ...(opened.has(slot) ? ["open now"] : []),
  ].join("; ");
}

// What it does, and why -----------------------------------------------------------------------------------------------

let samples = [];

function showState() {
  const { status, plan } = now;
  at("cluster").textContent = status.cluster;
  document.title = `${status.cluster}: evenkeel`;
  at("version").textContent = `evenkeel ${status.version}, ${status.instance}, up ${span(status.uptime_s)}`;
  at("age").textContent = status.look.age_s === null ? "" : `cluster read ${span(status.look.age_s)} ago`;
  const [kind, text] = state(status, plan);
  at("state").dataset.kind = kind;
  at("state").textContent = text;
  const reasons = status.reasons.map((reason) => [reason.text, reason.name]);
  const verdict = reasons.length === 0 && status.moves.length === 0 ? (plan?.verdict.text ?? []).map((line) => [line, null]) : [];
  const faults = status.config.error === null ? [] : [[`the changed configuration is not in force: ${status.config.error}`, "config"]];
  const warnings = status.warnings.map((warning) => [warning, "warning"]);
  at("reasons").replaceChildren(...[...reasons, ...verdict, ...faults, ...warnings].map(([line, label]) =>
    element("li", {}, line, label === null ? null : element("b", {}, label))));
  at("orders").hidden = false;
  for (const part of document.querySelectorAll(".pausing")) part.hidden = status.paused !== null;
  at("resume").hidden = status.paused === null;
  at("approve").hidden = !plan || !status.reasons.some((reason) => reason.name === "awaiting_approval");
  showProgress(status);
}

/** Reasons that are an operator's own will. */
const WAITS = { awaiting_approval: "A plan waits for approval", outside_windows: "Outside of its hours" };

function state(status, plan) {
  if (status.moves.length > 0) return ["busy", status.paused ? "Pausing: finishing what is open" : "Moving slots"];
  if (status.paused) return ["wait", status.paused.until ? `Paused until ${clock(status.paused.until)}` : "Paused"];
  if (status.look.number === 0) return ["wait", "Looking for the cluster"];
  if (status.mode === "observe") return ["wait", "Observing: moves nothing"];
  if (status.reasons.some((reason) => !reason.passes_by_itself && !(reason.name in WAITS))) return ["bad", "Not moving"];
  const waits = status.reasons.find((reason) => reason.name in WAITS);
  if (waits) return ["wait", WAITS[waits.name]];
  if (status.reasons.length > 0) return ["wait", "Waiting"];
  return plan && plan.slots_to_move > 0 ? ["busy", "About to move"] : ["good", "On an even keel"];
}

function showProgress({ work, moves }) {
  at("progress").hidden = !work.active;
  if (!work.active) { samples = []; return; }
  at("bar").value = work.slots_moved / Math.max(1, work.slots_planned);
  samples = [...samples, work].filter((sample) => sample.elapsed_s > work.elapsed_s - RATE_OVER_S && sample.elapsed_s <= work.elapsed_s);
  const [first, took] = [samples[0], work.elapsed_s - samples[0].elapsed_s];
  const rate = (what) => count(Math.round((work[what] - first[what]) / took));
  const figures = [
    `${count(work.slots_moved)} of ${plural(work.slots_planned, "slot")}`,
    work.keys_planned === null ? `${count(work.keys_moved)} keys` : `${count(work.keys_moved)} of about ${plural(work.keys_planned, "key")}`,
    ...(took > 0 && moves.length > 0 ? [`${rate("slots_moved")} slots and ${rate("keys_moved")} keys a second`] : []),
    `${span(work.elapsed_s)} so far`,
    ...(work.left_s === null || moves.length === 0 ? [] : [`about ${span(work.left_s)} left`]),
  ];
  at("figures").replaceChildren(...figures.map((text) => element("span", {}, text)));
}

/** Why a move is not faster, by the names that the API has. */
const LIMITS = {
  growing: "getting faster", keys: "as many keys a call as are allowed", block: "as fast as a call's time allows",
  latency: "slowed: other clients wait", network: "slowed by the network",
  turns: "takes turns with other moves", rate: "at the configured rate",
};

function pace({ batch_keys: keys, block_s: block, limit }) {
  if (keys === 0) return [];
  const blocks = block === null ? "" : ` of ${(block * 1000).toFixed(1)} ms`;
  return [`up to ${plural(keys, "key")} a call${blocks}`, LIMITS[limit] ?? limit];
}

function showMoves({ moves, moves_waiting: waiting }) {
  at("moves-section").hidden = moves.length === 0;
  const item = (move) => element("li", {},
    element("div", { className: "row" }, element("span", { className: "name" }, `${name(move.source)} → ${name(move.target)}`),
      move.purpose === "resume" ? element("span", { className: "note" }, "finishes open slots") : null,
      element("span", { className: "end" }, `${count(move.slots_moved)} of ${plural(move.slots.count, "slot")}`)),
    element("progress", { max: Math.max(1, move.slots.count), value: move.slots_moved, ariaLabel: "slots moved" }),
    element("div", { className: "small" }, [
      plural(move.keys_moved, "key"), span(move.running_s), ...pace(move.pace),
      ...(move.waits_for === null ? [] : [`waits for ${move.waits_for}`]),
    ].join(" · ")));
  at("moves").replaceChildren(...moves.map(item), ...(waiting === 0 ? [] : [
    element("li", { className: "small" }, `${plural(waiting, "more move")} of the plan ${waiting === 1 ? "waits" : "wait"} for their turn`)]));
}

let asideShown = "";

/** Redrawn only when something else than the time until the next try changes: a button must stay where it is. */
function showAside({ set_aside: slots }) {
  at("aside-section").hidden = slots.length === 0;
  const key = JSON.stringify(slots.map((each) => [each.slot, each.attempts, each.why]));
  if (key === asideShown) return;
  asideShown = key;
  const next = (each) => each.next_try_in_s === null ? "only a human can help" : clock(Date.now() + each.next_try_in_s * 1000);
  at("aside").replaceChildren(...slots.map((each) => element("tr", {},
    element("td", { className: "when" }, String(each.slot)), element("td", {}, String(each.attempts)), element("td", {}, each.why),
    element("td", { className: "when" }, next(each)),
    element("td", {}, element("button", { type: "button", onclick: () => order("retry", { slots: String(each.slot) }) }, "Try again")))));
}

function showHistory() {
  const { moves } = now.history;
  at("no-history").hidden = moves.length > 0;
  at("history-table").hidden = moves.length === 0;
  at("history").replaceChildren(...moves.map((move) => element("tr", {},
    element("td", { className: "when" }, clock(move.ended_at)),
    element("td", { className: "node" }, name(move.source)), element("td", { className: "node" }, name(move.target)),
    element("td", { className: "number", title: move.slots.ranges }, count(move.slots.count)),
    element("td", { className: "number" }, count(move.keys_moved)),
    element("td", { className: "number" }, move.bytes_estimated === null ? "" : size(move.bytes_estimated)),
    element("td", { className: "number" }, span(move.took_s)),
    element("td", {}, move.why), element("td", {}, move.trouble === null ? move.outcome : `${move.outcome}: ${move.trouble}`))));
}

// Orders --------------------------------------------------------------------------------------------------------------

let token = "";
let waiting = null;

const shown = () => (token === "" ? {} : { Authorization: `Bearer ${token}` });

async function order(what, body) {
  const headers = { "Content-Type": "application/json", ...shown() };
  at("answer").textContent = "";
  try {
    const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
    const response = await fetch(`api/v1/${what}`, { method: "POST", headers, body: JSON.stringify(body), signal });
    const document = await response.json();
    at("token").hidden = response.status !== 401;
    waiting = response.status === 401 ? [what, body] : null;
    at("answer").textContent = response.ok ? done(what, document) : document.error;
  } catch (error) {
    at("answer").textContent = `The daemon was not reached: ${error.message}`;
  }
}

function done(what, answer) {
  if (what === "pause") {
    return answer.survives_restart ? "" : "Paused until a restart at the most: there is no state directory, or it cannot be written.";
  }
  if (what === "drain") {
    return answer.survives_restart ? "" : "Drained until a restart at the most: there is no state directory, or it cannot be written.";
  }
  if (what === "undrain") {
    return [
      ...(answer.was_drained?.replica_of ? [`It is a replica of ${name(answer.was_drained.replica_of)} now, and has its share again when it is a primary once more.`] : []),
      ...(answer.by_configuration ? ["The configuration drains it all the same."] : []),
      ...(answer.returns_at_restart ? ["A restart would bring the drain back: its end could not be recorded."] : []),
    ].join(" ");
  }
  if (what === "approve") return `Approved: ${plural(answer.slots.count, "slot")}.`;
  if (what === "resume") return answer.returns_at_restart ? "A restart would bring the pause back: its end could not be recorded." : "";
  return answer.put_back.count > 0 ? `Tried again now: ${answer.put_back.ranges}` : "It was not set aside any more.";
}

at("pause").onclick = () => order("pause", at("length").value === "" ? {} : { for_s: Number(at("length").value) });
at("resume").onclick = () => order("resume", {});
at("approve").onclick = () => order("approve", { hash: now.plan.hash });
at("draining").onsubmit = (event) => {
  event.preventDefault();
  order("drain", { node: at("drain-node").value });
};
at("orders").onsubmit = (event) => event.preventDefault();
at("token").onsubmit = (event) => {
  event.preventDefault();
  token = at("token-text").value;
  at("token-text").value = "";
  if (stream === null) connect();
  if (waiting !== null) order(...waiting);
};
at("map").onpointermove = pointAt;
at("map").onpointerdown = pointAt;
matchMedia("(prefers-color-scheme: dark)").onchange = drawMap;

// The stream ----------------------------------------------------------------------------------------------------------

const SHOWS = {
  topology: () => { placeShards(); showNodes(); showDrainable(); takeSlots(); drawMap(); if (now.history) showHistory(); },
  plan: () => { if (now.topology) { showNodes(); takeSlots(); drawMap(); } },
  history: showHistory,
  status: () => { showState(); showMoves(now.status); showDrains(now.status); showAside(now.status); takeSlots(); drawMap(); },
};

let stream = null;
let silence = 0;
let again = 0;

/** A stream that begins anew tells everything: nothing of the last one is needed. */
async function connect() {
  disconnect();
  const mine = new AbortController();
  stream = mine;
  awaitWord();
  try {
    // An EventSource cannot show a token.
    const response = await fetch("api/v1/events", { headers: shown(), signal: mine.signal });
    if (response.status === 401) return askForToken((await response.json()).error);
    if (response.ok) {
      if (waiting === null && !at("token").hidden) {
        at("token").hidden = true;
        at("answer").textContent = "";
      }
      await eachEvent(response.body, takeIn);
    }
  } catch (error) {
    if (stream === mine) console.error(error);
  }
  if (stream === mine) cutOff();
}

/** Calls back with the name and the text of each server-sent event, as the daemon writes them. */
async function eachEvent(body, callback) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    const events = (text + read.value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const [, name, data] = event.match(/^event: (.*)\ndata: (.*)$/) ?? [];
      if (name !== undefined) callback(name, data);
    }
  }
}

function takeIn(event, data) {
  now[event] = JSON.parse(data);
  awaitWord();
  SHOWS[event]();
}

/** What is asked for stays closed until somebody shows the token. */
function askForToken(why) {
  disconnect();
  at("state").dataset.kind = "wait";
  at("state").textContent = "Closed without the token";
  at("answer").textContent = token === "" ? "" : why;
  at("token").hidden = false;
}

function disconnect() {
  clearTimeout(silence);
  clearTimeout(again);
  stream?.abort();
  stream = null;
}

/** A connection that is dead on the way, or a daemon that hangs, causes no error: only silence tells. */
function awaitWord() {
  clearTimeout(silence);
  silence = setTimeout(cutOff, SILENT_AFTER_MS);
}

/** Connects anew by itself: a browser gives up for good after any answer but 200. */
function cutOff() {
  disconnect();
  again = setTimeout(connect, CONNECT_AGAIN_AFTER_MS);
  at("state").dataset.kind = "bad";
  at("state").textContent = "No word from evenkeel";
  at("age").textContent = now.status === null ? "" : "what is shown is old; it is asked again and again";
}

// A browser has six connections to a server, for all its tabs: one that nobody sees takes none of them.
document.onvisibilitychange = () => (document.hidden ? disconnect() : connect());
if (!document.hidden) connect();
