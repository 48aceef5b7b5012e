// The page: opens photos, asks for maps, and shows them.

import * as api from "./api.js";
import { rampColor } from "./colors.js";
import { command, makeControls } from "./controls.js";
import { makeCursor } from "./cursor.js";
import * as measures from "./measures.js";
import { paintBase, paintHistogram, paintMarks, paintRamp } from "./paint.js";
import { number, showCommand, showMetrics, showPixel, showTimes } from "./words.js";

const $ = (id) => document.getElementById(id);
const panes = [$("plain"), $("walked")];
const [plainBase, walkedBase] = panes.map((pane) => pane.querySelector(".base"));
const marks = panes.map((pane) => pane.querySelector(".marks"));
const state = { about: null, session: null, photo: null, plain: null, walked: null, street: 0, cell: null, found: null };
let controls, cursor;
let opening = new AbortController();

// --- showing

function view() {
  return {
    mode: document.querySelector("input[name=mode]:checked").value,
    labels: $("truth").checked ? state.plain?.map.labels : null,
    range: state.range,
    threshold: threshold(),
  };
}

function threshold() {
  const [low, high] = state.range;
  return low + (Number($("threshold").value) / Number($("threshold").max)) * (high - low);
}

let drawn = false;
function draw() {
  if (drawn || !state.plain) return;
  drawn = true;
  requestAnimationFrame(() => {
    drawn = false;
    const { plain, walked } = state;
    const shown = view();
    paintBase(plainBase, state.photo, plain.map, shown);
    paintBase(walkedBase, state.photo, (walked ?? plain).map, walked ? shown : { ...shown, mode: "photo" });
    const curves = [{ ...plain, color: "--plain" }, ...(walked ? [{ ...walked, color: "--accent" }] : [])];
    paintHistogram($("histogram"), curves.map(({ map, counts, color }) =>
      ({ values: measures.bins(map, counts, state.range, 120), color })), $("threshold").value / $("threshold").max);
    $("threshold-value").value = number(threshold());
    $("threshold").setAttribute("aria-valuetext", threshold().toFixed(2));
    showMetrics(plain, walked, threshold());
    drawMarks();
  });
}

function drawMarks() {
  if (!state.session) return;
  for (const canvas of marks) paintMarks(canvas, state.session, state.cell, state.found);
  $("stage").classList.toggle("inspecting", state.cell !== null);
}

function counted(map, labels) {
  return { map, counts: measures.countLevels(map), ranked: labels ? measures.rank(map, labels) : null };
}

function say(text) {
  $("live").textContent = text;
}

function fail(error) {
  if (error.name === "AbortError") return;
  $("error-text").textContent = error.message;
  $("error").hidden = false;
}

let busyTimer = 0;
function busy(text) {
  clearTimeout(busyTimer);
  if (text) {
    busyTimer = setTimeout(() => {
      $("busy-text").textContent = text;
      $("busy").hidden = false;
    }, 200);
  } else {
    $("busy").hidden = true;
  }
  $("stage").setAttribute("aria-busy", String(Boolean(text)));
}

// --- asking

async function open(text, start, street) {
  opening.abort();
  opening = new AbortController();
  const { signal } = opening;
  busy(text);
  $("error").hidden = true;
  try {
    const session = await start(signal);
    const [photo, plain] = await Promise.all([api.fetchPhoto(session.id, signal), api.fetchPlain(session.id, signal)]);
    cursor.clear();
    Object.assign(state, { session, photo, plain: counted(plain, plain.labels), walked: null, street });
    state.range = [0.005, 0.999].map((share) => measures.quantile(plain, state.plain.counts, share));
    if (!(state.range[1] > state.range[0])) state.range[1] = state.range[0] + 1;
    const [low, high] = state.range;
    const cut = measures.quantile(plain, state.plain.counts, 0.96);
    $("threshold").value = Math.round(((cut - low) / (high - low)) * Number($("threshold").max));
    for (const id of ["truth-choice", "truth-legend"]) $(id).hidden = !plain.labels;
    if (street !== null) $("street").textContent = `Street ${street}`;
    $("stage").setAttribute("aria-label", `${session.name}: photo and anomaly maps, ${session.map_size.join(" by ")} pixels`);
    draw();
    await walk();
  } catch (error) {
    fail(error);
  } finally {
    if (opening.signal === signal) busy(null);
  }
}

const openStreet = (seed) => {
  state.street = seed;
  return open(`Rendering street ${seed} …`, (signal) => api.openStreet(seed, signal), seed);
};

function openFile(file) {
  if (!file) return;
  const most = state.about.most.upload_bytes;
  if (file.size > most) {
    fail(new Error(`This file has ${Math.ceil(file.size / 2 ** 20)} MiB; at most ${most / 2 ** 20} MiB are taken. Make the photo smaller.`));
    return;
  }
  open("Scoring your photo …", (signal) => api.uploadPhoto(file, signal), null);
}

const walk = api.latest(async () => {
  const { session } = state;
  if (!session) return;
  busy("Walking …");
  try {
    const map = await api.fetchWalked(session.id, controls.changes());
    if (session !== state.session) return;
    state.walked = counted(map, state.plain.map.labels);
    showCommand(command(controls.settings, { name: state.about.network, street: state.street }));
    showTimes(session, map);
    draw();
    if (state.cell) ask(state.cell, false);
    announce();
  } catch (error) {
    fail(error);
  } finally {
    busy(null);
  }
});

const ask = api.latest(async (cell, spoken) => {
  const { session } = state;
  if (!session || !cell) return;
  try {
    const found = await api.fetchNeighbors(session.id, controls.changes(), cell);
    if (session !== state.session || cell !== state.cell) return;
    state.found = found;
    drawMarks();
    const text = showPixel(state, cell, found);
    if (spoken) say(text);
  } catch (error) {
    fail(error);
  }
});

// A screen reader is told of a map once the sliders rest.
let announceTimer = 0;
function announce() {
  clearTimeout(announceTimer);
  announceTimer = setTimeout(() => {
    const { plain, walked } = state;
    const percent = (share) => `${(100 * share).toFixed(1)} percent`;
    const above = ({ map, counts }) => percent(measures.shareAbove(map, counts, threshold()));
    const text = walked?.ranked
      ? `AP ${percent(plain.ranked.ap)} without, ${percent(walked.ranked.ap)} with the walk.`
      : `${above(plain)} of the photo above the threshold without, ${above(walked ?? plain)} with the walk.`;
    say(`${state.session.name}: new map. ${text}`);
  }, 600);
}

// --- wiring

function moved(cell, spoken) {
  Object.assign(state, { cell, found: null });
  drawMarks();
  if (cell) ask(cell, spoken);
  else showPixel(state, null, null);
}

function wire() {
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    openFile($("file").files[0]);
    $("file").value = "";
  });
  $("street").addEventListener("click", () => openStreet(state.street ?? 0));
  $("previous").addEventListener("click", () => openStreet(Math.max(0, (state.street ?? 1) - 1)));
  $("next").addEventListener("click", () => openStreet((state.street ?? -1) + 1));
  $("reset").addEventListener("click", () => controls.reset());
  $("threshold").addEventListener("input", () => {
    draw();
    announce();
  });
  $("view").addEventListener("input", draw);
  $("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText($("command").textContent);
      say("Copied.");
      $("copy").textContent = "Copied";
      setTimeout(() => ($("copy").textContent = "Copy"), 1500);
    } catch {
      getSelection().selectAllChildren($("command")); // where the page may not write, the visitor copies
    }
  });
  $("error-close").addEventListener("click", () => ($("error").hidden = true));
  for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
  new ResizeObserver(draw).observe($("stage"));
  pinStage();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").hidden = !event.dataTransfer.types.includes("Files");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").hidden = true;
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").hidden = true;
    openFile(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => openFile([...event.clipboardData.files][0]));
}

// Where settings are below the maps, the maps stay in sight as a strip while settings are moved.
function pinStage() {
  const narrow = matchMedia("(max-width: 64rem)");
  const place = $("place");
  const follow = () => {
    const pinned = narrow.matches && place.getBoundingClientRect().bottom < 0;
    if (pinned === $("stage").classList.contains("pinned")) return;
    place.style.minHeight = pinned ? `${place.offsetHeight}px` : "";
    $("stage").classList.toggle("pinned", pinned);
  };
  addEventListener("scroll", follow, { passive: true });
  narrow.addEventListener("change", follow);
}

async function begin() {
  wire();
  paintRamp($("ramp"), rampColor);
  try {
    state.about = await api.about();
  } catch (error) {
    fail(error);
    return;
  }
  const { network, score } = state.about;
  $("score-name").textContent = score.replaceAll("_", " ");
  $("about").textContent = `Anomaly maps of the ${network} network, without and with the walk of its pixels.`;
  controls = makeControls($("controls"), state.about, walk);
  cursor = makeCursor($("stage"), panes, () => state.session, moved);
  showPixel(state, null, null);
  await openStreet(/^#\d{1,9}$/.test(location.hash) ? Number(location.hash.slice(1)) : 0);
}

begin();
