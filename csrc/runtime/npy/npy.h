/* NumPy's .npy files for the programs of this folder: C order, little-endian, types of fixed size. Not part of librwpm.
 *
 * Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, versions 1.0, 2.0 and 3.0. */
#ifndef RWPM_NPY_H
#define RWPM_NPY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { NPY_MAX_RANK = 4, NPY_ERROR_SIZE = 512 };

/* In files '<f4', '|u1' and '|b1'. */
typedef enum { NPY_FLOAT32, NPY_UINT8, NPY_BOOL } npy_type;

typedef struct {
  npy_type type;
  int rank;
  int64_t shape[NPY_MAX_RANK]; /* [rank] */
  void* data;                  /* contiguous, the last dimension runs fastest; not NULL even if there is no element */
} npy_array;

/* Number of elements: the product of the shape. */
int64_t npy_elements(const npy_array* array);

/* Reads a file and checks it: header, type, order, rank, and that it holds exactly the elements of its shape.
 *
 * array: set on success only; the caller frees it with npy_free.
 * error: receives on failure a line that names the file, what was expected and what was found.
 * Returns 0 or, on failure, -1. */
int npy_read(const char* path, npy_array* array, char error[NPY_ERROR_SIZE]);

/* Writes a file whole or not at all: beside `path` first, from where it is renamed. Returns and errors as npy_read. */
int npy_write(const char* path, const npy_array* array, char error[NPY_ERROR_SIZE]);

/* Frees the data of an array that npy_read has set. */
void npy_free(npy_array* array);

#ifdef __cplusplus
}
#endif
#endif
