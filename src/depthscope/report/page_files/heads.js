"use strict";
(() => {
  // The atlas of heads: shade the grid by a score, filter by label and value, sort the list, show a head's card.
  const number = (value) => value === null || value === undefined ? "not measured" : String(value);
  const element = (name, text, attributes = {}) => {
    const made = document.createElement(name);
    if (text !== "") made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  for (const root of document.querySelectorAll("[data-heads]")) {
    const data = JSON.parse(root.querySelector("script.head-data").textContent);
    const cells = [...root.querySelectorAll(".head-grid td[data-h]")], rows = [...root.querySelectorAll(".head-list tbody tr")];
    const [label, score, least] = ["label", "score", "least"].map((name) => root.querySelector(`[name=${name}]`));
    const told = root.querySelector("output"), card = root.querySelector(".head-card");
    const names = Object.keys(data.scores);
    for (const name of names) score.append(element("option", name.replaceAll("_", " "), { value: name }));
    const labels = [...new Set(data.labels.flat())];
    for (const name of labels) {
      const count = data.labels.filter((own) => own.includes(name)).length;
      label.append(element("option", `${name} (${count})`, { value: name }));
    }
    const shade = () => {
      const values = data.scores[score.value].value, known = values.filter((v) => v !== null);
      const low = Math.min(...known, 0), high = Math.max(...known), span = high - low || 1;
      for (const cell of cells) {
        const value = values[cell.dataset.h];
        cell.style.setProperty("--p", value === null ? 0 : ((value - low) / span).toFixed(3));
      }
    };
    const fits = (k) => {
      const value = data.scores[score.value].value[k], bound = least.value === "" ? null : Number(least.value);
      return (label.value === "" || data.labels[k].includes(label.value)) && (bound === null || (value !== null && value >= bound));
    };
    const filter = () => {
      let count = 0;
      for (const cell of cells) cell.classList.toggle("off", !fits(cell.dataset.h));
      for (const row of rows) { row.hidden = !fits(row.dataset.h); count += row.hidden ? 0 : 1; }
      told.textContent = `${count} of ${rows.length} heads`;
    };
    const show = (k) => {
      for (const cell of cells) cell.setAttribute("aria-selected", String(cell.dataset.h === String(k)));
      const list = element("table", "", { class: "numbers" }), body = list.createTBody();
      for (const name of names) {
        const found = data.scores[name], value = found.value[k];
        if (value === null) continue;
        const row = body.insertRow();
        row.append(element("th", name.replaceAll("_", " "), { scope: "row" }));
        const known = found.low && found.low[k] !== null && found.high[k] !== null;
        row.insertCell().textContent = known ? `${value} [${found.low[k]}, ${found.high[k]}]` : number(value);
        row.insertCell().textContent = found.n && found.n[k] ? `n ${found.n[k]}` : "";
      }
      const arcs = element("ul", "", { class: "arcs" });
      for (const [word, at, weight] of data.arcs[k]) {
        const line = element("li", "");
        line.append(element("bdi", word), " \u2192 ", element("bdi", at), ` (${weight})`);
        arcs.append(line);
      }
      const told = data.labels[k].join(", ") || "no label";
      card.replaceChildren(element("h4", `${data.places[k]}: ${told}`), list, ...(data.arcs[k].length ? [element("p", "Words that it links most strongly:", { class: "small" }), arcs] : []));
    };
    const go = (cell) => {
      for (const other of cells) other.tabIndex = other === cell ? 0 : -1;
      cell.focus();
    };
    cells.forEach((cell, i) => { cell.tabIndex = i === 0 ? 0 : -1; });
    const grid = root.querySelector(".head-grid");
    grid.addEventListener("focusin", (event) => { const cell = event.target.closest("td[data-h]"); if (cell) show(Number(cell.dataset.h)); });
    grid.addEventListener("click", (event) => { const cell = event.target.closest("td[data-h]"); if (cell) go(cell); });
    grid.addEventListener("keydown", (event) => {
      const cell = event.target.closest("td[data-h]");
      if (!cell) return;
      const line = cell.parentElement, body = line.parentElement, across = [...line.cells].indexOf(cell), down = [...body.rows].indexOf(line);
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      const ends = { Home: line.cells[1], End: line.cells[line.cells.length - 1] }[event.key];
      const next = ends || (step && body.rows[down + step[0]] && body.rows[down + step[0]].cells[across + step[1]]);
      if (!next || !next.dataset.h) return;
      event.preventDefault();
      go(next);
    });
    root.querySelectorAll(".head-list thead th").forEach((heading, column) => {
      const button = element("button", heading.textContent, { type: "button" });
      heading.replaceChildren(button);
      button.addEventListener("click", () => {
        const falling = heading.getAttribute("aria-sort") !== "descending";
        for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const key = (row) => { const text = row.cells[column].textContent; return column < 2 ? text : text === "" ? -Infinity : Number(text); };
        const order = (a, b) => column === 0 ? a.dataset.h - b.dataset.h : key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0;
        const sorted = [...rows].sort((a, b) => falling ? order(b, a) : order(a, b));
        root.querySelector(".head-list tbody").append(...sorted);
      });
    });
    for (const one of [label, least]) one.addEventListener("input", filter);
    score.addEventListener("input", () => { shade(); filter(); });
    root.querySelector(".head-controls").hidden = false;
    const first = names.find((name) => name === "induction") || names[0];
    if (!first) continue;
    score.value = first;
    shade();
    filter();
    card.replaceChildren(element("p", "Choose a head in the grid: with the arrow keys, or by pointing at it.", { class: "small" }));
  }
})();
