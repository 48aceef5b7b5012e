// The class that applications take over, on a package that is given: score_package_test PACKAGE.pt2 librwpm_ops.so
#include "../package.h"

#include <ATen/ATen.h>

#include <utility>

#include "tests.h"

namespace {

using namespace rwpm::score;
using tests::expect;
using tests::expect_error;

void test_package(const std::string& path, const std::string& library) {
  Package package(path, library);
  Package(path, library);  // the operator is loaded once only
  expect(package.threshold().has_value() && package.metadata().at("rwpm.format") == "1", "metadata");

  const at::Tensor photo = at::randint(0, 256, {85, 110, 3}, at::kByte);
  const Result wanted = package.run(photo);
  expect(wanted.score.sizes() == at::IntArrayRef({85, 110}) && wanted.score.scalar_type() == at::kFloat &&
             wanted.segmentation.sizes() == at::IntArrayRef({85, 110}) &&
             wanted.segmentation.scalar_type() == at::kByte && !wanted.score.requires_grad(),
         "shapes and types of the result");
  const auto expect_same = [&](const at::Tensor& of_other_strides, const std::string& what) {
    const Result result = package.run(of_other_strides);
    expect(at::equal(result.score, wanted.score) && at::equal(result.segmentation, wanted.segmentation), what);
  };
  expect_same(photo.permute({2, 0, 1}).contiguous().permute({1, 2, 0}), "a photo with channels first in memory");
  expect_same(photo.transpose(0, 1).contiguous().transpose(0, 1), "a photo that is stored by columns");
  expect_same(at::constant_pad_nd(photo, {0, 1, 5, 5, 2, 2}).slice(0, 2, 87).slice(1, 5, 115).slice(2, 0, 3),
              "a photo cropped out of a larger one");
  Package moved = std::move(package);
  expect(at::equal(moved.run(photo).score, wanted.score), "a package that was moved");

  const auto refused = [&](const at::Tensor& other, const std::vector<std::string>& words) {
    expect_error([&] { moved.run(other); }, words);
  };
  refused(photo.to(at::kFloat), {"photo: expected Byte [H, W, 3] on cpu", "got Float [85, 110, 3] on cpu"});
  refused(photo.permute({2, 0, 1}), {"got Byte [3, 85, 110]", "permute({1, 2, 0})"});
  refused(photo.unsqueeze(0), {"got Byte [1, 85, 110, 3]"});
  refused(at::zeros({85, 110, 4}, at::kByte), {"got Byte [85, 110, 4]"});
  refused(photo.to(at::kMeta), {"on meta"});
  refused(photo.slice(0, 0, 63), {"at least 64 pixels a side, got 110x63"});
  refused(at::Tensor(), {"undefined"});
}

}  // namespace

int main(int count, char** words) {
  if (count != 3) {
    std::fputs("usage: score_package_test PACKAGE.pt2 librwpm_ops.so\n", stderr);
    return 2;
  }
  test_package(words[1], words[2]);
  return rwpm::tests::outcome();
}
