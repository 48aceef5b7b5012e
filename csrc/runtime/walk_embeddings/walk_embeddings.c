/* Walks values on the graph of embeddings, from and to .npy files, and prints how long walks take. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "npy.h"
#include "rwpm.h"

static const char usage[] =
    "usage: walk_embeddings EMBEDDINGS.npy OUT.npy [options]\n"
    "  EMBEDDINGS.npy      float32 [N, D]; a map is given pixel by pixel\n"
    "  OUT.npy             receives the walked values, float32 [N, C]\n"
    "  --values FILE       float32 [N, C] (the embeddings)\n"
    "  --mask FILE         bool [N], true = valid (all valid)\n"
    "  --alpha A           continuing probability, in [0, 1] (0.99)\n"
    "  --steps T           transitions (20)\n"
    "  --temperature TAU   of the softmax (0.01)\n"
    "  --tolerance M       mass that a row may drop, in [0, 1); 0: the exact walk (0)\n"
    "  --anchor S          cosine of a pixel with itself; -1: no anchor (-1)\n"
    "  --anchor-share P    share of the pixels to anchor, in [0, 1] (0)\n"
    "  --threads K         0: as many as the machine has (0)\n"
    "  --repeat R          walks to time; the first is printed apart (1)\n";

typedef struct {
  const char *embeddings, *out, *values, *mask;
  rwpm_settings settings;
  int threads, repeat;
} options;

static int fail(const char* message) {
  fprintf(stderr, "walk_embeddings: %s\n", message);
  return 1;
}

static int read_number(const char* option, const char* text, double* number) {
  char* end;
  errno = 0;
  *number = strtod(text, &end);
  if (end != text && !*end && !errno) return 0;
  fprintf(stderr, "walk_embeddings: %s: expected a number, got '%s'\n", option, text);
  return 1;
}

static int read_integer(const char* option, const char* text, long least, long most, long* number) {
  char* end;
  errno = 0;
  *number = strtol(text, &end, 10);
  if (end != text && !*end && !errno && *number >= least && *number <= most) return 0;
  fprintf(stderr, "walk_embeddings: %s: expected an integer in [%ld, %ld], got '%s'\n", option, least, most, text);
  return 1;
}

static int read_options(int argc, char** argv, options* o) {
  long number = 0;
  int paths = 0;
  for (int k = 1; k < argc; ++k) {
    const char *name = argv[k], *value = k + 1 < argc ? argv[k + 1] : NULL;
    if (strncmp(name, "--", 2)) {
      if (paths == 2) return fail("expected two files, got more; see --help");
      *(paths++ ? &o->out : &o->embeddings) = name;
      continue;
    }
    if (!value) {
      fprintf(stderr, "walk_embeddings: %s: expected a value behind it; see --help\n", name);
      return 1;
    }
    ++k;
    int status = 0;
    if (!strcmp(name, "--values")) {
      o->values = value;
    } else if (!strcmp(name, "--mask")) {
      o->mask = value;
    } else if (!strcmp(name, "--alpha")) {
      status = read_number(name, value, &o->settings.alpha);
    } else if (!strcmp(name, "--temperature")) {
      status = read_number(name, value, &o->settings.temperature);
    } else if (!strcmp(name, "--tolerance")) {
      status = read_number(name, value, &o->settings.tolerance);
    } else if (!strcmp(name, "--anchor")) {
      status = read_number(name, value, &o->settings.anchor);
    } else if (!strcmp(name, "--anchor-share")) {
      status = read_number(name, value, &o->settings.anchor_share);
    } else if (!strcmp(name, "--steps")) {
      status = read_integer(name, value, 0, 1000000, &number);
      o->settings.steps = number;
    } else if (!strcmp(name, "--threads")) {
      status = read_integer(name, value, 0, 1024, &number);
      o->threads = (int)number;
    } else if (!strcmp(name, "--repeat")) {
      status = read_integer(name, value, 1, 1000000, &number);
      o->repeat = (int)number;
    } else {
      fprintf(stderr, "walk_embeddings: unknown option %s; see --help\n", name);
      return 1;
    }
    if (status) return status;
  }
  return paths == 2 ? 0 : fail("expected EMBEDDINGS.npy and OUT.npy; see --help");
}

/* Reads an array and checks its type and rank; one that is refused is freed with the others. */
static int read_array(const char* path, npy_type type, int rank, const char* expected, npy_array* array) {
  char error[NPY_ERROR_SIZE];
  if (npy_read(path, array, error)) return fail(error);
  if (array->type == type && array->rank == rank) return 0;
  fprintf(stderr, "walk_embeddings: %s: expected %s, got %s of %d dimensions\n", path, expected,
          array->type == NPY_FLOAT32 ? "float32"
          : array->type == NPY_BOOL  ? "bool"
                                     : "uint8",
          array->rank);
  return 1;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int ascending(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

/* Of sorted numbers [count], interpolated between the two that are nearest. */
static double percentile(const double* sorted, int count, double percent) {
  const double place = percent / 100 * (count - 1);
  const int below = (int)place;
  return below + 1 < count ? sorted[below] + (place - below) * (sorted[below + 1] - sorted[below]) : sorted[below];
}

/* Prints what was done, and the times of all walks, [count], which it sorts. The first one sets the memory up and so
 * stands apart. */
static void print_times(const rwpm_stats* stats, size_t bytes, double* times, int count) {
  static const char* const paths[] = {"nothing to walk", "exact", "on a sparse matrix"};
  printf("%lld pixels, %lld pairs, %s, dropped mass at most %.3g, workspace %.1f MiB\n", (long long)stats->pixels,
         (long long)stats->pairs, paths[stats->path], stats->dropped_mass, (double)bytes / (1 << 20));
  printf("first %.2f ms", times[0] * 1e3);
  double* const later = times + 1;
  const int n = count - 1;
  if (n > 0) {
    qsort(later, (size_t)n, sizeof(double), ascending);
    printf(", then median %.2f ms, p95 %.2f ms of %d", percentile(later, n, 50) * 1e3, percentile(later, n, 95) * 1e3,
           n);
  }
  printf("\n");
}

/* Walks checked arrays, mask.data NULL for none, and writes the result. */
static int walk(const options* o, rwpm_context* context, const npy_array* e, const npy_array* v,
                const npy_array* mask) {
  const rwpm_matrix embeddings = rwpm_pixels(e->data, e->shape[0], e->shape[1]),
                    values = rwpm_pixels(v->data, v->shape[0], v->shape[1]);
  npy_array out = {NPY_FLOAT32, 2, {v->shape[0], v->shape[1]}, NULL};
  out.data = malloc((size_t)npy_elements(&out) * sizeof(float) + 1);
  double* const times = malloc((size_t)o->repeat * sizeof(double));
  int status = out.data && times ? 0 : fail("no memory");
  rwpm_stats stats;
  stats.size = sizeof(stats);
  for (int k = 0; k < o->repeat && !status; ++k) {
    const double start = seconds();
    if (rwpm_walk(context, &embeddings, &values, mask->data, &o->settings, out.data, &stats))
      status = fail(rwpm_last_error());
    times[k] = seconds() - start;
  }
  char error[NPY_ERROR_SIZE];
  if (!status && npy_write(o->out, &out, error)) status = fail(error);
  if (!status) print_times(&stats, rwpm_context_bytes(context), times, o->repeat);
  free(times);
  npy_free(&out);
  return status;
}

/* Reads the arrays, walks, and frees them. */
static int run(const options* o) {
  npy_array embeddings = {NPY_FLOAT32, 0, {0}, NULL}, values = embeddings, mask = embeddings;
  rwpm_context* context = NULL;
  int status = read_array(o->embeddings, NPY_FLOAT32, 2, "float32 [N, D]", &embeddings);
  if (!status && o->values) status = read_array(o->values, NPY_FLOAT32, 2, "float32 [N, C]", &values);
  if (!status && o->mask) status = read_array(o->mask, NPY_BOOL, 1, "bool [N]", &mask);
  if (!status && o->mask && mask.shape[0] != embeddings.shape[0]) {
    fprintf(stderr, "walk_embeddings: mask: expected shape [%lld] to match embeddings, got [%lld]\n",
            (long long)embeddings.shape[0], (long long)mask.shape[0]);
    status = 1;
  }
  if (!status && rwpm_context_create(o->threads, &context)) status = fail(rwpm_last_error());
  if (!status) status = walk(o, context, &embeddings, o->values ? &values : &embeddings, &mask);
  rwpm_context_destroy(context);
  npy_free(&embeddings);
  npy_free(&values);
  npy_free(&mask);
  return status;
}

int main(int argc, char** argv) {
  if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
    fputs(usage, stdout);
    return 0;
  }
  if (rwpm_abi() != RWPM_ABI) return fail("librwpm is of another ABI than the header; build this program again");
  options o = {NULL, NULL, NULL, NULL, {0}, 0, 1};
  if (rwpm_settings_init(&o.settings, sizeof(o.settings))) return fail(rwpm_last_error());
  const int status = read_options(argc, argv, &o);
  return status ? status : run(&o);
}
