// The next token: the logits of the chosen position after temperature, top-k and top-p, in decoding's order.

const SHOWN_TOKENS = 20;

// The softmax of the first `kept` logits, which are in descending order.
function softmaxOf(sorted, kept, temperature) {
  const found = new Float64Array(kept);
  let sum = 0;
  for (let i = 0; i < kept; i++) sum += found[i] = Math.exp((sorted[i] - sorted[0]) / temperature);
  for (let i = 0; i < kept; i++) found[i] /= sum;
  return found;
}

const entropyOf = (probabilities) => probabilities.reduce((sum, p) => (p > 0 ? sum - p * Math.log(p) : sum), 0);

// Probabilities after temperature, then top-k (ties with the k-th token are kept), then top-p.
function sampled(sorted, { temperature, topK, topP }) {
  if (temperature === 0) return Float64Array.of(1);
  let kept = Math.min(topK, sorted.length);
  while (kept < sorted.length && sorted[kept] === sorted[kept - 1]) kept++;
  let probabilities = softmaxOf(sorted, kept, temperature);
  if (topP < 1) {
    let likelier = 0, left = 0;
    while (left < kept && (left === 0 || 1 - likelier > 1 - topP)) likelier += probabilities[left++];
    probabilities = softmaxOf(sorted, left, temperature);
  }
  return probabilities;
}

// A position's logits in descending order, and the ids of the first ones. They are exact at the last position. For
// other positions the page has the largest logits and samples of the rest, which are interpolated over ranks.
function logitsAt(position) {
  const size = data.logits.length;
  if (position === data.seq - 1) {
    const order = Uint32Array.from(data.logits.keys()).sort((a, b) => data.logits[b] - data.logits[a] || a - b);
    return { order, sorted: Float32Array.from(order, (id) => data.logits[id]) };
  }
  const { kept, ranks, ids, largest, tail } = data.next, sorted = new Float32Array(size);
  sorted.set(largest.subarray(position * kept, (position + 1) * kept));
  const samples = tail.subarray(position * ranks.length, (position + 1) * ranks.length);
  ranks.forEach((rank, i) => {
    const [from, value] = i ? [ranks[i - 1], samples[i - 1]] : [kept - 1, sorted[kept - 1]];
    for (let at = from + 1; at <= rank; at++) sorted[at] = value + ((samples[i] - value) * (at - from)) / (rank - from);
  });
  return { order: ids.subarray(position * kept, (position + 1) * kept), sorted };
}

function drawNextToken() {
  const size = data.logits.length;
  let order, sorted, model, before;
  const temperature = byId("temperature"), topK = byId("top-k"), topP = byId("top-p");
  const steps = +topK.max;
  // The slider is logarithmic: from 1 to the whole vocabulary.
  const asK = (at) => Math.round(size ** (at / steps));
  const options = () => ({ temperature: +temperature.value, topK: asK(+topK.value), topP: +topP.value });

  const draw = () => {
    const chosen = options(), after = sampled(sorted, chosen);
    byId("temperature-out").textContent = chosen.temperature === 0 ? "0: greedy" : chosen.temperature.toFixed(2);
    byId("top-k-out").textContent = chosen.topK >= size ? "off" : count(chosen.topK);
    byId("top-p-out").textContent = chosen.topP >= 1 ? "off" : chosen.topP.toFixed(2);
    byId("next-told").textContent = `${count(after.length)} of ${count(size)} tokens are left; ` +
      `entropy ${number(before)} → ${number(entropyOf(after))} nats`;
    const largest = Math.max(model[0], after[0]);
    const rows = Array.from({ length: Math.min(SHOWN_TOKENS, size) }, (_, i) => {
      const p = after[i] ?? 0;
      const bars = element("span", {}, meter(model[i] / largest, 170, "before"), element("br"), p > 0 ? meter(p / largest, 170) : "");
      bars.style.cssText = "display:inline-block;line-height:.62";
      return { out: p === 0, cells: [String(i), label(order[i]), String(order[i]), percent(model[i]), p > 0 ? percent(p) : "left out", bars] };
    });
    fill("next-table", table(
      [["rank", "n"], ["token", "t"], ["id", "n"], ["model", "n"], ["after", "n"], ["", ""]], rows));
  };
  for (const slider of [temperature, topK, topP]) slider.addEventListener("input", draw);
  byId("next-reset").addEventListener("click", () => {
    temperature.value = 1;
    topK.value = steps;
    topP.value = 1;
    draw();
  });
  whenSelected((changed) => {
    if (!changed.position) return;
    ({ order, sorted } = logitsAt(state.position));
    model = softmaxOf(sorted, size, 1);
    before = entropyOf(model);
    byId("next-after").textContent = `after ${state.position} ${labelAt(state.position)}`;
    draw();
  });
}
