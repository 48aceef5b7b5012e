// The pixel that is looked at: by pointer, touch and keyboard.

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const STRIDE = 5; // pixels that Shift jumps

// Calls moved(cell, spoken) with [row, column] or null; spoken: a screen reader should say it.
export function makeCursor(stage, panes, session, moved) {
  let cell = null;
  let held = false;

  function set(next, { hold = held, spoken = false } = {}) {
    held = next !== null && hold;
    if (next === cell || (next && cell && next[0] === cell[0] && next[1] === cell[1])) return;
    cell = next;
    moved(cell, spoken);
  }

  function cellAt(event, pane) {
    const { size, cell_size: cellSize, map_size: mapSize } = session();
    const box = pane.getBoundingClientRect();
    const place = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
    return place.map((share, axis) =>
      Math.min(mapSize[axis] - 1, Math.max(0, Math.floor((share * size[axis]) / cellSize[axis]))));
  }

  for (const pane of panes) {
    pane.addEventListener("pointermove", (event) => {
      if (!session() || held || event.pointerType === "touch") return;
      set(cellAt(event, pane));
    });
    pane.addEventListener("pointerleave", (event) => {
      if (!held && event.pointerType !== "touch") set(null);
    });
    pane.addEventListener("click", (event) => {
      if (!session()) return;
      const next = cellAt(event, pane);
      const same = held && cell && next[0] === cell[0] && next[1] === cell[1];
      held = !same;
      set(same ? null : next, { hold: !same, spoken: true });
    });
  }

  stage.addEventListener("keydown", (event) => {
    if (!session() || event.ctrlKey || event.metaKey || event.altKey) return;
    const { map_size: [rows, columns] } = session();
    if (event.key === "Escape") {
      set(null);
      return;
    }
    const [row, column] = cell ?? [Math.floor(rows / 2), Math.floor(columns / 2)];
    let next;
    if (event.key in STEPS) {
      const stride = cell === null ? 0 : event.shiftKey ? STRIDE : 1;
      next = [row + stride * STEPS[event.key][0], column + stride * STEPS[event.key][1]];
    } else if (event.key === "Home") next = [row, 0];
    else if (event.key === "End") next = [row, columns - 1];
    else return;
    event.preventDefault();
    next = [Math.min(rows - 1, Math.max(0, next[0])), Math.min(columns - 1, Math.max(0, next[1]))];
    set(next, { hold: true, spoken: true });
  });

  return { clear: () => set(null) };
}
