// The page: photos in, classes out. No library, no other address than this server's.
"use strict";

const TEXTS = {
  en: {
    language: "Français", other: "fr", model: "Model", drop: "Drop photos here, or paste one.", choose: "Choose photos", camera: "Take a photo",
    shoot: "Take it", close: "Close", key: "This server asks for a key:", use: "Use it", working: "Looking …", heat: "Show what speaks for it",
    noheat: "Hide it", more: "All classes", fewer: "Fewer classes", classes: (names) => `Knows: ${names}`,
    verdict: (label, share) => `${label}, ${share}`, set: (names) => `Could be: ${names}`, none: "No class is sure enough.",
    sure: (name) => `Sure: ${name}`, cam: "Warm places speak for the class; computed exactly.",
    occlusion: "Where covering a place makes the class less probable.", nothing: "No place speaks for this class.", gone: "The server cannot be reached.", nocamera: "The camera cannot be used.",
    notimage: "That is not a photo.", done: (n) => (n === 1 ? "1 photo looked at" : `${n} photos looked at`), photo: "Photo", pasted: "pasted", taken: "camera",
    noshow: "This browser cannot show this kind of photo.",
    unknown: "I don’t know.", doubt: (label, share) => `It is unlike the photos that this model has learned from. The nearest guess: ${label}, ${share}.`,
    like: "It has learned from these; they look most like it to the model:", learned: (label) => `learned as ${label}`,
  },
  fr: {
    language: "English", other: "en", model: "Modèle", drop: "Déposez des photos ici, ou collez-en une.", choose: "Choisir des photos", camera: "Prendre une photo",
    shoot: "Prendre", close: "Fermer", key: "Ce serveur demande une clé :", use: "Utiliser", working: "Analyse …", heat: "Montrer ce qui parle pour elle",
    noheat: "Cacher", more: "Toutes les classes", fewer: "Moins de classes", classes: (names) => `Connaît : ${names}`,
    verdict: (label, share) => `${label}, ${share}`, set: (names) => `Possibles : ${names}`, none: "Aucune classe n’est assez sûre.",
    sure: (name) => `Sûr : ${name}`, cam: "Les endroits chauds parlent pour la classe ; calcul exact.",
    occlusion: "Là où cacher un endroit rend la classe moins probable.", nothing: "Aucun endroit ne parle pour cette classe.", gone: "Le serveur ne répond pas.", nocamera: "L’appareil photo n’est pas utilisable.",
    notimage: "Ce n’est pas une photo.", done: (n) => (n === 1 ? "1 photo analysée" : `${n} photos analysées`), photo: "Photo", pasted: "collée", taken: "appareil photo",
    noshow: "Ce navigateur ne peut pas montrer ce genre de photo.",
    unknown: "Je ne sais pas.", doubt: (label, share) => `Elle ne ressemble pas aux photos que ce modèle a apprises. Le plus proche : ${label}, ${share}.`,
    like: "Il a appris de celles-ci ; pour le modèle, ce sont les plus proches :", learned: (label) => `apprise comme ${label}`,
  },
};
const FEW = 5;
const MOST = 50;
const NEAREST = 5; // training photos beside each answer
const KEPT = 0.95; // the share of photos of the known kind that are answered
const at = (id) => document.getElementById(id);

let language = (navigator.languages || [navigator.language]).map((one) => one.slice(0, 2)).find((one) => one in TEXTS) || "en";
let key = "";
let models = [];
let waiting = []; // photos that wait for a key
const cards = new Set();

const text = (name, ...rest) => {
  const found = TEXTS[language][name];
  return typeof found === "function" ? found(...rest) : found;
};
const share = (value) => new Intl.NumberFormat(language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 }).format(value);

function say(message, bad = false) {
  at("status").textContent = message;
  at("status").classList.toggle("bad", bad);
}

async function ask(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  const used = key;
  if (used) headers.Authorization = `Bearer ${used}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw Object.assign(new Error(text("gone")), { status: 0 });
  }
  const told = await answer.json().catch(() => ({}));
  if (answer.ok) return told;
  if (answer.status === 401 && used !== key) return ask(path, options);   // a key was given while this was on its way
  if (answer.status === 401) {
    at("key-form").hidden = false;
    at("key").focus();
  }
  throw Object.assign(new Error(told.detail ? `${told.title}: ${told.detail}` : `${answer.status}`), { status: answer.status });
}

async function readModels() {
  try {
    models = (await ask("/v1/models")).models;
  } catch (error) {
    say(error.message, true);
    return;
  }
  at("model").replaceChildren(...models.map((one) => new Option(one.name, one.name)));
  at("model-choice").hidden = models.length < 2;
  showClasses();
  const photos = waiting;
  waiting = [];
  if (photos.length) await look(photos);
}

const chosen = () => models.find((one) => one.name === at("model").value) || models[0];

function showClasses() {
  const model = chosen();
  if (!model) return;
  const names = model.classes.slice(0, 30).join(", ") + (model.classes.length > 30 ? ", …" : "");
  at("classes").textContent = text("classes", names);
}

function address(path, values) {
  const model = chosen();
  const query = new URLSearchParams({ ...(model ? { model: model.name } : {}), ...values });
  return `${path}?${query}`;
}

// Bodies are sent as they are: the model sees the file that was chosen, not a copy made smaller here.
const asBody = (file) => ({ method: "POST", headers: { "Content-Type": file.type.startsWith("image/") ? file.type : "application/octet-stream" }, body: file });

async function look(files) {
  const photos = [...files].filter((one) => one.size || one.name);
  if (!photos.length) return;
  if (!models.length) {
    waiting.push(...photos);
    await readModels();
    return;
  }
  say(text("working"));
  let first = null;
  let seen = 0;
  for (const file of photos) {
    const card = newCard(file);
    first = first || card;
    seen += (await card.predict()) ? 1 : 0;
  }
  say(seen ? text("done", seen) : "");
  if (first) first.element.focus({ preventScroll: photos.length > 1 });
}

function newCard(file) {
  const element = at("result").content.firstElementChild.cloneNode(true);
  const part = (name) => element.querySelector(name);
  const card = { element, file, told: null, fault: "", map: null, open: false, shown: false, model: chosen().name };
  part("img").src = URL.createObjectURL(file);
  part("img").onerror = () => { part("img").hidden = true; part("figcaption").textContent += ` (${text("noshow")})`; };
  part("img").onload = () => drawMap(card);
  part("figcaption").textContent = file.name || text("photo");

  card.show = () => {
    part("img").alt = file.name || text("photo");
    const best = card.told && [Object.keys(card.told.probabilities)[0], share(card.told.probability)];
    const unknown = Boolean(card.told) && card.told.known === false;
    part(".verdict").textContent = card.fault || (unknown ? text("unknown") : best ? text("verdict", ...best) : text("working"));
    part(".doubt").hidden = !unknown;
    if (unknown) part(".doubt").textContent = text("doubt", ...best);
    part(".verdict").classList.toggle("bad", Boolean(card.fault));
    part(".heat").hidden = !card.told;
    part(".heat").textContent = text(card.shown ? "noheat" : "heat");
    part(".heat").setAttribute("aria-pressed", String(card.shown));
    if (!card.told) return;
    const entries = Object.entries(card.told.probabilities);
    part(".bars").replaceChildren(...entries.slice(0, card.open ? MOST : FEW).map(([name, value]) => bar(name, value)));
    part(".more").hidden = entries.length <= FEW;
    part(".more").textContent = text(card.open ? "fewer" : "more");
    const set = card.told.labels;
    part(".set").hidden = !set || unknown;
    if (set) part(".set").textContent = set.length === 0 ? text("none") : set.length === 1 ? text("sure", set[0]) : text("set", set.join(", "));
    const note = card.shown && card.map ? (Math.max(...card.map.map.flat()) > 0 ? card.map.method : "nothing") : "";
    if (!card.note) part(".note").textContent = note && text(note);
    showNearest(part(".like"), card.told.nearest || []);
  };
  card.predict = async () => {
    card.show();
    try {
      const told = (await ask(address("/v1/predict", { model: card.model, top: MOST, ...remembered(card.model) }), asBody(file))).results[0];
      card.told = told;
    } catch (error) {
      card.fault = error.message;
      if (error.status === 401) { waiting.push(file); element.remove(); cards.delete(card); }
    }
    card.show();
    return Boolean(card.told);
  };
  part(".more").onclick = () => { card.open = !card.open; card.show(); };
  part(".heat").onclick = async () => {
    if (!card.map) {
      part(".heat").disabled = true;
      part(".note").classList.remove("bad");
      part(".note").textContent = text("working");
      try {
        card.map = await ask(address("/v1/explain", { model: card.model, label: Object.keys(card.told.probabilities)[0] }), asBody(file));
      } catch (error) {
        part(".note").textContent = error.message;
        part(".note").classList.add("bad");
      }
      part(".heat").disabled = false;
      part(".heat").focus();
      if (!card.map) return;
    }
    card.shown = !card.shown;
    card.show();
    drawMap(card);
  };
  cards.add(card);
  at("results").prepend(element);
  return card;
}

// What can be asked of a model that remembers its training photos.
function remembered(name) {
  const model = models.find((one) => one.name === name);
  return { ...(model.examples ? { nearest: NEAREST } : {}), ...(model.abstain ? { abstain: Math.min(KEPT, model.abstain) } : {}) };
}

function showNearest(section, examples) {
  section.hidden = !examples.length;
  section.querySelector("h3").textContent = text("like");
  section.querySelector("ul").replaceChildren(...examples.map((one) => {
    const row = document.createElement("li");
    if (one.thumbnail) {
      const picture = document.createElement("img");
      picture.src = asAddress(one.thumbnail);
      picture.alt = one.name || "";
      picture.title = one.name || "";
      picture.onload = () => URL.revokeObjectURL(picture.src);
      row.append(picture);
    }
    const label = document.createElement("span");
    label.textContent = text("learned", one.label);
    row.append(label);
    return row;
  }));
}

// The page's policy allows pictures of this server and of this page's own memory, but no data: addresses.
function asAddress(data) {
  const bytes = Uint8Array.from(atob(data.slice(data.indexOf(",") + 1)), (one) => one.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
}

function bar(name, value) {
  const row = document.createElement("li");
  const parts = ["name", "track", "percent"].map((kind) => {
    const one = document.createElement("span");
    one.className = kind;
    return one;
  });
  parts[0].textContent = name;
  parts[2].textContent = share(value);
  const filled = document.createElement("div");
  filled.className = "bar";
  filled.style.width = `${100 * value}%`;
  parts[1].setAttribute("aria-hidden", "true");
  parts[1].append(filled);
  row.append(...parts);
  return row;
}

// The map is drawn over the part of the photo that the network sees, cell by cell, smoothed by the browser.
function drawMap(card) {
  const canvas = card.element.querySelector("canvas");
  canvas.hidden = !card.shown || !card.map;
  if (canvas.hidden) return;
  const { map, box } = card.map;
  const most = Math.max(...map.flat(), 1e-12);
  const [height, width] = [map.length, map[0].length];
  const small = new OffscreenCanvas(width, height);
  const pixels = small.getContext("2d").createImageData(width, height);
  map.flat().forEach((value, i) => {
    const heat = Math.max(0, value / most);
    pixels.data.set([213, Math.round(160 - 100 * heat), 0, Math.round(255 * heat)], 4 * i);
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  const picture = card.element.querySelector("img");
  canvas.width = 448;
  canvas.height = 448;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  if (picture.hidden) { canvas.hidden = true; return; }
  ["left", "top", "width", "height"].forEach((side, i) => { canvas.style[side] = `${100 * box[i]}%`; });
}

function translate() {
  document.documentElement.lang = language;
  for (const one of document.querySelectorAll("[data-text]")) one.textContent = text(one.dataset.text);
  at("language").textContent = text("language");
  at("language").lang = text("other");
  showClasses();
  for (const card of cards) card.show();
}

async function openCamera() {
  const devices = navigator.mediaDevices;
  if (!devices || !devices.getUserMedia || matchMedia("(pointer: coarse)").matches) {
    at("capture").click(); // a phone's own camera
    return;
  }
  try {
    const stream = await devices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } });
    at("video").srcObject = stream;
    await at("video").play();
    at("camera-dialog").showModal();
  } catch {
    say(text("nocamera"), true);
  }
}

function closeCamera() {
  const stream = at("video").srcObject;
  if (stream) for (const track of stream.getTracks()) track.stop();
  at("video").srcObject = null;
}

async function shoot() {
  const video = at("video");
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/png" });
  at("camera-dialog").close();
  await look([new File([blob], `${text("taken")}.png`, { type: "image/png" })]);
}

const hasFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");

at("choose").onclick = () => at("files").click();
at("camera").onclick = openCamera;
at("shoot").onclick = shoot;
at("camera-close").onclick = () => at("camera-dialog").close();
at("camera-dialog").onclose = closeCamera;
at("model").onchange = showClasses;
at("language").onclick = () => { language = text("other"); translate(); };
at("key-form").onsubmit = async (event) => {
  event.preventDefault();
  key = at("key").value.trim();
  at("key").value = "";
  at("key-form").hidden = true;
  say("");
  await readModels();
};
for (const id of ["files", "capture"]) {
  at(id).onchange = async (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    await look(files);
  };
}
document.addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  at("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) at("drop").classList.remove("over"); });
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  if (hasFiles(event)) await look(event.dataTransfer.files);
  else say(text("notimage"), true);
});
document.addEventListener("paste", async (event) => {
  const files = [...(event.clipboardData ? event.clipboardData.files : [])];
  if (files.length) await look(files.map((one) => new File([one], one.name || text("pasted"), { type: one.type })));
});
translate();
readModels();
