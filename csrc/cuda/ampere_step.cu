#include "cuda/ampere_step.h"
#include "cuda/channel_tiles.h"
#include "cuda/launch.h"

namespace rwpm::cuda {
namespace {

template <int WARPS, int KEYS, int WIDTH>
__global__ void __launch_bounds__(32 * WARPS) ampere_kernel(const Step step, int first_channel) {
  extern __shared__ __align__(16) char shared[];
  ampere_step<WARPS, KEYS, WIDTH>(step, first_channel, shared);
}

template <typename Tile, int WARPS>
cudaError_t launch(const Step& step, const Panel& panel, cudaStream_t stream) {
  const auto kernel = ampere_kernel<WARPS, Tile::keys, Tile::width>;
  const int bytes = Tile::shared_bytes(step.channels);
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const dim3 grid(unsigned(step.padded / Tile::rows), unsigned(panel.count), unsigned(step.batch));
  kernel<<<grid, Tile::threads, bytes, stream>>>(step, panel.first);
  return cudaGetLastError();
}

// Calls visit.operator()<WARPS, Tile>() with the first tile of a panel's width that fits; false where none does.
template <typename Visit>
bool visit_tile(int width, int channels, int shared, const Visit& visit) {
  const auto first_of = [&](auto large, auto small) {
    if (large.shared_bytes(channels) <= shared) return visit(large), true;
    if (small.shared_bytes(channels) <= shared) return visit(small), true;
    return false;
  };
  switch (width) {
    case 32:
      return first_of(AmpereTile<8, 64, 32>{}, AmpereTile<4, 32, 32>{});
    case 64:
    case 128:
      return first_of(AmpereTile<8, 64, 128>{}, AmpereTile<4, 32, 128>{});
    case 256:
      return first_of(AmpereTile<8, 64, 256>{}, AmpereTile<4, 32, 256>{});
    default:
      return first_of(AmpereTile<8, 64, 288>{}, AmpereTile<4, 32, 288>{});
  }
}

}  // namespace

bool ampere_takes(int channels, int width, int shared) {
  Panel panels[2];
  for (int i = panels_of(width, panels); i-- > 0;)
    if (!visit_tile(panels[i].width, channels, shared, [](auto) {})) return false;
  return true;
}

cudaError_t ampere_step(const Step& step, int shared, cudaStream_t stream) {
  Panel panels[2];
  const int count = panels_of(step.width, panels);
  for (int i = 0; i < count; ++i) {
    cudaError_t error = cudaErrorNotSupported;
    visit_tile(panels[i].width, step.channels, shared,
               [&](auto tile) { error = launch<decltype(tile), decltype(tile)::rows / 16>(step, panels[i], stream); });
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace rwpm::cuda
