// What the page says in words and numbers.

import { ratesAbove, scoreOf, shareAbove } from "./measures.js";

const $ = (id) => document.getElementById(id);
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
export const number = (value) => value.toFixed(2).replace("-", "−");
const milliseconds = (seconds) => (seconds < 10 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(1)} s`);

function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function showTimes(session, map) {
  const [height, width] = session.size;
  const reduced = session.original_size.join() === session.size.join() ? "" : `, reduced from ${session.original_size[1]} × ${session.original_size[0]}`;
  const graph = map.graph_seconds > 0.001 ? `graph ${milliseconds(map.graph_seconds)}` : "graph kept";
  const exact = map.path === "sparse" ? "" : " (dense graph: every step computes it again)";
  $("times").textContent =
    `${width} × ${height}${reduced}; ${session.map_size[1]} × ${session.map_size[0]} pixels walk. ` +
    `Network ${milliseconds(session.network_seconds)}, ${graph}, walk ${milliseconds(map.walk_seconds)}${exact}, score ${milliseconds(map.score_seconds)}.`;
}

// Words of a command; a line breaks between an option and the next one only.
export function showCommand(words) {
  $("command").replaceChildren(...words.flatMap((word, k) => [...(k ? [" "] : []), element("span", word)]));
}

// A table where truth is known; else how much of the photo lies above the threshold.
export function showMetrics(plain, walked, threshold) {
  const both = [plain, walked ?? plain];
  const rows = [];
  if (plain.ranked) {
    const rates = both.map(({ map, ranked }) => ratesAbove(map, ranked, threshold));
    rows.push(["AP", both.map(({ ranked }) => ranked.ap), 1]);
    rows.push(["FPR95", both.map(({ ranked }) => ranked.fpr95), -1]);
    rows.push(["Anomaly found", rates.map(({ recall }) => recall), 1]);
    rows.push(["False alarms", rates.map(({ falsePositive }) => falsePositive), -1]);
  } else {
    rows.push(["Above threshold", both.map(({ map, counts }) => shareAbove(map, counts, threshold)), 0]);
  }
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const text of ["", "without", "with the walk"]) {
    const cell = element("th", text);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const [name, values, sign] of rows) {
    const row = body.insertRow();
    const cell = element("th", name);
    cell.scope = "row";
    row.append(cell);
    const texts = values.map((value) => percent(value));
    const gain = walked && texts[0] !== texts[1] ? sign * (values[1] - values[0]) : 0;
    row.append(element("td", texts[0], gain < 0 ? "better" : ""));
    row.append(element("td", walked ? texts[1] : "…", gain > 0 ? "better" : ""));
  }
  $("metrics").replaceChildren(table);
  const figures = [$("plain-figures"), $("walked-figures")];
  figures.forEach((figure, k) => {
    const known = k === 0 || walked;
    figure.textContent = plain.ranked && known ? `AP ${percent(both[k].ranked.ap)}` : "";
  });
}

function scoreAt(map, session, [row, column]) {
  const middle = [row, column].map((k, axis) =>
    Math.min(session.size[axis] - 1, Math.floor((k + 0.5) * session.cell_size[axis])));
  return scoreOf(map, map.levels[middle[0] * map.width + middle[1]]);
}

// Fill the card of a pixel; returns its content as a sentence.
export function showPixel({ about, session, plain, walked }, cell, found) {
  const list = $("pixel");
  const bars = $("neighbor-classes");
  if (!cell) {
    list.replaceChildren();
    bars.replaceChildren(element("p", "Choose a pixel on a map. The pixels that it follows in the walk light up, the heavier the brighter; here stands what they are.", "faint"));
    return "";
  }
  const after = walked ?? plain;
  const at = cell[0] * plain.map.columns + cell[1];
  const [before, now] = [plain, after].map(({ map }) => about.classes[map.classes[at]]);
  const scores = [plain, after].map(({ map }) => number(scoreAt(map, session, cell)));
  const alone = found.neighbors.length === 0;
  const facts = [
    ["Row, column", cell.join(", ")],
    ["Class", before === now ? now : `${before} → ${now}`],
    ["Score", scores[0] === scores[1] ? scores[0] : `${scores[0]} → ${scores[1]}`],
    ["Half of its weight", alone ? "no part of the graph" : `on ${found.half} ${found.half === 1 ? "pixel" : "pixels"}`],
    ["Own value keeps", percent(found.own_weight)],
  ];
  list.replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));

  const shares = new Map();
  let shown = 0;
  for (const [row, column, weight] of found.neighbors) {
    const name = about.classes[plain.map.classes[row * plain.map.columns + column]];
    shares.set(name, (shares.get(name) ?? 0) + weight);
    shown += weight;
  }
  const ordered = [...shares].sort((a, b) => b[1] - a[1]).slice(0, 4);
  bars.replaceChildren(
    ...(alone ? [] : [element("p", `Its ${found.neighbors.length} strongest neighbors hold ${percent(shown, 0)} of the weight:`, "faint")]),
    ...ordered.map(([name, share]) => {
      const bar = element("div", "", "bar");
      const length = document.createElement("i");
      length.style.width = `${100 * share}%`;
      bar.append(element("span", name), length, element("span", percent(share, 0)));
      return bar;
    }),
  );
  const neighbors = ordered.map(([name, share]) => `${name} ${percent(share, 0)}`).join(", ");
  return `Row ${cell[0]}, column ${cell[1]}: ${now}, score ${scores[0]} without, ${scores[1]} with the walk. Neighbors: ${neighbors || "none"}.`;
}
