// Direct logit attribution: the contribution of each part of the model to a logit.

const MOST_PARTS = 14;

function partName([, kind, layer, head]) {
  if (kind === "head") return `layer ${layer}, head ${head}`;
  if (kind === "mlp") return `layer ${layer}, MLP`;
  if (layer !== null) return `layer ${layer}, attention bias`;
  return { embed: "token embedding", pos_embed: "position embedding" }[kind] ?? "last layer norm's bias";
}

function drawAttribution() {
  const { attribution, model } = data, size = attribution.parts.length;
  const headAt = new Map(attribution.parts.map(([, kind, layer, head], i) => [kind === "head" ? layer * model.n_head + head : -1, i]));
  const values = () => attribution.values.subarray(state.position * size, (state.position + 1) * size);
  let largest = 1;
  const ofHead = (layer, head) => values()[headAt.get(layer * model.n_head + head)] ?? 0;
  const bar = (name, value) => {
    const drawn = meter(Math.min(1, Math.abs(value) / largest), 110, value < 0 ? "down" : "");
    return { cells: [name, signed(value), value < 0 ? drawn : "", value < 0 ? "" : drawn] };
  };
  whenSelected((changed) => {
    if (!changed.position && !changed.look) return;
    const found = values();
    const p = state.position, target = attribution.targets[p];
    largest = Math.max(...found.map(Math.abs), 1e-9);
    byId("attribution-told").textContent = `At ${p} ${labelAt(p)} the model predicts ${label(target)}, whose logit ` +
      `${number(attribution.logits[p])} is the sum of ${size} parts.`;
    const order = Array.from(found.keys()).sort((a, b) => Math.abs(found[b]) - Math.abs(found[a]));
    const rows = order.slice(0, MOST_PARTS).map((i) => bar(partName(attribution.parts[i]), found[i]));
    const rest = order.slice(MOST_PARTS).reduce((sum, i) => sum + found[i], 0);
    if (size > MOST_PARTS) rows.push(bar(`the other ${size - MOST_PARTS} together`, rest));
    rows.push({ cells: [element("b", {}, "the logit"), element("b", {}, number(attribution.logits[p])), "", ""] });
    fill("attribution-bars", table([["part", ""], ["adds", "n"], ["", "n"], ["", ""]], rows));
  });
  headGrid(byId("attribution-heads"), {
    name: "contribution of every head to the logit",
    depends: ["position"],
    told: (layer, head) => `layer ${layer}, head ${head}: ${signed(ofHead(layer, head))}`,
    cell: (layer, head, context, x, y, side) =>
      filled(context, x, y, side, cellColour(ofHead(layer, head) / strongestHead())),
  });
  function strongestHead() {
    const found = values();
    if (strongestHead.of !== found.byteOffset) {
      strongestHead.of = found.byteOffset;
      strongestHead.value = 1e-9;
      for (const [place, i] of headAt) if (place >= 0) strongestHead.value = Math.max(strongestHead.value, Math.abs(found[i]));
    }
    return strongestHead.value;
  }
}
