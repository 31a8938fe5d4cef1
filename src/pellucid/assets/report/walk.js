// Step by step: the chosen token in each block. The page has these tables for the last token; this script writes them
// for other tokens.

function strongestHead(layer, p) {
  const { norms, model, seq } = data;
  let found = 0;
  const norm = (head) => norms.heads[(layer * model.n_head + head) * seq + p];
  for (let head = 1; head < model.n_head; head++) if (norm(head) > norm(found)) found = head;
  return found;
}

function lensPredicts(row, p, most) {
  return Array.from({ length: Math.min(most, data.lens.top) }, (_, k) => {
    const at = lensTop(row, p, k);
    return `${label(data.lens.ids[at])} ${percent(data.lens.probabilities[at])}`;
  }).join("  ");
}

// The cells of one block at a position; of the embeddings for layer -1.
function walkRow(layer, p) {
  const { norms, seq } = data, stream = number(norms.stream[(2 * layer + 2) * seq + p]);
  const predicts = lensPredicts(layer + 1, p, 3);
  if (layer < 0) return ["embeddings", number(norms.stream[p]), "", "", "", predicts];
  const head = strongestHead(layer, p), [key, weight] = strongestIn(data.pattern.row(layer, head, p), 1)[0] ?? [p, 0];
  const attends = `H${head}  ${key} ${labelAt(key)} ${percent(weight)}`;
  const adds = [norms.attention, norms.mlp].map((of) => number(of[layer * seq + p]));
  return [String(layer), stream, ...adds, attends, predicts];
}

function drawWalk() {
  const { walk, lens, seq, model } = data, last = lens.layers.length - 1;
  const cells = [...document.querySelectorAll("#walk-values tbody tr")].map((row) => [...row.cells]);
  const values = (activation, p, isPattern) => {
    const seen = Math.min(walk.count, isPattern ? p + 1 : walk.lengths[activation]);
    const at = (activation * seq + p) * walk.count;
    const shown = [...walk.values.subarray(at, at + seen)].map((value) => value.toFixed(3).padStart(9)).join("");
    return shown + ((isPattern ? p + 1 : walk.lengths[activation]) > seen ? " …" : "");
  };
  whenSelected((changed) => {
    if (!changed.position) return;
    const p = state.position;
    const titles = [["layer", ""], ["stream", "n"], ["attention adds", "n"], ["MLP adds", "n"],
      ["its strongest head attends most to", "t"], ["the logit lens predicts", "t"]];
    const rows = Array.from({ length: model.n_layer + 1 }, (_, i) => ({ cells: walkRow(i - 1, p) }));
    fill("walk-blocks", table(titles, rows));
    const top = Array.from({ length: lens.top }, (_, k) => [k, lens.ids[lensTop(last, p, k)], lens.probabilities[lensTop(last, p, k)]]);
    fill("walk-predicted", table([["rank", "n"], ["token", "t"], ["id", "n"], ["probability", "n"]],
      top.map(([k, id, share]) => ({ cells: [String(k), label(id), String(id), percent(share)] }))));
    byId("walk-taken").textContent = label(top[0][1]);
    byId("walk-position").textContent = `${p} ${labelAt(p)}`;
    cells.forEach(([name, , norm, numbers], activation) => {
      norm.textContent = number(walk.norms[activation * seq + p]);
      numbers.textContent = values(activation, p, name.textContent.endsWith("pattern"));
    });
  });
}
