// The page's data: one JSON object, whose arrays are base64 of zlib streams of little-endian numbers.

async function inflated(packed) {
  const text = atob(packed);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream);
}

const unpacked = async (packed, Type) => new Type(await (await inflated(packed)).arrayBuffer());

async function readContents() {
  const data = JSON.parse(document.getElementById("contents").textContent);
  const waiting = [];
  const unpack = (holder, name, Type) =>
    waiting.push(unpacked(holder[name], Type).then((array) => { holder[name] = array; }));
  unpack(data.attention, "weights", data.attention.bits === 8 ? Uint8Array : Uint16Array);
  if (data.attention.form === "strongest") unpack(data.attention, "positions", Uint16Array);
  for (const name of ["probabilities", "entropy", "target_probabilities"]) unpack(data.lens, name, Float32Array);
  for (const name of ["ids", "target_ranks"]) unpack(data.lens, name, Uint32Array);
  unpack(data.attribution, "values", Float32Array);
  for (const name of ["stream", "attention", "mlp", "heads"]) unpack(data.norms, name, Float32Array);
  for (const name of ["norms", "values"]) unpack(data.walk, name, Float32Array);
  for (const name of ["largest", "tail"]) unpack(data.next, name, Float32Array);
  unpack(data.next, "ids", Uint32Array);
  unpack(data, "logits", Float32Array);
  waiting.push(inflated(data.decodes.html).then((text) => text.json()).then((html) => { data.decodes.html = html; }));
  await Promise.all(waiting);
  data.seq = data.ids.length;
  data.pattern = new Patterns(data);
  return data;
}

// Attention weights. The rows of a head are concatenated. A row has all keys up to the query, or the strongest of them
// in order of position.
class Patterns {
  constructor({ attention, model, ids }) {
    this.weights = attention.weights;
    this.positions = attention.positions;
    this.heads = model.n_head;
    this.seq = ids.length;
    this.kept = attention.form === "whole" ? this.seq : attention.kept;
    this.unit = attention.bits === 8 ? 1 / 255 : 1 / 65535;
    this.size = this.start(this.seq);
  }

  get isWhole() { return this.positions === undefined; }

  // The offset of a query's row within a head.
  start(query) {
    const ramp = Math.min(query, this.kept);
    return (ramp * (ramp + 1)) / 2 + (query - ramp) * this.kept;
  }

  offset(layer, head) { return (layer * this.heads + head) * this.size; }

  // Calls visit(query, key, weight) for every stored weight of a head.
  each(layer, head, visit) {
    const base = this.offset(layer, head);
    for (let query = 0, at = base; query < this.seq; query++) {
      const length = Math.min(query + 1, this.kept);
      for (let i = 0; i < length; i++, at++) {
        visit(query, this.positions ? this.positions[at] : i, this.weights[at] * this.unit);
      }
    }
  }

  // The weights of one query by key position; NaN for weights that are not stored.
  row(layer, head, query) {
    const found = new Float32Array(this.seq).fill(NaN);
    const at = this.offset(layer, head) + this.start(query);
    for (let i = 0; i < Math.min(query + 1, this.kept); i++) {
      found[this.positions ? this.positions[at + i] : i] = this.weights[at + i] * this.unit;
    }
    return found;
  }

  // The weights of one key by query position; NaN for weights that are not stored.
  column(layer, head, key) {
    const found = new Float32Array(this.seq).fill(NaN);
    this.each(layer, head, (query, at, weight) => { if (at === key) found[query] = weight; });
    return found;
  }
}
