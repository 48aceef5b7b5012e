/* A frame for the installed program, and the check of what it made:
 *   walk_case write DIR      writes embeddings.npy, values.npy and mask.npy
 *   walk_case compare FILE   exit status 0 if FILE holds their walk */
#include "frames.h"
#include "npy.h"

static frame f;
static double expected[PIXELS * VALUES];

static int write_file(const char* folder, const char* name, npy_array array) {
  char path[4096], error[NPY_ERROR_SIZE];
  snprintf(path, sizeof(path), "%s/%s", folder, name);
  if (!npy_write(path, &array, error)) return 0;
  puts(error);
  return 1;
}

static int compare(const char* path) {
  char error[NPY_ERROR_SIZE];
  npy_array walked;
  if (npy_read(path, &walked, error)) {
    puts(error);
    return 1;
  }
  const rwpm_settings s = {sizeof(s), 0.9, 5, 0.02, 0, -1, 0.1};
  walk_by_definition(&f, f.mask, &s, expected);
  const int fits =
      walked.type == NPY_FLOAT32 && walked.rank == 2 && walked.shape[0] == PIXELS && walked.shape[1] == VALUES;
  const double error_found = fits ? difference(walked.data, expected) : INFINITY;
  npy_free(&walked);
  printf("%s: off by at most %.2g\n", path, error_found);
  return !(error_found <= 1e-5);
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  fill_frame(3, 0.3f, &f);
  if (!strcmp(argv[1], "compare")) return compare(argv[2]);
  return write_file(argv[2], "embeddings.npy", (npy_array){NPY_FLOAT32, 2, {PIXELS, CHANNELS}, f.embeddings}) ||
         write_file(argv[2], "values.npy", (npy_array){NPY_FLOAT32, 2, {PIXELS, VALUES}, f.values}) ||
         write_file(argv[2], "mask.npy", (npy_array){NPY_BOOL, 1, {PIXELS}, f.mask});
}
