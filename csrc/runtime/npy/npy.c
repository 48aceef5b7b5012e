#include "npy.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A file begins with this, a version and the length of its header, which is a dictionary in Python's notation. */
static const unsigned char magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
enum { PREFIX = 10, ALIGNMENT = 64, MAX_HEADER = 1 << 16 };

static const struct {
  npy_type type;
  const char* descr;
  size_t size;
} types[] = {{NPY_FLOAT32, "<f4", 4}, {NPY_UINT8, "|u1", 1}, {NPY_BOOL, "|b1", 1}};
enum { TYPES = sizeof(types) / sizeof(types[0]) };

static int fail(char* error, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error, NPY_ERROR_SIZE, format, arguments);
  va_end(arguments);
  return -1;
}

int64_t npy_elements(const npy_array* array) {
  int64_t elements = 1;
  for (int d = 0; d < array->rank; ++d) elements *= array->shape[d];
  return elements;
}

static size_t element_size(npy_type type) {
  for (int k = 0; k < TYPES; ++k)
    if (types[k].type == type) return types[k].size;
  return 0;
}

/* The text after `key` and its colon; NULL if the header has no such key. */
static const char* value_of(const char* header, const char* key) {
  const char* at = strstr(header, key);
  if (!at) return NULL;
  at += strlen(key);
  at += strspn(at, " ");
  if (*at != ':') return NULL;
  ++at;
  return at + strspn(at, " ");
}

/* Reads "(3, 4)", "(3,)" or "()". Returns false for other text, and for more elements than memory can hold. */
static int read_shape(const char* at, npy_array* array) {
  if (*at++ != '(') return 0;
  array->rank = 0;
  int64_t elements = 1;
  for (at += strspn(at, " "); *at != ')'; at += strspn(at, " ")) {
    char* end;
    if (*at < '0' || *at > '9' || array->rank == NPY_MAX_RANK) return 0;
    errno = 0;
    const long long size = strtoll(at, &end, 10);
    if (errno || size < 0 || (size > 0 && elements > INT64_MAX / 8 / size)) return 0;
    array->shape[array->rank++] = size;
    if (size > 0) elements *= size;
    at = end + strspn(end, " ");
    if (*at == ',')
      ++at;
    else if (*at != ')')
      return 0;
  }
  return 1;
}

static int read_header(const char* path, const char* header, npy_array* array, char* error) {
  const char *descr = value_of(header, "'descr'"), *order = value_of(header, "'fortran_order'"),
             *shape = value_of(header, "'shape'");
  if (!descr || !order || !shape)
    return fail(error, "%s: expected a header with descr, fortran_order and shape, got: %.*s", path,
                (int)strcspn(header, "\n"), header);
  int known = 0;
  for (int k = 0; k < TYPES; ++k) {
    const size_t length = strlen(types[k].descr);
    if (*descr == '\'' && !strncmp(descr + 1, types[k].descr, length) && descr[length + 1] == '\'') {
      array->type = types[k].type;
      known = 1;
    }
  }
  if (!known)
    return fail(error, "%s: expected dtype float32, uint8 or bool, got %.*s; convert it with astype", path,
                (int)strcspn(descr, ",}\n"), descr);
  if (strncmp(order, "False", 5))
    return fail(error, "%s: expected an array in C order; save numpy.ascontiguousarray of it", path);
  if (!read_shape(shape, array))
    return fail(error, "%s: expected a shape of up to %d dimensions that fits into memory, got %.*s", path,
                NPY_MAX_RANK, (int)strcspn(shape, "}\n"), shape);
  return 0;
}

static int read_file(FILE* file, const char* path, npy_array* array, char* error) {
  unsigned char prefix[PREFIX + 2];
  if (fread(prefix, 1, PREFIX, file) != PREFIX || memcmp(prefix, magic, sizeof(magic)))
    return fail(error, "%s: expected a .npy file, got another", path);
  size_t length = prefix[8] + ((size_t)prefix[9] << 8);
  if (prefix[6] == 2 || prefix[6] == 3) {
    if (fread(prefix + PREFIX, 1, 2, file) != 2) return fail(error, "%s: the file ends in its header", path);
    length += ((size_t)prefix[10] << 16) + ((size_t)prefix[11] << 24);
  } else if (prefix[6] != 1) {
    return fail(error, "%s: expected version 1, 2 or 3 of the .npy format, got %d", path, prefix[6]);
  }
  if (length > MAX_HEADER)
    return fail(error, "%s: expected a header of up to %d bytes, got %zu", path, MAX_HEADER, length);
  char* header = malloc(length + 1);
  if (!header) return fail(error, "%s: no memory for %zu bytes", path, length + 1);
  int status = 0;
  if (fread(header, 1, length, file) != length) {
    status = fail(error, "%s: the file ends in its header", path);
  } else {
    header[length] = 0;
    status = read_header(path, header, array, error);
  }
  free(header);
  if (status) return status;

  const size_t bytes = (size_t)npy_elements(array) * element_size(array->type);
  array->data = malloc(bytes ? bytes : 1);
  if (!array->data) return fail(error, "%s: no memory for %zu bytes", path, bytes);
  const size_t found = fread(array->data, 1, bytes, file);
  if (found != bytes || fgetc(file) != EOF) {
    npy_free(array);
    return fail(error,
                found != bytes ? "%s: expected %zu bytes of elements, got %zu; the file is cut off"
                               : "%s: expected %zu bytes of elements, got more than %zu",
                path, bytes, found);
  }
  if (array->type == NPY_BOOL) /* any other byte would be no bool of C */
    for (size_t k = 0; k < bytes; ++k) ((uint8_t*)array->data)[k] = ((uint8_t*)array->data)[k] != 0;
  return 0;
}

int npy_read(const char* path, npy_array* array, char error[NPY_ERROR_SIZE]) {
  FILE* const file = fopen(path, "rb");
  if (!file) return fail(error, "%s: cannot be read: %s", path, strerror(errno));
  npy_array read = {NPY_FLOAT32, 0, {0}, NULL};
  const int status = read_file(file, path, &read, error);
  fclose(file);
  if (!status) *array = read;
  return status;
}

int npy_write(const char* path, const npy_array* array, char error[NPY_ERROR_SIZE]) {
  char text[PREFIX + 3 * ALIGNMENT];
  const char* descr = "";
  for (int k = 0; k < TYPES; ++k)
    if (types[k].type == array->type) descr = types[k].descr;
  int length = PREFIX + sprintf(text + PREFIX, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
  for (int d = 0; d < array->rank; ++d)
    length += sprintf(text + length, "%lld,%s", (long long)array->shape[d], d + 1 < array->rank ? " " : "");
  length += sprintf(text + length, "), }");
  while ((length + 1) % ALIGNMENT) text[length++] = ' ';
  text[length++] = '\n';
  memcpy(text, magic, sizeof(magic));
  text[6] = 1;
  text[7] = 0;
  text[8] = (char)((length - PREFIX) & 0xff);
  text[9] = (char)((length - PREFIX) >> 8);

  char* const partial = malloc(strlen(path) + sizeof(".partial"));
  if (!partial) return fail(error, "%s: no memory", path);
  sprintf(partial, "%s.partial", path);
  const size_t bytes = (size_t)npy_elements(array) * element_size(array->type);
  FILE* const file = fopen(partial, "wb");
  int ok =
      file && fwrite(text, 1, (size_t)length, file) == (size_t)length && fwrite(array->data, 1, bytes, file) == bytes;
  int reason = errno;
  if (file && fclose(file) && ok) {
    ok = 0;
    reason = errno;
  }
  if (ok && rename(partial, path)) {
    ok = 0;
    reason = errno;
  }
  if (!ok && file) remove(partial);
  free(partial);
  return ok ? 0 : fail(error, "%s: cannot be written: %s", path, strerror(reason));
}

void npy_free(npy_array* array) {
  free(array->data);
  array->data = NULL;
}
