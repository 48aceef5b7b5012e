/* The C library: walks and transitions against the definition, and every error that can be brought about with its
 * message. Built a second time with AddressSanitizer and UndefinedBehaviorSanitizer. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frames.h"

#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static frame f;
static float out[PIXELS * VALUES], other[PIXELS * VALUES];
static double expected[PIXELS * VALUES];

static rwpm_settings published(void) {
  rwpm_settings s;
  expect(rwpm_settings_init(&s, sizeof(s)) == RWPM_OK, "the published defaults");
  return s;
}

static rwpm_context* context_of(int threads) {
  rwpm_context* context = NULL;
  expect(rwpm_context_create(threads, &context) == RWPM_OK, "a context");
  return context;
}

static void expect_same(const char* what) { expect(!memcmp(out, other, sizeof(out)), what); }

static void test_defaults(void) {
  const rwpm_settings s = published();
  expect(s.size == sizeof(s) && s.alpha == 0.99 && s.steps == 20 && s.temperature == 0.01 && s.tolerance == 0 &&
             s.anchor == -1 && s.anchor_share == 0,
         "defaults as published");
  expect(rwpm_abi() == RWPM_ABI, "the header is the library's");
  expect(strlen(rwpm_version()) > 2, "a version");
  expect(!strcmp(rwpm_last_error(), ""), "no error yet");
}

/* A walk against the definition, at 1 and 3 threads, in both layouts, and by a transition. */
static void test_walk(const char* what, const bool* mask, const rwpm_settings* s, rwpm_path path, double allowed) {
  static float map[PIXELS * CHANNELS], value_map[PIXELS * VALUES];
  const rwpm_matrix e = rwpm_pixels(f.embeddings, PIXELS, CHANNELS), v = rwpm_pixels(f.values, PIXELS, VALUES);
  rwpm_context *const one = context_of(1), *const three = context_of(3);
  rwpm_stats stats = {sizeof(stats), RWPM_PATH_NONE, 0, 0, 0, 0, 0, 0, 0};
  expect(rwpm_walk(one, &e, &v, mask, s, out, &stats) == RWPM_OK, what);
  walk_by_definition(&f, mask, s, expected);
  const double error = difference(out, expected);
  printf("%s: off by at most %.2g of %.2g, %lld pairs\n", what, error, allowed, (long long)stats.pairs);
  expect(error <= allowed, what);
  expect(stats.path == path && stats.pixels <= PIXELS && stats.pairs > 0 && stats.dropped_mass <= s->tolerance, what);
  expect((s->anchor_share > 0) == (stats.anchored > 0), what);
  expect(rwpm_context_bytes(one) > 0, "a context holds the memory of its walks");

  expect(rwpm_walk(three, &e, &v, mask, s, other, NULL) == RWPM_OK, what);
  expect_same("the same bits at 1 and 3 threads");
  for (int i = 0; i < PIXELS; ++i) {
    for (int d = 0; d < CHANNELS; ++d) map[d * PIXELS + i] = f.embeddings[i * CHANNELS + d];
    for (int c = 0; c < VALUES; ++c) value_map[c * PIXELS + i] = f.values[i * VALUES + c];
  }
  const rwpm_matrix of_map = rwpm_map(map, CHANNELS, PIXELS), of_values = rwpm_map(value_map, VALUES, PIXELS);
  memset(other, 0xff, sizeof(other));
  expect(rwpm_walk(three, &of_map, &of_values, mask, s, other, NULL) == RWPM_OK, what);
  expect_same("the same bits channel by channel");

  rwpm_transition* transition = NULL;
  expect(rwpm_transition_create(&transition) == RWPM_OK, "a transition");
  rwpm_stats built = {sizeof(built), RWPM_PATH_NONE, 0, 0, 0, 0, 0, 0, 0};
  for (int build = 0; build < 2; ++build) {
    expect(rwpm_transition_build(three, transition, &e, mask, s, 0, &built) == RWPM_OK, what);
    expect(built.path == stats.path && built.pixels == stats.pixels && built.pairs == stats.pairs &&
               built.dropped_mass == stats.dropped_mass,
           "a transition reports the same graph");
    memset(other, 0xff, sizeof(other));
    expect(rwpm_transition_walk(build ? one : three, transition, &of_values, s, other) == RWPM_OK, what);
    expect_same("the same bits by a transition");
  }
  rwpm_transition_destroy(transition);
  rwpm_context_destroy(one);
  rwpm_context_destroy(three);
}

static void test_walks(void) {
  rwpm_settings s = published();
  s.steps = 4;
  test_walk("exact", NULL, &s, RWPM_PATH_STREAMING, 1e-5);
  test_walk("exact, mask", f.mask, &s, RWPM_PATH_STREAMING, 1e-5);
  s.tolerance = 1e-4;
  test_walk("sparse", NULL, &s, RWPM_PATH_SPARSE, 2 * 4 * 1e-4);
  s.anchor_share = 0.3;
  test_walk("sparse, mask, share", f.mask, &s, RWPM_PATH_SPARSE, 2 * 4 * 1e-4);
  s.anchor_share = 0;
  s.anchor = 0.9;
  s.tolerance = 0;
  test_walk("exact, anchor", NULL, &s, RWPM_PATH_STREAMING, 1e-5);
}

/* Pixels that are not finite keep their value, and values default to the embeddings. */
static void test_broken_pixels(void) {
  static float walked[PIXELS * CHANNELS];
  rwpm_context* const context = context_of(2);
  rwpm_transition* transition = NULL;
  frame broken = f;
  broken.embeddings[7 * CHANNELS] = NAN;
  const rwpm_matrix e = rwpm_pixels(broken.embeddings, PIXELS, CHANNELS),
                    v = rwpm_pixels(broken.values, PIXELS, VALUES);
  rwpm_stats stats = {sizeof(stats), RWPM_PATH_NONE, 0, 0, 0, 0, 0, 0, 0};
  expect(rwpm_walk(context, &e, NULL, NULL, NULL, walked, &stats) == RWPM_OK, "the embeddings walk themselves");
  expect(stats.pixels == PIXELS - 1, "a broken pixel is no part of the graph");
  expect(!memcmp(walked + 7 * CHANNELS, broken.embeddings + 7 * CHANNELS, sizeof(float) * CHANNELS),
         "it keeps its value");
  expect(isfinite(walked[8 * CHANNELS]), "nobody reads it");

  expect(rwpm_transition_create(&transition) == RWPM_OK, "a transition");
  expect(rwpm_transition_build(context, transition, &e, NULL, NULL, WIDTH, NULL) == RWPM_OK, "builds");
  broken.values[7 * VALUES] = INFINITY; /* outside the graph */
  expect(rwpm_transition_walk(context, transition, &v, NULL, out) == RWPM_OK, "any value outside the graph");
  broken.values[9 * VALUES + 1] = NAN;
  expect(rwpm_transition_walk(context, transition, &v, NULL, out) == RWPM_ERROR_ARGUMENT,
         "a broken value in the graph");
  expect(!strcmp(rwpm_last_error(),
                 "values: expected finite numbers in the pixels of the graph, got 1 pixels with others; leave them out "
                 "of the graph with the mask"),
         rwpm_last_error());
  memset(broken.mask, 0, sizeof(broken.mask));
  expect(rwpm_transition_build(context, transition, &e, broken.mask, NULL, 0, &stats) == RWPM_OK, "an empty graph");
  expect(stats.path == RWPM_PATH_NONE && stats.pixels == 0, "is no path");
  expect(rwpm_transition_walk(context, transition, &v, NULL, out) == RWPM_OK, "walks");
  expect(!memcmp(out, broken.values, sizeof(out)), "every pixel keeps its value");
  rwpm_transition_destroy(transition);
  const rwpm_matrix nothing = rwpm_pixels(NULL, 0, CHANNELS);
  expect(rwpm_walk(context, &nothing, NULL, NULL, NULL, NULL, NULL) == RWPM_OK, "no pixels");
  rwpm_context_destroy(context);
}

static void expect_error(rwpm_status status, rwpm_status wanted, const char* message) {
  if (status == wanted && !strncmp(rwpm_last_error(), message, strlen(message))) return;
  ++failures;
  printf("FAILED: status %d, '%s'; expected %d, '%s'\n", status, rwpm_last_error(), wanted, message);
}

#define EXPECT_ARGUMENT(call, message) expect_error(call, RWPM_ERROR_ARGUMENT, message)

/* One setting at a time that is out of its range. */
static void test_settings(rwpm_context* context, const rwpm_matrix* e, const rwpm_matrix* v) {
  static const struct {
    rwpm_settings settings;
    const char* message;
  } cases[] = {
      {{0, 0.99, 20, 0.01, 0, -1, 0}, "settings: expected the size 56 that rwpm_settings_init sets, got 0"},
      {{56, 1.5, 20, 0.01, 0, -1, 0}, "alpha: expected a number in [0, 1], got 1.5"},
      {{56, NAN, 20, 0.01, 0, -1, 0}, "alpha: expected a number in [0, 1], got nan"},
      {{56, 0.99, -1, 0.01, 0, -1, 0}, "steps: expected 0 or more transitions, got -1"},
      {{56, 0.99, 20, 0, 0, -1, 0}, "temperature: expected a positive finite number, got 0"},
      {{56, 0.99, 20, INFINITY, 0, -1, 0}, "temperature: expected a positive finite number, got inf"},
      {{56, 0.99, 20, 0.01, 1, -1, 0}, "tolerance: expected a number in [0, 1), got 1"},
      {{56, 0.99, 20, 0.01, 0, NAN, 0}, "anchor: expected a cosine, or -1 for no anchor, got nan"},
      {{56, 0.99, 20, 0.01, 0, -1, 2}, "anchor_share: expected a number in [0, 1], got 2"},
      {{56, 0.99, 20, 0.01, 0, 0.5, 0.5}, "anchor_share: expected 0 with an anchor, got 0.5 and anchor 0.5"},
  };
  for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); ++k)
    EXPECT_ARGUMENT(rwpm_walk(context, e, v, NULL, &cases[k].settings, out, NULL), cases[k].message);
}

static void test_arguments(void) {
  rwpm_context *context = context_of(1), *none = NULL;
  rwpm_transition* transition = NULL;
  rwpm_settings s = published();
  const rwpm_matrix e = rwpm_pixels(f.embeddings, PIXELS, CHANNELS), v = rwpm_pixels(f.values, PIXELS, VALUES);
  const rwpm_matrix shorter = rwpm_pixels(f.values, 7, VALUES), negative = rwpm_pixels(f.values, -1, 2),
                    no_data = rwpm_pixels(NULL, PIXELS, VALUES);
  memset(out, 0x55, sizeof(out));
  memcpy(other, out, sizeof(out));
  test_settings(context, &e, &v);
  EXPECT_ARGUMENT(rwpm_settings_init(NULL, sizeof(s)), "settings: expected memory for them, got NULL");
  EXPECT_ARGUMENT(rwpm_settings_init(&s, 8), "size: expected 56, sizeof(rwpm_settings), got 8");
  EXPECT_ARGUMENT(rwpm_context_create(1, NULL), "context: expected memory for a pointer, got NULL");
  EXPECT_ARGUMENT(rwpm_context_create(-1, &none),
                  "threads: expected a number in [1, 1024], or 0 for as many as the machine has, got -1");
  EXPECT_ARGUMENT(rwpm_walk(NULL, &e, &v, NULL, NULL, out, NULL),
                  "context: expected one of rwpm_context_create, got NULL");
  EXPECT_ARGUMENT(rwpm_walk(context, NULL, &v, NULL, NULL, out, NULL), "embeddings: expected a matrix, got NULL");
  EXPECT_ARGUMENT(rwpm_walk(context, &negative, NULL, NULL, NULL, out, NULL),
                  "embeddings: expected 0 or more rows and columns, got [-1, 2]");
  EXPECT_ARGUMENT(rwpm_walk(context, &e, &shorter, NULL, NULL, out, NULL),
                  "values: expected shape [1200, C] to match embeddings [1200, 24], got [7, 3]");
  EXPECT_ARGUMENT(rwpm_walk(context, &e, &no_data, NULL, NULL, out, NULL),
                  "values: expected data of [1200, 3], got NULL");
  EXPECT_ARGUMENT(rwpm_walk(context, &e, &v, NULL, NULL, NULL, NULL), "out: expected data of [1200, 3], got NULL");
  EXPECT_ARGUMENT(rwpm_walk(context, &e, &v, NULL, NULL, f.values + 1, NULL),
                  "out: expected memory of its own, got some of an input's");
  EXPECT_ARGUMENT(rwpm_walk(context, &e, &v, NULL, NULL, f.embeddings, NULL),
                  "out: expected memory of its own, got some of an input's");
  const rwpm_matrix far_rows = {f.embeddings, PIXELS, CHANNELS, INT64_MAX / 1000, 1},
                    far_columns = {f.embeddings, PIXELS, CHANNELS, 1, INT64_MIN},
                    too_many = {f.embeddings, INT64_C(1) << 40, INT64_C(1) << 40, 0, 0};
  EXPECT_ARGUMENT(rwpm_walk(context, &far_rows, &v, NULL, NULL, out, NULL),
                  "embeddings: expected elements at addresses of 64 bits, got [1200, 24] with strides "
                  "[9223372036854775, 1]");
  EXPECT_ARGUMENT(rwpm_walk(context, &far_columns, &v, NULL, NULL, out, NULL),
                  "embeddings: expected elements at addresses of 64 bits, got");
  EXPECT_ARGUMENT(rwpm_walk(context, &too_many, &v, NULL, NULL, out, NULL),
                  "embeddings: expected elements at addresses of 64 bits, got");
  rwpm_stats stats = {0, RWPM_PATH_NONE, 0, 0, 0, 0, 0, 0, 0};
  EXPECT_ARGUMENT(rwpm_walk(context, &e, &v, NULL, NULL, out, &stats), "stats: expected the size 72, got 0");
  EXPECT_ARGUMENT(rwpm_transition_create(NULL), "transition: expected memory for a pointer, got NULL");
  expect(rwpm_transition_create(&transition) == RWPM_OK, "a transition");
  EXPECT_ARGUMENT(rwpm_transition_build(context, NULL, &e, NULL, NULL, 0, NULL),
                  "transition: expected one of rwpm_transition_create, got NULL");
  EXPECT_ARGUMENT(rwpm_transition_build(context, transition, &e, NULL, NULL, -1, NULL),
                  "width: expected 0 (not known) or more pixels, got -1");
  EXPECT_ARGUMENT(rwpm_transition_walk(context, transition, &v, NULL, out),
                  "transition: expected one that rwpm_transition_build has built");
  expect_same("a call with a wrong argument writes nothing");

  /* 2^46 pixels that are one and the same in memory. */
  const rwpm_matrix huge = {f.embeddings, INT64_C(1) << 46, 1, 0, 0};
  expect(rwpm_transition_build(context, transition, &e, NULL, NULL, 0, NULL) == RWPM_OK, "builds");
  expect_error(rwpm_transition_build(context, transition, &huge, NULL, NULL, 0, NULL), RWPM_ERROR_MEMORY,
               "rwpm_transition_build: the system has not enough memory for frames of this size");
  EXPECT_ARGUMENT(rwpm_transition_walk(context, transition, &v, NULL, out),
                  "transition: expected one that rwpm_transition_build has built");

  setenv("RWPM_ISA", "abacus", 1);
  expect_error(rwpm_walk(context, &e, &v, NULL, NULL, out, NULL), RWPM_ERROR_CPU,
               "RWPM_ISA: expected one that this machine has (");
  expect_error(rwpm_context_create(1, &none), RWPM_ERROR_CPU, "RWPM_ISA: expected one that this machine has (");
  unsetenv("RWPM_ISA");
  expect(rwpm_walk(context, &e, &v, NULL, NULL, out, NULL) == RWPM_OK, "a context works on after an error");
  rwpm_transition_destroy(transition);
  rwpm_context_destroy(context);
  rwpm_transition_destroy(NULL);
  rwpm_context_destroy(NULL);
}

/* Walks until it is told to end. */
typedef struct {
  rwpm_context* context;
  int end; /* atomic */
} other_caller;

static void* walk_on(void* argument) {
  static float walked[PIXELS * VALUES];
  other_caller* const caller = argument;
  const rwpm_matrix e = rwpm_pixels(f.embeddings, PIXELS, CHANNELS), v = rwpm_pixels(f.values, PIXELS, VALUES);
  while (!__atomic_load_n(&caller->end, __ATOMIC_RELAXED)) rwpm_walk(caller->context, &e, &v, NULL, NULL, walked, NULL);
  return NULL;
}

static void test_two_callers(void) {
  const rwpm_matrix e = rwpm_pixels(f.embeddings, 2, CHANNELS), v = rwpm_pixels(f.values, 2, VALUES);
  other_caller caller = {context_of(1), 0};
  pthread_t thread;
  expect(!pthread_create(&thread, NULL, walk_on, &caller), "a thread");
  rwpm_status status = RWPM_OK;
  while (status == RWPM_OK) status = rwpm_walk(caller.context, &e, &v, NULL, NULL, out, NULL);
  expect_error(status, RWPM_ERROR_BUSY,
               "context: expected one call at a time, got one during another; use one for every thread that calls");
  __atomic_store_n(&caller.end, 1, __ATOMIC_RELAXED);
  pthread_join(thread, NULL);
  rwpm_context_destroy(caller.context);
}

/* The threads of a context are not in a fork: a call there would wait for them forever. */
#if !defined(__SANITIZE_ADDRESS__)
static void test_fork(void) {
  const rwpm_matrix e = rwpm_pixels(f.embeddings, PIXELS, CHANNELS), v = rwpm_pixels(f.values, PIXELS, VALUES);
  rwpm_context* const context = context_of(3);
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    EXPECT_ARGUMENT(rwpm_walk(context, &e, &v, NULL, NULL, out, NULL),
                    "context: made before a fork; create one in the new process");
    rwpm_context_destroy(context);
    rwpm_context* const own = context_of(2);
    expect(rwpm_walk(own, &e, &v, NULL, NULL, out, NULL) == RWPM_OK, "a context of the new process");
    rwpm_context_destroy(own);
    fflush(stdout);
    _exit(failures ? 1 : 0);
  }
  int status = 1;
  expect(waitpid(child, &status, 0) == child && status == 0, "the forked process");
  expect(rwpm_walk(context, &e, &v, NULL, NULL, out, NULL) == RWPM_OK, "a context after a fork, where it was made");
  rwpm_context_destroy(context);
}
#endif

/* Where a process may have few addresses. Sanitizers need many. */
static void test_few_addresses(void) {
  const rwpm_matrix e = rwpm_pixels(f.embeddings, PIXELS, CHANNELS), v = rwpm_pixels(f.values, PIXELS, VALUES);
  struct rlimit before, few;
  rwpm_context *context = context_of(1), *none = NULL;
  getrlimit(RLIMIT_AS, &before);
  few = before;
  few.rlim_cur = (rlim_t)1 << 30;
  setrlimit(RLIMIT_AS, &few);
  expect(rwpm_walk(context, &e, &v, NULL, NULL, out, NULL) == RWPM_OK, "a walk with a GiB of addresses");
  rwpm_context_destroy(context);
  expect_error(rwpm_context_create(1024, &none), RWPM_ERROR_THREADS,
               "rwpm_context_create: the system starts no more threads (");
  setrlimit(RLIMIT_AS, &before);
  expect(none == NULL, "no context where there is an error");
}

int main(void) {
  fill_frame(1, 0.3f, &f);
  test_defaults();
  test_walks();
  test_broken_pixels();
  test_arguments();
  test_two_callers();
#if !defined(__SANITIZE_ADDRESS__)  // its own locks may be held by threads that a fork leaves behind
  test_fork();
#endif
  if (!SANITIZED) test_few_addresses();
  printf(failures ? "%d failures\n" : "all passed\n", failures);
  return failures ? 1 : 0;
}
