"use strict";
(() => {
  // Theme: the page follows the system until the reader chooses. Charts use currentColor and need no redraw.
  const root = document.documentElement, button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("depthscope-theme"); } catch { return null; } };
  const dark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = dark() ? "Light" : "Dark"; };
  if (stored()) root.dataset.theme = stored();
  button.hidden = false;
  label();
  system.addEventListener("change", label);
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("depthscope-theme", root.dataset.theme); } catch { /* private windows */ }
    label();
  });

  // Charts: drawn when they come near the window, all of them before printing. Nothing is ever loaded.
  const options = { actions: false, renderer: "svg", loader: { load: () => Promise.reject(new Error("offline page")) } };
  const mount = (place) => {
    if (place.dataset.mounted) return Promise.resolve();
    place.dataset.mounted = "yes";
    const spec = JSON.parse(place.parentElement.querySelector("script.spec").textContent);
    return window.vegaEmbed(place, spec, options).then(() => place.classList.add("ready")).catch((error) => {
      place.textContent = "This chart could not be drawn: " + error.message;
      place.classList.add("broken", "ready");
    });
  };
  const places = [...document.querySelectorAll(".mount")];
  if ("IntersectionObserver" in window) {
    const watch = new IntersectionObserver((seen) => {
      for (const entry of seen) if (entry.isIntersecting) { watch.unobserve(entry.target); mount(entry.target); }
    }, { rootMargin: "700px" });
    places.forEach((place) => watch.observe(place));
  } else places.forEach(mount);
  addEventListener("beforeprint", () => places.forEach(mount));

  // Token strips: the title of a cell becomes a small panel on hover and on focus; arrow keys walk through the cells.
  const tip = document.createElement("div");
  tip.className = "tip"; tip.id = "tip"; tip.setAttribute("role", "tooltip"); tip.hidden = true;
  document.body.append(tip);
  const show = (cell) => {
    const table = document.createElement("table");
    for (const line of cell.dataset.told.split("\n")) {
      const row = table.insertRow(), [token, probability] = line.split("\t");
      const name = document.createElement("bdi");
      name.textContent = token;
      row.insertCell().append(name);
      row.insertCell().textContent = probability;
    }
    tip.replaceChildren(table);
    tip.hidden = false;
    const box = cell.getBoundingClientRect(), wide = tip.offsetWidth, tall = tip.offsetHeight;
    const left = Math.max(8, Math.min(box.left, innerWidth - wide - 8));
    const above = box.bottom + tall + 12 > innerHeight && box.top > tall + 12;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${(above ? box.top - tall - 6 : box.bottom + 6) + scrollY}px`;
    cell.setAttribute("aria-describedby", "tip");
  };
  const hide = () => { tip.hidden = true; };
  for (const strip of document.querySelectorAll("table.strip")) {
    const cells = [...strip.tBodies[0].querySelectorAll("td[title]")];
    cells.forEach((cell, i) => {
      cell.dataset.told = cell.title;
      cell.removeAttribute("title");
      cell.tabIndex = i === 0 ? 0 : -1;
    });
    const here = (event) => event.target.closest("td[data-told]");
    strip.addEventListener("mouseover", (event) => { const cell = here(event); cell ? show(cell) : hide(); });
    strip.addEventListener("mouseleave", hide);
    strip.addEventListener("focusin", (event) => { const cell = here(event); if (cell) show(cell); });
    strip.addEventListener("focusout", hide);
    strip.addEventListener("keydown", (event) => {
      const cell = here(event);
      if (event.key === "Escape") hide();
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!cell || !step) return;
      const row = strip.tBodies[0].rows[cell.parentElement.rowIndex - strip.tBodies[0].rows[0].rowIndex + step[0]];
      const next = row && row.cells[cell.cellIndex + step[1]];
      if (!next || !next.dataset.told) return;
      event.preventDefault();
      cell.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  }
})();
