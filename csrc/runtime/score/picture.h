// Pictures to files. Knows no torch.
#pragma once

#include <string>

#include "photo.h"

namespace rwpm::score {

/// Of the files that write_picture makes: ".png", or ".ppm" in a build without libpng.
extern const char* const picture_suffix;

/// Writes a picture whole or not at all: beside `path` first, from where it is renamed.
///
/// Throws std::runtime_error: it cannot be written; the message names the file.
void write_picture(const std::string& path, const Photo& picture);

}  // namespace rwpm::score
