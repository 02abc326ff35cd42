(function (root) {
  "use strict";
  const $ = (s) => root.querySelector(s), D = JSON.parse($(".gmap-data").textContent), n = D.n, words = D.words;
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  const P = new Uint16Array(bytes(D.points)), S = new Uint8Array(bytes(D.sizes)), near = new Uint16Array(bytes(D.near));
  const group = D.groups ? new Int32Array(bytes(D.groups)) : null, marked = D.marked ? new Uint8Array(bytes(D.marked)) : null;
  const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d00", "#7b61c9", "#b0413e", "#4d8c2b"];
  const stage = $(".gmap-stage canvas"), pen = stage.getContext("2d"), shot = $(".gmap-shot"), name = $(".gmap-name"), like = $(".gmap-like");
  const count = $(".gmap-count"), find = $("input[type=search]"), per = D.columns * D.columns;
  const sources = Array.from(root.querySelectorAll(".gmap-sheet")), sheets = new Array(sources.length).fill(null);
  let width = 1, height = 1, scale = 1, least = 1, left = 0, top = 0, chosen = -1, hovered = -1, pinned = false, photos = true;
  let matches = null, lit = -1, only = false, waiting = false, whole = true, colours = {};

  function sheet(i) {                       // the sheet of a photo, once the browser has decoded it
    const at = Math.floor(i / per);
    if (!sheets[at]) {                      // it is left at its source, where the rest of the page finds it
      const image = sources[at].picture || new Image();
      image.addEventListener("load", later);
      if (!image.src) image.src = "data:image/jpeg;base64," + sources[at].textContent;
      sheets[at] = sources[at].picture = image;
    }
    return sheets[at].complete && sheets[at].naturalWidth ? sheets[at] : null;
  }
  function place(to, i, x, y, w, h) {       // a photo as large as fits into a box; false where it is not there
    if (!S[2 * i]) return false;
    const from = sheet(i);
    if (!from) return false;
    const at = i % per, sx = (at % D.columns) * D.side, sy = Math.floor(at / D.columns) * D.side;
    const f = Math.min(w / S[2 * i], h / S[2 * i + 1]), dw = S[2 * i] * f, dh = S[2 * i + 1] * f;
    to.drawImage(from, sx, sy, S[2 * i], S[2 * i + 1], x + (w - dw) / 2, y + (h - dh) / 2, dw, dh);
    return true;
  }
  const sx = (i) => P[2 * i] / 65535 * scale + left, sy = (i) => P[2 * i + 1] / 65535 * scale + top;
  const colour = (i) => group ? (group[i] < 0 ? colours.soft : PALETTE[group[i] % PALETTE.length]) : colours.dot;
  const shown = (i) => (!matches || matches[i]) && (lit < 0 || group[i] === lit) && (!only || marked[i]);

  function fit(canvas) {
    const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    const w = Math.max(1, box.width), h = Math.max(1, box.height);
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) { canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio); }
    const to = canvas.getContext("2d");
    to.setTransform(ratio, 0, 0, ratio, 0, 0);
    to.clearRect(0, 0, w, h);
    return [to, w, h];
  }
  function all() {
    let x0 = 65535, x1 = 0, y0 = 65535, y1 = 0;
    for (let i = 0; i < n; i++) { x0 = Math.min(x0, P[2 * i]); x1 = Math.max(x1, P[2 * i]); y0 = Math.min(y0, P[2 * i + 1]); y1 = Math.max(y1, P[2 * i + 1]); }
    const pad = Math.min(40, width / 8), sw = Math.max(x1 - x0, 1) / 65535, sh = Math.max(y1 - y0, 1) / 65535;
    scale = Math.min((width - 2 * pad) / sw, (height - 2 * pad) / sh, 4 * Math.max(width, height));
    least = scale / 2;
    left = width / 2 - (x0 + x1) / 131070 * scale; top = height / 2 - (y0 + y1) / 131070 * scale;
    whole = true; touch(); later();
  }
  function touch() { stage.style.touchAction = D.alone || scale > 2.2 * least ? "none" : "pan-y"; }
  function later() { if (!waiting) { waiting = true; requestAnimationFrame(draw); } }
  function draw() {
    waiting = false;
    const [to, w, h] = fit(stage);
    if (w !== width || h !== height) { left += (w - width) / 2; top += (h - height) / 2; width = w; height = h; if (whole) { all(); return; } }
    const style = getComputedStyle(root), of = (key) => style.getPropertyValue("--g-" + key).trim();
    colours = { ink: of("ink"), soft: of("soft"), paper: of("paper"), line: of("line"), mark: of("mark"), dot: of("dot") };
    const inside = [];
    for (let i = 0; i < n; i++) { const x = sx(i), y = sy(i); if (x > -60 && x < w + 60 && y > -60 && y < h + 60) inside.push(i); }
    const r = n > 3000 ? 2.4 : n > 500 ? 3.2 : 4.5;
    for (const bright of [false, true]) for (const i of inside) if (shown(i) === bright) {
      to.globalAlpha = bright ? .9 : .15; to.fillStyle = colour(i);
      to.beginPath(); to.arc(sx(i), sy(i), r, 0, 7); to.fill();
    }
    if (marked) for (const i of inside) if (marked[i] && shown(i)) ring(to, sx(i), sy(i), r + 2);
    to.globalAlpha = 1;
    if (photos) thumbnails(to, inside, w, h);
    for (const [i, thick] of [[hovered, 2], [chosen, 3]]) if (i >= 0) mark(to, i, thick, w, h);
  }
  function thumbnails(to, inside, w, h) {   // one photo in a cell of a grid that moves with the map
    const some = inside.filter(shown), size = Math.max(30, Math.min(D.side, 120, Math.sqrt(w * h / Math.max(some.length, 1)) * .8));
    const taken = new Map();
    for (const i of some) {
      const x = (sx(i) - left) / size, y = (sy(i) - top) / size, key = Math.round(x) + " " + Math.round(y);
      const d = Math.abs(x - Math.round(x)) + Math.abs(y - Math.round(y)), had = taken.get(key);
      if (!had || d < had[1]) taken.set(key, [i, d]);
    }
    const drawn = Array.from(taken.values(), (one) => one[0]).sort((a, b) => a - b), half = size * .46;
    for (const i of drawn) {
      if (!place(to, i, sx(i) - half, sy(i) - half, 2 * half, 2 * half)) continue;
      if (group) { to.fillStyle = colour(i); to.beginPath(); to.arc(sx(i) - half + 6, sy(i) - half + 6, 4, 0, 7); to.fill(); }
      if (marked && marked[i]) ring(to, sx(i) - half + 6, sy(i) - half + 6, 6);
    }
  }
  function ring(to, x, y, r) { to.globalAlpha = 1; to.strokeStyle = colours.mark; to.lineWidth = 2; to.beginPath(); to.arc(x, y, r, 0, 7); to.stroke(); }
  function mark(to, i, thick, w, h) {
    const x = sx(i), y = sy(i), half = Math.min(D.side, 110) / 2, f = S[2 * i] ? half / Math.max(S[2 * i], S[2 * i + 1]) : 0;
    const a = S[2 * i] ? Math.max(6, S[2 * i] * f) : 6, b = S[2 * i] ? Math.max(6, S[2 * i + 1] * f) : 6;
    const cx = Math.min(Math.max(x, a + 3), w - a - 3), cy = Math.min(Math.max(y, b + 3), h - b - 3);
    place(to, i, cx - a, cy - b, 2 * a, 2 * b);
    to.strokeStyle = colours.mark; to.lineWidth = thick; to.strokeRect(cx - a, cy - b, 2 * a, 2 * b);
  }
  function closest(x, y, far) {             // of those at one place, the next after the chosen one
    let best = -1, least2 = far * far, same = [];
    for (let i = 0; i < n; i++) {
      if (!shown(i)) continue;
      const d = (sx(i) - x) ** 2 + (sy(i) - y) ** 2;
      if (d < least2 - 1e-6) { least2 = d; best = i; same = [i]; } else if (best >= 0 && Math.abs(d - least2) <= 1e-6) same.push(i);
    }
    return same;
  }
  function card(i) {
    const [to, w, h] = fit(shot);
    if (i < 0) { name.textContent = words.hint; like.replaceChildren(); return; }
    if (!place(to, i, 0, 0, w, h)) {
      if (S[2 * i]) { const from = sheets[Math.floor(i / per)]; if (from) from.addEventListener("load", () => { if (current() === i) card(i); }, { once: true }); }
      else { to.fillStyle = colours.soft; to.textAlign = "center"; to.font = "14px system-ui, sans-serif"; to.fillText(words.none, w / 2, h / 2); }
    }
    name.textContent = told(i);
    like.replaceChildren();
    if (!D.k) return;
    const head = document.createElement("p"); head.className = "gmap-soft"; head.textContent = words.alike; like.append(head);
    const box = document.createElement("div"); box.className = "gmap-near"; like.append(box);
    for (let j = 0; j < D.k; j++) {
      const other = near[i * D.k + j], button = document.createElement("button"), small = document.createElement("canvas");
      button.type = "button"; button.setAttribute("aria-label", D.names[other]); button.title = D.names[other];
      button.addEventListener("click", () => choose(other, true));
      button.append(small); box.append(button);
      const [pen2, w2, h2] = fit(small);
      if (!place(pen2, other, 0, 0, w2, h2) && S[2 * other]) sheets[Math.floor(other / per)].addEventListener("load", () => { const [p, a, b] = fit(small); place(p, other, 0, 0, a, b); }, { once: true });
    }
  }
  const told = (i) => D.names[i] + (group && group[i] >= 0 ? " (" + (D.groupNames[group[i]] || group[i]) + ")" : "") + (D.notes[i] ? ", " + D.notes[i] : "");
  const current = () => pinned || hovered < 0 ? chosen : hovered;
  function choose(i, show) {
    chosen = i; pinned = i >= 0; hovered = -1;
    if (show && i >= 0) { const x = sx(i), y = sy(i); if (x < 20 || x > width - 20 || y < 20 || y > height - 20) { left += width / 2 - x; top += height / 2 - y; } }
    card(i); later();
  }
  function hover(i) { if (i !== hovered) { hovered = i; if (!pinned) card(i); stage.title = i >= 0 ? told(i) : ""; later(); } }
  function zoom(by, x, y) {
    const to = Math.min(Math.max(scale * by, least), 400 * least); by = to / scale;
    left = x - (x - left) * by; top = y - (y - top) * by; scale = to; whole = false; touch(); later();
  }
  function step(dx, dy) {                   // the next photo in a direction: near, and not far off to the side
    if (chosen < 0) { const found = closest(width / 2, height / 2, 1e9); choose(found.length ? found[0] : -1, true); return; }
    const x = sx(chosen), y = sy(chosen); let best = -1, cost = Infinity;
    for (let i = 0; i < n; i++) {
      if (i === chosen || !shown(i)) continue;
      const along = (sx(i) - x) * dx + (sy(i) - y) * dy, aside = Math.abs((sx(i) - x) * dy - (sy(i) - y) * dx);
      if (along > 0 && aside <= 1.5 * along && along + 2 * aside < cost) { cost = along + 2 * aside; best = i; }
    }
    if (best >= 0) choose(best, true);
  }
  const pointers = new Map(); let moved = 0, spread = 0;
  const spot = (e) => { const box = stage.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top]; };
  stage.addEventListener("pointerdown", (e) => { pointers.set(e.pointerId, spot(e)); moved = 0; spread = 0; try { stage.setPointerCapture(e.pointerId); } catch (none) { } });
  stage.addEventListener("pointermove", (e) => {
    const [x, y] = spot(e), had = pointers.get(e.pointerId);
    if (!had) { if (e.pointerType === "mouse") { const found = closest(x, y, 24); hover(found.includes(chosen) ? chosen : found.length ? found[0] : -1); } return; }
    moved += Math.abs(x - had[0]) + Math.abs(y - had[1]);
    pointers.set(e.pointerId, [x, y]);
    const held = Array.from(pointers.values());
    if (held.length === 2) {
      const apart = Math.hypot(held[0][0] - held[1][0], held[0][1] - held[1][1]);
      if (spread) zoom(apart / spread, (held[0][0] + held[1][0]) / 2, (held[0][1] + held[1][1]) / 2);
      spread = apart;
    }
    if (moved > 4) { whole = false; left += (x - had[0]) / held.length; top += (y - had[1]) / held.length; stage.style.cursor = "grabbing"; later(); }
  });
  const up = (e) => {
    const [x, y] = spot(e);
    if (pointers.delete(e.pointerId) && e.type === "pointerup" && moved <= 6 && !pointers.size) {
      const found = closest(x, y, 24);
      choose(found.length ? found[(found.indexOf(chosen) + 1) % found.length] : -1, false);
    }
    spread = 0; stage.style.cursor = "";
  };
  stage.addEventListener("pointerup", up); stage.addEventListener("pointercancel", up);
  stage.addEventListener("pointerleave", () => { if (!pointers.size) hover(-1); });
  stage.addEventListener("wheel", (e) => {
    if (!D.alone && !e.ctrlKey && document.activeElement !== stage) return;
    e.preventDefault(); const [x, y] = spot(e); zoom(Math.exp(-e.deltaY * (e.deltaMode ? .05 : .0015)), x, y);
  }, { passive: false });
  stage.addEventListener("dblclick", (e) => { const [x, y] = spot(e); zoom(2, x, y); });
  stage.addEventListener("keydown", (e) => {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    if (ways[e.key]) step(...ways[e.key]);
    else if (e.key === "+" || e.key === "=") zoom(1.5, chosen >= 0 ? sx(chosen) : width / 2, chosen >= 0 ? sy(chosen) : height / 2);
    else if (e.key === "-") zoom(1 / 1.5, width / 2, height / 2);
    else if (e.key === "0" || e.key === "Home") all();
    else if (e.key === "Escape") choose(-1, false);
    else return;
    e.preventDefault();
  });
  root.querySelector(".gmap-bar").addEventListener("click", (e) => {
    const what = e.target.closest("button") && e.target.closest("button").dataset.do;
    if (what === "in") zoom(1.6, width / 2, height / 2);
    if (what === "out") zoom(1 / 1.6, width / 2, height / 2);
    if (what === "all") all();
    if (what === "marked") { only = !only; e.target.setAttribute("aria-pressed", only); later(); }
    if (what === "photos") { photos = !photos; e.target.setAttribute("aria-pressed", photos); later(); }
  });
  function search() {
    const wanted = find.value.trim().toLowerCase();
    matches = wanted ? D.names.map((one) => one.toLowerCase().includes(wanted)) : null;
    count.textContent = matches ? words.found.replace("{n}", matches.filter(Boolean).length) : "";
    later();
  }
  find.addEventListener("input", search);
  find.addEventListener("keydown", (e) => {
    if (e.key !== "Enter" || !matches) return;
    for (let j = 1; j <= n; j++) { const i = (Math.max(chosen, 0) + j - (chosen < 0 ? 1 : 0)) % n; if (matches[i]) { choose(i, true); break; } }
  });
  if (group) {
    const many = new Map(); for (const one of group) many.set(one, (many.get(one) || 0) + 1);
    D.groupNames.forEach((text, g) => {
      if (!many.get(g)) return;
      const button = document.createElement("button"), dot = document.createElement("i"); button.type = "button"; button.setAttribute("aria-pressed", "false");
      dot.style.background = PALETTE[g % PALETTE.length]; button.append(dot, text + " (" + many.get(g) + ")");
      button.addEventListener("click", () => { lit = lit === g ? -1 : g; root.querySelectorAll(".gmap-legend button").forEach((b) => b.setAttribute("aria-pressed", lit === g && b === button)); later(); });
      $(".gmap-legend").append(button);
    });
  }
  new ResizeObserver(later).observe(stage);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", later);
  later();
})(document.currentScript.parentElement);
