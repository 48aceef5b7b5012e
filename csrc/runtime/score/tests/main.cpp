// Photos, pictures, overlays, latencies and messages of rwpm-score: everything but torch.
#include "tests.h"

int main() {
  using namespace rwpm::score::tests;
  test_exif();
  test_latency();
  test_metadata();
  test_options();
  test_overlay();
  test_photos();
  return rwpm::tests::outcome();
}
