// Norms of the residual stream, and of what each part adds to it.

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function drawNorms() {
  const { norms, seq, model } = data;
  whenSelected((changed) => {
    if (changed.position || changed.look) fill("norms-chart", chart());
  });

  function chart() {
    const p = state.position, layers = model.n_layer, holder = byId("norms-chart");
    const width = clamp(holder.clientWidth || 560, 280, 620), height = 240, left = 46, bottom = 22, top = 8;
    // The stream before each block, then after the last one.
    const stream = Array.from({ length: layers + 1 }, (_, layer) => norms.stream[2 * layer * seq + p]);
    const writes = [norms.attention, norms.mlp].map((of) => Array.from({ length: layers }, (_, l) => of[l * seq + p]));
    const highest = Math.max(...stream, ...writes.flat()) * 1.06 || 1;
    const step = (width - left - 8) / (layers + 1), x = (at) => left + (at + 0.5) * step;
    const y = (value) => top + (height - bottom - top) * (1 - value / highest);
    const parts = [];
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      const value = (highest / 1.06) * share;
      parts.push(svg("line", { x1: left, x2: width, y1: y(value), y2: y(value), stroke: "currentColor", opacity: 0.12 }),
        svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end", opacity: 0.7 }, document.createTextNode(number(value))));
    }
    writes.forEach((values, kind) => values.forEach((value, layer) => {
      const wide = Math.max(2, step * 0.3), name = kind ? "MLP" : "attention";
      parts.push(svg("rect", {
        x: x(layer) + step / 2 + (kind ? 0 : -wide), y: y(value), width: wide, height: Math.max(0, y(0) - y(value)),
        fill: `rgb(${(kind ? PURPLE : ORANGE).join(",")})`, opacity: 0.8,
      }, svg("title", {}, document.createTextNode(`layer ${layer}: its ${name} adds ${number(value)}`))));
    }));
    const line = stream.map((value, at) => `${at ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    parts.push(svg("path", { d: line, fill: "none", stroke: `rgb(${BLUE.join(",")})`, "stroke-width": 2.5 }));
    stream.forEach((value, at) => {
      const where = at === 0 ? "the embeddings" : `after layer ${at - 1}`;
      parts.push(svg("circle", { cx: x(at), cy: y(value), r: 4, fill: `rgb(${BLUE.join(",")})` },
        svg("title", {}, document.createTextNode(`${where}: ${number(value)}`))));
    });
    const every = Math.ceil(layers / 16);
    for (let layer = 0; layer < layers; layer += every) {
      parts.push(svg("text", { x: x(layer) + step / 2, y: height - 6, "text-anchor": "middle", opacity: 0.7 }, document.createTextNode(String(layer))));
    }
    return svg("svg", {
      width, height, viewBox: `0 0 ${width} ${height}`, role: "img", fill: "currentColor", style: "font:11px system-ui,sans-serif;max-width:100%",
      "aria-label": `norms at ${p} ${labelAt(p)}: the stream from ${number(stream[0])} to ${number(stream[layers])}`,
    }, ...parts);
  }

  let largest = 1;
  const norm = (layer, head) => norms.heads[(layer * model.n_head + head) * seq + state.position];
  whenSelected((changed) => {
    if (!changed.position) return;
    largest = 1e-9;
    for (let layer = 0; layer < model.n_layer; layer++) {
      for (let head = 0; head < model.n_head; head++) largest = Math.max(largest, norm(layer, head));
    }
  });
  headGrid(byId("norms-heads"), {
    name: "norm of the output of every head",
    depends: ["position"],
    told: (layer, head) => `layer ${layer}, head ${head}: norm ${number(norm(layer, head))}`,
    cell: (layer, head, context, x, y, side) => filled(context, x, y, side, cellColour(norm(layer, head) / largest)),
  });
}
