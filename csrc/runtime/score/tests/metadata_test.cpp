#include "../metadata.h"

#include "tests.h"

namespace rwpm::score::tests {

namespace {

Metadata with(const std::string& key, const std::string& value) {
  Metadata metadata = {{"rwpm.format", "1"},   {"rwpm.version", "0.9"}, {"rwpm.torch", "2.13.0+cpu"},
                       {"rwpm.threshold", ""}, {"rwpm.walk", ""},       {"rwpm.device", "cpu"},
                       {"rwpm.cpu", ""},       {"rwpm.min_side", "64"}};
  metadata[key] = value;
  return metadata;
}

void check(const Metadata& metadata, const std::string& torch) { check_runs_here(metadata, torch, "a.pt2"); }

}  // namespace

void test_metadata() {
  for (const char* const torch : {"2.13", "2.13.1", "2.13.0+cu130"}) check(with("rwpm.torch", "2.13.0+cpu"), torch);
  check(with("rwpm.torch", "2.13"), "2.13.0");
  for (const char* const torch : {"2.1", "2.130", "2.14", "3.13"})
    expect_error([&] { check(with("rwpm.torch", "2.13.0+cpu"), torch); },
                 {"a.pt2: was exported with torch 2.13.0+cpu, this is torch " + std::string(torch)});
  expect_error([] { check(with("rwpm.format", "2"), "2.13"); }, {"a.pt2: expected rwpm.format 1, got 2", "0.9"});
  expect_error([] { check(with("rwpm.device", "cuda"), "2.13"); }, {"a.pt2: expected an export for the cpu"});
  expect_error([] { check({}, "2.13"); }, {"a.pt2: metadata lacks rwpm.format", "rwpm-fast export"});
  check(with("rwpm.cpu", "an unknown processor"), "2.13");

  expect(!threshold(with("rwpm.threshold", ""), "a.pt2"), "no threshold");
  expect(threshold(with("rwpm.threshold", "-2.5e-1"), "a.pt2") == -0.25, "a threshold");
  expect_error([] { threshold(with("rwpm.threshold", "high"), "a.pt2"); }, {"a.pt2", "rwpm.threshold", "high"});
  expect(min_side(with("rwpm.min_side", "385"), "a.pt2") == 385, "a smallest side");
  for (const char* const side : {"", "many", "0", "64.5"})
    expect_error([&] { min_side(with("rwpm.min_side", side), "a.pt2"); }, {"a.pt2", "rwpm.min_side", side});
  expect(walks(with("rwpm.walk", "{}"), "a.pt2") && !walks(with("rwpm.walk", ""), "a.pt2"), "whether it walks");
}

}  // namespace rwpm::score::tests
