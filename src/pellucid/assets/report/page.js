// Shared by all parts of the page: the selection, colours, and small pieces of HTML.

const BLUE = [52, 128, 196], ORANGE = [214, 108, 36], PURPLE = [138, 104, 190];
const STRONGEST_TINT = 0.65;

let data;
const state = { position: 0, layer: 0, head: 0 };
const listeners = [];

// Calls draw(changed) now and whenever the selection changes; changed has a key for each name that differs.
function whenSelected(draw) {
  listeners.push(draw);
  draw({ position: true, layer: true, head: true, look: true });
}

function select(wanted) {
  const changed = {};
  for (const [name, value] of Object.entries(wanted)) {
    if (state[name] !== value) { state[name] = value; changed[name] = true; }
  }
  if (Object.keys(changed).length) for (const draw of listeners) draw(changed);
}

function redraw() { for (const draw of listeners) draw({ look: true }); }

const byId = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") made.style.cssText = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const fill = (id, ...children) => byId(id).replaceChildren(...children);

// Words and numbers

const label = (id) => data.labels[id] ?? `#${id}`;
const labelAt = (position) => label(data.ids[position]);
const count = (value) => value.toLocaleString("en-US");

function percent(share) {
  if (Number.isNaN(share)) return "";
  if (share > 0 && share < 5e-5) return "<0.01%";
  return `${(100 * share).toFixed(share < 0.1 ? 2 : 1)}%`;
}

function number(value) {
  const size = Math.abs(value);
  return value.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : 2);
}

const signed = (value) => (value > 0 ? "+" : "") + number(value);

// Colours

const isDark = () => document.documentElement.dataset.theme === "dark";
const paper = () => (isDark() ? [23, 27, 34] : [255, 255, 255]);
const ink = () => (isDark() ? "#e4e7ec" : "#1d2129");
const muted = () => (isDark() ? "#9aa4b2" : "#5c6470");
const chosenColour = () => (isDark() ? "#f0a04b" : "#b35806");
const tint = (hue, place) => `rgba(${hue.join(",")},${(STRONGEST_TINT * clamp(place, 0, 1)).toFixed(3)})`;
const signedTint = (place) => tint(place < 0 ? ORANGE : BLUE, Math.abs(place));

// The colour of a cell: the page's background at 0, the hue at 1, orange below 0.
function cellColour(place, hue = BLUE) {
  const other = place < 0 ? ORANGE : hue, share = clamp(Math.abs(place), 0, 1), from = paper();
  return other.map((value, i) => Math.round(from[i] + (value - from[i]) * share));
}

// Attention weights span orders of magnitude: the square root keeps small ones visible.
const attentionPlace = (weight) => Math.sqrt(weight);

const tokenScales = {
  probability: {
    value: (p) => data.probability[p],
    place: (v) => (v > 0 ? clamp(1 + Math.log10(v) / 2, -1, 1) : -1),
    samples: [[1, "100%"], [0.1, "10%"], [0.01, "1%"], [0.001, "0.1%"], [0.0001, "0.01%"]],
    colour: signedTint,
    words: "the probability of each token after the tokens before it",
  },
  rank: {
    value: (p) => data.rank[p],
    place: (v) => clamp(1 - Math.log10(v + 1) / 2, -1, 1),
    samples: [[0, "0, the likeliest"], [9, "9"], [99, "99"], [999, "999"], [9999, "9,999"]],
    colour: signedTint,
    words: "the rank of each token: how many were likelier",
  },
  entropy: {
    value: (p) => data.entropy[p],
    place: (v) => v / 8,
    samples: [[0, "0, certain"], [2, "2"], [4, "4"], [6, "6"], [8, "8 nats"]],
    colour: (place) => tint(PURPLE, place),
    words: "the entropy of the model's prediction before each token",
  },
};

// Pictures

// Clears a canvas and gives it a size in CSS pixels, with the resolution of the screen.
function prepared(canvas, width, height) {
  const scale = Math.max(1, window.devicePixelRatio || 1);
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  return context;
}

function showTip(event, text) {
  const tip = byId("tip");
  if (!text) { tip.style.display = "none"; return; }
  tip.textContent = text;
  tip.style.display = "block";
  const x = clamp(event.clientX + 14, 4, Math.max(4, innerWidth - tip.offsetWidth - 4));
  const above = event.clientY + 20 + tip.offsetHeight > innerHeight;
  tip.style.left = `${x}px`;
  tip.style.top = `${above ? event.clientY - tip.offsetHeight - 10 : event.clientY + 18}px`;
}

// Shows the tooltip told(x, y) for the pointer's place, and calls pick(x, y) on a click.
function underPointer(canvas, told, pick) {
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointermove", (event) => showTip(event, told(...place(event))));
  canvas.addEventListener("pointerleave", (event) => showTip(event, ""));
  if (pick) canvas.addEventListener("click", (event) => pick(...place(event)));
}

function meter(share, width = 140, kind = "") {
  return element("span", { class: `meter ${kind}`, style: `width:${Math.max(1, Math.round(width * share))}px` });
}

function table(titles, rows) {
  const head = titles.map(([title, kind]) => element("th", { class: kind, scope: "col" }, title));
  const body = rows.map((row) => {
    const cells = row.cells.map((cell, i) => element("td", { class: titles[i][1] }, cell));
    return element("tr", row.out ? { class: "out" } : {}, ...cells);
  });
  return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
}

// A group of buttons, one of which is pressed.
function choices(id, names, chosen, pick) {
  const buttons = names.map((name) =>
    element("button", { type: "button", "aria-pressed": String(name === chosen), onclick: () => {
      for (const one of buttons) one.setAttribute("aria-pressed", String(one.textContent === name));
      pick(name);
    } }, name));
  fill(id, ...buttons);
}
