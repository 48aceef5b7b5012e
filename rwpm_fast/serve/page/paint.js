// Paint a pane: the photo, the scores over it, the lines of threshold and truth, and the marks of a pixel's neighbors.

import { levelColors } from "./colors.js";
import { levelOf } from "./measures.js";

const WHITE = 0xffffffff; // ImageData words are ABGR on the machines that browsers run on
const SHADE = 0xb0140e1c;
const TRUTH = 0xfff8bd38;
const scratch = document.createElement("canvas");

export function paintBase(canvas, photo, map, { range, mode, threshold, labels }) {
  const { width, height } = map;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.style.aspectRatio = `${width} / ${height}`;
  const context = canvas.getContext("2d");
  context.drawImage(photo, 0, 0, width, height);
  const image = new ImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  const { levels } = map;
  if (mode !== "photo") {
    const colors = levelColors(map, range, mode);
    for (let i = 0; i < words.length; i++) words[i] = colors[levels[i]];
  }
  const thickness = Math.max(1, Math.round(width / 520));
  const cut = levelOf(map, threshold);
  if (labels) outline(words, width, height, (i) => labels[i] === 1, thickness, TRUTH);
  if (mode !== "photo") {
    const above = (i) => levels[i] >= cut;
    outline(words, width, height, above, 2 * thickness, SHADE);
    outline(words, width, height, above, thickness, WHITE);
  }
  Object.assign(scratch, { width, height });
  scratch.getContext("2d").putImageData(image, 0, 0);
  context.drawImage(scratch, 0, 0);
}

// Color the pixels inside a region that lie within a distance of its border.
function outline(words, width, height, inside, distance, color) {
  for (let y = 0; y < height; y++) {
    const up = y >= distance ? -distance * width : 0;
    const down = y < height - distance ? distance * width : 0;
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      if (!inside(i)) continue;
      const left = x >= distance ? -distance : 0;
      const right = x < width - distance ? distance : 0;
      if (!(inside(i + up) && inside(i + down) && inside(i + left) && inside(i + right))) words[i] = color;
    }
  }
}

// Marks are drawn at the screen's own resolution.
export function paintMarks(canvas, session, cell, neighborhood) {
  const box = canvas.getBoundingClientRect();
  const density = Math.min(3, window.devicePixelRatio || 1);
  const width = Math.round(box.width * density);
  const height = Math.round(box.height * density);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  if (!cell) return;
  const scale = width / session.size[1];
  const [cellHeight, cellWidth] = session.cell_size.map((side) => side * scale);
  const center = ([row, column]) => [(column + 0.5) * cellWidth, (row + 0.5) * cellHeight];
  const [x, y] = center(cell);
  if (neighborhood) {
    const most = neighborhood.neighbors.length ? neighborhood.neighbors[0][2] : 1;
    for (const [row, column, weight] of [...neighborhood.neighbors].reverse()) {
      const strength = Math.sqrt(weight / most);
      const [u, v] = center([row, column]);
      context.strokeStyle = `rgb(94 234 212 / ${0.1 + 0.35 * strength})`;
      context.lineWidth = density * (0.5 + strength);
      context.beginPath();
      context.moveTo(x, y);
      context.quadraticCurveTo((x + u) / 2 - (v - y) * 0.12, (y + v) / 2 + (u - x) * 0.12, u, v);
      context.stroke();
      context.fillStyle = `rgb(45 225 245 / ${0.22 + 0.7 * strength})`;
      context.fillRect(u - cellWidth / 2, v - cellHeight / 2, cellWidth, cellHeight);
    }
  }
  const [half, other] = [Math.max(cellWidth, 9 * density) / 2, Math.max(cellHeight, 9 * density) / 2];
  context.lineWidth = 4 * density;
  context.strokeStyle = "#17131f";
  context.strokeRect(x - half, y - other, 2 * half, 2 * other);
  context.lineWidth = 2 * density;
  context.strokeStyle = "#ffffff";
  context.strokeRect(x - half, y - other, 2 * half, 2 * other);
}

export function paintRamp(canvas, color) {
  const context = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x++) {
    context.fillStyle = `rgb(${color(x / (canvas.width - 1)).join(" ")})`;
    context.fillRect(x, 0, 1, 1);
  }
}

// Two histograms as curves, and the threshold; heights are square roots, so that rare scores are seen.
export function paintHistogram(canvas, curves, share) {
  const density = Math.min(3, window.devicePixelRatio || 1);
  const box = canvas.getBoundingClientRect();
  const [width, height] = [Math.round(box.width * density), Math.round(box.height * density)];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  const style = getComputedStyle(document.documentElement);
  const most = Math.sqrt(Math.max(1e-9, ...curves.flatMap(({ values }) => [...values])));
  for (const { values, color } of curves) {
    context.beginPath();
    context.moveTo(0, height);
    values.forEach((value, k) => {
      context.lineTo(((k + 0.5) / values.length) * width, height - (Math.sqrt(value) / most) * (height - 6 * density));
    });
    context.lineTo(width, height);
    context.strokeStyle = context.fillStyle = style.getPropertyValue(color);
    context.globalAlpha = 0.18;
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = 1.75 * density;
    context.stroke();
  }
  context.strokeStyle = style.getPropertyValue("--text");
  context.lineWidth = 1.5 * density;
  context.setLineDash([4 * density, 3 * density]);
  context.beginPath();
  context.moveTo(share * width, 0);
  context.lineTo(share * width, height);
  context.stroke();
  context.setLineDash([]);
}
