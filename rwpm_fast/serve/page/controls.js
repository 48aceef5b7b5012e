// The sliders of the walk's settings.

const trimmed = (value, digits) => String(Number(value.toPrecision(digits)));
const percent = (value) => `${trimmed(100 * value, 3)} %`;

// Positions of a slider are whole numbers; a value that lies between two, from the command line, stays until it is moved.
const linear = (low, high, step) => ({
  positions: Math.round((high - low) / step),
  at: (k) => Number((low + k * step).toFixed(6)),
  place: (value) => Math.round((value - low) / step),
});
const logarithmic = (low, high, perDecade) => ({
  positions: Math.round(Math.log10(high / low) * perDecade),
  at: (k) => Number((low * 10 ** (k / perDecade)).toPrecision(2)),
  place: (value) => Math.round(Math.log10(value / low) * perDecade),
});
const listed = (values) => ({
  positions: values.length - 1,
  at: (k) => values[k],
  place: (value) => values.reduce((best, v, k) => (Math.abs(v - value) < Math.abs(values[best] - value) ? k : best), 0),
});

const CONTROLS = [
  { name: "alpha", label: "Continuing probability", symbol: "α", scale: () => linear(0, 1, 0.01), text: (v) => trimmed(v, 4),
    note: "How far a pixel follows its neighbors; at 0 nothing moves." },
  { name: "steps", label: "Steps", symbol: "T", scale: (most) => linear(0, Math.min(100, most.steps), 1), text: String,
    note: "Transitions of the walk." },
  { name: "anchor_share", label: "Anchored pixels", symbol: "", scale: () => linear(0, 0.2, 0.005), text: percent,
    note: "Pixels unlike all others keep their own value: what the walk would wash out. 0: the published walk." },
  { name: "temperature", label: "Temperature", symbol: "τ", scale: () => logarithmic(0.001, 1, 20), text: (v) => trimmed(v, 3),
    note: "Low: few, similar neighbors. High: many. Builds the graph anew." },
  { name: "parts", label: "Parts", symbol: "n", scale: (most) => linear(1, most.parts, 1), text: (v) => (v === 1 ? "whole" : `${v} × ${v}`),
    note: "Cut the map; every part walks by itself. Builds the graph anew." },
  { name: "tolerance", label: "Tolerance", symbol: "", scale: () => listed([0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]),
    text: (v) => (v === 0 ? "0, exact" : v.toExponential().replace("e-", "e−")),
    note: "Share of a pixel's weights that may be dropped. 0 is exact, and slow." },
];

// Build the sliders inside an element; changed() is called with the settings whenever one moves.
export function makeControls(parent, { defaults, most }, changed) {
  const settings = { ...defaults };
  const shows = [];
  for (const { name, label, symbol, scale, text, note } of CONTROLS) {
    const { positions, at, place } = scale(most);
    const row = document.createElement("div");
    row.className = "control";
    const title = document.createElement("label");
    title.htmlFor = name;
    title.textContent = label;
    if (symbol) {
      const sign = document.createElement("span");
      sign.className = "symbol";
      sign.textContent = symbol;
      title.append(" ", sign);
    }
    const output = document.createElement("output");
    output.htmlFor = name;
    const input = document.createElement("input");
    Object.assign(input, { type: "range", id: name, min: 0, max: positions, step: 1 });
    const help = document.createElement("p");
    Object.assign(help, { className: "note", id: `${name}-note`, textContent: note });
    input.setAttribute("aria-describedby", help.id);
    const show = () => {
      input.value = place(settings[name]);
      output.value = text(settings[name]);
      input.setAttribute("aria-valuetext", text(settings[name]));
    };
    input.addEventListener("input", () => {
      settings[name] = at(Number(input.value));
      show();
      changed();
    });
    shows.push(show);
    row.append(title, output, input, help);
    parent.append(row);
    show();
  }
  return {
    settings,
    // What differs from the server's own settings.
    changes: () => Object.fromEntries(Object.entries(settings).filter(([name, value]) => value !== defaults[name])),
    reset() {
      Object.assign(settings, defaults);
      shows.forEach((show) => show());
      changed();
    },
  };
}

// The command that computes the same map, in words that belong together.
export function command(settings, { name, street }) {
  const options = Object.entries(settings).map(([key, value]) => `--${key.replace("_", "-")} ${value}`);
  const start = street === null ? "rwpm-fast score PHOTO --out out" : `rwpm-fast demo --seed ${street} --out out`;
  return [start, ...(name === "compact" ? [] : [`--network ${name}`]), ...options];
}
