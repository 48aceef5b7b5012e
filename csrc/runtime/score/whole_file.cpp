#include "whole_file.h"

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace rwpm::score {

void write_whole(const std::string& path, const std::function<bool(std::FILE*)>& write) {
  const std::string partial = path + ".partial";
  std::FILE* const file = std::fopen(partial.c_str(), "wb");
  bool ok = file && write(file);
  int reason = errno;
  if (file && std::fclose(file) && ok) {
    ok = false;
    reason = errno;
  }
  if (ok && std::rename(partial.c_str(), path.c_str())) {
    ok = false;
    reason = errno;
  }
  if (ok) return;
  if (file) std::remove(partial.c_str());
  throw std::runtime_error(path + ": cannot be written: " + std::strerror(reason));
}

}  // namespace rwpm::score
