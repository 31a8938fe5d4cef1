// The logit lens: the prediction of each layer at each position.

const WHOLE_LENS = 120, LENS_WINDOW = 60;

const lensScales = {
  probability: {
    words: "the probability of the layer's likeliest token, which the cell shows",
    colour: (row, p) => tint(BLUE, Math.sqrt(data.lens.probabilities[(row * data.seq + p) * data.lens.top])),
  },
  "final token": {
    words: "the probability that the layer gives to the model's final prediction",
    colour: (row, p) => tint(BLUE, Math.sqrt(data.lens.target_probabilities[row * data.seq + p])),
  },
  rank: {
    words: "the rank of the model's final prediction in the layer: blue for low ranks, orange from 100 on",
    colour: (row, p) => signedTint(tokenScales.rank.place(data.lens.target_ranks[row * data.seq + p])),
    text: (row, p) => count(data.lens.target_ranks[row * data.seq + p]),
  },
  entropy: {
    words: "the entropy of the layer's prediction, in nats",
    colour: (row, p) => tint(PURPLE, data.lens.entropy[row * data.seq + p] / 10.8),
    text: (row, p) => number(data.lens.entropy[row * data.seq + p]),
  },
};

const lensTop = (row, p, k) => (row * data.seq + p) * data.lens.top + k;

function toldOfLens(row, p) {
  const { lens } = data, name = lens.layers[row], at = row * data.seq + p;
  const lines = [name === "embed" ? "the embeddings" : `after layer ${name}`, `at ${p} ${labelAt(p)}`];
  for (let k = 0; k < lens.top; k++) {
    lines.push(`${percent(lens.probabilities[lensTop(row, p, k)]).padStart(7)}  ${label(lens.ids[lensTop(row, p, k)])}`);
  }
  lines.push(`final prediction ${label(lens.target_ids[p])}: rank ${count(lens.target_ranks[at])}, ` +
    `${percent(lens.target_probabilities[at])}`);
  return lines.join("\n");
}

function drawLens() {
  const { lens, seq } = data, whole = seq <= WHOLE_LENS;
  let scale = lensScales.probability, from = 0, shown = "", chosenRow = lens.layers.length - 1;
  const columns = whole ? seq : LENS_WINDOW;
  const cell = (row, p) => (scale.text ? scale.text(row, p) : label(lens.ids[lensTop(row, p, 0)]));
  const holder = byId("lens-table");

  const draw = () => {
    const positions = Array.from({ length: columns }, (_, i) => from + i);
    const head = (text, more, p) => element("th", { scope: "col", "data-p": p, class: more }, text);
    const top = element("tr", {}, element("th", {}, ""), ...positions.map((p) => head(String(p), "muted", p)));
    const names = element("tr", {}, element("th", {}, "layer"), ...positions.map((p) => head(labelAt(p), "", p)));
    const rows = lens.layers.map((name, row) => element("tr", {}, element("th", { scope: "row" }, name),
      ...positions.map((p) => element("td", { "data-p": p, "data-row": row, style: `background:${scale.colour(row, p)}` }, cell(row, p)))));
    holder.replaceChildren(element("table", {}, element("thead", {}, top, names), element("tbody", {}, ...rows)));
    byId("lens-words").textContent = scale.words;
  };
  const mark = () => {
    for (const one of holder.querySelectorAll("[data-p]")) {
      one.classList.toggle("chosen", +one.dataset.p === state.position);
      one.classList.toggle("cell", +one.dataset.p === state.position && +one.dataset.row === chosenRow);
    }
    const column = holder.querySelector(`td[data-p="${state.position}"]`);
    if (!column) return;
    const low = column.offsetLeft - 90, high = column.offsetLeft + column.offsetWidth - holder.clientWidth + 20;
    if (holder.scrollLeft > low) holder.scrollLeft = low;
    else if (holder.scrollLeft < high) holder.scrollLeft = high;
  };
  holder.addEventListener("pointermove", (event) => {
    const found = event.target.closest?.("td");
    showTip(event, found ? toldOfLens(+found.dataset.row, +found.dataset.p) : "");
  });
  holder.addEventListener("pointerleave", (event) => showTip(event, ""));
  holder.addEventListener("click", (event) => {
    const found = event.target.closest?.("[data-p]");
    if (!found) return;
    chosenRow = +(found.dataset.row ?? chosenRow);
    if (+found.dataset.p === state.position) update({ position: true });
    else select({ position: +found.dataset.p });
  });
  choices("lens-colouring", Object.keys(lensScales), "probability", (name) => {
    scale = lensScales[name];
    shown = "";
    update({ look: true });
  });
  const strip = whole ? null : lensStrip(() => scale, () => [from, columns]);
  const update = (changed) => {
    if (!whole && (state.position < from || state.position >= from + columns || changed.position)) {
      from = clamp(state.position - Math.floor(columns / 2), 0, seq - columns);
    }
    const wanted = `${from} ${isDark()}`;
    if (wanted !== shown || changed.look) { shown = wanted; draw(); }
    if (changed.position || changed.look) { mark(); strip?.(); lensTold(); lensCell(chosenRow); }
  };
  whenSelected(update);
}

function lensTold() {
  const { lens } = data, p = state.position, target = lens.target_ids[p];
  const settled = lens.layers.findIndex((_, row) =>
    lens.layers.slice(row).every((_, later) => lens.target_ranks[(row + later) * data.seq + p] === 0));
  const where = lens.layers[settled] === "embed" ? "from the embeddings on" : `from layer ${lens.layers[settled]} on`;
  byId("lens-told").textContent = settled < 0 ? "" :
    `At ${p} ${labelAt(p)} the model's final prediction, ${label(target)}, is the lens's likeliest token ${where}.`;
}

// The likeliest tokens of one layer at the chosen position.
function lensCell(row) {
  const { lens } = data, p = state.position, name = lens.layers[row], at = row * data.seq + p;
  byId("lens-cell-title").textContent = `${name === "embed" ? "the embeddings" : `after layer ${name}`}, at ${p} ${labelAt(p)}`;
  const rows = Array.from({ length: lens.top }, (_, k) => {
    const id = lens.ids[lensTop(row, p, k)], share = lens.probabilities[lensTop(row, p, k)];
    return { cells: [String(k), label(id), String(id), percent(share), meter(share, 120)] };
  });
  fill("lens-cell", table([["rank", "n"], ["token", "t"], ["id", "n"], ["probability", "n"], ["", ""]], rows),
    element("p", { class: "muted small" }, `the final prediction ${label(lens.target_ids[p])}: rank ` +
      `${count(lens.target_ranks[at])}, ${percent(lens.target_probabilities[at])}; entropy ${number(lens.entropy[at])} nats`));
}

// A narrow picture of all positions, in which the reader chooses the part that the table shows.
function lensStrip(scale, range) {
  const canvas = element("canvas", { class: "picks", role: "img", "aria-label": "the lens at all positions" });
  const holder = byId("lens-strip"), height = 6 * data.lens.layers.length;
  holder.replaceChildren(canvas);
  let width = 0;
  const position = (x) => clamp(Math.floor((x / width) * data.seq), 0, data.seq - 1);
  underPointer(canvas,
    (x, y) => toldOfLens(clamp(Math.floor(y / 6), 0, data.lens.layers.length - 1), position(x)),
    (x) => select({ position: position(x) }));
  return () => {
    width = holder.clientWidth;
    const context = prepared(canvas, width, height), step = width / data.seq;
    data.lens.layers.forEach((_, row) => {
      for (let p = 0; p < data.seq; p++) {
        context.fillStyle = scale().colour(row, p);
        context.fillRect(p * step, row * 6, step + 0.3, 6);
      }
    });
    const [from, columns] = range();
    context.strokeStyle = chosenColour();
    context.lineWidth = 2;
    context.strokeRect(from * step, 1, columns * step, height - 2);
  };
}
