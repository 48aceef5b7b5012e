// JPEG by libjpeg. Its errors jump: a function that calls setjmp holds nothing that would need a destructor.
#include <csetjmp>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "exif.h"
#include "libjpeg.h"
#include "photo_formats.h"

namespace rwpm::score {

namespace {

struct Reader {
  jpeg_error_mgr errors;  // the first member: libjpeg hands its address back
  jpeg_decompress_struct jpeg = {};
  std::jmp_buf on_error;
  char message[JMSG_LENGTH_MAX] = "";

  Reader() = default;
  ~Reader() { jpeg_destroy_decompress(&jpeg); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
};

void keep_and_jump(j_common_ptr jpeg) {
  Reader& reader = *reinterpret_cast<Reader*>(jpeg->err);
  reader.errors.format_message(jpeg, reader.message);
  std::longjmp(reader.on_error, 1);
}

// libjpeg fills what is missing with gray and warns only; a photo that was cut off would be scored as if it were whole.
void warn(j_common_ptr jpeg, int level) {
  const int code = jpeg->err->msg_code;
  if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER)) keep_and_jump(jpeg);
}

bool read_header(Reader& reader, const Bytes& file) {
  if (setjmp(reader.on_error)) return false;
  jpeg_create_decompress(&reader.jpeg);
  jpeg_mem_src(&reader.jpeg, const_cast<uint8_t*>(file.data()), static_cast<unsigned long>(file.size()));
  jpeg_save_markers(&reader.jpeg, JPEG_APP0 + 1, 0xffff);  // EXIF
  jpeg_read_header(&reader.jpeg, TRUE);
  return true;
}

bool read_pixels(Reader& reader, uint8_t* pixels, size_t row_bytes) {
  if (setjmp(reader.on_error)) return false;
  reader.jpeg.out_color_space = JCS_RGB;
  jpeg_start_decompress(&reader.jpeg);
  while (reader.jpeg.output_scanline < reader.jpeg.output_height) {
    JSAMPROW row = pixels + reader.jpeg.output_scanline * row_bytes;
    jpeg_read_scanlines(&reader.jpeg, &row, 1);
  }
  jpeg_finish_decompress(&reader.jpeg);
  return true;
}

int orientation(const Reader& reader) {
  constexpr size_t prefix = 6;  // "Exif", 0, 0
  for (const jpeg_marker_struct* marker = reader.jpeg.marker_list; marker; marker = marker->next)
    if (marker->data_length > prefix && !std::memcmp(marker->data, "Exif\0", prefix))
      return exif_orientation(marker->data + prefix, marker->data_length - prefix);
  return 1;
}

}  // namespace

Photo decode_jpeg(const Bytes& file, const std::string& path) {
  Reader reader;
  reader.jpeg.err = jpeg_std_error(&reader.errors);
  reader.errors.error_exit = keep_and_jump;
  reader.errors.emit_message = warn;
  const auto fail = [&] { throw std::runtime_error(path + ": is a damaged JPEG file: " + reader.message); };
  if (!read_header(reader, file)) fail();
  if (reader.jpeg.jpeg_color_space == JCS_CMYK || reader.jpeg.jpeg_color_space == JCS_YCCK)
    throw std::runtime_error(path + ": expected a JPEG file in color or gray, got CMYK; convert it to RGB");
  Photo photo = empty_photo(reader.jpeg.image_height, reader.jpeg.image_width, path);
  const int turn = orientation(reader);  // before libjpeg ends, which frees the markers
  if (!read_pixels(reader, photo.pixels.data(), 3 * photo.width)) fail();
  return upright(std::move(photo), turn);
}

}  // namespace rwpm::score
