// PNG by libpng. Its errors jump: a function that calls setjmp holds nothing that would need a destructor.
#include <png.h>

#include <cstring>
#include <stdexcept>

#include "exif.h"
#include "photo_formats.h"

namespace rwpm::score {

namespace {

struct Source {
  const Bytes& file;
  size_t at;
};

struct Reader {
  png_structp png = nullptr;
  png_infop info = nullptr;
  char message[200] = "";
  Source source;

  explicit Reader(const Bytes& file) : source{file, 0} {}
  ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
};

void keep_and_jump(png_structp png, png_const_charp message) {
  Reader& reader = *static_cast<Reader*>(png_get_error_ptr(png));
  std::strncpy(reader.message, message, sizeof(reader.message) - 1);
  png_longjmp(png, 1);
}

void ignore(png_structp, png_const_charp) {}

void read(png_structp png, png_bytep data, png_size_t bytes) {
  Source& source = *static_cast<Source*>(png_get_io_ptr(png));
  if (source.file.size() - source.at < bytes) png_error(png, "the file is cut off");
  std::memcpy(data, source.file.data() + source.at, bytes);
  source.at += bytes;
}

bool read_header(Reader& reader) {
  if (setjmp(png_jmpbuf(reader.png))) return false;
  png_set_read_fn(reader.png, &reader.source, read);
  png_read_info(reader.png, reader.info);
  png_set_expand(reader.png);  // palettes to colors, 1, 2 and 4 bits to 8, transparency to alpha
  png_set_scale_16(reader.png);
  png_set_gray_to_rgb(reader.png);
  png_set_strip_alpha(reader.png);
  png_set_interlace_handling(reader.png);
  png_read_update_info(reader.png, reader.info);
  return true;
}

bool read_pixels(Reader& reader, png_bytepp rows) {
  if (setjmp(png_jmpbuf(reader.png))) return false;
  png_read_image(reader.png, rows);
  png_read_end(reader.png, reader.info);
  return true;
}

int orientation([[maybe_unused]] const Reader& reader) {
#ifdef PNG_eXIf_SUPPORTED
  png_uint_32 size = 0;
  png_bytep data = nullptr;
  if (png_get_eXIf_1(reader.png, reader.info, &size, &data) && data) return exif_orientation(data, size);
#endif
  return 1;
}

}  // namespace

Photo decode_png(const Bytes& file, const std::string& path) {
  Reader reader(file);
  reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, keep_and_jump, ignore);
  reader.info = reader.png ? png_create_info_struct(reader.png) : nullptr;
  if (!reader.info) throw std::runtime_error(path + ": libpng does not start: another version than it was built with");
  const auto fail = [&] { throw std::runtime_error(path + ": is a damaged PNG file: " + reader.message); };
  if (!read_header(reader)) fail();
  Photo photo =
      empty_photo(png_get_image_height(reader.png, reader.info), png_get_image_width(reader.png, reader.info), path);
  std::vector<png_bytep> rows(photo.height);
  for (int64_t y = 0; y < photo.height; ++y) rows[y] = &photo.pixels[3 * y * photo.width];
  if (!read_pixels(reader, rows.data())) fail();
  return upright(std::move(photo), orientation(reader));
}

}  // namespace rwpm::score
