// Grids of layers and heads with a number for each head, in which the reader chooses a head.

const GRID_LEFT = 26, GRID_TOP = 18, GRID_GAP = 2;

// Draws a grid into a holder and returns a function that draws it again. cell(layer, head, context, x, y, side) draws
// one head, told(layer, head) returns its tooltip. depends: the parts of the selection that cells depend on. largest: the
// largest side of a cell.
function headGrid(holder, { name, cell, told, depends = [], largest = 30 }) {
  const { n_layer: layers, n_head: heads } = data.model;
  const canvas = element("canvas", { class: "picks", tabindex: 0, role: "application" });
  holder.replaceChildren(element("div", { class: "scroll" }, canvas));
  const picture = element("canvas");
  let side = 0, width = 0, height = 0;

  const measure = () => {
    const room = (holder.clientWidth - GRID_LEFT - 4) / heads - GRID_GAP;
    return Math.floor(clamp(room, 11, largest));
  };
  const corner = (layer, head) => [GRID_LEFT + head * (side + GRID_GAP), GRID_TOP + layer * (side + GRID_GAP)];
  const at = (x, y) => {
    const head = Math.floor((x - GRID_LEFT) / (side + GRID_GAP)), layer = Math.floor((y - GRID_TOP) / (side + GRID_GAP));
    return head >= 0 && layer >= 0 && head < heads && layer < layers ? [layer, head] : null;
  };
  const draw = () => {
    side = measure();
    width = GRID_LEFT + heads * (side + GRID_GAP) + 2;
    height = GRID_TOP + layers * (side + GRID_GAP) + 2;
    const context = prepared(picture, width, height);
    context.fillStyle = muted();
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    const every = side < 15 ? 2 : 1;
    for (let head = 0; head < heads; head += every) context.fillText(String(head), corner(0, head)[0] + side / 2, 9);
    for (let layer = 0; layer < layers; layer += every) context.fillText(String(layer), 12, corner(layer, 0)[1] + side / 2);
    for (let layer = 0; layer < layers; layer++) {
      for (let head = 0; head < heads; head++) cell(layer, head, context, ...corner(layer, head), side);
    }
  };
  const mark = () => {
    const context = prepared(canvas, width, height);
    context.drawImage(picture, 0, 0, width, height);
    const [x, y] = corner(state.layer, state.head);
    context.strokeStyle = chosenColour();
    context.lineWidth = 2;
    context.strokeRect(x - 1, y - 1, side + 2, side + 2);
    canvas.setAttribute("aria-label", `${name}, layers down and heads across; arrow keys choose. ${told(state.layer, state.head)}`);
  };
  underPointer(canvas, (x, y) => { const found = at(x, y); return found ? told(...found) : ""; },
    (x, y) => { const found = at(x, y); if (found) select({ layer: found[0], head: found[1] }); });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    select({ layer: clamp(state.layer + step[0], 0, layers - 1), head: clamp(state.head + step[1], 0, heads - 1) });
  });
  whenSelected((changed) => {
    if (changed.look || depends.some((one) => changed[one])) draw();
    mark();
  });
  return () => { draw(); mark(); };
}

// Draws a cell with one colour.
function filled(context, x, y, side, colour) {
  context.fillStyle = `rgb(${colour.join(",")})`;
  context.fillRect(x, y, side, side);
  context.strokeStyle = "rgba(128,128,128,.25)";
  context.lineWidth = 1;
  context.strokeRect(x + 0.5, y + 0.5, side - 1, side - 1);
}

// The keys that a head of a kind attends to from a position.
const kindKeys = {
  previous_token: (p) => (p > 0 ? [p - 1] : []),
  induction: (p) => {
    const keys = [];
    for (let before = 0; before < p - 1; before++) if (data.ids[before] === data.ids[p]) keys.push(before + 1);
    return keys;
  },
};

function toldOfKind(kind, keys, counted, mean) {
  const p = state.position, name = `${p} ${labelAt(p)}`, seen = keys.map((key) => `${key} ${labelAt(key)}`).join(", ");
  if (!counted) {
    return kind === "induction" ? "No token of this text occurs twice." : "The text has one token: none comes before it.";
  }
  if (mean) return `Mean over the ${count(counted)} positions that have such a key.`;
  if (keys.length) return `Attention from ${name} to ${seen}.`;
  return kind === "induction" ? `${name} has no earlier occurrence with another token after it.` : `Nothing comes before ${name}.`;
}

// Scores of known kinds of heads: the attention of each head to the keys of its kind, at the chosen token or on average.
function drawScores() {
  const modes = ["at the chosen token", "mean over the text"];
  let mean = false;
  const drawn = [];
  choices("scores-mode", modes, modes[0], (name) => {
    mean = name === modes[1];
    for (const draw of drawn) draw();
  });
  for (const { kind, scores, counted } of data.scores) {
    const holder = byId(`scores-${kind}`), grid = element("div"), strongest = element("div", { class: "choices small" });
    holder.replaceChildren(grid, strongest);
    let values = [];
    const update = () => {
      const { n_layer: layers, n_head: heads } = data.model, keys = kindKeys[kind](state.position);
      byId(`scores-${kind}-told`).textContent = toldOfKind(kind, keys, counted, mean);
      const at = (layer, head) => {
        const row = data.pattern.row(layer, head, state.position);
        return keys.reduce((sum, key) => sum + (row[key] > 0 ? row[key] : 0), 0);
      };
      values = Array.from({ length: layers }, (_, layer) => Array.from({ length: heads }, (_, head) =>
        !counted ? 0 : mean ? scores[layer][head] : at(layer, head)));
      const ranked = values.flatMap((row, layer) => row.map((score, head) => ({ layer, head, score })));
      ranked.sort((a, b) => b.score - a.score);
      strongest.replaceChildren(...ranked.slice(0, 5).filter(({ score }) => score > 0).map(({ layer, head, score }) =>
        element("button", { type: "button", onclick: () => select({ layer, head }) }, `L${layer}H${head} ${percent(score)}`)));
    };
    whenSelected((changed) => { if (changed.position) update(); });
    const redrawGrid = headGrid(grid, {
      name: holder.dataset.name,
      depends: ["position"],
      told: (layer, head) => `layer ${layer}, head ${head}: ${percent(values[layer][head])}`,
      cell: (layer, head, context, x, y, side) => filled(context, x, y, side, cellColour(values[layer][head])),
    });
    drawn.push(() => { update(); redrawGrid(); });
  }
}
