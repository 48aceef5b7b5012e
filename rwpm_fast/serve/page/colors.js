// The color ramp of scores, from calm to alarming: lightness rises all the way, so it reads without color too.

const STOPS = [
  [0.0, 24, 15, 52],
  [0.22, 76, 29, 128],
  [0.45, 157, 40, 133],
  [0.65, 225, 72, 98],
  [0.82, 250, 140, 70],
  [1.0, 255, 237, 160],
];

export function rampColor(share) {
  const x = Math.min(1, Math.max(0, share));
  const k = Math.max(1, STOPS.findIndex(([end]) => x <= end));
  const [a, ...from] = STOPS[k - 1];
  const [b, ...to] = STOPS[k];
  const t = (x - a) / (b - a);
  return from.map((value, channel) => Math.round(value + t * (to[channel] - value)));
}

// In an overlay what is calm leaves the photo as it is.
const overlayOpacity = (share) => {
  const x = Math.min(1, Math.max(0, (share - 0.12) / 0.75));
  return 0.88 * x * x * (3 - 2 * x);
};

// RGBA of every level of a map, as 32-bit words of ImageData.
export function levelColors(map, [low, high], mode) {
  const words = new Uint32Array(65536);
  const bytes = new Uint8ClampedArray(words.buffer);
  const shades = Array.from({ length: 512 }, (_, k) => rampColor(k / 511));
  for (let level = 0; level < 65536; level++) {
    const share = (map.low + level * map.step - low) / (high - low);
    const shade = shades[Math.min(511, Math.max(0, Math.round(share * 511)))];
    bytes.set(shade, 4 * level);
    bytes[4 * level + 3] = mode === "score" ? 255 : 255 * overlayOpacity(share);
  }
  return words;
}
