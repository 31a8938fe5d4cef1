// Draws all parts. A part that fails shows the error in its section.

// The initial selection: the head with the largest absolute attribution at the last position.
function initialHead() {
  const { parts, values } = data.attribution, last = values.subarray(values.length - parts.length);
  let found = { layer: 0, head: 0 }, most = -1;
  parts.forEach(([, kind, layer, head], i) => {
    if (kind === "head" && Math.abs(last[i]) > most) { most = Math.abs(last[i]); found = { layer, head }; }
  });
  return found;
}

async function start() {
  data = await readContents();
  Object.assign(state, { position: data.seq - 1 }, initialHead());
  document.body.classList.toggle("long", data.seq > 200);
  const parts = [
    ["tokens", drawText], ["attention", drawAttention], ["lens", drawLens], ["attribution", drawAttribution],
    ["norms", drawNorms], ["heads", drawScores], ["next", drawNextToken], ["walk", drawWalk], ["decodes", drawDecodes],
  ];
  drawTheme();
  drawBar();
  for (const [id, draw] of parts) {
    try { draw(); } catch (error) {
      byId(id).prepend(element("p", { class: "notice" }, `This part could not be drawn: ${error.message}`));
      console.error(error);
    }
  }
  let waiting = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(redraw);
  });
  document.body.dataset.ready = Math.round(performance.now()); // milliseconds since navigation started
}

start().catch((error) => {
  const why = typeof DecompressionStream === "undefined" ? "this browser is too old (it lacks DecompressionStream)" : error.message;
  byId("failed").textContent = `The pictures could not be drawn: ${why}.`;
  byId("failed").hidden = false;
  console.error(error);
});
