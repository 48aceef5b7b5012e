#include "../latency.h"

#include "../percentile.h"
#include "tests.h"

namespace rwpm::score::tests {

namespace {

double percentile_of(std::vector<double> values, double percent) { return percentile(values, percent); }
bool near(double a, double b) { return a - b < 1e-9 && b - a < 1e-9; }

}  // namespace

void test_latency() {
  // numpy.percentile([9, 1, 4, 16], [0, 25, 50, 95, 100])
  const std::vector<double> values = {9, 1, 4, 16};
  expect(percentile_of(values, 0) == 1, "percentile 0");
  expect(near(percentile_of(values, 25), 3.25), "percentile 25");
  expect(near(percentile_of(values, 50), 6.5), "percentile 50");
  expect(near(percentile_of(values, 95), 14.95), "percentile 95");
  expect(percentile_of(values, 100) == 16, "percentile 100");
  expect(percentile_of({7}, 99) == 7, "percentile of one number");

  const Latency later = latency({100, 9, 1, 4, 16});
  expect(later.first == 100 && near(later.median, 6.5) && near(later.p95, 14.95) && later.mean == 7.5,
         "the first call is told apart");
  expect(latency({8}).first == 8 && latency({8}).p99 == 8, "a first call without others");

  const Measured measured{"a\"b.pt2", "compact", "2.13", 2, 12.5, 1 << 20, {3}, {100, 10, 30}, {1}};
  expect(json(measured) ==
             "{\n  \"package\": \"a\\\"b.pt2\",\n  \"network\": \"compact\",\n  \"torch\": \"2.13\",\n"
             "  \"threads\": 2,\n  \"load_ms\": 12.500,\n  \"peak_bytes\": 1048576,\n"
             "  \"decode\": {\"calls\": 1, \"first_ms\": 3.000, \"median_ms\": 3.000, \"p95_ms\": 3.000, "
             "\"p99_ms\": 3.000},\n"
             "  \"run\": {\"calls\": 3, \"first_ms\": 100.000, \"median_ms\": 20.000, \"p95_ms\": 29.000, "
             "\"p99_ms\": 29.800},\n"
             "  \"write\": {\"calls\": 1, \"first_ms\": 1.000, \"median_ms\": 1.000, \"p95_ms\": 1.000, "
             "\"p99_ms\": 1.000},\n"
             "  \"frames_per_second\": 50.000\n}\n",
         "JSON, got " + json(measured));
  Measured unknown = measured;
  unknown.peak_bytes.reset();
  expect(json(unknown).find("peak_bytes") == std::string::npos, "memory that is unknown is left out");
  const auto peak = peak_bytes();
  expect(!peak || (*peak > 1 << 20 && *peak < int64_t(1) << 40), "memory of this process");
  expect(table(measured).find("run           3     100.00      20.00      29.00      29.80\n") != std::string::npos &&
             table(measured).find("50.0 frames a second") != std::string::npos,
         "table, got " + table(measured));
}

}  // namespace rwpm::score::tests
