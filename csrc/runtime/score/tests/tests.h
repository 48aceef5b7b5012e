// The tests of rwpm-score's parts, one function a file, and what they share.
#pragma once

#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include "../photo.h"
#include "tests/expect.h"

namespace rwpm::score::tests {

using rwpm::tests::expect;

void test_exif();
void test_latency();
void test_metadata();
void test_options();
void test_overlay();
void test_photos();

// A file in the folder where the test runs, removed at the end.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string name) : path("score_test_" + std::move(name)) {}
  TemporaryFile(std::string name, const std::string& content) : TemporaryFile(std::move(name)) {
    std::ofstream(path, std::ios::binary) << content;
  }
  ~TemporaryFile() { std::remove(path.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::string path;
};

inline std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Calls something that must fail, with a message that holds all of `words`.
template <typename Call>
void expect_error(const Call& call, const std::vector<std::string>& words) {
  try {
    call();
    expect(false, "expected an error with: " + words.front());
  } catch (const std::exception& error) {
    const std::string message = error.what();
    for (const std::string& word : words) expect(message.find(word) != std::string::npos, word + " in: " + message);
    expect(message.find('\n') == std::string::npos, "one line: " + message);
  }
}

// EXIF data as a camera writes them: a TIFF header and two tags, of which the second is the orientation.
std::string exif_data(int orientation, bool big_endian = false);

// Every pixel another one, in every channel.
inline Photo sample_photo(int64_t height, int64_t width) {
  Photo photo{height, width, std::vector<uint8_t>(3 * height * width)};
  for (size_t k = 0; k < photo.pixels.size(); ++k) photo.pixels[k] = uint8_t(37 * k + k / 251);
  return photo;
}

}  // namespace rwpm::score::tests
