// A number for every head: a grid of layers and heads, from which a head is chosen.

const GRID_LEFT = 26, GRID_TOP = 18, GRID_GAP = 2;

// Draws and redraws a grid into a holder. cell(layer, head, context, x, y, side) draws one head, told(layer, head)
// says what it is. depends: the names in what is selected of which the cells depend, beside the look. largest: of a side.
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
}

// A cell of one colour.
function filled(context, x, y, side, colour) {
  context.fillStyle = `rgb(${colour.join(",")})`;
  context.fillRect(x, y, side, side);
  context.strokeStyle = "rgba(128,128,128,.25)";
  context.lineWidth = 1;
  context.strokeRect(x + 0.5, y + 0.5, side - 1, side - 1);
}

// How much heads do what is known of some: attend to the token before, or to what followed the same token last time.
function drawScores() {
  for (const { kind, scores, counted } of data.scores) {
    const holder = byId(`scores-${kind}`);
    if (!counted) {
      holder.replaceChildren(element("p", { class: "muted" }, holder.dataset.none));
      continue;
    }
    const told = (layer, head) => `layer ${layer}, head ${head}: ${percent(scores[layer][head])}`;
    headGrid(holder, {
      name: holder.dataset.name,
      told,
      cell: (layer, head, context, x, y, side) => filled(context, x, y, side, cellColour(scores[layer][head])),
    });
    const ranked = scores.flatMap((row, layer) => row.map((score, head) => ({ layer, head, score })));
    ranked.sort((a, b) => b.score - a.score);
    const strongest = ranked.slice(0, 5).map(({ layer, head, score }) =>
      element("button", { type: "button", onclick: () => select({ layer, head }) }, `L${layer}H${head} ${percent(score)}`));
    holder.append(element("div", { class: "choices small" }, ...strongest));
  }
}
