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

// A pixel keeps the pairs whose share of its row is at least tolerance / keep_share: measured on maps of road networks,
// the rest of a row then adds up to less than the tolerance.
constexpr double keep_share = 150;
// What the filter may miss altogether is bounded by N times the smallest share it looks for: this part of the
// tolerance.
constexpr double see_part = 0.25;

constexpr int64_t block_panels = 8;  // panels of a block of rows; a tile is a block of queries against a block of keys
constexpr int64_t band = 24;         // neighbours on either side that bound a row's sum from below

// Beyond this share of all pairs a sparse row costs more than making the row anew.
constexpr double densest = 0.06;

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

// Embeddings rounded for the filter, and how far a cosine of them can be off.
struct Rounded {
  Buffer<char> panels, keys;
  Buffer<float> unit_scale, offset, slack;
};

Rounded round_to_int8(const Work& w) {
  const int64_t lanes = w.kernels.lanes, words = ceil_div(w.channels, 4);
  const int64_t bytes = w.panels() * words * lanes * 4;
  Rounded r = {Buffer<char>(bytes), Buffer<char>(bytes), Buffer<float>(w.padded()), Buffer<float>(w.padded()),
               Buffer<float>(w.padded())};
  w.parallel_for(w.panels(), [&](int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; ++panel) {
      char* const signed_bytes = r.keys.get() + panel * words * lanes * 4;
      char* const unsigned_bytes = r.panels.get() + panel * words * lanes * 4;
      std::memset(signed_bytes, 0, words * lanes * 4);
      std::memset(unsigned_bytes, 0x80, words * lanes * 4);
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const int64_t pixel = panel * lanes + lane;
        r.unit_scale[pixel] = 1, r.offset[pixel] = 0, r.slack[pixel] = 0;
        if (pixel >= w.pixels) continue;
        const float* const q = w.units + pixel * w.stride;
        float largest = 0;
        for (int64_t d = 0; d < w.channels; ++d) largest = std::max(largest, std::abs(q[d]));
        const float scale = largest > 0 ? largest / 127 : 1, inverse = 1 / scale;
        float squares = 0;
        int sum = 0;
        for (int64_t d = 0; d < w.channels; ++d) {
          const int rounded = int(std::lrintf(q[d] * inverse));
          const float rest = q[d] - scale * float(rounded);
          squares += rest * rest;
          sum += rounded;
          const int64_t at = (d / 4 * lanes + lane) * 4 + d % 4;
          signed_bytes[at] = char(rounded);
          unsigned_bytes[at] = char(rounded + 128);
        }
        r.unit_scale[pixel] = scale;
        r.offset[pixel] = float(128 * sum);
        // Cauchy-Schwarz: |q.p - q^.p^| <= |q - q^| |p| + |q^| |p - p^| <= r + s + r s for residual norms r and s, and
        // r s <= (r^2 + s^2) / 2. The last term covers float32 rounding.
        const float residual = std::sqrt(squares);
        r.slack[pixel] = residual + residual * residual / 2 + 2e-6f;
      }
    }
  });
  return r;
}

Rounded keep_float(const Work& w) {
  const int64_t lanes = w.kernels.lanes;
  Rounded r = {Buffer<char>(w.padded() * w.channels * sizeof(float)), Buffer<char>(0), Buffer<float>(w.padded()),
               Buffer<float>(w.padded()), Buffer<float>(w.padded())};
  float* const panels = reinterpret_cast<float*>(r.panels.get());
  w.parallel_for(w.panels(), [&](int64_t first, int64_t last) {
    for (int64_t pixel = first * lanes; pixel < last * lanes; ++pixel) {
      r.unit_scale[pixel] = 1, r.offset[pixel] = 0, r.slack[pixel] = 1e-5f;
      for (int64_t d = 0; d < w.channels; ++d)
        panels[(pixel / lanes * w.channels + d) * lanes + pixel % lanes] =
            pixel < w.pixels ? w.units[pixel * w.stride + d] : 0;
    }
  });
  return r;
}

// log2 of a lower bound of every row's sum of exp2(scale * cosine): what its neighbours in the given order add to it.
void bound_sums(const Work& w, float scale, float* bound) {
  w.parallel_for(w.pixels, [&](int64_t first, int64_t last) {
    float logit[2 * band + 1];
    for (int64_t i = first; i < last; ++i) {
      int64_t count = 0;
      for (int64_t j = std::max<int64_t>(0, i - band); j < std::min(w.pixels, i + band + 1); ++j)
        if (j != i) logit[count++] = scale * w.kernels.dot(w.units + i * w.stride, w.units + j * w.stride, w.stride);
      const float largest = *std::max_element(logit, logit + count);
      float sum = 0;
      for (int64_t k = 0; k < count; ++k) sum += std::exp2(logit[k] - largest);
      bound[i] = largest + std::log2(sum);
    }
  });
}

// Entries of row i that stand in a tile's pairs: as the key of earlier queries, or as the query of later keys.
template <typename Entry>
void entries_of_tile(const std::vector<Pair>& pairs, bool as_key, const float* keep, const Entry& entry) {
  for (const Pair& p : pairs) {
    const int32_t row = as_key ? p.key : p.query, column = as_key ? p.query : p.key;
    if (p.cosine >= keep[row]) entry(row, column, p.cosine);
  }
}

}  // namespace

std::optional<Transition> compile_transition(const float* units, int64_t pixels, int64_t channels, int64_t stride,
                                             double temperature, double tolerance, const ParallelFor& parallel_for) {
  const Work w = {*chosen_isa().sparse, units, pixels, channels, stride, parallel_for};
  const int64_t lanes = w.kernels.lanes, n = w.padded();
  const float scale = float(std::log2(std::exp(1.)) / temperature);

  // A share below which the filter does not look, and one from which on a pixel keeps a pair; never above 1 / N, so
  // that a row keeps its largest.
  const double see_share = tolerance * see_part / double(pixels);
  const double keep = std::max(see_share, std::min(tolerance / keep_share, 0.5 / double(pixels)));
  const Buffer<float> see_cosine(n), keep_cosine(n);
  std::fill_n(see_cosine.get(), n, std::numeric_limits<float>::infinity());
  std::fill_n(keep_cosine.get(), n, std::numeric_limits<float>::infinity());
  {
    const Buffer<float> bound(pixels);
    bound_sums(w, scale, bound.get());
    for (int64_t i = 0; i < pixels; ++i) {
      see_cosine[i] = (bound[i] + float(std::log2(see_share))) / scale;
      keep_cosine[i] = (bound[i] + float(std::log2(keep))) / scale;
    }
  }

  const Rounded rounded = w.kernels.depth == 4 ? round_to_int8(w) : keep_float(w);
  const void* const keys = w.kernels.depth == 4 ? rounded.keys.get() : rounded.panels.get();
  const Filter filter = {channels,
                         stride,
                         units,
                         rounded.panels.get(),
                         keys,
                         rounded.unit_scale.get(),
                         rounded.offset.get(),
                         rounded.slack.get(),
                         see_cosine.get(),
                         keep_cosine.get(),
                         scale};

  // Filter and refine, half of the tiles: (query block a, key block b >= a).
  const int64_t blocks = w.blocks(), tiles = blocks * (blocks + 1) / 2;
  const auto tile_at = [&](int64_t a, int64_t b) { return a * blocks - a * (a - 1) / 2 + (b - a); };
  std::vector<std::vector<Pair>> found(tiles);
  const Buffer<uint32_t> dropped(n);
  std::fill_n(dropped.get(), n, 0);
  const int64_t limit = int64_t(densest * double(pixels) * double(pixels) / 2);
  std::atomic<int64_t> total = 0;
  std::mutex guard;
  std::atomic<int64_t> next = 0;
  // Tiles differ in work, so threads take one after the other; what a tile finds does not depend on who takes it.
  parallel_for(tiles, [&](int64_t, int64_t) {
    const Buffer<Pair> pairs(block_panels * lanes * lanes);
    const Buffer<int32_t> candidates(block_panels * lanes * lanes);
    std::vector<uint32_t> own(n);
    for (int64_t tile = next++; tile < tiles && total <= limit; tile = next++) {
      int64_t a = 0;
      while (a + 1 < blocks && tile_at(a + 1, a + 1) <= tile) ++a;
      const int64_t b = tile - tile_at(a, a) + a;
      for (int64_t panel = a * block_panels; panel < std::min((a + 1) * block_panels, w.panels()); ++panel) {
        const int64_t count = w.kernels.filter(filter, panel, w.block_begin(b), w.block_end(b), candidates.get(),
                                               pairs.get(), own.data());
        found[tile].insert(found[tile].end(), pairs.get(), pairs.get() + count);
      }
      total += int64_t(found[tile].size());
    }
    const std::lock_guard<std::mutex> lock(guard);
    for (int64_t i = 0; i < pixels; ++i) dropped[i] += own[i];
  });
  if (total > limit) return std::nullopt;

  Transition t;
  t.dropped.resize(pixels);
  for (int64_t i = 0; i < pixels; ++i) t.dropped[i] = float((double(dropped[i]) + double(pixels)) * see_share);

  t.row_start.assign(pixels + 1, 0);
  const auto entries_of_block = [&](int64_t block, const auto& entry) {
    for (int64_t a = 0; a <= block; ++a) entries_of_tile(found[tile_at(a, block)], true, filter.keep, entry);
    for (int64_t b = block; b < blocks; ++b) entries_of_tile(found[tile_at(block, b)], false, filter.keep, entry);
  };
  parallel_for(blocks, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block)
      entries_of_block(block, [&](int32_t row, int32_t, float) { ++t.row_start[row + 1]; });
  });
  for (int64_t i = 0; i < pixels; ++i) t.row_start[i + 1] += t.row_start[i];
  t.column.resize(t.row_start[pixels] + padding);
  t.weight.resize(t.row_start[pixels] + padding);
  parallel_for(blocks, [&](int64_t first, int64_t last) {
    std::vector<int64_t> at(block_panels * lanes);
    for (int64_t block = first; block < last; ++block) {
      const int64_t begin = w.block_begin(block), end = std::min(w.block_end(block), pixels);
      std::copy(&t.row_start[begin], &t.row_start[end], at.begin());
      entries_of_block(block, [&](int32_t row, int32_t column, float cosine) {
        const int64_t e = at[row - begin]++;
        t.column[e] = column;
        t.weight[e] = cosine;
      });
      for (int64_t i = begin; i < end; ++i) {
        float* const row = &t.weight[t.row_start[i]];
        const int64_t count = t.row_start[i + 1] - t.row_start[i];
        const float largest = count ? *std::max_element(row, row + count) : 0;
        float sum = 0;
        for (int64_t k = 0; k < count; ++k) sum += row[k] = std::exp2((row[k] - largest) * scale);
        for (int64_t k = 0; k < count; ++k) row[k] /= sum;
      }
    }
  });
  return t;
}

}  // namespace rwpm::cpu
