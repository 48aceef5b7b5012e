#include "transition.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>

#include "buffer.h"
#include "isa.h"

namespace rwpm::cpu {
namespace {

// At first a pixel keeps the pairs whose share of its row is at least the tolerance over a part of N: measured on maps
// of road networks, the rest of nearly every row then adds up to less than the tolerance. Rows for which it does not
// keep more: up to a few of them are made anew one by one, more of them call for another pass.
constexpr double kept_part = 1 / 40., fewest_kept = 100;
constexpr int64_t passes = 3, few_rows = 100;  // few: one in so many
// What the filter may miss altogether is bounded by N times the smallest share it looks for: this part of the
// tolerance.
constexpr double see_part = 0.25;

constexpr int64_t block_panels = 8;  // panels of a block of rows; a tile is a block of queries against a block of keys
constexpr int64_t window = 3;        // pixels on either side that bound a row's sum from below
// The window will not do when of `probes` rows more than one in `most_loose` is off by more than so many bits.
constexpr int64_t probes = 48, most_loose = 5;
constexpr float loose_bits = 5;
constexpr int64_t shortest_row = 12, longest_row = 4096;  // of a map, as far as the guess of its width goes

// Beyond this many pairs the matrix would take more than a GiB.
constexpr double most_pairs = 45e6;

constexpr int64_t padding = 16;  // entries that a row's loop may look ahead

struct Work {
  const SparseKernels& kernels;
  const float* units;
  int64_t pixels, channels, stride;
  const ParallelFor& parallel_for;
  int64_t panels() const { return ceil_div(pixels, kernels.lanes); }
  int64_t padded() const { return panels() * kernels.lanes; }
  int64_t blocks() const { return ceil_div(panels(), block_panels); }
  int64_t block_end(int64_t block) const { return std::min((block + 1) * block_panels * kernels.lanes, padded()); }
  int64_t block_begin(int64_t block) const { return block * block_panels * kernels.lanes; }
};

// Unit embeddings as the filter multiplies them, [panel][words][lanes], zero beyond N and D.
template <typename Word, typename Round>
Buffer<char> pack_words(const Work& w, const Round& round) {
  const int64_t lanes = w.kernels.lanes, of_word = w.kernels.channels_of_word, words = ceil_div(w.channels, of_word);
  Buffer<char> bytes(w.padded() * words * of_word * sizeof(Word));
  Word* const out = reinterpret_cast<Word*>(bytes.get());
  w.parallel_for(w.panels(), [&](int64_t first, int64_t last) {
    std::fill(out + first * words * lanes * of_word, out + last * words * lanes * of_word, Word(0));
    for (int64_t i = first * lanes; i < std::min(last * lanes, w.pixels); ++i)
      for (int64_t d = 0; d < w.channels; ++d)
        out[((i / lanes * words + d / of_word) * lanes + i % lanes) * of_word + d % of_word] =
            round(w.units[i * w.stride + d]);
  });
  return bytes;
}

// Pixels of a map come row by row, but how long a row is nobody says: the lag at which pixels are most alike, beyond
// their nearest neighbours. Where there is no such order any lag is as good.
int64_t likely_width(const Work& w) {
  const int64_t most = std::min(w.pixels / 2, longest_row), samples = std::min<int64_t>(w.pixels / 2, 48);
  std::vector<float> alike(most);
  w.parallel_for(most, [&](int64_t first, int64_t last) {
    for (int64_t lag = std::max(first, shortest_row); lag < last; ++lag)
      for (int64_t k = 0; k < samples; ++k) {
        const int64_t i = (w.pixels - lag) * k / samples;
        alike[lag] += w.kernels.dot(w.units + i * w.stride, w.units + (i + lag) * w.stride, w.stride);
      }
  });
  if (most <= shortest_row) return 1;
  return std::max_element(alike.begin() + shortest_row, alike.end()) - alike.begin();
}

// log2 of a lower bound of every row's sum of exp2(scale * cosine), from what is near in the given order: the window
// around the pixel. Where pixels come in no such order, from the largest cosine of all. In a map narrower than the
// window a pair would count twice.
void bound_sums(const Work& w, const Filter& f, int64_t known_width, float* bound) {
  const int64_t width = known_width > 2 * window ? known_width : likely_width(w);
  w.parallel_for(w.pixels, [&](int64_t first, int64_t last) {
    std::vector<float> logit;
    for (int64_t i = first; i < last; ++i) {
      logit.clear();
      for (int64_t row = -window; row <= window; ++row)
        for (int64_t column = -window; column <= window; ++column) {
          const int64_t j = i + row * width + column;
          if (j != i && j >= 0 && j < w.pixels)
            logit.push_back(f.scale * w.kernels.dot(w.units + i * w.stride, w.units + j * w.stride, w.stride));
        }
      const float largest = *std::max_element(logit.begin(), logit.end());
      float sum = 0;
      for (const float x : logit) sum += std::exp2(x - largest);
      bound[i] = largest + std::log2(sum);
    }
  });

  std::vector<char> loose(probes);
  w.parallel_for(probes, [&](int64_t first, int64_t last) {
    for (int64_t k = first; k < last; ++k) {
      const int64_t i = (w.pixels - 1) * k / (probes - 1);
      float largest = -1;
      for (int64_t j = 0; j < w.pixels; ++j)
        if (j != i)
          largest = std::max(largest, w.kernels.dot(w.units + i * w.stride, w.units + j * w.stride, w.stride));
      loose[k] = largest * f.scale > bound[i] + loose_bits;
    }
  });
  if (std::count(loose.begin(), loose.end(), 1) * most_loose <= probes) return;
  w.parallel_for(w.panels(), [&](int64_t first, int64_t last) {
    std::vector<float> cosines(w.kernels.lanes);
    for (int64_t panel = first; panel < last; ++panel) {
      w.kernels.largest(f, w.pixels, panel, cosines.data());
      for (int64_t k = 0; k < w.kernels.lanes; ++k) {
        float& b = bound[panel * w.kernels.lanes + k];
        b = std::max(b, (cosines[k] - f.margin) * f.scale);
      }
    }
  });
}

// A pair of a tile: pixels counted from the begin of the tile's blocks.
struct Found {
  uint16_t query, key;
  float cosine;
};

// From cosines to shares of what stands in the row; log2 of the row's sum of exp2(scale * cosine).
double normalize_row(const Work& w, float* row, int64_t count, float scale) {
  if (count == 0) return -std::numeric_limits<double>::infinity();
  const float largest = *std::max_element(row, row + count);
  const float sum = w.kernels.weigh(row, count, largest, scale), inverse = 1 / sum;
  for (int64_t k = 0; k < count; ++k) row[k] *= inverse;
  return double(largest) * scale + std::log2(sum);
}

// Room for the entries that row_start counts, and for a row's loop to look ahead.
void reserve(const Work& w, Transition& t) {
  const int64_t kept = t.row_start[w.pixels];
  t.column = Buffer<int32_t>(kept + padding);
  t.weight = Buffer<float>(kept + padding);
  std::fill_n(&t.column[kept], padding, 0);
}

// What a pass over half of the tiles found: (query block a, key block b >= a).
struct Pass {
  int64_t blocks;
  std::vector<std::vector<Found>> tiles;
  std::vector<uint32_t> dropped;  // [N] of each pixel, in units of the weight at its `see`
  int64_t tile(int64_t a, int64_t b) const { return a * blocks - a * (a - 1) / 2 + (b - a); }
};

// Filter and refine; nothing when more pairs are found than `limit`.
std::optional<Pass> find_pairs(const Work& w, const Filter& filter, int64_t limit) {
  const int64_t blocks = w.blocks(), tiles = blocks * (blocks + 1) / 2, lanes = w.kernels.lanes;
  Pass pass = {blocks, std::vector<std::vector<Found>>(tiles), std::vector<uint32_t>(w.pixels)};
  std::atomic<int64_t> total = 0, next = 0;
  std::mutex guard;
  // Tiles differ in work, so threads take one after the other; what a tile finds does not depend on who takes it.
  w.parallel_for(tiles, [&](int64_t, int64_t) {
    const Buffer<Pair> pairs(block_panels * lanes * lanes);
    std::vector<uint32_t> dropped(w.padded());
    for (int64_t tile = next++; tile < tiles && total <= limit; tile = next++) {
      int64_t a = 0;
      while (a + 1 < blocks && pass.tile(a + 1, a + 1) <= tile) ++a;
      const int64_t b = tile - pass.tile(a, a) + a;
      for (int64_t panel = a * block_panels; panel < std::min((a + 1) * block_panels, w.panels()); ++panel) {
        const int64_t count =
            w.kernels.filter(filter, panel, w.block_begin(b), w.block_end(b), pairs.get(), dropped.data());
        for (int64_t k = 0; k < count; ++k) {
          // Beyond the last pixel stand zeros, and a row that keeps what is at a right angle would keep those.
          if (pairs[k].key >= w.pixels) continue;
          pass.tiles[tile].push_back({uint16_t(pairs[k].query - w.block_begin(a)),
                                      uint16_t(pairs[k].key - w.block_begin(b)), pairs[k].cosine});
        }
      }
      total += int64_t(pass.tiles[tile].size());
    }
    const std::lock_guard<std::mutex> lock(guard);
    for (int64_t i = 0; i < w.pixels; ++i) pass.dropped[i] += dropped[i];
  });
  if (total > limit) return std::nullopt;
  return pass;
}

// The rows of what a pass found, with weights that sum to one, and what they dropped at most.
Transition build_rows(const Work& w, const Filter& filter, const Pass& pass, const float* bound, double see_share) {
  Transition t;
  t.dropped.resize(w.pixels);
  t.row_start.assign(w.pixels + 1, 0);
  // Ascending in every row: as the key of earlier queries, then as the query of later keys.
  const auto entries_of_block = [&](int64_t block, const auto& entry) {
    const int64_t begin = w.block_begin(block);
    for (int64_t a = 0; a <= block; ++a)
      for (const Found& p : pass.tiles[pass.tile(a, block)])
        if (p.cosine >= filter.keep[begin + p.key]) entry(begin + p.key, w.block_begin(a) + p.query, p.cosine);
    for (int64_t b = block; b < pass.blocks; ++b)
      for (const Found& p : pass.tiles[pass.tile(block, b)])
        if (p.cosine >= filter.keep[begin + p.query]) entry(begin + p.query, w.block_begin(b) + p.key, p.cosine);
  };
  w.parallel_for(pass.blocks, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block)
      entries_of_block(block, [&](int64_t row, int64_t, float) { ++t.row_start[row + 1]; });
  });
  for (int64_t i = 0; i < w.pixels; ++i) t.row_start[i + 1] += t.row_start[i];
  reserve(w, t);
  w.parallel_for(pass.blocks, [&](int64_t first, int64_t last) {
    std::vector<int64_t> at(block_panels * w.kernels.lanes);
    for (int64_t block = first; block < last; ++block) {
      const int64_t begin = w.block_begin(block), end = std::min(w.block_end(block), w.pixels);
      std::copy(&t.row_start[begin], &t.row_start[end], at.begin());
      entries_of_block(block, [&](int64_t row, int64_t column, float cosine) {
        const int64_t e = at[row - begin]++;
        t.column[e] = int32_t(column);
        t.weight[e] = cosine;
      });
      for (int64_t i = begin; i < end; ++i) {
        const int64_t count = t.row_start[i + 1] - t.row_start[i];
        const double log_sum = normalize_row(w, &t.weight[t.row_start[i]], count, filter.scale);
        // Counted against a lower bound of the row's sum; by now most of the sum is known.
        t.dropped[i] = float((double(pass.dropped[i]) + double(w.pixels)) * see_share * std::exp2(bound[i] - log_sum));
      }
    }
  });
  return t;
}

// Makes rows anew that keep every pair from their `see` on, so that they drop no more than N shares of that size.
void widen_rows(const Work& w, const std::vector<int64_t>& wide, const float* see, const float* bound, float scale,
                double see_share, Transition& t) {
  std::vector<std::vector<int32_t>> columns(wide.size());
  std::vector<std::vector<float>> weights(wide.size());
  w.parallel_for(wide.size(), [&](int64_t first, int64_t last) {
    for (int64_t k = first; k < last; ++k) {
      const int64_t i = wide[k];
      for (int64_t j = 0; j < w.pixels; ++j) {
        const float cosine = w.kernels.dot(w.units + i * w.stride, w.units + j * w.stride, w.stride);
        if (j == i || cosine < see[i]) continue;
        columns[k].push_back(int32_t(j));
        weights[k].push_back(cosine);
      }
      const double log_sum = normalize_row(w, weights[k].data(), weights[k].size(), scale);
      t.dropped[i] = float(double(w.pixels) * see_share * std::exp2(bound[i] - log_sum));
    }
  });
  Transition widened;
  widened.dropped = std::move(t.dropped);
  widened.row_start = t.row_start;
  size_t k = 0;
  int64_t more = 0;
  for (int64_t i = 0; i < w.pixels; ++i) {
    if (k < wide.size() && wide[k] == i) {
      more += int64_t(columns[k].size()) - (t.row_start[i + 1] - t.row_start[i]);
      ++k;
    }
    widened.row_start[i + 1] += more;
  }
  reserve(w, widened);
  w.parallel_for(w.pixels, [&](int64_t first, int64_t last) {
    size_t k = std::lower_bound(wide.begin(), wide.end(), first) - wide.begin();
    for (int64_t i = first; i < last; ++i) {
      const bool is_wide = k < wide.size() && wide[k] == i;
      const int32_t* const column = is_wide ? columns[k].data() : &t.column[t.row_start[i]];
      const float* const weight = is_wide ? weights[k].data() : &t.weight[t.row_start[i]];
      const int64_t begin = widened.row_start[i], count = widened.row_start[i + 1] - begin;
      std::copy(column, column + count, &widened.column[begin]);
      std::copy(weight, weight + count, &widened.weight[begin]);
      k += is_wide;
    }
  });
  t = std::move(widened);
}

}  // namespace

std::optional<Transition> compile_transition(const float* units, int64_t pixels, int64_t channels, int64_t stride,
                                             float scale, double tolerance, double densest,
                                             const ParallelFor& parallel_for, int64_t width) {
  const Work w = {*chosen_isa().sparse, units, pixels, channels, stride, parallel_for};
  const int64_t n = w.padded();

  // Rounded to r, two unit vectors are each off by at most s = sqrt(D) / 2 steps of r in norm, so by Cauchy-Schwarz
  // their product is by at most s (2 + s). Sums cannot overflow: by the same inequality no partial sum exceeds r^2.
  const bool integers = w.kernels.channels_of_word == 2;
  const double unit = integers ? 32767 : 1;
  const double off = integers ? std::sqrt(double(channels)) / 2 / unit : 0;
  const float margin = float(off * (2 + off) + 4e-6);  // and float32 rounding
  const Buffer<char> panels = integers ? pack_words<int16_t>(w, [](float x) { return int16_t(std::lrintf(x * 32767)); })
                                       : pack_words<float>(w, [](float x) { return x; });
  Filter filter = {};
  filter.channels = channels;
  filter.stride = stride;
  filter.units = units;
  filter.panels = panels.get();
  filter.cosine_of_product = float(1 / unit / unit);
  filter.margin = margin;
  filter.scale = scale;

  // Below one share the filter does not look, from the other on a pixel keeps a pair: never above 1 / N, so that a row
  // keeps its largest.
  const double see_share = tolerance * see_part / double(pixels);
  const double kept_of_tolerance = std::max(fewest_kept, double(pixels) * kept_part);
  const double keep_share = std::max(see_share, std::min(tolerance / kept_of_tolerance, 0.5 / double(pixels)));
  const Buffer<float> bound(n), see(n), keep(n);
  bound_sums(w, filter, width, bound.get());
  for (int64_t i = 0; i < n; ++i) {
    constexpr float never = std::numeric_limits<float>::infinity();
    see[i] = i < pixels ? (bound[i] + float(std::log2(see_share))) / scale : never;
    keep[i] = i < pixels ? (bound[i] + float(std::log2(keep_share))) / scale : never;
  }
  const Buffer<int32_t> least_product(n);
  for (int64_t i = 0; i < n; ++i) {
    const double least = (double(see[i]) - margin) * unit * unit;
    const float as_float = float(least);
    if (integers)
      least_product[i] = int32_t(std::clamp(std::floor(least), -2147483648., 2147483647.));
    else
      std::memcpy(&least_product[i], &as_float, sizeof(as_float));
  }
  filter.least_product = least_product.get();
  filter.see = see.get();
  filter.keep = keep.get();

  const int64_t limit = int64_t(std::min(densest * double(pixels) * double(pixels) / 2, most_pairs));
  for (int64_t remaining = passes;; --remaining) {
    std::optional<Pass> pass = find_pairs(w, filter, limit);
    if (!pass) return std::nullopt;
    Transition t = build_rows(w, filter, *pass, bound.get(), see_share);
    pass.reset();  // half as large as the rows, which may have to be copied yet
    std::vector<int64_t> wide;
    for (int64_t i = 0; i < pixels; ++i)
      if (t.dropped[i] > tolerance) wide.push_back(i);
    if (wide.empty()) return t;
    if (remaining == 1 || int64_t(wide.size()) * few_rows <= pixels) {
      widen_rows(w, wide, see.get(), bound.get(), scale, see_share, t);
      return t;
    }
    // What a row drops goes with what it keeps, about; twice as much to be sure.
    for (const int64_t i : wide)
      keep[i] = std::max(see[i], keep[i] - float(std::log2(2 * t.dropped[i] / tolerance)) / scale);
  }
}

}  // namespace rwpm::cpu
