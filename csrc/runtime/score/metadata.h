// What an exported package says of itself, and whether this process can run it. Knows no torch.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

namespace rwpm::score {

/// Flat map of a package, such as {"rwpm.torch", "2.13.0+cpu"}; see rwpm_fast.deploy.metadata for the keys.
using Metadata = std::unordered_map<std::string, std::string>;

/// The value of a key; throws std::runtime_error, which names the package and the key, where it is missing.
const std::string& value(const Metadata& metadata, const std::string& key, const std::string& package);

/// The threshold that the package was exported with, in units of its score; none if that was left empty.
/// Throws std::runtime_error where it is no number.
std::optional<double> threshold(const Metadata& metadata, const std::string& package);

/// Pixels that a side of a photo needs at least. Throws std::runtime_error where it is no number.
int64_t min_side(const Metadata& metadata, const std::string& package);

/// Whether the package calls the operator rwpm::walk.
bool walks(const Metadata& metadata, const std::string& package);

/// Checks that a package can run in this process, before any code of it is loaded: format, device, instruction set of
/// the processor, and torch, whose generated code is bound to one minor version.
///
/// torch: version of the torch that runs, "2.13". package: path, for messages.
/// Throws std::runtime_error: one line with what was wanted, what came, and the way out.
void check_runs_here(const Metadata& metadata, const std::string& torch, const std::string& package);

}  // namespace rwpm::score
