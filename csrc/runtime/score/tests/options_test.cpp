#include "../options.h"

#include "../picture.h"
#include "tests.h"

namespace rwpm::score::tests {

void test_options() {
  const Options options = parse({"a.pt2", "--out", "maps", "x/1.png", "--threads", "2", "--repeat", "3", "--json",
                                 "t.json", "--library", "l.so", "--segmentation", "--", "-2.jpg"});
  expect(options.package == "a.pt2" && options.photos == std::vector<std::string>{"x/1.png", "-2.jpg"} &&
             options.out == "maps" && options.threads == 2 && options.repeat == 3 && options.json == "t.json" &&
             options.library == "l.so" && options.segmentation && options.overlay,
         "every option");
  expect(parse({"--help"}).help, "help needs nothing else");
  expect_error([] { parse({"a.pt2", "--out", "maps"}); }, {"at least one photo"});
  expect_error([] { parse({"a.pt2", "1.png"}); }, {"--out"});
  expect_error([] { parse({"a.pt2", "1.png", "--out"}); }, {"--out: expected a value"});
  expect_error([] { parse({"--repeat", "0"}); }, {"--repeat", "from 1", "got 0"});
  expect_error([] { parse({"--threads", "2x"}); }, {"--threads", "got 2x"});
  expect_error([] { parse({"--fast"}); }, {"--fast: no such option"});

  const std::vector<Outputs> files = outputs(options);
  expect(files.size() == 2 && files[0].score == "maps/1.npy" && files[0].segmentation == "maps/1.segmentation.npy" &&
             files[1].overlay == std::string("maps/-2_overlay") + picture_suffix,
         "names of the results");
  expect(outputs(parse({"a.pt2", "1.png", "--out", "m", "--no-overlay"}))[0].overlay.empty(), "no overlay");
  expect_error([] { outputs(parse({"a.pt2", "x/1.png", "y/1.jpg", "--out", "m"})); },
               {"x/1.png and y/1.jpg", "m/1.npy"});
  const std::string ending = std::string("_overlay") + picture_suffix;
  const TemporaryFile photo("photo" + ending, "");
  const std::string other = photo.path.substr(0, photo.path.size() - ending.size()) + ".jpg";
  expect_error([&] { outputs(parse({"a.pt2", "1.png", "--out", photo.path})); },
               {"--out: expected a folder", photo.path});
  expect_error([&] { outputs(parse({"a.pt2", other, photo.path, "--out", "."})); }, {"would replace " + photo.path});
}

}  // namespace rwpm::score::tests
