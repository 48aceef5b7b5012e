// The C library: checks of arguments, and what calls use again, around rwpm::walk. No exception leaves it.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <new>
#include <optional>
#include <system_error>

#include "arguments.h"
#include "cpu/anchor.h"
#include "cpu/build_sparse.h"
#include "cpu/isa.h"
#include "cpu/pack.h"
#include "cpu/sparse_walk.h"
#include "rwpm.h"
#include "thread_pool.h"
#include "walk.h"

using rwpm::Workspace;
using rwpm::arguments::ArgumentError;
using rwpm::arguments::check;

struct rwpm_context {
  rwpm::ThreadPool pool;
  Workspace workspace;
  std::atomic<bool> busy = false;
  const pid_t process = getpid();  // that has the threads of the pool
  const rwpm::ParallelFor parallel_for = [this](int64_t count, const rwpm::RangeBody& body) { pool.run(count, body); };

  explicit rwpm_context(int64_t threads) : pool(threads) {}
};

struct rwpm_transition {
  Workspace workspace;
  std::atomic<bool> busy = false;

  struct Graph {
    int64_t pixels;      // N
    double temperature;  // tau
    rwpm::cpu::Vector<int64_t> valid;
    std::optional<rwpm::cpu::SparseGraph> sparse;
    int64_t channels;                     // D
    rwpm::cpu::Buffer<float> embeddings;  // [valid pixels, D] of a graph that streams
  };
  std::optional<Graph> graph;  // in the workspace's memory, so behind it
};

namespace {

using Problem = rwpm::Problem<float>;
using rwpm::MatrixView;
using rwpm::WalkStats;
using rwpm::cpu::Buffer;
using rwpm::cpu::Vector;

constexpr int max_threads = 1024;

thread_local char last_error[512] = "";

rwpm_status fail(rwpm_status status, const char* message) {
  std::snprintf(last_error, sizeof(last_error), "%s", message);
  return status;
}

struct Busy {
  const char* argument;
};

// Turns exceptions into statuses. `doing` names the call in messages that name no argument.
template <typename Body>
rwpm_status guarded(const char* doing, const Body& body) {
  try {
    body();
    return RWPM_OK;
  } catch (const ArgumentError& e) {
    return fail(RWPM_ERROR_ARGUMENT, e.what());
  } catch (const Busy& busy) {
    std::snprintf(last_error, sizeof(last_error),
                  "%s: expected one call at a time, got one during another; use one for every thread that calls",
                  busy.argument);
    return RWPM_ERROR_BUSY;
  } catch (const std::bad_alloc&) {
    std::snprintf(last_error, sizeof(last_error), "%s: the system has not enough memory for frames of this size",
                  doing);
    return RWPM_ERROR_MEMORY;
  } catch (const std::system_error& e) {
    std::snprintf(last_error, sizeof(last_error), "%s: the system starts no more threads (%s)", doing, e.what());
    return RWPM_ERROR_THREADS;
  } catch (const std::invalid_argument& e) {  // of RWPM_ISA
    return fail(RWPM_ERROR_CPU, e.what());
  } catch (const std::exception& e) {
    return fail(RWPM_ERROR_INTERNAL, e.what());
  } catch (...) {
    return fail(RWPM_ERROR_INTERNAL, "an exception of unknown type");
  }
}

// Holds a context or transition for a call. They are not for several threads at a time, which would go wrong silently.
class InUse {
 public:
  InUse(std::atomic<bool>& busy, const char* argument) : busy_(busy) {
    if (busy_.exchange(true, std::memory_order_acquire)) throw Busy{argument};
  }
  ~InUse() { busy_.store(false, std::memory_order_release); }
  InUse(const InUse&) = delete;
  InUse& operator=(const InUse&) = delete;

 private:
  std::atomic<bool>& busy_;
};

// The threads of a context stay behind in a fork, where a call would wait for them forever.
void check_context(const rwpm_context* context) {
  check(context != nullptr, "context: expected one of rwpm_context_create, got NULL");
  check(context->process == getpid(), "context: made before a fork; create one in the new process");
}

// Whether so many float32 numbers have addresses, with room for the sum of two such products.
bool fits_memory(int64_t a, int64_t b) {
  int64_t product;
  return !__builtin_mul_overflow(a, b, &product) &&
         !__builtin_mul_overflow(product, int64_t(4 * sizeof(float)), &product);
}

void check_matrix(const char* name, const rwpm_matrix* m) {
  check(m != nullptr, name, ": expected a matrix, got NULL");
  check(m->rows >= 0 && m->columns >= 0, name, ": expected 0 or more rows and columns, got [", m->rows, ", ",
        m->columns, "]");
  check(fits_memory(m->rows, m->columns) && fits_memory(m->rows, m->row_stride) &&
            fits_memory(m->columns, m->column_stride),
        name, ": expected elements at addresses of 64 bits, got [", m->rows, ", ", m->columns, "] with strides [",
        m->row_stride, ", ", m->column_stride, "]");
  check(m->data != nullptr || m->rows == 0 || m->columns == 0, name, ": expected data of [", m->rows, ", ", m->columns,
        "], got NULL");
}

void check_values(const rwpm_matrix& values, int64_t pixels, int64_t channels) {
  check_matrix("values", &values);
  check(values.rows == pixels, "values: expected shape [", pixels, ", C] to match embeddings [", pixels, ", ", channels,
        "], got [", values.rows, ", ", values.columns, "]");
}

// The bytes that elements lie in: [begin, end).
struct Extent {
  uintptr_t begin, end;
  bool overlaps(const Extent& other) const {
    return begin < end && other.begin < other.end && begin < other.end && other.begin < end;
  }
};

Extent extent(const rwpm_matrix& m) {
  if (m.rows == 0 || m.columns == 0) return {0, 0};
  const int64_t last_row = (m.rows - 1) * m.row_stride, last_column = (m.columns - 1) * m.column_stride;
  const auto at = [&](int64_t element) {
    return reinterpret_cast<uintptr_t>(m.data) + element * int64_t(sizeof(float));
  };
  return {at(std::min<int64_t>(last_row, 0) + std::min<int64_t>(last_column, 0)),
          at(std::max<int64_t>(last_row, 0) + std::max<int64_t>(last_column, 0) + 1)};
}

void check_out(const float* out, const rwpm_matrix& values, const rwpm_matrix* embeddings, const bool* mask) {
  const rwpm_matrix result = {out, values.rows, values.columns, values.columns, 1};
  check_matrix("out", &result);
  const auto mask_begin = reinterpret_cast<uintptr_t>(mask);
  const Extent mask_extent = {mask_begin, mask ? mask_begin + uintptr_t(values.rows) : mask_begin};
  check(!extent(result).overlaps(extent(values)) && !extent(result).overlaps(mask_extent) &&
            !(embeddings && extent(result).overlaps(extent(*embeddings))),
        "out: expected memory of its own, got some of an input's");
}

rwpm_settings defaults() {
  const Problem none = {};
  return {sizeof(rwpm_settings), 0.99, 20, 0.01, 0, none.anchor, none.anchor_share};
}

rwpm_settings checked(const rwpm_settings* given) {
  if (!given) return defaults();
  check(given->size == sizeof(rwpm_settings), "settings: expected the size ", sizeof(rwpm_settings),
        " that rwpm_settings_init sets, got ", given->size);
  rwpm::arguments::check_walk_settings(given->alpha, given->steps);
  rwpm::arguments::check_graph_settings(given->temperature, given->tolerance);
  rwpm::arguments::check_anchor(given->anchor, given->anchor_share);
  return *given;
}

void check_stats(const rwpm_stats* stats) {
  check(!stats || stats->size == sizeof(rwpm_stats), "stats: expected the size ", sizeof(rwpm_stats), ", got ",
        stats ? stats->size : 0);
}

void report(const WalkStats& s, rwpm_stats* stats) {
  if (!stats) return;
  static_assert(int(RWPM_PATH_NONE) == int(WalkStats::none) && int(RWPM_PATH_STREAMING) == int(WalkStats::streaming) &&
                int(RWPM_PATH_SPARSE) == int(WalkStats::sparse));
  *stats = {sizeof(rwpm_stats), rwpm_path(s.path), s.pixels,        s.pairs,       s.anchored,
            s.dropped_mass,     s.pack_seconds,    s.build_seconds, s.step_seconds};
}

MatrixView<float> view(const rwpm_matrix& m) { return {m.data, m.row_stride, m.column_stride}; }

Problem problem(const rwpm_settings& s, Workspace& workspace) {
  Problem p = {};
  p.alpha = s.alpha;
  p.steps = s.steps;
  p.temperature = s.temperature;
  p.tolerance = s.tolerance;
  p.anchor = s.anchor;
  p.anchor_share = s.anchor_share;
  p.memory = &workspace;
  return p;
}

void set_embeddings(const rwpm_matrix& embeddings, const bool* mask, Problem& p) {
  p.pixels = embeddings.rows;
  p.channels = embeddings.columns;
  p.embeddings = view(embeddings);
  p.mask = mask;
  p.mask_stride = 1;
}

rwpm_transition::Graph build(const rwpm_context& context, Problem& p, int64_t width) {
  const auto set_path = [&](WalkStats::Path path, int64_t pixels, int64_t pairs) {
    p.stats->path = path;
    p.stats->pixels = pixels;
    p.stats->pairs = pairs;
  };
  rwpm_transition::Graph graph = {p.pixels, p.temperature, rwpm::cpu::valid_pixels(p, context.parallel_for),
                                  {},       p.channels,    {}};
  const auto count = int64_t(graph.valid.size());
  if (count < 2) {  // a pixel without another keeps its value
    graph.valid.clear();
    return graph;
  }
  graph.sparse = rwpm::cpu::build_sparse(p, graph.valid, rwpm::cpu::max_useful_density, width, context.parallel_for);
  if (graph.sparse) {
    const rwpm::cpu::GroupedMatrix& matrix = graph.sparse->matrix;
    set_path(WalkStats::sparse, count, matrix.pairs);
    p.stats->dropped_mass = *std::max_element(matrix.dropped_mass.begin(), matrix.dropped_mass.end());
    return graph;
  }
  set_path(WalkStats::streaming, count, count * (count - 1));
  graph.embeddings = Buffer<float>(count * p.channels, p.memory);
  context.parallel_for(count, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t d = 0; d < p.channels; ++d)
        graph.embeddings[i * p.channels + d] =
            p.embeddings.data[graph.valid[i] * p.embeddings.row_stride + d * p.embeddings.column_stride];
  });
  return graph;
}

// The graph is fixed, so that a value that is not finite would spread.
void check_finite(const rwpm_matrix& values, const Vector<int64_t>& pixels) {
  int64_t broken = 0;
  for (const int64_t i : pixels) {
    bool finite = true;
    for (int64_t c = 0; c < values.columns; ++c)
      finite = finite && std::isfinite(values.data[i * values.row_stride + c * values.column_stride]);
    broken += !finite;
  }
  check(broken == 0, "values: expected finite numbers in the pixels of the graph, got ", broken,
        " pixels with others; leave them out of the graph with the mask");
}

// The walk on a graph whose values are finite, into out [N, C].
void walk(const rwpm_context& context, const rwpm_transition::Graph& graph, const rwpm_matrix& values, Problem& p,
          float* out) {
  for (int64_t i = 0; i < values.rows; ++i)
    for (int64_t c = 0; c < values.columns; ++c)
      out[i * values.columns + c] = values.data[i * values.row_stride + c * values.column_stride];
  if (graph.valid.empty() || p.steps == 0 || p.alpha == 0 || values.columns == 0) return;
  p.value_channels = values.columns;
  p.temperature = graph.temperature;
  if (graph.sparse) {
    p.values = view(values);
    p.result = out;
    Vector<float> own_weight(p.memory);
    const rwpm::cpu::GroupedMatrix& matrix = graph.sparse->matrix;
    if (rwpm::cpu::is_anchored(p)) own_weight = rwpm::cpu::own_weights(p, matrix.log_sum);
    return rwpm::cpu::walk_sparse(p, graph.sparse->pixels, rwpm::cpu::row_groups(matrix, p.memory),
                                  matrix.row_scale.data(), own_weight, context.parallel_for);
  }
  const auto count = int64_t(graph.valid.size());
  Buffer<float> gathered(count * values.columns, p.memory), walked(count * values.columns, p.memory);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t c = 0; c < values.columns; ++c)
      gathered[i * values.columns + c] = values.data[graph.valid[i] * values.row_stride + c * values.column_stride];
  p.pixels = count;
  p.channels = graph.channels;
  p.embeddings = {graph.embeddings.get(), graph.channels, 1};
  p.values = {gathered.get(), values.columns, 1};
  p.tolerance = 0;
  p.result = walked.get();
  rwpm::walk(p, context.parallel_for);
  for (int64_t i = 0; i < count; ++i)
    std::copy_n(&walked[i * values.columns], values.columns, out + graph.valid[i] * values.columns);
}

}  // namespace

const char* rwpm_version(void) { return RWPM_VERSION; }

int rwpm_abi(void) { return RWPM_ABI; }

const char* rwpm_last_error(void) { return last_error; }

rwpm_status rwpm_settings_init(rwpm_settings* settings, size_t size) {
  return guarded("rwpm_settings_init", [&] {
    check(settings != nullptr, "settings: expected memory for them, got NULL");
    check(size == sizeof(rwpm_settings), "size: expected ", sizeof(rwpm_settings), ", sizeof(rwpm_settings), got ",
          size);
    *settings = defaults();
  });
}

rwpm_status rwpm_context_create(int threads, rwpm_context** context) {
  return guarded("rwpm_context_create", [&] {
    check(context != nullptr, "context: expected memory for a pointer, got NULL");
    check(threads >= 0 && threads <= max_threads, "threads: expected a number in [1, ", max_threads,
          "], or 0 for as many as the machine has, got ", threads);
    rwpm::cpu::chosen_isa();
    if (threads == 0) threads = int(std::clamp(std::thread::hardware_concurrency(), 1u, unsigned(max_threads)));
    *context = new rwpm_context(threads);
  });
}

void rwpm_context_destroy(rwpm_context* context) {
  if (context && context->process == getpid()) delete context;  // no thread of another process can be joined
}

size_t rwpm_context_bytes(const rwpm_context* context) { return context ? context->workspace.peak_bytes() : 0; }

rwpm_status rwpm_walk(rwpm_context* context, const rwpm_matrix* embeddings, const rwpm_matrix* values, const bool* mask,
                      const rwpm_settings* settings, float* out, rwpm_stats* stats) {
  return guarded("rwpm_walk", [&] {
    check_context(context);
    check_matrix("embeddings", embeddings);
    const rwpm_matrix& walked = values ? *values : *embeddings;
    check_values(walked, embeddings->rows, embeddings->columns);
    const rwpm_settings s = checked(settings);
    check_out(out, walked, embeddings, mask);
    check_stats(stats);
    const InUse in_use(context->busy, "context");
    Problem p = problem(s, context->workspace);
    set_embeddings(*embeddings, mask, p);
    p.value_channels = walked.columns;
    p.values = view(walked);
    p.result = out;
    WalkStats done = {};
    p.stats = &done;
    rwpm::walk(p, context->parallel_for);
    report(done, stats);
  });
}

rwpm_status rwpm_transition_create(rwpm_transition** transition) {
  return guarded("rwpm_transition_create", [&] {
    check(transition != nullptr, "transition: expected memory for a pointer, got NULL");
    *transition = new rwpm_transition();
  });
}

void rwpm_transition_destroy(rwpm_transition* transition) { delete transition; }

rwpm_status rwpm_transition_build(rwpm_context* context, rwpm_transition* transition, const rwpm_matrix* embeddings,
                                  const bool* mask, const rwpm_settings* settings, int64_t width, rwpm_stats* stats) {
  return guarded("rwpm_transition_build", [&] {
    check_context(context);
    check(transition != nullptr, "transition: expected one of rwpm_transition_create, got NULL");
    check_matrix("embeddings", embeddings);
    const rwpm_settings s = checked(settings);
    check(width >= 0, "width: expected 0 (not known) or more pixels, got ", width);
    check_stats(stats);
    const InUse context_in_use(context->busy, "context"), in_use(transition->busy, "transition");
    transition->graph.reset();
    Problem p = problem(s, transition->workspace);
    set_embeddings(*embeddings, mask, p);
    WalkStats done = {};
    p.stats = &done;
    transition->graph.emplace(build(*context, p, width));
    report(done, stats);
  });
}

rwpm_status rwpm_transition_walk(rwpm_context* context, rwpm_transition* transition, const rwpm_matrix* values,
                                 const rwpm_settings* settings, float* out) {
  return guarded("rwpm_transition_walk", [&] {
    check_context(context);
    check(transition != nullptr, "transition: expected one of rwpm_transition_create, got NULL");
    const rwpm_settings s = checked(settings);
    const InUse context_in_use(context->busy, "context"), in_use(transition->busy, "transition");
    check(transition->graph.has_value(), "transition: expected one that rwpm_transition_build has built");
    const rwpm_transition::Graph& graph = *transition->graph;
    check_matrix("values", values);
    check_values(*values, graph.pixels, graph.channels);
    check_out(out, *values, nullptr, nullptr);
    check_finite(*values, graph.valid);
    Problem p = problem(s, context->workspace);
    walk(*context, graph, *values, p, out);
  });
}
