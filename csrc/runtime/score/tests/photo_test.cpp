#include "../photo.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#ifdef RWPM_WITH_PNG
#include <png.h>
#endif
#ifdef RWPM_WITH_JPEG
#include "../libjpeg.h"
#endif

#include "tests.h"

namespace rwpm::score::tests {

namespace {

std::string bytes(const Photo& photo) { return {photo.pixels.begin(), photo.pixels.end()}; }

void test_ppm() {
  const Photo photo = sample_photo(3, 5);
  const TemporaryFile file("photo.ppm", "P6 # made by a test\n5 3\n255\n" + bytes(photo));
  const Photo read = read_photo(file.path);
  expect(read.height == 3 && read.width == 5 && read.pixels == photo.pixels, "a PPM file");
  const std::string whole = content(file.path);
  for (const size_t left : {2ul, 20ul, 24ul, whole.size() - 1}) {
    const TemporaryFile cut("cut.ppm", whole.substr(0, left));
    expect_error([&] { read_photo(cut.path); }, {cut.path, "cut off"});
  }
  const TemporaryFile deep("deep.ppm", "P6 1 1 65535 000000");
  expect_error([&] { read_photo(deep.path); }, {deep.path, "8 bits", "65535"});
  const TemporaryFile huge("huge.ppm", "P6 999999999 999999999 255 ");
  expect_error([&] { read_photo(huge.path); }, {huge.path, "pixels, got"});
}

void test_other_files() {
  const TemporaryFile gif("photo.gif", "GIF89a....");
  expect_error([&] { read_photo(gif.path); }, {gif.path, "PNG, JPEG or binary PPM"});
  const TemporaryFile empty("empty.png", "");
  expect_error([&] { read_photo(empty.path); }, {empty.path, "PNG, JPEG or binary PPM"});
  expect_error([] { read_photo("no_such_file.png"); }, {"no_such_file.png", "cannot be read", "No such file"});
  expect_error([] { read_photo("."); }, {".: cannot be read", "directory"});
#ifndef RWPM_WITH_PNG
  const TemporaryFile png("photo.png", "\x89PNG....");
  expect_error([&] { read_photo(png.path); }, {png.path + ": is a PNG file", "built without", "libpng"});
#endif
}

#ifdef RWPM_WITH_PNG

// Of samples of one byte, or of two in big-endian order; `samples` must hold whole rows.
void write_png(const std::string& path, const std::string& samples, int width, int depth, int color_type, int interlace,
               int orientation = 0) {
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  const int channels = color_type == PNG_COLOR_TYPE_RGB ? 3 : color_type == PNG_COLOR_TYPE_RGBA ? 4 : 1;
  const int row_bytes = (width * channels * depth + 7) / 8, height = int(samples.size()) / row_bytes;
  png_init_io(png, file);
  png_set_IHDR(png, info, width, height, depth, color_type, interlace, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  png_color palette[] = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}, {250, 251, 252}};
  if (color_type == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(png, info, palette, 4);
  if (orientation) {
    std::string exif = exif_data(orientation, true);
    png_set_eXIf_1(png, info, png_uint_32(exif.size()), reinterpret_cast<png_bytep>(exif.data()));
  }
  png_write_info(png, info);
  std::vector<png_bytep> rows(height);
  for (int y = 0; y < height; ++y)
    rows[y] = reinterpret_cast<png_bytep>(const_cast<char*>(samples.data())) + y * row_bytes;
  png_write_image(png, rows.data());
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  std::fclose(file);
}

void test_png() {
  const TemporaryFile file("photo.png");
  const auto expect_pixels = [&](const std::string& pixels, const std::string& what) {
    expect(bytes(read_photo(file.path)) == pixels, what);
  };
  const Photo photo = sample_photo(6, 7);
  for (const int interlace : {PNG_INTERLACE_NONE, PNG_INTERLACE_ADAM7}) {
    write_png(file.path, bytes(photo), 7, 8, PNG_COLOR_TYPE_RGB, interlace);
    expect_pixels(bytes(photo), "PNG in color");
  }
  const Photo read = read_photo(file.path);
  expect(read.height == 6 && read.width == 7, "size of a PNG file");

  const std::string whole = content(file.path);
  for (const size_t left : {size_t(9), whole.size() / 2, whole.size() - 20}) {
    const TemporaryFile cut("cut.png", whole.substr(0, left));
    expect_error([&] { read_photo(cut.path); }, {cut.path, "damaged PNG file: "});
  }
  std::string damaged = whole;
  damaged[whole.size() / 2] ^= 1;
  const TemporaryFile flipped("flipped.png", damaged);
  expect_error([&] { read_photo(flipped.path); }, {flipped.path, "damaged PNG file: "});

  write_png(file.path, std::string("\0\5\xff\x80", 4), 2, 8, PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE);
  expect_pixels(std::string("\0\0\0\5\5\5\xff\xff\xff\x80\x80\x80", 12), "gray PNG");
  write_png(file.path, "\xa0", 3, 1, PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE);
  expect_pixels(std::string("\xff\xff\xff\0\0\0\xff\xff\xff", 9), "PNG of one bit");
  write_png(file.path, "\xe4", 4, 2, PNG_COLOR_TYPE_PALETTE, PNG_INTERLACE_NONE);
  expect_pixels("\xfa\xfb\xfc\7\x8\x9\4\5\6\1\2\3", "PNG with a palette");
  write_png(file.path, std::string("\1\2\3\0\4\5\6\x7f", 8), 2, 8, PNG_COLOR_TYPE_RGBA, PNG_INTERLACE_NONE);
  expect_pixels("\1\2\3\4\5\6", "PNG with alpha, which is dropped");
  write_png(file.path, std::string("\x80\xff\x12\0\xff\xff", 6), 1, 16, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE);
  expect_pixels("\x80\x12\xff", "PNG of 16 bits, rounded");
#ifdef PNG_eXIf_SUPPORTED
  write_png(file.path, "\1\2\3\4\5\6", 2, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, 6);
  const Photo turned = read_photo(file.path);
  expect(turned.height == 2 && turned.width == 1 && bytes(turned) == "\1\2\3\4\5\6", "PNG with an orientation");
#endif
}

#endif
#ifdef RWPM_WITH_JPEG

std::string jpeg(const Photo& photo, J_COLOR_SPACE space, int channels, int orientation = 0) {
  jpeg_compress_struct encoder;
  jpeg_error_mgr errors;
  encoder.err = jpeg_std_error(&errors);
  jpeg_create_compress(&encoder);
  unsigned char* data = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&encoder, &data, &size);
  encoder.image_width = JDIMENSION(photo.width);
  encoder.image_height = JDIMENSION(photo.height);
  encoder.input_components = channels;
  encoder.in_color_space = space;
  jpeg_set_defaults(&encoder);
  jpeg_set_quality(&encoder, 95, TRUE);
  encoder.comp_info[0].h_samp_factor = encoder.comp_info[0].v_samp_factor = 1;  // colors as sharp as brightness
  jpeg_start_compress(&encoder, TRUE);
  if (orientation) {
    const std::string exif = std::string("Exif\0\0", 6) + exif_data(orientation);
    jpeg_write_marker(&encoder, JPEG_APP0 + 1, reinterpret_cast<const JOCTET*>(exif.data()), unsigned(exif.size()));
  }
  std::vector<uint8_t> row(photo.width * channels);
  for (int64_t y = 0; y < photo.height; ++y) {
    for (int64_t x = 0; x < photo.width; ++x)
      for (int c = 0; c < channels; ++c) row[x * channels + c] = photo.pixels[3 * (y * photo.width + x) + c % 3];
    JSAMPROW pointer = row.data();
    jpeg_write_scanlines(&encoder, &pointer, 1);
  }
  jpeg_finish_compress(&encoder);
  const std::string file(reinterpret_cast<char*>(data), size);
  jpeg_destroy_compress(&encoder);
  std::free(data);
  return file;
}

// Two plain halves, left and right, which JPEG keeps to within a few levels.
Photo halves(int64_t height, int64_t width) {
  Photo photo = sample_photo(height, width);
  for (int64_t k = 0; k < height * width; ++k) {
    const uint8_t left[] = {200, 60, 20}, right[] = {20, 80, 160};
    std::memcpy(&photo.pixels[3 * k], k % width < width / 2 ? left : right, 3);
  }
  return photo;
}

int largest_difference(const Photo& a, const Photo& b) {
  int largest = 256;
  if (a.height == b.height && a.width == b.width) largest = 0;
  for (size_t k = 0; largest < 256 && k < a.pixels.size(); ++k)
    largest = std::max(largest, std::abs(int(a.pixels[k]) - int(b.pixels[k])));
  return largest;
}

void test_jpeg() {
  const Photo photo = halves(32, 64);
  const std::string whole = jpeg(photo, JCS_RGB, 3);
  const TemporaryFile file("photo.jpg", whole);
  expect(largest_difference(read_photo(file.path), photo) <= 4, "a JPEG file");
  for (const size_t left : {size_t(20), whole.size() / 2, whole.size() - 30}) {
    const TemporaryFile cut("cut.jpg", whole.substr(0, left));
    expect_error([&] { read_photo(cut.path); }, {cut.path, "damaged JPEG file: "});
  }
  const TemporaryFile gray("gray.jpg", jpeg(photo, JCS_GRAYSCALE, 1));
  const Photo read = read_photo(gray.path);
  expect(std::abs(read.pixels[0] - 200) <= 2 && read.pixels[1] == read.pixels[0], "a gray JPEG file");
  const TemporaryFile cmyk("cmyk.jpg", jpeg(photo, JCS_CMYK, 4));
  expect_error([&] { read_photo(cmyk.path); }, {cmyk.path, "CMYK"});
  const TemporaryFile turned("turned.jpg", jpeg(photo, JCS_RGB, 3, 8));
  const Photo shown = read_photo(turned.path);  // turned to the left: the right half is on top
  expect(shown.height == 64 && shown.width == 32 && std::abs(shown.pixels[0] - 20) <= 4 &&
             std::abs(shown.pixels[3 * 32 * 63] - 200) <= 4,
         "a JPEG file with an orientation");
}

#endif

}  // namespace

void test_photos() {
  test_ppm();
  test_other_files();
#ifdef RWPM_WITH_PNG
  test_png();
#endif
#ifdef RWPM_WITH_JPEG
  test_jpeg();
#endif
}

}  // namespace rwpm::score::tests
