#include "cpu/filter_pass.h"

#include <atomic>
#include <cmath>
#include <mutex>
#include <numeric>
#include <utility>

#include "cpu/isa.h"
#include "cpu/leading_channels.h"
#include "cpu/parallel.h"
#include "cpu/stopwatch.h"

namespace rwpm::cpu {
namespace {

constexpr int64_t block_rows = GroupedMatrix::block_rows;

// Calls the filter, with room for the candidates of one panel of queries and one block of keys.
class TileFilter {
 public:
  TileFilter(const BuildContext& context, const QuantizedGraph& graph)
      : context_(context),
        args_(graph.args()),
        of_queries_(block_rows * context.kernels.lanes / group_rows, context.memory),
        of_keys_(block_rows * context.kernels.lanes / group_rows, context.memory),
        dropped_weight_(context.pixels, 0, context.memory) {}

  // The lists hold until the next call; the panel is one of query_block.
  Candidates operator()(int64_t panel, int64_t query_block, int64_t key_block) {
    Candidates candidates = {of_queries_.get(), of_keys_.get(), 0, 0, dropped_weight_.get()};
    context_.kernels.filter(args_, panel, context_.block_begin(query_block), context_.block_begin(key_block),
                            context_.block_end(key_block), candidates);
    return candidates;
  }

  // Calls visit(row, weight) with what the rows of a block dropped in the calls since the last time.
  template <typename Visit>
  void take_dropped_weight(int64_t block, const Visit& visit) {
    for (int64_t i = context_.block_begin(block); i < std::min(context_.block_end(block), context_.pixels); ++i)
      visit(i, std::exchange(dropped_weight_[i], 0));
  }

 private:
  const BuildContext& context_;
  const FilterArgs args_;
  Buffer<CandidateEntry> of_queries_, of_keys_;
  Buffer<uint32_t> dropped_weight_;
};

}  // namespace

Quantized::Quantized(const BuildContext& context, const float* panels, int64_t channels)
    : channels_(channels),
      quantized_(context.panels() * context.kernels.quantized_bytes(channels), context.memory),
      scale_(context.padded(), context.memory),
      error_(context.padded(), context.memory) {
  const int64_t lanes = context.kernels.lanes, bytes = context.kernels.quantized_bytes(channels);
  context.parallel_for(context.panels(), [&](int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; ++panel)
      context.kernels.quantize(panels + panel * lanes * channels, channels, quantized_.get() + panel * bytes,
                               &scale_[panel * lanes], &error_[panel * lanes]);
  });
}

QuantizedVectors Quantized::view(const float* panels) const {
  return {channels_, panels, quantized_.get(), scale_.get(), error_.get()};
}

QuantizedGraph::QuantizedGraph(const BuildContext& context, const float* panels, float scale, double tolerance,
                               const Buffer<float>& directions)
    : pixels(context.pixels),
      scale(scale),
      // An error of a cosine, over the temperature, is one of its weight.
      refine_in_parts(context.kernels.parts_error * scale * std::log(2.) <=
                      tolerance * std::sqrt(double(context.channels))),
      panels(panels),
      embeddings(context, panels, context.channels),
      screen_threshold(context.padded(), infinity, context.memory),
      keep_threshold(context.padded(), infinity, context.memory) {
  if (directions.size() == 0) return;
  leading_panels = make_leading_channels(context.kernels, panels, context.pixels, context.channels, directions,
                                         context.parallel_for, context.memory);
  leading.emplace(context, leading_panels.get(), leading_channels);
  if (context.kernels.quantized_bytes(leading_channels) > 0) leading_panels = {};
}

void QuantizedGraph::drop_leading() {
  leading.reset();
  leading_panels = {};
}

FilterArgs QuantizedGraph::args() const {
  return {pixels,
          embeddings.view(panels),
          leading ? leading->view(leading_panels.get()) : QuantizedVectors{},
          screen_threshold.get(),
          keep_threshold.get(),
          scale,
          refine_in_parts};
}

std::pair<int64_t, int64_t> FilterPass::tile_blocks(int64_t tile) const {
  int64_t a = 0, above = blocks;  // binary search for the last query block whose tiles begin no later
  while (above - a > 1) {
    const int64_t middle = (a + above) / 2;
    (tile_index(middle, middle) <= tile ? a : above) = middle;
  }
  return {a, tile - tile_index(a, a) + a};
}

PassEstimate estimate_pass(const BuildContext& context, const QuantizedGraph& graph) {
  const int64_t calls = context.panels() * (context.blocks() + 1) / 2;  // of a pass; a sixteenth is enough
  const int64_t samples = std::min(std::max<int64_t>(48, context.panels() / 8), std::max<int64_t>(8, calls / 16));
  const auto per_sample = [&] { return Vector<double>(samples, context.memory); };
  Vector<double> entries = per_sample(), tested = per_sample(), unbounded = per_sample(), dropped = per_sample();
  context.parallel_for(samples, [&](int64_t first, int64_t last) {
    TileFilter filter(context, graph);
    for (int64_t k = first; k < last; ++k) {
      constexpr double golden = 0.6180339887;  // the fractional parts of its multiples are spread evenly
      const int64_t panel = context.panels() * k / samples, query_block = panel * context.kernels.lanes / block_rows;
      const int64_t key_blocks = context.blocks() - query_block;
      const double position = double(k) * golden - std::floor(double(k) * golden);
      const int64_t key_block = query_block + int64_t(double(key_blocks) * position);
      const Candidates candidates = filter(panel, query_block, key_block);
      entries[k] = double(candidates.query_count + candidates.key_count) * double(key_blocks);
      tested[k] = double(candidates.pairs_tested) * double(key_blocks);
      unbounded[k] = double(candidates.pairs_unbounded) * double(key_blocks);
      const auto add = [&](int64_t, uint32_t weight) { dropped[k] += double(weight) * double(key_blocks) / drop_unit; };
      filter.take_dropped_weight(query_block, add);
      filter.take_dropped_weight(key_block, add);
    }
  });
  const auto total = [](const Vector<double>& x) { return std::accumulate(x.begin(), x.end(), 0.); };
  const double scale = double(context.panels()) / double(samples);
  return {total(entries) * scale, total(unbounded) / total(tested), total(dropped) * scale / double(context.pixels)};
}

std::optional<int64_t> run_filter_pass(const BuildContext& context, const QuantizedGraph& graph, int64_t limit,
                                       const TakeBlock& take_block) {
  const int64_t blocks = context.blocks(), tiles = blocks * (blocks + 1) / 2, lanes = context.kernels.lanes;
  FilterPass pass = {blocks, Vector<FilterPass::Tile>(tiles, context.memory),
                     Vector<uint32_t>(context.pixels, context.memory)};
  Vector<char> active(context.panels(), context.memory);  // panels with a row that takes part
  for (int64_t i = 0; i < context.pixels; ++i) active[i / lanes] |= graph.screen_threshold[i] < infinity;
  Vector<int64_t> missing(blocks, blocks, context.memory);  // tiles that a block still waits for
  int64_t pairs_tested = 0;
  std::atomic<int64_t> total = 0;
  std::atomic<bool> stopped = false;
  std::mutex guard;
  parallel_for_dynamic(tiles, context.parallel_for, [&](const auto& next) {
    TileFilter filter(context, graph);
    Vector<CandidateEntry> of_queries(context.memory), of_keys(context.memory);
    const auto copy = [&](const Vector<CandidateEntry>& entries) {
      CandidateList list(int64_t(entries.size()), context.memory);
      std::copy(entries.begin(), entries.end(), list.get());
      return list;
    };
    for (int64_t tile = next(); tile < tiles && !stopped; tile = next()) {
      const auto [a, b] = pass.tile_blocks(tile);
      const auto first_panel = [&](int64_t block) { return context.block_begin(block) / lanes; };
      const auto last_panel = [&](int64_t block) { return context.block_end(block) / lanes; };
      const bool keys_active = std::count(&active[first_panel(b)], &active[0] + last_panel(b), 1) > 0;
      int64_t tested = 0;
      of_queries.clear();
      of_keys.clear();
      for (int64_t panel = first_panel(a); panel < last_panel(a); ++panel) {
        if (!keys_active && !active[panel]) continue;
        const Candidates candidates = filter(panel, a, b);
        of_queries.insert(of_queries.end(), candidates.of_queries, candidates.of_queries + candidates.query_count);
        of_keys.insert(of_keys.end(), candidates.of_keys, candidates.of_keys + candidates.key_count);
        tested += candidates.pairs_tested;
      }
      total += int64_t(of_queries.size() + of_keys.size());
      if (total > limit) stopped = true;
      pass.tiles[tile] = {copy(of_queries), copy(of_keys)};
      bool complete[2] = {};
      {
        const std::lock_guard<std::mutex> lock(guard);
        pairs_tested += tested;
        const auto add = [&](int64_t row, uint32_t weight) { pass.dropped_weight[row] += weight; };
        filter.take_dropped_weight(a, add);
        complete[0] = --missing[a] == 0;
        if (a != b) {
          filter.take_dropped_weight(b, add);
          complete[1] = --missing[b] == 0;
        }
      }
      for (const int k : {0, 1})
        if (complete[k] && !stopped && !take_block(pass, k == 0 ? a : b)) stopped = true;
    }
  });
  if (stopped) return std::nullopt;
  return pairs_tested;
}

FilterTiming time_filter(const float* panels, int64_t pixels, int64_t channels, float threshold,
                         const ParallelFor& parallel_for) {
  const BuildContext context = {*chosen_isa().sparse, pixels, channels, parallel_for, heap_memory()};
  QuantizedGraph graph(context, panels, 1, /*tolerance=*/1, /*directions=*/{});
  std::fill_n(graph.screen_threshold.get(), pixels, threshold);
  std::fill_n(graph.keep_threshold.get(), pixels, threshold);
  Stopwatch watch;
  std::atomic<int64_t> pairs_kept = 0;
  const auto count_pairs = [&](FilterPass& pass, int64_t block) {
    pass.for_each_list(block, [&](CandidateList& entries, int64_t) {
      for (int64_t k = 0; k < entries.size(); ++k)
        pairs_kept += std::count_if(entries[k].cosine, entries[k].cosine + group_rows,
                                    [](float cosine) { return cosine > -infinity; });
      entries = {};
    });
    return true;
  };
  const int64_t tested = *run_filter_pass(context, graph, std::numeric_limits<int64_t>::max(), count_pairs);
  return {watch.lap(), tested, pairs_kept};
}

}  // namespace rwpm::cpu
