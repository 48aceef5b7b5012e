#include "cuda/ampere_step.h"
#include "cuda/channel_tiles.h"
#include "cuda/dispatch.h"

namespace rwpm::cuda {
namespace {

template <int WARPS, int KEYS, int WIDTH>
__global__ void __launch_bounds__(32 * WARPS) ampere_kernel(const ExactStep step, int first_channel) {
  extern __shared__ __align__(16) char shared[];
  ampere_step<WARPS, KEYS, WIDTH>(step, first_channel, shared);
}

template <typename Tile, int WARPS>
cudaError_t launch(const ExactStep& step, const ChannelTiles& tiles, cudaStream_t stream) {
  const auto kernel = ampere_kernel<WARPS, Tile::keys, Tile::width>;
  const int bytes = Tile::shared_bytes(step.channels);
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const dim3 grid(unsigned(step.padded / Tile::rows), unsigned(tiles.count), unsigned(step.batch));
  kernel<<<grid, Tile::threads, bytes, stream>>>(step, tiles.first);
  return cudaGetLastError();
}

// Calls visit with the largest AmpereTile for channel tiles of `width` that fits into shared memory; false where none
// fits.
template <typename Visit>
bool visit_tile(int width, int channels, int shared_bytes, const Visit& visit) {
  const auto first_fit = [&](auto large, auto small) {
    if (large.shared_bytes(channels) <= shared_bytes) return visit(large), true;
    if (small.shared_bytes(channels) <= shared_bytes) return visit(small), true;
    return false;
  };
  switch (width) {
    case 32:
      return first_fit(AmpereTile<8, 64, 32>{}, AmpereTile<4, 32, 32>{});
    case 64:
    case 128:
      return first_fit(AmpereTile<8, 64, 128>{}, AmpereTile<4, 32, 128>{});
    case 256:
      return first_fit(AmpereTile<8, 64, 256>{}, AmpereTile<4, 32, 256>{});
    default:
      return first_fit(AmpereTile<8, 64, 288>{}, AmpereTile<4, 32, 288>{});
  }
}

}  // namespace

bool ampere_supports(int channels, int width, int shared_bytes) {
  ChannelTiles runs[2];
  for (int i = channel_tiles(width, runs); i-- > 0;)
    if (!visit_tile(runs[i].width, channels, shared_bytes, [](auto) {})) return false;
  return true;
}

cudaError_t launch_ampere(const ExactStep& step, int shared_bytes, cudaStream_t stream) {
  ChannelTiles runs[2];
  const int count = channel_tiles(step.width, runs);
  for (int i = 0; i < count; ++i) {
    cudaError_t error = cudaErrorNotSupported;
    visit_tile(runs[i].width, step.channels, shared_bytes,
               [&](auto tile) { error = launch<decltype(tile), decltype(tile)::rows / 16>(step, runs[i], stream); });
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace rwpm::cuda
