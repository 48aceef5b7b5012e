// Requests to the server, and its binary maps.

async function checked(response) {
  if (response.ok) return response;
  let text = `The server answered ${response.status}.`;
  try {
    text = (await response.json()).error ?? text;
  } catch {
    // the answer of a proxy, or none
  }
  throw new Error(text);
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached. Is rwpm-fast serve still running?");
  }
  return checked(response);
}

const post = async (path, body, signal) => (await request(path, { method: "POST", body, signal })).json();

export const about = async () => (await request("/api/about")).json();
export const openStreet = (seed, signal) => post(`/api/samples/${seed}`, "", signal);
export const uploadPhoto = (file, signal) =>
  post("/api/photos", new Blob([file], { type: "application/octet-stream" }), signal);

export async function fetchPhoto(id, signal) {
  const blob = await (await request(`/api/photos/${id}/photo.jpg`, { signal })).blob();
  return createImageBitmap(blob);
}

export const fetchPlain = (id, signal) => fetchMap(`/api/photos/${id}/plain`, signal);
export const fetchWalked = (id, settings, signal) =>
  fetchMap(`/api/photos/${id}/walked?${new URLSearchParams(settings)}`, signal);

export async function fetchNeighbors(id, settings, [row, column], signal) {
  const query = new URLSearchParams({ ...settings, row, column });
  return (await request(`/api/photos/${id}/neighbors?${query}`, { signal })).json();
}

async function fetchMap(path, signal) {
  return unpackMap(await (await request(path, { signal })).arrayBuffer());
}

// The layout is that of rwpm_fast/serve/packing.py.
export function unpackMap(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const pixels = head.width * head.height;
  const cells = head.rows * head.columns;
  let at = 4 + length;
  const levels = new Uint16Array(buffer, at, pixels);
  at += 2 * pixels;
  const classes = new Uint8Array(buffer, at, cells);
  at += cells;
  const labels = head.labels ? new Uint8Array(buffer, at, pixels) : null;
  return { ...head, levels, classes, labels };
}

const PAUSE = 20; // milliseconds between two of them, well below the server's limit of rate

// Of requests in a row only the last matters: while one runs, later ones replace each other.
export function latest(run) {
  let running = false;
  let next = null;
  return async function ask(...words) {
    next = words;
    if (running) return;
    running = true;
    try {
      while (next !== null) {
        const current = next;
        next = null;
        await run(...current);
        if (next !== null) await new Promise((resolve) => setTimeout(resolve, PAUSE));
      }
    } finally {
      running = false;
    }
  };
}
