// Files that are written whole or not at all. Knows no torch.
#pragma once

#include <cstdio>
#include <functional>
#include <string>

namespace rwpm::score {

/// Writes a file beside `path` first, from where it is renamed once all is written.
///
/// write: writes to the open file; returns false where that fails.
/// Throws std::runtime_error: it cannot be written; the message names the file.
void write_whole(const std::string& path, const std::function<bool(std::FILE*)>& write);

}  // namespace rwpm::score
