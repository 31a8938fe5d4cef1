// Attention: every head small, the chosen head large, and its weights on the text.

const MOST_LABELS = 40, LABEL_HEIGHT = 9;
// The most cells on a side of the map. In longer texts several weights share a cell, so that cells stay visible.
const COARSE_CELLS = 260;

// A head's pattern as an image with at most `cells` cells on a side. A cell shows the largest of its weights.
function patternImage(layer, head, cells) {
  const seq = data.seq, side = Math.min(cells, seq), strongest = new Float32Array(side * side);
  data.pattern.each(layer, head, (query, key, weight) => {
    const at = Math.floor((query * side) / seq) * side + Math.floor((key * side) / seq);
    if (weight > strongest[at]) strongest[at] = weight;
  });
  const image = new ImageData(side, side), from = paper(), edge = isDark() ? [38, 44, 54] : [236, 238, 241];
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const at = y * side + x, place = attentionPlace(strongest[at]), base = x > y ? edge : from;
      for (let i = 0; i < 3; i++) image.data[4 * at + i] = base[i] + (ORANGE[i] - base[i]) * place;
      image.data[4 * at + 3] = 255;
    }
  }
  const canvas = element("canvas");
  canvas.width = canvas.height = side;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function strongestIn(weights, most) {
  const found = [];
  weights.forEach((weight, p) => { if (weight > 0) found.push([p, weight]); });
  return found.sort((a, b) => b[1] - a[1]).slice(0, most);
}

function toldOfHead(layer, head) {
  const query = state.position, found = strongestIn(data.pattern.row(layer, head, query), 3);
  const seen = found.map(([p, weight]) => `${p} ${labelAt(p)} ${percent(weight)}`);
  return `layer ${layer}, head ${head}\n${query} ${labelAt(query)} attends to\n${seen.join("\n")}`;
}

function drawHeads() {
  headGrid(byId("attention-heads"), {
    name: "attention of every head",
    told: toldOfHead,
    largest: 44,
    cell(layer, head, context, x, y, side) {
      const image = patternImage(layer, head, Math.min(64, Math.max(24, side * 2)));
      context.imageSmoothingEnabled = image.width > side;
      context.drawImage(image, x, y, side, side);
      context.strokeStyle = "rgba(128,128,128,.4)";
      context.lineWidth = 1;
      context.strokeRect(x + 0.5, y + 0.5, side - 1, side - 1);
    },
  });
}

// The map of the chosen head: queries down, keys across.
function drawMap() {
  const holder = byId("attention-map"), canvas = element("canvas", { class: "picks", role: "img" });
  holder.replaceChildren(canvas);
  let left = 8, top = 8, side = 0, image = null;
  const slope = Math.PI / 3;
  const draw = () => {
    const seq = data.seq, room = Math.min(540, holder.clientWidth);
    // The slanted label of the last column extends beyond the right edge of the map.
    const margins = { left: 92, top: 84, right: Math.ceil((Math.cos(slope) * 84) / Math.sin(slope)) };
    const named = seq <= MOST_LABELS && (room - margins.left - margins.right) / seq >= LABEL_HEIGHT;
    const right = named ? margins.right : 2;
    left = named ? margins.left : 34;
    top = named ? margins.top : 20;
    side = Math.max(120, room - left - right - 2);
    const cell = side / seq, context = prepared(canvas, left + side + right, top + side + 2);
    context.fillStyle = muted();
    context.font = `${clamp(cell * 0.62, 9, 13)}px ui-monospace, Menlo, Consolas, monospace`;
    context.textBaseline = "middle";
    const marks = named ? seq : Math.min(seq, 9);
    for (let i = 0; i < marks; i++) {
      const p = named ? i : Math.round((i * (seq - 1)) / (marks - 1));
      const text = named ? shortened(labelAt(p), 11) : String(p), middle = (p + 0.5) * cell;
      context.fillStyle = p === state.position ? chosenColour() : muted();
      context.textAlign = "right";
      context.fillText(text, left - 5, top + middle);
      context.save();
      context.translate(left + middle, top - 5);
      if (named) context.rotate(-slope);
      context.textAlign = named ? "left" : i === marks - 1 ? "right" : i ? "center" : "left";
      context.fillText(text, 0, named ? 0 : -5);
      context.restore();
    }
    context.imageSmoothingEnabled = image.width > side * devicePixelRatio;
    context.drawImage(image, left, top, side, side);
    context.strokeStyle = chosenColour();
    context.lineWidth = 1.5;
    context.strokeRect(left - 0.5, top + state.position * cell, side + 1, Math.max(2, cell));
    canvas.setAttribute("aria-label", `attention of layer ${state.layer}, head ${state.head}: queries down, keys across`);
  };
  const at = (x, y) => [y - top, x - left].map((offset) => Math.floor((offset / side) * data.seq));
  const inside = (p) => p >= 0 && p < data.seq;
  // The largest weight in the cell of a query and a key.
  const strongestAt = (query, key) => {
    const cell = data.seq / image.width;
    const range = (p) => [Math.ceil(Math.floor(p / cell) * cell), Math.ceil((Math.floor(p / cell) + 1) * cell) - 1];
    const [from, to] = range(query), [left, right] = range(key);
    let found = [query, key, NaN];
    for (let q = from; q <= Math.min(to, data.seq - 1); q++) {
      const row = data.pattern.row(state.layer, state.head, q);
      for (let k = left; k <= Math.min(right, q); k++) if (!(row[k] <= found[2]) && row[k] >= 0) found = [q, k, row[k]];
    }
    return found;
  };
  const told = (x, y) => {
    const place = at(x, y);
    if (!place.every(inside)) return "";
    const [query, key, weight] = strongestAt(...place);
    const seen = !Number.isNaN(weight) ? percent(weight) :
      key > query ? "masked: it comes later" : `not among the ${data.pattern.kept} strongest`;
    return `${query} ${labelAt(query)} attends to\n${key} ${labelAt(key)}: ${seen}`;
  };
  underPointer(canvas, told, (x, y) => { const [query] = at(x, y); if (inside(query)) select({ position: query }); });
  whenSelected((changed) => {
    if (changed.layer || changed.head || changed.look) image = patternImage(state.layer, state.head, data.seq > 2 * COARSE_CELLS ? COARSE_CELLS : 2 * COARSE_CELLS);
    draw();
  });
}

const shortened = (text, room) => (text.length <= room ? text : `${text.slice(0, room - 1)}…`);

// The chosen head on the text: what the chosen token attends to, or which tokens attend to it.
function drawLooks() {
  const holder = byId("attention-text");
  holder.replaceChildren(...[...byId("text").childNodes].map((node) => node.cloneNode(true)));
  holder.classList.toggle("tall", byId("text").classList.contains("tall"));
  let back = false, over = null, weights = null;
  const towards = ["what it attends to", "what attends to it"];
  const tokens = choosable(holder, (p) => { if (p !== over) { over = p; colour(); } }, (p) => {
    const from = state.position;
    if (over !== null && over !== from) return `${toldOfToken(p)}\n(click to choose it)`;
    return toldOfToken(p);
  });
  // An entry of the list; if the text scrolls, a button that scrolls to its token.
  const place = (at) => {
    if (holder.scrollHeight <= holder.clientHeight) return String(at);
    return element("button", { type: "button", title: "show it in the text", onclick: () => {
      keepInView(holder, tokens[at]);
      for (const token of tokens) token.classList.toggle("shown", token === tokens[at]);
    } }, String(at));
  };
  const colour = () => {
    const p = over ?? state.position, { layer, head } = state;
    weights = back ? data.pattern.column(layer, head, p) : data.pattern.row(layer, head, p);
    tokens.forEach((token, at) => {
      token.style.background = weights[at] > 0 ? tint(ORANGE, attentionPlace(weights[at])) : "none";
      token.classList.toggle("ahead", back ? at < p : at > p);
    });
    const found = strongestIn(weights, 8), together = weights.reduce((sum, w) => sum + (w > 0 ? w : 0), 0);
    const words = back ? "gets attention from" : "attends to";
    byId("attention-told").textContent = `layer ${layer}, head ${head}: ${p} ${labelAt(p)} ${words}`;
    const rows = found.map(([at, w]) => ({ cells: [place(at), labelAt(at), percent(w), meter(w, 160, "down")] }));
    const list = [table([["position", "n"], ["token", "t"], ["weight", "n"], ["", ""]], rows)];
    if (!back && found.length && !data.pattern.isWhole && p >= data.pattern.kept) {
      list.push(element("p", { class: "muted small" },
        `The ${data.pattern.kept} strongest weights sum to ${percent(together)}; this page does not have the others.`));
    }
    if (!found.length) list.push(element("p", { class: "muted" }, "none among the weights in this page"));
    fill("attention-list", ...list);
  };
  choices("attention-towards", towards, towards[0], (name) => { back = name === towards[1]; colour(); });
  whenSelected(() => { over = null; colour(); keepInView(holder, tokens[state.position]); });
}

function drawAttention() {
  drawHeads();
  drawMap();
  drawLooks();
}
