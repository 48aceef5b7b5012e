/* Calls after the first frames make no heap allocation and map no memory: this program's functions stand before those
 * of the C library and count. For frames that differ, so that a sparse walk keeps other pairs in every one. Rights to
 * pages that are mapped already may grow: for frames of 90 x 160 pixels, which this file is built for a second time,
 * they do. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "frames.h"

static int counted = 0, rights = 0; /* by any thread */

static void count(void) { __atomic_add_fetch(&counted, 1, __ATOMIC_RELAXED); }

/* glibc's own, under the names that it has for this purpose. operator new calls malloc. */
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  count();
  return __libc_malloc(size);
}
void* calloc(size_t n, size_t size) {
  count();
  return __libc_calloc(n, size);
}
void* realloc(void* memory, size_t size) {
  count();
  return __libc_realloc(memory, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  count();
  return __libc_memalign(alignment, size);
}
void* memalign(size_t alignment, size_t size) {
  count();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, size_t alignment, size_t size) {
  count();
  *memory = __libc_memalign(alignment, size);
  return *memory ? 0 : 12;
}
void* mmap(void* address, size_t length, int protection, int flags, int file, off_t offset) {
  count();
  return (void*)syscall(SYS_mmap, address, length, protection, flags, file, offset);
}
int mprotect(void* address, size_t length, int protection) {
  __atomic_add_fetch(&rights, 1, __ATOMIC_RELAXED);
  return (int)syscall(SYS_mprotect, address, length, protection);
}

enum { LARGE = PIXELS > 10000, FRAMES = LARGE ? 3 : 6, WARM_UP = 1 };
static frame frames[FRAMES];
static float out[PIXELS * VALUES];

/* The calls of a frame. */
static int run(rwpm_context* context, rwpm_transition* transition, const frame* f, const bool* mask,
               const rwpm_settings* s, rwpm_stats* stats) {
  const rwpm_matrix e = rwpm_pixels(f->embeddings, PIXELS, CHANNELS), v = rwpm_pixels(f->values, PIXELS, VALUES);
  return rwpm_walk(context, &e, &v, mask, s, out, stats) ||
         rwpm_transition_build(context, transition, &e, mask, s, 0, NULL) ||
         rwpm_transition_walk(context, transition, &v, s, out);
}

static void test(const char* what, int threads, bool masked, double tolerance, double anchor, double share) {
  rwpm_context* context = NULL;
  rwpm_transition* transition = NULL;
  rwpm_settings s;
  const int without = counted;
  int ok = !rwpm_settings_init(&s, sizeof(s)) && !rwpm_context_create(threads, &context) &&
           !rwpm_transition_create(&transition);
  expect(counted > without, "what the library allocates is counted");
  s.steps = 3;
  s.temperature = 1. / 97; /* more digits than a short string holds */
  s.tolerance = tolerance;
  s.anchor = anchor;
  s.anchor_share = share;
  rwpm_stats stats = {sizeof(stats), RWPM_PATH_NONE, 0, 0, 0, 0, 0, 0, 0};
  int64_t fewest = INT64_MAX, most = 0;
  int during = 0, grown = 0;
  for (int k = 0; k < FRAMES && ok; ++k) {
    const int before = __atomic_load_n(&counted, __ATOMIC_RELAXED),
              rights_before = __atomic_load_n(&rights, __ATOMIC_RELAXED);
    ok = !run(context, transition, &frames[k], masked ? frames[k].mask : NULL, &s, &stats);
    if (k >= WARM_UP) {
      during += __atomic_load_n(&counted, __ATOMIC_RELAXED) - before;
      grown += __atomic_load_n(&rights, __ATOMIC_RELAXED) - rights_before;
    }
    fewest = stats.pairs < fewest ? stats.pairs : fewest;
    most = stats.pairs > most ? stats.pairs : most;
  }
  printf("%s, %d threads: %d allocations, rights grew %d times, %lld to %lld pairs\n", what, threads, during, grown,
         (long long)fewest, (long long)most);
  expect(ok, rwpm_last_error());
  expect(stats.path == (tolerance > 0 ? RWPM_PATH_SPARSE : RWPM_PATH_STREAMING), "the path that is tested");
  expect(tolerance == 0 || most > fewest, "frames keep different numbers of pairs");
  expect(during == 0, what);
  expect((grown > 0) == LARGE, "rights grow for large frames only");
  rwpm_transition_destroy(transition);
  rwpm_context_destroy(context);
}

int main(void) {
  /* From sparse to dense, so that every frame needs more memory than those before. */
  const float noise = LARGE ? 1.5f : 0.5f, less = LARGE ? 0.6f : 0.08f;
  for (int k = 0; k < FRAMES; ++k) fill_frame((uint64_t)k, noise - less * (float)k, &frames[k]);
  if (LARGE) test("sparse, 90 x 160", 2, false, 1e-4, -1, 0);
  for (int threads = 1; threads <= 3 && !LARGE; threads += 2) {
    test("exact", threads, false, 0, -1, 0);
    test("exact, mask, anchor", threads, true, 0, 0.9, 0);
    test("sparse", threads, false, 1e-4, -1, 0);
    test("sparse, mask, share", threads, true, 1e-4, -1, 0.2);
  }
  printf(failures ? "%d failures\n" : "all passed\n", failures);
  return failures ? 1 : 0;
}
