
(function () {
  "use strict";
  // Numbers in the table become buttons; a button shows its images, whose thumbnails are those of the map.
  const map = document.querySelector(".gmap"), gallery = document.getElementById("gallery");
  if (!map || !gallery) return;
  const M = JSON.parse(map.querySelector(".gmap-data").textContent), R = JSON.parse(document.querySelector(".run-data").textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  const truth = new Uint16Array(bytes(R.true)), said = new Uint16Array(bytes(R.said)), sure = new Uint16Array(bytes(R.sure)), sizes = new Uint8Array(bytes(M.sizes));
  const sources = Array.from(map.querySelectorAll(".gmap-sheet")), per = M.columns * M.columns, PAGE = 60;
  const list = gallery.querySelector("ul"), title = gallery.querySelector("h3"), note = gallery.querySelector("p"), more = gallery.querySelector("button");
  const table = document.querySelector(".confusion"), grid = new Map();
  let open = null, found = [], done = 0;

  function sheet(i, then) {                 // the sheet of a photo, now or once it is decoded; the map draws from the same
    const source = sources[Math.floor(i / per)];
    if (!source.picture) { source.picture = new Image(); source.picture.src = "data:image/jpeg;base64," + source.textContent; }
    if (source.picture.complete && source.picture.naturalWidth) then(source.picture);
    else source.picture.addEventListener("load", () => then(source.picture), { once: true });
  }
  function thumbnail(i, about) {
    if (!sizes[2 * i]) { const none = document.createElement("p"); none.className = "soft none"; none.textContent = R.words.none; return none; }
    const canvas = document.createElement("canvas"), at = i % per, w = sizes[2 * i], h = sizes[2 * i + 1];
    canvas.width = w; canvas.height = h; canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", about);
    sheet(i, (from) => canvas.getContext("2d").drawImage(from, (at % M.columns) * M.side, Math.floor(at / M.columns) * M.side, w, h, 0, 0, w, h));
    return canvas;
  }
  function card(i) {
    const item = document.createElement("li"), figure = document.createElement("figure"), caption = document.createElement("figcaption");
    const name = document.createElement("span"), probability = Math.round(sure[i] / 10) + R.words.perCent;
    name.className = "soft"; name.textContent = M.names[i];
    caption.append(R.classes[said[i]] + " " + probability, document.createElement("br"), name);
    figure.append(thumbnail(i, M.names[i]), caption); item.append(figure);
    return item;
  }
  function fill() {
    list.append(...found.slice(done, done + PAGE).map(card));
    done = Math.min(done + PAGE, found.length);
    more.hidden = done >= found.length;
  }
  function choose(button, t, p) {
    if (open) open.setAttribute("aria-expanded", "false");
    if (open === button) { open = null; gallery.hidden = true; return; }
    open = button; button.setAttribute("aria-expanded", "true");
    found = [];
    for (let i = 0; i < truth.length; i++) if (truth[i] === t && said[i] === p) found.push(i);
    found.sort((a, b) => sure[b] - sure[a]);
    const count = Number(button.parentElement.dataset.count), left = count - found.length;
    gallery.hidden = false; title.textContent = button.getAttribute("aria-label");
    note.textContent = left > 0 ? R.words.left.replace("{n}", left) : "";
    list.replaceChildren(); done = 0; fill();
    gallery.scrollIntoView({ block: "nearest" });
  }
  for (const cell of document.querySelectorAll("[data-cell]")) {
    const [t, p] = cell.dataset.cell.split(",").map(Number), button = document.createElement("button"), shown = cell.textContent;
    cell.dataset.count = shown.replace(/\D/g, "");
    const words = (t === p ? R.words.right : R.words.cell)[Number(cell.dataset.count) === 1 ? 0 : 1];
    const values = { true: R.classes[t], predicted: R.classes[p], n: shown };
    button.type = "button"; button.textContent = shown; button.setAttribute("aria-expanded", "false"); button.setAttribute("aria-controls", "gallery");
    button.setAttribute("aria-label", words.replace(/\{(\w+)\}/g, (whole, name) => values[name]));
    button.addEventListener("click", () => choose(button, t, p));
    cell.replaceChildren(button);
    if (table && table.contains(cell)) grid.set(cell.dataset.cell, button);
  }
  more.addEventListener("click", () => { const first = done; fill(); const next = list.children[first]; if (next) { next.tabIndex = -1; next.focus(); } });
  document.documentElement.classList.add("scripted");
  if (!table || !grid.size) return;

  // One stop of the tabulator for the whole table; the arrow keys go to the next number in their direction.
  table.setAttribute("role", "grid");
  const classes = R.classes.length, buttons = Array.from(grid.values());
  buttons.forEach((button, i) => { button.tabIndex = i ? -1 : 0; });
  function go(button) {
    for (const one of buttons) one.tabIndex = one === button ? 0 : -1;
    button.focus();
  }
  table.addEventListener("focusin", (e) => { if (buttons.includes(e.target)) for (const one of buttons) one.tabIndex = one === e.target ? 0 : -1; });
  table.addEventListener("keydown", (e) => {
    const ways = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (!buttons.includes(e.target) || e.ctrlKey || e.metaKey || e.altKey) return;
    let next = null;
    if (ways[e.key]) next = nearest(e.target.parentElement.dataset.cell.split(",").map(Number), ways[e.key]);
    else if (e.key === "Home") next = buttons[0];
    else if (e.key === "End") next = buttons[buttons.length - 1];
    else if (e.key === "Escape" && open) choose(open);
    else return;
    e.preventDefault();
    if (next) go(next);
  });
  function nearest([t, p], [down, across]) {   // in its own row or column first, then in those beside it
    for (let aside = 0; aside < classes; aside++) for (let far = 1; far < classes; far++) for (const side of aside ? [-aside, aside] : [0]) {
      const found = grid.get((t + down * far + (across ? side : 0)) + "," + (p + across * far + (down ? side : 0)));
      if (found) return found;
    }
    return null;
  }
})();
