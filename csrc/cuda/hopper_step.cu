#include <type_traits>

#include "cuda/channel_tiles.h"
#include "cuda/hopper_step.h"
#include "cuda/launch.h"

namespace rwpm::cuda {
namespace {

template <int N>
using Number = std::integral_constant<int, N>;

template <typename Tile>
__global__ void __launch_bounds__(Tile::threads, 1)
    hopper_kernel(const Step step, const int first_channel, const __grid_constant__ Maps maps) {
  extern __shared__ __align__(1024) char shared[];
  HopperStep<Tile>(step, first_channel, maps, shared).run();
}

// The driver's function, asked for at run time: what links with this library needs no libcuda.
decltype(&cuTensorMapEncodeTiled) encoder() {
  static const auto found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result) !=
            cudaSuccess ||
        result != cudaDriverEntryPointSuccess)
      function = nullptr;
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  return found;
}

bool encode(CUtensorMap& map, const Step& step, const Box& box) {
  const cuuint64_t row = cuuint64_t(box.channels) * sizeof(Half);
  const cuuint64_t sizes[3] = {cuuint64_t(box.channels), cuuint64_t(step.padded), cuuint64_t(step.batch)};
  const cuuint64_t strides[2] = {row, row * cuuint64_t(step.padded)};
  const cuuint32_t extent[3] = {cuuint32_t(box.box_channels), cuuint32_t(box.box_pixels), 1};
  const cuuint32_t every[3] = {1, 1, 1};
  const CUtensorMapSwizzle swizzle = box.box_channels == 64   ? CU_TENSOR_MAP_SWIZZLE_128B
                                     : box.box_channels == 32 ? CU_TENSOR_MAP_SWIZZLE_64B
                                                              : CU_TENSOR_MAP_SWIZZLE_32B;
  return encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 3, const_cast<Half*>(box.table), sizes, strides, extent,
                   every, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                   CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

template <typename Tile>
cudaError_t launch(const Step& step, const Panel& panel, int cluster, cudaStream_t stream) {
  Box boxes[map_count];
  Tile::boxes(step, boxes);
  Maps maps;
  CUtensorMap* const all[map_count] = {&maps.query,    &maps.query_tail, &maps.key,
                                       &maps.key_tail, &maps.value,      &maps.value_tail};
  if (!encoder()) return cudaErrorNotSupported;
  for (int i = 0; i < map_count; ++i)
    if (!encode(*all[i], step, boxes[i])) return cudaErrorInvalidValue;

  const auto kernel = hopper_kernel<Tile>;
  constexpr int bytes = Tile::shared_bytes;
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const unsigned blocks = unsigned(step.padded / Tile::rows);
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = unsigned(cluster);
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3((blocks + cluster - 1) / cluster * cluster, unsigned(panel.count), unsigned(step.batch));
  config.blockDim = dim3(Tile::threads);
  config.dynamicSmemBytes = bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, step, panel.first, maps);
}

// Calls visit with the tile of so many channels and values at least: as many keys as shared memory and registers hold.
template <typename Visit>
void visit_tile(int channels, int width, const Visit& visit) {
  const auto of_channels = [&](auto number) {
    constexpr int c = decltype(number)::value;
    switch (width) {
      case 32:
        return visit(HopperTile<c, 128, 0, 32>{});
      case 64:
        return visit(HopperTile<c, 112, 64, 0>{});
      case 128:
        return visit(HopperTile<c, c <= 256 ? 96 : 80, 128, 0>{});
      case 256:
        return visit(HopperTile<c, c <= 256 ? 80 : 64, 256, 0>{});
      default:
        return visit(HopperTile<c, 64, 256, 32>{});
    }
  };
  if (channels <= 64) return of_channels(Number<64>{});
  if (channels <= 128) return of_channels(Number<128>{});
  if (channels <= 256) return of_channels(Number<256>{});
  of_channels(Number<272>{});
}

}  // namespace

bool hopper_takes(int channels) { return channels <= 272; }

cudaError_t hopper_step(const Step& step, int cluster, cudaStream_t stream) {
  Panel panels[2];
  const int count = panels_of(step.width, panels);
  for (int i = 0; i < count; ++i) {
    cudaError_t error = cudaSuccess;
    visit_tile(step.channels, panels[i].width,
               [&](auto tile) { error = launch<decltype(tile)>(step, panels[i], cluster, stream); });
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace rwpm::cuda
