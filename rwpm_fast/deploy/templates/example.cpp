// Runs an exported model on one photo, without Python:
//   example model.pt2 librwpm_ops.so photo.ppm score.npy
// photo.ppm: binary PPM of 8 bits, such as `magick photo.jpg photo.ppm` makes. score.npy: float32 [H, W], higher is
// more anomalous. See CMakeLists.txt for how to build it; rwpm-score is the same with checks, other formats and
// latencies.
#include <ATen/ATen.h>
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

at::Tensor read_ppm(const std::string& path, int64_t min_side) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  int64_t width = 0, height = 0, largest = 0;
  file >> magic >> width >> height >> largest;
  if (!file || magic != "P6" || largest != 255 || width < min_side || height < min_side)
    throw std::runtime_error(path + ": expected a binary PPM file of 8 bits, at least " + std::to_string(min_side) +
                             " pixels a side");
  at::Tensor photo = at::empty({height, width, 3}, at::kByte);  // contiguous, RGB: what the model takes, unchecked
  file.get();
  if (!file.read(reinterpret_cast<char*>(photo.data_ptr()), photo.numel()))
    throw std::runtime_error(path + ": is cut off");
  return photo;
}

void write_npy(const std::string& path, const at::Tensor& map) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(map.size(0)) + ", " +
                       std::to_string(map.size(1)) + "), }";
  header.resize(117, ' ');  // so that the numbers begin at byte 128
  std::ofstream file(path, std::ios::binary);
  file << "\x93NUMPY\x01" << '\0' << char(118) << '\0' << header << '\n';
  file.write(reinterpret_cast<const char*>(map.const_data_ptr()), map.numel() * sizeof(float));
  if (!file.flush()) throw std::runtime_error(path + ": cannot be written");
}

// Loads the operators, which are not inside the package, and tells whether its code may run here: that has to be known
// before it is loaded. Returns the pixels that a side of a photo needs at least.
int64_t check(const std::string& package, const char* library) {
  auto metadata = torch::inductor::AOTIModelPackageLoader::load_metadata_from_package(package, "model");
  const std::string torch = std::to_string(TORCH_VERSION_MAJOR) + "." + std::to_string(TORCH_VERSION_MINOR) + ".";
  if (metadata["rwpm.torch"].find(torch) != 0)
    throw std::runtime_error(package + ": exported with torch " + metadata["rwpm.torch"] + ", this is " TORCH_VERSION);
  void* const operators = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
  if (!operators) throw std::runtime_error(dlerror());
  auto* const abi = reinterpret_cast<int (*)()>(dlsym(operators, "rwpm_op_abi"));
  if (!abi || std::to_string(abi()) != metadata["rwpm.op_abi"])
    throw std::runtime_error(std::string(library) + ": expected operators of ABI " + metadata["rwpm.op_abi"]);
  return std::stoll(metadata["rwpm.min_side"]);
}

int main(int count, char** words) {
  if (count != 5) {
    std::cerr << "usage: example model.pt2 librwpm_ops.so photo.ppm score.npy\n";
    return 2;
  }
  try {
    const int64_t min_side = check(words[1], words[2]);
    torch::inductor::AOTIModelPackageLoader model(words[1]);
    const std::vector<at::Tensor> outputs =
        model.run({read_ppm(words[3], min_side)});  // score float32, class uint8 [H, W]
    const at::Tensor score = outputs[0].contiguous();
    write_npy(words[4], score);
    const int64_t highest = score.argmax().item<int64_t>(), width = score.size(1);
    std::cout << "highest score " << score.max().item<float>() << " at row " << highest / width << ", column "
              << highest % width << ", class " << int(outputs[1].flatten()[highest].item<uint8_t>()) << "\n";
  } catch (const std::exception& error) {
    std::cerr << "example: " << error.what() << "\n";
    return 1;
  }
}
