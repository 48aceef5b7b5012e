/* rwpm: random walks on the graph of pixel similarities, on a CPU. C99, thread-safe as told below, without torch.
 *
 * A road network embeds every pixel; a walk with restart pulls what it says of a pixel toward the pixels that resemble
 * it, and anomaly scores become more accurate (equation S.5 of the RWPM supplement):
 *
 *   m <- alpha S m + (1 - alpha) v, `steps` times from m = v;   S_ij = exp(q_i.q_j / tau) / sum_{k != i} exp(q_i.q_k /
 * tau)
 *
 * with q the embeddings at unit length, tau the temperature, and S_ii = 0. A pixel that is masked out, or whose
 * embedding or value is not finite, is no part of the graph and keeps its value.
 *
 * Example: walk 19 logits of a map of 90 x 160 pixels with 256 channels, both channel by channel as networks make them.
 *
 *   rwpm_context* context;
 *   rwpm_settings settings;
 *   rwpm_settings_init(&settings, sizeof(settings));
 *   settings.tolerance = 1e-4;
 *   if (rwpm_context_create(0, &context)) return fail(rwpm_last_error());
 *   const rwpm_matrix e = rwpm_map(embeddings, 256, 90 * 160), v = rwpm_map(logits, 19, 90 * 160);
 *   for each frame: if (rwpm_walk(context, &e, &v, NULL, &settings, walked, NULL)) return fail(rwpm_last_error());
 *   rwpm_context_destroy(context);
 *
 * Functions return RWPM_OK or a status whose message rwpm_last_error() has. Arguments are checked before any work, and
 * a call that fails because of them has written nothing. The same bits come out at any number of threads. */
#ifndef RWPM_H
#define RWPM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RWPM_API __attribute__((visibility("default")))
#else
#define RWPM_API
#endif

/* Rises with every change that a program has to be compiled again for. */
#define RWPM_ABI 1

typedef enum {
  RWPM_OK = 0,
  RWPM_ERROR_ARGUMENT = 1, /* an argument is not as it has to be; the message names it, what was expected, what came */
  RWPM_ERROR_MEMORY = 2,   /* the system has not enough memory */
  RWPM_ERROR_THREADS = 3,  /* the system starts no more threads */
  RWPM_ERROR_BUSY = 4,     /* another thread is in a call with the same context or transition */
  RWPM_ERROR_CPU = 5,      /* the environment variable RWPM_ISA names an instruction set that this machine lacks */
  RWPM_ERROR_INTERNAL = 6  /* a fault of this library */
} rwpm_status;

/* Version of the library, such as "0.1.0". */
RWPM_API const char* rwpm_version(void);

/* RWPM_ABI of the library that is loaded. Other than the header's: the program has to be compiled again. */
RWPM_API int rwpm_abi(void);

/* Message of the last call in this thread that failed, up to 511 bytes; "" if none has. Valid until the next call. */
RWPM_API const char* rwpm_last_error(void);

/* Threads and memory that calls use again: after the first frame of a size, calls with frames of that size or a smaller
 * one make no heap allocation and map no memory. A frame that keeps more pairs than all before may still ask for the
 * right to write to more pages of what is mapped; and where RLIMIT_AS bounds the addresses of the process, it may map
 * more. One call at a time; for more, use more contexts. A fork does not take the threads along: a context serves only
 * the process that created it, and calls in another return RWPM_ERROR_ARGUMENT. */
typedef struct rwpm_context rwpm_context;

/* threads: that walk, the caller's among them, in [1, 1024]; 0: as many as the machine has.
 * context: receives the context, which rwpm_context_destroy frees.
 * Errors: ARGUMENT, MEMORY, THREADS, CPU. */
RWPM_API rwpm_status rwpm_context_create(int threads, rwpm_context** context);

/* Ends the threads and frees the memory. NULL is allowed. Not while a call is in progress. A context that was created
 * before a fork is left alone. */
RWPM_API void rwpm_context_destroy(rwpm_context* context);

/* Bytes that the context's memory takes at most: what the largest call so far has used. 0 for NULL. */
RWPM_API size_t rwpm_context_bytes(const rwpm_context* context);

/* Float32 numbers in memory: the element of row i and column k is data[i * row_stride + k * column_stride]. */
typedef struct {
  const float* data;
  int64_t rows, columns;             /* pixels N >= 0 and channels >= 0 */
  int64_t row_stride, column_stride; /* in elements, any sign */
} rwpm_matrix;

/* Pixel by pixel: data [N, channels]. */
static inline rwpm_matrix rwpm_pixels(const float* data, int64_t pixels, int64_t channels) {
  const rwpm_matrix matrix = {data, pixels, channels, channels, 1};
  return matrix;
}

/* Channel by channel, as networks make maps: data [channels, N], N = height * width. */
static inline rwpm_matrix rwpm_map(const float* data, int64_t channels, int64_t pixels) {
  const rwpm_matrix matrix = {data, pixels, channels, 1, pixels};
  return matrix;
}

/* Settings of a walk. Set them by rwpm_settings_init and then change some. */
typedef struct {
  size_t size;        /* sizeof(rwpm_settings), by rwpm_settings_init */
  double alpha;       /* continuing probability, in [0, 1]; 0.99 */
  int64_t steps;      /* transitions, >= 0; 20. The released code of the paper makes T + 1 for its T */
  double temperature; /* tau > 0; 0.01 */
  double tolerance;   /* mass that a row of S may drop, in [0, 1); 0: the exact walk. Above, pairs that matter are kept
                         in a sparse matrix, many times faster where the graph is sparse; no value is then off by more
                         than 2 * steps * tolerance * max|v|, and most are by far less. 1e-4 is a good choice */
  double anchor; /* cosine of a pixel with itself, as one more neighbor; -1 or lower: no anchor, the published walk */
  double anchor_share; /* share of the pixels to anchor, in [0, 1], by a cosine that follows from the frame; 0: by
                          anchor */
} rwpm_settings;

/* Sets the published defaults. size: sizeof(rwpm_settings). Errors: ARGUMENT. */
RWPM_API rwpm_status rwpm_settings_init(rwpm_settings* settings, size_t size);

/* What a call did. */
typedef enum { RWPM_PATH_NONE = 0, RWPM_PATH_STREAMING = 1, RWPM_PATH_SPARSE = 2 } rwpm_path;
typedef struct {
  size_t size;          /* sizeof(rwpm_stats), set by the caller */
  rwpm_path path;       /* none: there was nothing to walk; streaming: the exact walk; sparse: on a sparse matrix */
  int64_t pixels;       /* of the graph */
  int64_t pairs;        /* ordered pairs of pixels that a transition goes over */
  int64_t anchored;     /* pixels whose own value has at least half the weight of their row; 0 for a transition */
  double dropped_mass;  /* upper bound of the share of its mass that a row of S dropped or rounded */
  double pack_seconds;  /* finding and packing the pixels */
  double build_seconds; /* sums of rows, or the sparse matrix */
  double step_seconds;  /* all transitions */
} rwpm_stats;

/* Walks values on the graph of a frame's embeddings.
 *
 * embeddings: [N, D].
 * values: [N, C]; NULL: the embeddings.
 * mask: [N], true = valid; NULL: all valid.
 * settings: NULL: the published defaults.
 * out: [N, C] contiguous, receives the walked values; overlaps no input.
 * stats: receives what was done; NULL: not wanted.
 * Errors: ARGUMENT, MEMORY, BUSY, CPU. */
RWPM_API rwpm_status rwpm_walk(rwpm_context* context, const rwpm_matrix* embeddings, const rwpm_matrix* values,
                               const bool* mask, const rwpm_settings* settings, float* out, rwpm_stats* stats);

/* The graph of a frame, built once and walked many times: other values, other settings. It has memory of its own, which
 * every build uses again. One call at a time. */
typedef struct rwpm_transition rwpm_transition;

/* transition: receives one that is not built yet; rwpm_transition_destroy frees it. Errors: ARGUMENT, MEMORY. */
RWPM_API rwpm_status rwpm_transition_create(rwpm_transition** transition);

/* NULL is allowed. Not while a call is in progress. */
RWPM_API void rwpm_transition_destroy(rwpm_transition* transition);

/* Builds the graph of embeddings [N, D] and mask [N] or NULL, in place of an earlier one.
 *
 * settings: temperature and tolerance are used; NULL: the published defaults. With a tolerance of 0, and where the
 * graph is too dense for a sparse matrix, the embeddings are copied and every walk computes the weights again. width:
 * pixels in a row of the map, whose rows come one after the other; a hint that saves time; 0: guessed. stats: receives
 * path, pixels, pairs, dropped_mass and times; NULL: not wanted. Errors: ARGUMENT, which leave an earlier graph alone;
 * MEMORY, BUSY, CPU, after which no graph is built. */
RWPM_API rwpm_status rwpm_transition_build(rwpm_context* context, rwpm_transition* transition,
                                           const rwpm_matrix* embeddings, const bool* mask,
                                           const rwpm_settings* settings, int64_t width, rwpm_stats* stats);

/* Walks values on the graph. The result is that of rwpm_walk, bit for bit where that takes the same path with the same
 * width of the map.
 *
 * values: [N, C], finite in every pixel of the graph.
 * settings: alpha, steps, anchor and anchor_share are used; NULL: the published defaults.
 * out: [N, C] contiguous, receives the walked values; overlaps no input.
 * Errors: ARGUMENT, MEMORY, BUSY, CPU. */
RWPM_API rwpm_status rwpm_transition_walk(rwpm_context* context, rwpm_transition* transition, const rwpm_matrix* values,
                                          const rwpm_settings* settings, float* out);

#ifdef __cplusplus
}
#endif
#endif
