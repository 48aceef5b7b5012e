#include <type_traits>

#include "cuda/channel_tiles.h"
#include "cuda/dispatch.h"
#include "cuda/hopper_step.h"

namespace rwpm::cuda {
namespace {

template <int N>
using Number = std::integral_constant<int, N>;

template <typename Tile>
__global__ void __launch_bounds__(Tile::threads, 1)
    hopper_kernel(const ExactStep step, const int first_channel, const __grid_constant__ TensorMaps maps) {
  extern __shared__ __align__(1024) char shared[];
  HopperKernel<Tile>(step, first_channel, maps, shared).run();
}

// The driver's cuTensorMapEncodeTiled, looked up at run time so that nothing needs to link with libcuda; null if
// missing.
decltype(&cuTensorMapEncodeTiled) tensor_map_encoder() {
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result) !=
            cudaSuccess ||
        result != cudaDriverEntryPointSuccess)
      function = nullptr;
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  return encode;
}

bool encode(CUtensorMap& map, const ExactStep& step, const Box& box) {
  const cuuint64_t row_bytes = cuuint64_t(box.channels) * sizeof(Half);
  const cuuint64_t sizes[3] = {cuuint64_t(box.channels), cuuint64_t(step.padded), cuuint64_t(step.batch)};
  const cuuint64_t strides[2] = {row_bytes, row_bytes * cuuint64_t(step.padded)};
  const cuuint32_t box_sizes[3] = {cuuint32_t(box.box_channels), cuuint32_t(box.box_pixels), 1};
  const cuuint32_t element_strides[3] = {1, 1, 1};
  const CUtensorMapSwizzle swizzle = box.box_channels == 64   ? CU_TENSOR_MAP_SWIZZLE_128B
                                     : box.box_channels == 32 ? CU_TENSOR_MAP_SWIZZLE_64B
                                                              : CU_TENSOR_MAP_SWIZZLE_32B;
  return tensor_map_encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 3, const_cast<Half*>(box.tensor), sizes, strides,
                              box_sizes, element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                              CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

template <typename Tile>
cudaError_t launch(const ExactStep& step, const ChannelTiles& tiles, int cluster_size, cudaStream_t stream) {
  Box boxes[map_count];
  Tile::boxes(step, boxes);
  TensorMaps maps;
  CUtensorMap* const all[map_count] = {&maps.query,    &maps.query_tail, &maps.key,
                                       &maps.key_tail, &maps.value,      &maps.value_tail};
  if (!tensor_map_encoder()) return cudaErrorNotSupported;
  for (int i = 0; i < map_count; ++i)
    if (!encode(*all[i], step, boxes[i])) return cudaErrorInvalidValue;

  const auto kernel = hopper_kernel<Tile>;
  constexpr int bytes = Tile::shared_bytes;
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const unsigned blocks = unsigned(step.padded / Tile::rows);
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = unsigned(cluster_size);
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim =
      dim3((blocks + cluster_size - 1) / cluster_size * cluster_size, unsigned(tiles.count), unsigned(step.batch));
  config.blockDim = dim3(Tile::threads);
  config.dynamicSmemBytes = bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, step, tiles.first, maps);
}

// Calls visit with the smallest HopperTile for rows of `channels` and channel tiles of `width`. Each has as many keys
// as shared memory and registers allow.
template <typename Visit>
void visit_tile(int channels, int width, const Visit& visit) {
  const auto with_channels = [&](auto number) {
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
  if (channels <= 64) return with_channels(Number<64>{});
  if (channels <= 128) return with_channels(Number<128>{});
  if (channels <= 256) return with_channels(Number<256>{});
  with_channels(Number<272>{});
}

}  // namespace

bool hopper_supports(int channels) { return channels <= 272; }

cudaError_t launch_hopper(const ExactStep& step, int cluster_size, cudaStream_t stream) {
  ChannelTiles runs[2];
  const int count = channel_tiles(step.width, runs);
  for (int i = 0; i < count; ++i) {
    cudaError_t error = cudaSuccess;
    visit_tile(step.channels, runs[i].width,
               [&](auto tile) { error = launch<decltype(tile)>(step, runs[i], cluster_size, stream); });
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace rwpm::cuda
