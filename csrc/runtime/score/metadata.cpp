#include "metadata.h"

#include <cstdlib>
#include <stdexcept>

namespace rwpm::score {

namespace {

constexpr const char* known_format = "1";

// "2.13" of "2.13.0+cpu".
std::string minor_version(const std::string& version) {
  const size_t dot = version.find('.');
  return dot == std::string::npos ? version : version.substr(0, version.find_first_not_of("0123456789", dot + 1));
}

// An instruction set that generated code uses and the processor lacks, "" for none. Of x86-64-v3 and v4 those are
// checked by which processors differ: AVX2, FMA and BMI2, and the five parts of AVX-512; the older ones of a level come
// with them. Other levels, and other processors, are not checked.
std::string missing_instructions([[maybe_unused]] const std::string& level) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool v4 = level == "x86-64-v4", v3 = v4 || level == "x86-64-v3";
#define RWPM_NEEDS(at_level, name) \
  if (at_level && !__builtin_cpu_supports(name)) return name
  RWPM_NEEDS(v3, "avx2");
  RWPM_NEEDS(v3, "fma");
  RWPM_NEEDS(v3, "bmi2");
  RWPM_NEEDS(v4, "avx512f");
  RWPM_NEEDS(v4, "avx512bw");
  RWPM_NEEDS(v4, "avx512cd");
  RWPM_NEEDS(v4, "avx512dq");
  RWPM_NEEDS(v4, "avx512vl");
#undef RWPM_NEEDS
#endif
  return "";
}

}  // namespace

const std::string& value(const Metadata& metadata, const std::string& key, const std::string& package) {
  const auto found = metadata.find(key);
  if (found == metadata.end())
    throw std::runtime_error(package + ": metadata lacks " + key +
                             ": no export of rwpm-fast; make one with rwpm-fast " + "export NETWORK --format pt2");
  return found->second;
}

std::optional<double> threshold(const Metadata& metadata, const std::string& package) {
  const std::string& text = value(metadata, "rwpm.threshold", package);
  if (text.empty()) return std::nullopt;
  char* end;
  const double number = std::strtod(text.c_str(), &end);
  if (*end) throw std::runtime_error(package + ": metadata rwpm.threshold: expected a number or nothing, got " + text);
  return number;
}

int64_t min_side(const Metadata& metadata, const std::string& package) {
  const std::string& text = value(metadata, "rwpm.min_side", package);
  char* end;
  const int64_t number = std::strtoll(text.c_str(), &end, 10);
  if (*end || number < 1)
    throw std::runtime_error(package + ": metadata rwpm.min_side: expected a number of pixels, got " + text);
  return number;
}

bool walks(const Metadata& metadata, const std::string& package) {
  return !value(metadata, "rwpm.walk", package).empty();
}

void check_runs_here(const Metadata& metadata, const std::string& torch, const std::string& package) {
  const std::string& format = value(metadata, "rwpm.format", package);
  if (format != known_format)
    throw std::runtime_error(package + ": expected rwpm.format " + known_format + ", got " + format +
                             "; take the rwpm-score of the version that exported it (" +
                             value(metadata, "rwpm.version", package) + ")");
  const std::string& exported = value(metadata, "rwpm.torch", package);
  if (minor_version(exported) != minor_version(torch))
    throw std::runtime_error(package + ": was exported with torch " + exported + ", this is torch " + torch +
                             ", and generated code runs in its own minor version only; export it again with torch " +
                             minor_version(torch));
  const std::string& device = value(metadata, "rwpm.device", package);
  if (device != "cpu") throw std::runtime_error(package + ": expected an export for the cpu, got one for " + device);
  const std::string& level = value(metadata, "rwpm.cpu", package);
  const std::string missing = missing_instructions(level);
  if (!missing.empty())
    throw std::runtime_error(package + ": was compiled for " + level + ", and this processor has no " + missing +
                             "; export it again for this processor");
}

}  // namespace rwpm::score
