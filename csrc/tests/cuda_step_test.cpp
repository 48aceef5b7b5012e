// Tests the GPU kernels of the exact step, run on the host by the emulator (tests/emulator), against the definition.
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
  bool adjoint = false;
  bool some_blocks = false;  // one block in three streams
  // So low a temperature that rounding changes logits by an eighth. Keys are whole numbers, whose products are exact,
  // and take five values only, so that every pixel has equal ones.
  bool low_temperature = false;
};

// The arguments of a kernel, and the result that it should have.
struct TestStep {
  std::vector<Half> keys, start, source, target;
  std::vector<float> inv_norm, row_max, inv_row_sum, alpha, expected;
  std::vector<int8_t> streaming_blocks;
  ExactStep step;

  explicit TestStep(const Case& c) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    const size_t rows = size_t(c.batch) * size_t(c.padded);
    keys.resize(rows * size_t(c.channels));
    start.resize(rows * size_t(c.width));
    source.resize(rows * size_t(c.width));
    target.assign(rows * size_t(c.width), 0x7e00);
    inv_norm.assign(rows, 0);
    row_max.assign(rows, std::numeric_limits<float>::infinity());
    inv_row_sum.assign(rows, 0);
    alpha.assign(rows, 0);
    expected.assign(rows * size_t(c.width), 0);
    streaming_blocks.assign(rows / block_pixels, 1);
    if (c.some_blocks)
      for (size_t i = 0; i < streaming_blocks.size(); ++i) streaming_blocks[i] = i % 3 == 1;
    for (int b = 0; b < c.batch; ++b)
      for (int i = 0; i < c.padded; ++i) {
        const size_t row = size_t(b * c.padded + i);
        const bool valid = i < c.pixels && i % 37 != 5;
        double norm = 0;
        for (int k = 0; k < c.channels; ++k) {
          Half& h = keys[row * size_t(c.channels) + size_t(k)];
          const float x = c.low_temperature ? float(int((i % 5 + 2) * (k % 7 + 3) * (k % (i % 5 + 2) + 1)) % 13 - 6)
                                            : normal(random);
          h = valid ? float_to_half(x) : 0;
          norm += half_to_float(h) * half_to_float(h);
        }
        inv_norm[row] = valid ? float(1 / std::sqrt(norm)) : 0;
        for (int k = 0; k < c.width; ++k) {
          start[row * size_t(c.width) + size_t(k)] = float_to_half(normal(random));
          source[row * size_t(c.width) + size_t(k)] = valid ? float_to_half(normal(random)) : 0;
        }
      }
    step = {};
    step.keys = keys.data();
    step.inv_norm = inv_norm.data();
    step.row_max = row_max.data();
    step.inv_row_sum = inv_row_sum.data();
    step.streaming_blocks = c.some_blocks ? streaming_blocks.data() : nullptr;
    step.start = start.data();
    step.source = source.data();
    step.target = target.data();
    step.batch = c.batch;
    step.padded = c.padded;
    step.channels = c.channels;
    step.width = c.width;
    step.scale = c.low_temperature ? 2e6f : 6;
    for (size_t row = 0; row < alpha.size(); ++row) alpha[row] = 0.5f + 0.5f * float(row % 7) / 7;
    step.alpha = alpha.data();
    step.adjoint = c.adjoint;
    for (int b = 0; b < c.batch; ++b) compute_expected(c, b);
  }

  void compute_expected(const Case& c, int b) {
    const size_t first = size_t(b) * size_t(c.padded), n = size_t(c.padded);
    std::vector<double> logit(n * n);
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) {
        double sum = 0;
        for (size_t k = 0; k < size_t(c.channels); ++k)
          sum += half_to_float(keys[(first + i) * size_t(c.channels) + k]) *
                 double(half_to_float(keys[(first + j) * size_t(c.channels) + k]));
        if (c.low_temperature)  // as the kernels round
          logit[i * n + j] = float(sum) * inv_norm[first + j] * (inv_norm[first + i] * step.scale);
        else
          logit[i * n + j] = sum * inv_norm[first + i] * inv_norm[first + j] * step.scale;
      }
    const auto is_pair = [&](size_t i, size_t j) { return i != j && inv_norm[first + j] != 0; };
    for (size_t i = 0; i < n; ++i) {
      if (inv_norm[first + i] == 0) continue;
      double max_logit = -1e9, row_sum = 0;
      for (size_t j = 0; j < n; ++j)
        if (is_pair(i, j)) max_logit = std::max(max_logit, logit[i * n + j]);
      for (size_t j = 0; j < n; ++j)
        if (is_pair(i, j)) row_sum += std::exp2(logit[i * n + j] - max_logit);
      row_max[first + i] = float(max_logit);
      inv_row_sum[first + i] = float(1 / row_sum);
    }
    std::vector<double> sum(size_t(c.width));
    for (size_t i = 0; i < n; ++i) {
      std::fill(sum.begin(), sum.end(), 0);
      for (size_t j = 0; j < n; ++j) {
        if (i == j) continue;
        const size_t row = first + (c.adjoint ? j : i);
        const double weight = std::exp2(std::min(logit[i * n + j] - double(row_max[row]), 0.0)) * inv_row_sum[row];
        for (size_t k = 0; k < sum.size(); ++k) sum[k] += weight * half_to_float(source[(first + j) * sum.size() + k]);
      }
      for (size_t k = 0; k < sum.size(); ++k)
        expected[(first + i) * sum.size() + k] = float(
            alpha[first + i] * sum[k] + (1 - alpha[first + i]) * half_to_float(start[(first + i) * sum.size() + k]));
    }
  }

  // Weights have a relative error of 2^-11, and so have results. Blocks that do not stream keep what they held.
  void check(const std::string& name) const {
    double max_error = 0;
    bool untouched = true;
    for (size_t i = 0; i < target.size(); ++i) {
      if (step.streaming_blocks && !step.streaming_blocks[i / size_t(step.width) / block_pixels]) {
        untouched &= target[i] == 0x7e00;
        continue;
      }
      const double error = std::fabs(half_to_float(target[i]) - double(expected[i]));
      max_error = std::max(max_error, std::isnan(error) ? 1e9 : error);
    }
    std::printf("%s: error up to %.1e\n", name.c_str(), max_error);
    expect(max_error < 1.5e-3, name + ": error of " + std::to_string(max_error));
    expect(untouched, name + ": a block that does not stream was written to");
  }
};

std::string describe(const Case& c) {
  return std::to_string(c.batch) + "x" + std::to_string(c.padded) + " D " + std::to_string(c.channels) + " C " +
         std::to_string(c.width) + (c.adjoint ? " adjoint" : "") + (c.some_blocks ? " some blocks" : "") +
         (c.low_temperature ? " low temperature" : "");
}

template <int WARPS, int KEYS, int WIDTH>
void check_ampere(const Case& c, bool lazy) {
  using Tile = AmpereTile<WARPS, KEYS, WIDTH>;
  TestStep test(c);
  const Launch launch = {{unsigned(c.padded / Tile::rows), unsigned((c.width + WIDTH - 1) / WIDTH), unsigned(c.batch)},
                         1,
                         unsigned(Tile::threads),
                         uint32_t(Tile::shared_bytes(c.channels)),
                         1,
                         lazy};
  run(launch, [&](char* shared) { ampere_step<WARPS, KEYS, WIDTH>(test.step, 0, shared); });
  test.check("ampere " + std::to_string(KEYS) + " keys, " + describe(c));
}

template <int CHANNELS, int KEYS, int WIDE, int TAIL>
void check_hopper(const Case& c, unsigned cluster_size, bool lazy, uint32_t seed = 1) {
  using Tile = HopperTile<CHANNELS, KEYS, WIDE, TAIL>;
  TestStep test(c);
  Box boxes[map_count];
  Tile::boxes(test.step, boxes);
  CUtensorMap all[map_count];
  for (int i = 0; i < map_count; ++i)
    all[i] = {boxes[i].tensor, boxes[i].channels, c.padded, c.batch, boxes[i].box_channels, boxes[i].box_pixels};
  const TensorMaps maps = {all[0], all[1], all[2], all[3], all[4], all[5]};
  const unsigned blocks = (unsigned(c.padded / Tile::rows) + cluster_size - 1) / cluster_size * cluster_size;
  const Launch launch = {{blocks, unsigned((c.width + Tile::width - 1) / Tile::width), unsigned(c.batch)},
                         cluster_size,
                         unsigned(Tile::threads),
                         Tile::shared_bytes,
                         seed,
                         lazy};
  run(launch, [&](char* shared) { HopperKernel<Tile>(test.step, 0, maps, shared).run(); });
  test.check("hopper " + std::to_string(KEYS) + " keys, " + std::to_string(cluster_size) + " blocks a cluster, " +
             describe(c));
}

void check_halves() {
  for (int h = 0; h < 65536; ++h) {
    const float x = half_to_float(uint16_t(h));
    if (!std::isnan(x)) expect(float_to_half(x) == h, "float16 " + std::to_string(h));
  }
  expect(float_to_half(1 + 0x1p-11f) == float_to_half(1) && float_to_half(1 + 0x3p-11f) == float_to_half(1) + 2,
         "ties to even");
}

// Bits as in the PTX manual: start 0-13, leading offset 16-29, stride 32-45, all in 16 bytes; swizzle 62-63.
void check_descriptors() {
  expect(kmajor_descriptor(0x12400, 128) == (0x4000004000010000ull | 0x1240), "rows of 128 bytes, K-major");
  expect(kmajor_descriptor(0x100, 32) == (0xc000001000010000ull | 0x10), "rows of 32 bytes, K-major");
  expect(mnmajor_descriptor(0x400, 128, 80 * 128) == (0x4000004002800000ull | 0x40), "rows of 128 bytes, MN-major");
  expect(mnmajor_descriptor(0x400, 64, 16) == (0x8000002000010000ull | 0x40), "rows of 64 bytes, MN-major");
}

void check_channel_tiles() {
  for (int width = 16; width <= 1200; width += 16) {
    ChannelTiles runs[2];
    int end = 0, unused = 0;
    for (int i = 0, count = channel_tiles(width, runs); i < count; ++i) {
      expect(runs[i].first == end, "tiles of " + std::to_string(width) + " channels follow each other");
      end += runs[i].count * runs[i].width;
      unused = end - width;
    }
    expect(unused >= 0 && unused < 128, "tiles of " + std::to_string(width) + " channels");
  }
}

void check_all() {
  check_halves();
  check_descriptors();
  check_channel_tiles();
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
  for (uint32_t seed = 2; seed < 6; ++seed)
    check_hopper<64, 80, 256, 0>({2, 384, 300, 16, 32, seed % 2 == 1, true}, 2, seed < 4, seed);
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
