// What is counted on maps of 65536 levels: histograms, quantiles, metrics.

export const LEVELS = 65536;

export function scoreOf(map, level) {
  return map.low + level * map.step;
}

// The first level whose score is at or above a threshold; LEVELS where there is none.
export function levelOf(map, threshold) {
  return Math.min(LEVELS, Math.max(0, Math.ceil((threshold - map.low) / map.step - 1e-9)));
}

export function countLevels(map, keep = () => true) {
  const counts = new Uint32Array(LEVELS);
  const { levels } = map;
  for (let i = 0; i < levels.length; i++) if (keep(i)) counts[levels[i]]++;
  return counts;
}

export function quantile(map, counts, share) {
  const wanted = share * map.levels.length;
  let seen = 0;
  for (let level = 0; level < LEVELS; level++) {
    seen += counts[level];
    if (seen >= wanted) return scoreOf(map, level);
  }
  return scoreOf(map, LEVELS - 1);
}

// Counts in equal bins between two scores, as shares of the map; what lies outside is left out.
export function bins(map, counts, [low, high], number) {
  const result = new Float64Array(number);
  for (let level = 0; level < LEVELS; level++) {
    if (!counts[level]) continue;
    const bin = Math.floor(((scoreOf(map, level) - low) / (high - low)) * number);
    if (bin >= 0 && bin < number) result[bin] += counts[level] / map.levels.length;
  }
  return result;
}

// AP by the step rule and FPR95 as in rwpm_fast.metrics, exact for the levels; and the counts behind them.
export function rank(map, labels) {
  const positives = countLevels(map, (i) => labels[i] === 1);
  const negatives = countLevels(map, (i) => labels[i] === 0);
  const sum = (counts) => counts.reduce((a, b) => a + b, 0);
  const [all, others] = [sum(positives), sum(negatives)];
  let found = 0;
  let wrong = 0;
  let ap = 0;
  let fpr95 = null;
  for (let level = LEVELS - 1; level >= 0; level--) {
    if (!positives[level] && !negatives[level]) continue;
    found += positives[level];
    wrong += negatives[level];
    ap += (positives[level] / all) * (found / (found + wrong));
    if (fpr95 === null && found >= 0.95 * all) fpr95 = wrong / others;
  }
  return { positives, negatives, all, others, ap, fpr95 };
}

// Shares of the anomalous and of the other pixels at or above a threshold.
export function ratesAbove(map, { positives, negatives, all, others }, threshold) {
  let found = 0;
  let wrong = 0;
  for (let level = levelOf(map, threshold); level < LEVELS; level++) {
    found += positives[level];
    wrong += negatives[level];
  }
  return { recall: found / all, falsePositive: wrong / others };
}

export function shareAbove(map, counts, threshold) {
  let above = 0;
  for (let level = levelOf(map, threshold); level < LEVELS; level++) above += counts[level];
  return above / map.levels.length;
}

