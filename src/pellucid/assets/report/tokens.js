// The text: its tokens are coloured, described under the pointer, and chosen by a click or the arrow keys.

function toldOfToken(p) {
  const start = `position ${p}: ${labelAt(p)}, id ${data.ids[p]}`;
  if (data.probability[p] === null) return `${start}\nthe first token has no probability`;
  return `${start}\nprobability ${percent(data.probability[p])}, rank ${count(data.rank[p])}, ` +
    `entropy ${number(data.entropy[p])} nats`;
}

// Makes the tokens of a container a list box. hover(position or null): called with the token under the pointer.
function choosable(container, hover, told = toldOfToken) {
  const tokens = [...container.querySelectorAll(".tok")];
  const at = (event) => event.target.closest?.(".tok");
  container.setAttribute("role", "listbox");
  for (const token of tokens) { token.setAttribute("role", "option"); token.tabIndex = -1; }
  container.addEventListener("click", (event) => { if (at(event)) select({ position: +at(event).dataset.p }); });
  container.addEventListener("pointermove", (event) => {
    const token = at(event);
    showTip(event, token ? told(+token.dataset.p) : "");
    hover?.(token ? +token.dataset.p : null);
  });
  container.addEventListener("pointerleave", (event) => { showTip(event, ""); hover?.(null); });
  container.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: state.position - 1, ArrowRight: state.position + 1, Home: 0, End: data.seq - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    select({ position: clamp(to, 0, data.seq - 1) });
    tokens[state.position].focus();
  });
  let chosen = -1;
  whenSelected((changed) => {
    if (!changed.position) return;
    if (chosen >= 0) { tokens[chosen].setAttribute("aria-selected", "false"); tokens[chosen].tabIndex = -1; }
    chosen = state.position;
    tokens[chosen].setAttribute("aria-selected", "true");
    tokens[chosen].tabIndex = 0;
    keepInView(container, tokens[chosen]);
  });
  return tokens;
}

// Scrolls a box, not the page, to a token that is not visible, and shows more text before it than after it.
function keepInView(box, token) {
  if (box.scrollHeight <= box.clientHeight) return;
  const top = token.offsetTop;
  if (top < box.scrollTop || top + token.offsetHeight > box.scrollTop + box.clientHeight) {
    box.scrollTop = top - box.clientHeight * 0.7;
  }
}

function drawText() {
  const tokens = choosable(byId("text"));
  const colour = (name) => {
    const scale = tokenScales[name];
    tokens.forEach((token, p) => {
      const value = scale.value(p);
      token.style.background = value === null ? "" : scale.colour(scale.place(value));
    });
    byId("text-words").textContent = scale.words;
    fill("text-legend", ...scale.samples.map(([value, text]) =>
      element("span", { style: `background:${scale.colour(scale.place(value))}` }, text)));
  };
  choices("text-colouring", Object.keys(tokenScales), "probability", colour);
  colour("probability");
  whenSelected((changed) => {
    if (changed.position) byId("text-told").textContent = toldOfToken(state.position).replace("\n", " · ");
  });
}

function drawBar() {
  const chosen = byId("bar-token");
  const number = byId("bar-position"), layer = byId("bar-layer"), head = byId("bar-head");
  number.max = data.seq - 1;
  for (let i = 0; i < data.model.n_layer; i++) layer.append(element("option", { value: i }, String(i)));
  for (let i = 0; i < data.model.n_head; i++) head.append(element("option", { value: i }, String(i)));
  number.addEventListener("change", () => select({ position: clamp(Math.round(+number.value) || 0, 0, data.seq - 1) }));
  layer.addEventListener("change", () => select({ layer: +layer.value }));
  head.addEventListener("change", () => select({ head: +head.value }));
  byId("bar-before").addEventListener("click", () => select({ position: Math.max(0, state.position - 1) }));
  byId("bar-after").addEventListener("click", () => select({ position: Math.min(data.seq - 1, state.position + 1) }));
  whenSelected(() => {
    number.value = state.position;
    layer.value = state.layer;
    head.value = state.head;
    chosen.textContent = labelAt(state.position);
  });
}

// The page follows the system's colour scheme until the button is used.
function drawTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const set = (dark) => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    byId("theme").textContent = dark ? "light page" : "dark page";
    redraw();
  };
  let own = false;
  byId("theme").addEventListener("click", () => { own = true; set(!isDark()); });
  system.addEventListener("change", () => { if (!own) set(system.matches); });
  set(system.matches);
}
