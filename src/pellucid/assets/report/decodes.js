// Decoding on: continuations of the text up to the chosen token. The page has their HTML for the last positions only.

function drawDecodes() {
  const { first, html } = data.decodes, holder = byId("decodes-shown");
  whenSelected((changed) => {
    if (!changed.position) return;
    if (state.position >= first) {
      holder.innerHTML = html[state.position - first];
      if (data.seq > 200) scrollDecodes();
    } else {
      holder.replaceChildren(element("p", { class: "notice" },
        `A page of a text of this length has decodes from position ${first} on: choose one of them.`));
    }
  });
}

// The text of a decode starts with the whole prompt. A long one is scrolled to its end.
function scrollDecodes() {
  for (const text of document.querySelectorAll('#decodes div[style*="pre-wrap"]')) {
    text.classList.add("tall");
    text.scrollTop = text.scrollHeight;
  }
}
