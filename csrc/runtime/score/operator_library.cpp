#include "operator_library.h"

#include <dlfcn.h>

#include <filesystem>
#include <stdexcept>

namespace rwpm::score {

namespace fs = std::filesystem;

const char* const operator_library_source =
    "pip install rwpm-fast has it as rwpm_fast/librwpm_ops.so, and so has a build of this repository; "
    "name it with --library";

namespace {

constexpr const char* abi_symbol = "rwpm_op_abi";

OperatorLibrary loaded(const std::string& path, void* symbol) {
  if (!symbol)
    throw std::runtime_error(path + ": expected an operator library with " + abi_symbol +
                             ", got one without: it is of an older version, or another library; " +
                             operator_library_source);
  return {path, reinterpret_cast<int (*)()>(symbol)()};
}

}  // namespace

std::optional<OperatorLibrary> load_operator_library(const std::string& given, const std::string& package) {
  if (void* const there = dlsym(RTLD_DEFAULT, abi_symbol)) return loaded(operator_library_name, there);
  const fs::path beside = fs::absolute(package).parent_path() / operator_library_name;
  std::string path = operator_library_name;
  if (!given.empty())
    path = fs::absolute(given);
  else if (fs::exists(beside))
    path = beside;
  if (!given.empty() && !fs::exists(path))
    throw std::runtime_error(given + ": no such operator library; " + operator_library_source);
  void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!handle) {
    const std::string reason = dlerror();
    if (reason.find(std::string(operator_library_name) + ": cannot open") == 0) return std::nullopt;
    throw std::runtime_error(path + ": does not load: " + reason + "; take one that was built for this torch");
  }
  return loaded(path, dlsym(handle, abi_symbol));
}

}  // namespace rwpm::score
