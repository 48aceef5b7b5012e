/* .npy files: what is written reads back, and every kind of file that is not as expected is refused with its name. */
#include "npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;
static char error[NPY_ERROR_SIZE];

static void expect(int ok, const char* what) {
  if (ok) return;
  ++failures;
  printf("FAILED: %s\n", what);
}

static void test_round_trip(npy_array array) {
  npy_array read;
  expect(!npy_write("npy_test.npy", &array, error), error);
  if (npy_read("npy_test.npy", &read, error)) {
    expect(0, error);
    return;
  }
  expect(read.type == array.type && read.rank == array.rank, "type and rank");
  expect(!memcmp(read.shape, array.shape, sizeof(int64_t) * (size_t)array.rank), "shape");
  expect(!memcmp(read.data, array.data, (size_t)npy_elements(&array) * (array.type == NPY_FLOAT32 ? 4 : 1)),
         "elements");
  npy_free(&read);
}

/* A file of version `version` with a header and `bytes` of elements. */
static void test_refused(int version, const char* header, int bytes, const char* reason) {
  char message[NPY_ERROR_SIZE];
  npy_array read;
  FILE* const file = fopen("npy_test.npy", "wb");
  fwrite("\x93NUMPY", 1, 6, file);
  fputc(version, file);
  fputc(0, file);
  fputc((int)strlen(header), file);
  for (int k = version > 1 ? 3 : 1; k > 0; --k) fputc(0, file);
  fputs(header, file);
  for (int k = 0; k < bytes; ++k) fputc(1, file);
  fclose(file);
  if (!reason) {
    expect(!npy_read("npy_test.npy", &read, error), error);
    npy_free(&read);
    return;
  }
  snprintf(message, sizeof(message), "npy_test.npy: %s", reason);
  expect(npy_read("npy_test.npy", &read, error) == -1, message);
  if (strncmp(error, message, strlen(message))) printf("got: %s\n", error);
  expect(!strncmp(error, message, strlen(message)) && !strchr(error, '\n'), message);
}

int main(void) {
  float numbers[6] = {1, 2, 3, 4, 5, 6};
  uint8_t bytes[6] = {1, 0, 1, 1, 0, 1};
  test_round_trip((npy_array){NPY_FLOAT32, 2, {2, 3}, numbers});
  test_round_trip((npy_array){NPY_UINT8, 4, {1, 3, 2, 1}, bytes});
  test_round_trip((npy_array){NPY_BOOL, 1, {6}, bytes});
  test_round_trip((npy_array){NPY_FLOAT32, 0, {0}, numbers});
  test_round_trip((npy_array){NPY_FLOAT32, 2, {0, 3}, numbers});

  const char* const good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n";
  test_refused(1, good, 24, NULL);
  test_refused(2, good, 24, NULL);
  test_refused(1, "{'shape':(1,2,3),'descr':'<f4','fortran_order':False}", 24, NULL);
  test_refused(9, good, 24, "expected version 1, 2 or 3 of the .npy format, got 9");
  test_refused(1, good, 23, "expected 24 bytes of elements, got 23; the file is cut off");
  test_refused(1, good, 25, "expected 24 bytes of elements, got more than 24");
  test_refused(1, "{'shape': (3,), }\n", 0, "expected a header with descr, fortran_order and shape, got: {'shape'");
  test_refused(1, "", 0, "expected a header with descr, fortran_order and shape, got: ");
  test_refused(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", 24,
               "expected dtype float32, uint8 or bool, got '<f8'; convert it with astype");
  test_refused(1, "{'descr': '>f4', 'fortran_order': False, 'shape': (6,), }", 24,
               "expected dtype float32, uint8 or bool, got '>f4'; convert it with astype");
  test_refused(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", 24,
               "expected an array in C order; save numpy.ascontiguousarray of it");
  const char* const shapes[] = {
      "(1, 1, 1, 2, 3), }",         "(-1, 3), }", "(2 3), }", "(2, 3", "2, 3}", "(99999999999999999999,), }",
      "(4000000000, 4000000000), }"};
  for (size_t k = 0; k < sizeof(shapes) / sizeof(shapes[0]); ++k) {
    char header[128];
    snprintf(header, sizeof(header), "{'descr': '<f4', 'fortran_order': False, 'shape': %s", shapes[k]);
    test_refused(1, header, 24, "expected a shape of up to 4 dimensions that fits into memory, got ");
  }

  npy_array read;
  FILE* const file = fopen("npy_test.npy", "wb");
  fputs("P6 this is no array", file);
  fclose(file);
  expect(npy_read("npy_test.npy", &read, error) == -1 && strstr(error, "npy_test.npy: expected a .npy file"), error);
  remove("npy_test.npy");
  expect(npy_read("npy_test.npy", &read, error) == -1 && strstr(error, "npy_test.npy: cannot be read: "), error);
  const npy_array array = {NPY_FLOAT32, 1, {6}, numbers};
  expect(npy_write("no/folder.npy", &array, error) == -1 && strstr(error, "no/folder.npy: cannot be written: "), error);
  printf(failures ? "%d failures\n" : "all passed\n", failures);
  return failures ? 1 : 0;
}
