// The library that holds the operators of rwpm, which packages call and do not contain. Knows no torch.
#pragma once

#include <optional>
#include <string>

namespace rwpm::score {

constexpr const char* operator_library_name = "librwpm_ops.so";

/// Where to get the library, the end of messages about it.
extern const char* const operator_library_source;

/// A library that is loaded for the rest of the process.
struct OperatorLibrary {
  std::string path;  // of the file, or its bare name where the system found it
  int abi = 0;       // of all operators that exports call, their schemas and meaning: the library's rwpm_op_abi()
};

/// Loads the operator library, which has to happen before a package is loaded. Loaded once more it is the same one.
///
/// given: its path; if empty, the library beside the package is taken, else what dlopen finds by its name: in lib/
/// beside the folder of an installed program, in LD_LIBRARY_PATH, among the system's libraries. If the process holds
/// the operators already, nothing is loaded: a second copy would end the process. package: the package's path. Returns
/// none where none was given and none is found. Throws std::runtime_error: not where it was given, does not load, or
/// has no rwpm_op_abi; one line.
std::optional<OperatorLibrary> load_operator_library(const std::string& given, const std::string& package);

}  // namespace rwpm::score
