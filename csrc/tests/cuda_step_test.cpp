// The GPU kernels of the streaming step, run on the host (see emulator.h), against the definition.

#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "check.h"
#include "cuda/ampere_step.h"
#include "cuda/channel_tiles.h"
#include "cuda/hopper_step.h"

namespace {

using namespace rwpm::cuda;
using rwpm::tests::expect;

struct Case {
  int batch, padded, pixels, channels, width;
  bool adjoint = false, chosen = false;
  // So low a temperature that rounding changes logits by an eighth; of whole numbers, whose products are exact, and of
  // five kinds of pixels, so that each has equals.
  bool steep = false;
};

// What a kernel is given, and what it shall return.
struct Problem {
  std::vector<Half> keys, start, source, target;
  std::vector<float> inverse, largest, inverse_sum, wanted;
  std::vector<int8_t> streams;
  Step step;

  explicit Problem(const Case& c) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    const size_t rows = size_t(c.batch) * size_t(c.padded);
    keys.resize(rows * size_t(c.channels));
    start.resize(rows * size_t(c.width));
    source.resize(rows * size_t(c.width));
    target.assign(rows * size_t(c.width), 0x7e00);
    inverse.assign(rows, 0);
    largest.assign(rows, std::numeric_limits<float>::infinity());
    inverse_sum.assign(rows, 0);
    wanted.assign(rows * size_t(c.width), 0);
    streams.assign(rows / block_pixels, 1);
    if (c.chosen)
      for (size_t i = 0; i < streams.size(); ++i) streams[i] = i % 3 == 1;
    for (int b = 0; b < c.batch; ++b)
      for (int i = 0; i < c.padded; ++i) {
        const size_t row = size_t(b * c.padded + i);
        const bool valid = i < c.pixels && i % 37 != 5;
        double norm = 0;
        for (int k = 0; k < c.channels; ++k) {
          Half& h = keys[row * size_t(c.channels) + size_t(k)];
          const float x =
              c.steep ? float(int((i % 5 + 2) * (k % 7 + 3) * (k % (i % 5 + 2) + 1)) % 13 - 6) : normal(random);
          h = valid ? half_of_float(x) : 0;
          norm += float_of_half(h) * float_of_half(h);
        }
        inverse[row] = valid ? float(1 / std::sqrt(norm)) : 0;
        for (int k = 0; k < c.width; ++k) {
          start[row * size_t(c.width) + size_t(k)] = half_of_float(normal(random));
          source[row * size_t(c.width) + size_t(k)] = valid ? half_of_float(normal(random)) : 0;
        }
      }
    step = {};
    step.keys = keys.data();
    step.inverse = inverse.data();
    step.largest = largest.data();
    step.inverse_sum = inverse_sum.data();
    step.streams = c.chosen ? streams.data() : nullptr;
    step.start = start.data();
    step.source = source.data();
    step.target = target.data();
    step.batch = c.batch;
    step.padded = c.padded;
    step.channels = c.channels;
    step.width = c.width;
    step.scale = c.steep ? 2e6f : 6;
    step.alpha = 0.75f;
    step.adjoint = c.adjoint;
    for (int b = 0; b < c.batch; ++b) define(c, b);
  }

  void define(const Case& c, int b) {
    const size_t first = size_t(b) * size_t(c.padded), n = size_t(c.padded);
    std::vector<double> logit(n * n);
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) {
        double sum = 0;
        for (size_t k = 0; k < size_t(c.channels); ++k)
          sum += float_of_half(keys[(first + i) * size_t(c.channels) + k]) *
                 double(float_of_half(keys[(first + j) * size_t(c.channels) + k]));
        if (c.steep)  // as the kernels round
          logit[i * n + j] = float(sum) * inverse[first + j] * (inverse[first + i] * step.scale);
        else
          logit[i * n + j] = sum * inverse[first + i] * inverse[first + j] * step.scale;
      }
    const auto counts = [&](size_t i, size_t j) { return i != j && inverse[first + j] != 0; };
    for (size_t i = 0; i < n; ++i) {
      if (inverse[first + i] == 0) continue;
      double most = -1e9, total = 0;
      for (size_t j = 0; j < n; ++j)
        if (counts(i, j)) most = std::max(most, logit[i * n + j]);
      for (size_t j = 0; j < n; ++j)
        if (counts(i, j)) total += std::exp2(logit[i * n + j] - most);
      largest[first + i] = float(most);
      inverse_sum[first + i] = float(1 / total);
    }
    std::vector<double> sum(size_t(c.width));
    for (size_t i = 0; i < n; ++i) {
      std::fill(sum.begin(), sum.end(), 0);
      for (size_t j = 0; j < n; ++j) {
        if (i == j) continue;
        const size_t row = first + (c.adjoint ? j : i);
        const double weight = std::exp2(std::min(logit[i * n + j] - double(largest[row]), 0.0)) * inverse_sum[row];
        for (size_t k = 0; k < sum.size(); ++k) sum[k] += weight * float_of_half(source[(first + j) * sum.size() + k]);
      }
      for (size_t k = 0; k < sum.size(); ++k)
        wanted[(first + i) * sum.size() + k] =
            float(step.alpha * sum[k] + (1 - step.alpha) * float_of_half(start[(first + i) * sum.size() + k]));
    }
  }

  // Weights are off by 2^-11 of themselves, and so are results; blocks that do not stream keep what they held.
  void check(const std::string& name) const {
    double worst = 0;
    bool kept = true;
    for (size_t i = 0; i < target.size(); ++i) {
      if (step.streams && !step.streams[i / size_t(step.width) / block_pixels]) {
        kept &= target[i] == 0x7e00;
        continue;
      }
      const double off = std::fabs(float_of_half(target[i]) - double(wanted[i]));
      worst = std::max(worst, std::isnan(off) ? 1e9 : off);
    }
    std::printf("%s: off by %.1e\n", name.c_str(), worst);
    expect(worst < 1.5e-3, name + ": off by " + std::to_string(worst));
    expect(kept, name + ": a block that does not stream was written to");
  }
};

std::string describe(const Case& c) {
  return std::to_string(c.batch) + "x" + std::to_string(c.padded) + " D " + std::to_string(c.channels) + " C " +
         std::to_string(c.width) + (c.adjoint ? " adjoint" : "") + (c.chosen ? " chosen" : "") +
         (c.steep ? " steep" : "");
}

template <int WARPS, int KEYS, int WIDTH>
void check_ampere(const Case& c, bool lazy) {
  using Tile = AmpereTile<WARPS, KEYS, WIDTH>;
  Problem problem(c);
  const Launch launch = {{unsigned(c.padded / Tile::rows), unsigned((c.width + WIDTH - 1) / WIDTH), unsigned(c.batch)},
                         1,
                         unsigned(Tile::threads),
                         uint32_t(Tile::shared_bytes(c.channels)),
                         1,
                         lazy};
  run(launch, [&](char* shared) { ampere_step<WARPS, KEYS, WIDTH>(problem.step, 0, shared); });
  problem.check("ampere " + std::to_string(KEYS) + " keys, " + describe(c));
}

template <int CHANNELS, int KEYS, int WIDE, int TAIL>
void check_hopper(const Case& c, unsigned cluster_size, bool lazy, uint32_t chance = 1) {
  using Tile = HopperTile<CHANNELS, KEYS, WIDE, TAIL>;
  Problem problem(c);
  Box boxes[map_count];
  Tile::boxes(problem.step, boxes);
  CUtensorMap all[map_count];
  for (int i = 0; i < map_count; ++i)
    all[i] = {boxes[i].table, boxes[i].channels, c.padded, c.batch, boxes[i].box_channels, boxes[i].box_pixels};
  const Maps maps = {all[0], all[1], all[2], all[3], all[4], all[5]};
  const unsigned blocks = (unsigned(c.padded / Tile::rows) + cluster_size - 1) / cluster_size * cluster_size;
  const Launch launch = {{blocks, unsigned((c.width + Tile::width - 1) / Tile::width), unsigned(c.batch)},
                         cluster_size,
                         unsigned(Tile::threads),
                         Tile::shared_bytes,
                         chance,
                         lazy};
  run(launch, [&](char* shared) { HopperStep<Tile>(problem.step, 0, maps, shared).run(); });
  problem.check("hopper " + std::to_string(KEYS) + " keys, " + std::to_string(cluster_size) + " blocks a cluster, " +
                describe(c));
}

void check_halves() {
  for (int h = 0; h < 65536; ++h) {
    const float x = float_of_half(uint16_t(h));
    if (!std::isnan(x)) expect(half_of_float(x) == h, "float16 " + std::to_string(h));
  }
  expect(half_of_float(1 + 0x1p-11f) == half_of_float(1) && half_of_float(1 + 0x3p-11f) == half_of_float(1) + 2,
         "ties to even");
}

// Bits as in the PTX manual: start 0-13, leading offset 16-29, stride 32-45, all in 16 bytes; swizzle 62-63.
void check_descriptors() {
  expect(summed_channels(0x12400, 128) == (0x4000004000010000ull | 0x1240), "rows of 128 bytes, K-major");
  expect(summed_channels(0x100, 32) == (0xc000001000010000ull | 0x10), "rows of 32 bytes, K-major");
  expect(summed_rows(0x400, 128, 80 * 128) == (0x4000004002800000ull | 0x40), "rows of 128 bytes, MN-major");
  expect(summed_rows(0x400, 64, 16) == (0x8000002000010000ull | 0x40), "rows of 64 bytes, MN-major");
}

void check_panels() {
  for (int width = 16; width <= 1200; width += 16) {
    Panel panels[2];
    int end = 0, unused = 0;
    for (int i = 0, count = panels_of(width, panels); i < count; ++i) {
      expect(panels[i].first == end, "panels of " + std::to_string(width) + " follow each other");
      end += panels[i].count * panels[i].width;
      unused = end - width;
    }
    expect(unused >= 0 && unused < 128, "panels of " + std::to_string(width));
  }
}

void check_all() {
  check_halves();
  check_descriptors();
  check_panels();
  check_ampere<8, 64, 32>({1, 128, 120, 64, 32}, true);
  check_ampere<8, 64, 32>({1, 256, 250, 64, 32}, false);
  check_ampere<4, 32, 32>({2, 128, 128, 80, 48, false, true}, true);
  check_ampere<4, 32, 128>({1, 256, 250, 272, 112, true}, false);
  check_ampere<4, 32, 32>({1, 128, 120, 64, 32, false, false, true}, true);
  check_ampere<8, 64, 288>({1, 128, 100, 32, 272}, true);

  check_hopper<64, 128, 0, 32>({1, 128, 120, 64, 32}, 1, true);
  for (int blocks = 2; blocks < 5; ++blocks)
    check_hopper<64, 128, 0, 32>({1, blocks * 128, blocks * 128 - 9, 64, 32}, 2, blocks != 3);
  check_hopper<64, 128, 0, 32>({1, 128, 120, 64, 32, false, false, true}, 1, true);
  check_hopper<64, 128, 0, 32>({1, 128, 120, 64, 32, true, false, true}, 1, true);
  check_hopper<64, 112, 64, 0>({2, 256, 250, 48, 64}, 1, false);
  check_hopper<64, 96, 128, 0>({1, 256, 256, 64, 112, true}, 2, true);
  check_hopper<128, 80, 256, 0>({1, 384, 380, 128, 256}, 2, true);
  check_hopper<272, 64, 256, 32>({1, 128, 128, 272, 272}, 1, true);
  check_hopper<272, 64, 256, 0>({1, 128, 128, 272, 304}, 2, false);
  for (uint32_t chance = 2; chance < 6; ++chance)
    check_hopper<64, 80, 256, 0>({2, 384, 300, 16, 32, chance % 2 == 1, true}, 2, chance < 4, chance);
}

}  // namespace

int main() {
  try {
    check_all();
  } catch (const std::exception& e) {
    expect(false, e.what());
  }
  std::printf(rwpm::tests::failures ? "%d failures\n" : "all passed\n", rwpm::tests::failures);
  return rwpm::tests::failures ? 1 : 0;
}
