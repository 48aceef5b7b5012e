// The walk as an operator of ONNX Runtime: domain rwpm, operator Walk, version 1, on the CPU.
//
//   inputs      embeddings [N, D] or [B, N, D] float32 or float16
//               values     [.., N, C] of the same type; the embeddings where it is left out
//               mask       [.., N] bool, true = valid; all valid where it is left out
//   output      [.., N, C]
//   attributes  alpha, steps, temperature, tolerance, anchor, anchor_share: those of torch.ops.rwpm.walk, with its
//               defaults. float16 is computed in float32.
//
// A session registers the library by its path; it needs ONNX Runtime 1.16, the first whose operators return errors.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "arguments.h"
#include "cpu/threads.h"
#include "onnxruntime/half.h"
#include "onnxruntime/ort_api.h"
#include "walk.h"

namespace rwpm::onnxruntime {
namespace {

constexpr uint32_t least_api = 16;
constexpr uint32_t api_with_threads = 17;

// Turns an error of the runtime into an exception.
void succeed(const OrtApi& api, OrtStatus* status) {
  if (!status) return;
  const std::string message = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  throw std::runtime_error(message);
}

// Runs a body whose exceptions become errors of the runtime, since none may pass through its C functions.
template <typename Body>
OrtStatus* guarded(const OrtApi& api, const Body& body) {
  try {
    body();
    return nullptr;
  } catch (const std::exception& error) {
    return api.CreateStatus(ORT_FAIL, (std::string("rwpm.Walk: ") + error.what()).c_str());
  }
}

struct Settings {
  double alpha = 0.99;
  int64_t steps = 20;
  double temperature = 0.01, tolerance = 0, anchor = -1, anchor_share = 0;
};

// ONNX has 32 bits for a number: the shortest decimal fraction that they stand for is what the exporter was given, 0.99
// and not 0.9900000095.
double widen(float x) {
  const std::string shortest = arguments::text(x);
  double wide = x;
  std::from_chars(shortest.data(), shortest.data() + shortest.size(), wide);
  return wide;
}

// Whether a call to the runtime succeeds.
bool succeeds(const OrtApi& api, OrtStatus* status) {
  if (status) api.ReleaseStatus(status);
  return !status;
}

// An attribute, which may be a whole number too, or the default of one that is left out.
double number(const OrtApi& api, const OrtKernelInfo* info, const char* name, double otherwise) {
  float value;
  int64_t whole;
  size_t size = 0;
  if (succeeds(api, api.KernelInfoGetAttribute_float(info, name, &value))) return widen(value);
  if (succeeds(api, api.KernelInfoGetAttribute_int64(info, name, &whole))) return double(whole);
  // The runtime has one error for an attribute that is left out and one of another type.
  arguments::check(!succeeds(api, api.KernelInfoGetAttribute_string(info, name, nullptr, &size)), name,
                   ": expected a number, got a string");
  arguments::check(!succeeds(api, api.KernelInfoGetAttributeArray_float(info, name, nullptr, &size)) &&
                       !succeeds(api, api.KernelInfoGetAttributeArray_int64(info, name, nullptr, &size)),
                   name, ": expected a number, got a list");
  return otherwise;
}

Settings read_settings(const OrtApi& api, const OrtKernelInfo* info) {
  Settings s;
  s.alpha = number(api, info, "alpha", s.alpha);
  const double steps = number(api, info, "steps", double(s.steps));
  constexpr double too_many = double(int64_t(1) << 62);  // below, int64_t(steps) is defined
  arguments::check(steps == std::trunc(steps) && std::abs(steps) < too_many, "steps: expected a whole number, got ",
                   arguments::text(steps));
  s.steps = int64_t(steps);
  s.temperature = number(api, info, "temperature", s.temperature);
  s.tolerance = number(api, info, "tolerance", s.tolerance);
  s.anchor = number(api, info, "anchor", s.anchor);
  s.anchor_share = number(api, info, "anchor_share", s.anchor_share);
  arguments::check_walk_settings(s.alpha, s.steps);
  arguments::check_graph_settings(s.temperature, s.tolerance);
  arguments::check_anchor(s.anchor, s.anchor_share);
  return s;
}

int64_t cores() { return std::max(1u, std::thread::hardware_concurrency()); }

// Runs ranges in the threads of the session. It does not tell how many those are: a range for each core keeps them
// busy.
class SessionThreads {
 public:
  SessionThreads(const OrtApi& api, const OrtKernelContext* context) : api_(api), context_(context) {}

  void operator()(int64_t count, const RangeBody& body) const {
    Call call = {count, std::min(count, cores()), body, {}, nullptr};
    if (count == 0) return;
    succeed(api_, api_.KernelContext_ParallelFor(context_, run, size_t(call.ranges), 0, &call));
    if (call.failure) std::rethrow_exception(call.failure);
  }

 private:
  struct Call {
    int64_t count, ranges;
    const RangeBody& body;
    std::mutex guard;
    std::exception_ptr failure;
  };

  static void run(void* data, size_t i) {
    Call& call = *static_cast<Call*>(data);
    const auto range = int64_t(i);
    try {
      call.body(call.count * range / call.ranges, call.count * (range + 1) / call.ranges);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(call.guard);
      if (!call.failure) call.failure = std::current_exception();
    }
  }

  const OrtApi& api_;
  const OrtKernelContext* context_;
};

// A tensor of the caller; of one that is left out the data and the shape are empty.
struct Input {
  bool given = false;
  const void* data = nullptr;
  std::vector<int64_t> shape;
};

Input read_input(const OrtApi& api, const OrtKernelContext* context, size_t index) {
  Input input;
  size_t count;
  succeed(api, api.KernelContext_GetInputCount(context, &count));
  const OrtValue* value = nullptr;
  if (index < count) succeed(api, api.KernelContext_GetInput(context, index, &value));
  if (!value) return input;
  input.given = true;
  void* data;
  succeed(api, api.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  input.data = data;
  OrtTensorTypeAndShapeInfo* info;
  succeed(api, api.GetTensorTypeAndShape(value, &info));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)> owner(
      info, api.ReleaseTensorTypeAndShapeInfo);
  size_t rank;
  succeed(api, api.GetDimensionsCount(info, &rank));
  input.shape.resize(rank);
  succeed(api, api.GetDimensions(info, input.shape.data(), rank));
  return input;
}

int64_t elements(const std::vector<int64_t>& shape) {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

// Elements of a tensor in float32, in `copy` where they are of another type.
const float* as_float(const float* data, int64_t, std::vector<float>&) { return data; }
const float* as_float(const uint16_t* data, int64_t count, std::vector<float>& copy) {
  copy.resize(count);
  std::transform(data, data + count, copy.begin(), from_half);
  return copy.data();
}

struct Kernel {
  const OrtApi& api;
  bool session_threads;
  Settings settings;

  template <typename T>
  void compute(OrtKernelContext* context) const {
    const Input embeddings = read_input(api, context, 0), given_values = read_input(api, context, 1);
    const Input mask = read_input(api, context, 2);
    const Input& values = given_values.given ? given_values : embeddings;
    arguments::check_embeddings_shape(embeddings.shape);
    arguments::check_values_shape(values.shape, embeddings.shape);
    if (mask.given) arguments::check_mask_shape(mask.shape, embeddings.shape);

    OrtValue* output;
    succeed(api, api.KernelContext_GetOutput(context, 0, values.shape.data(), values.shape.size(), &output));
    void* result;
    succeed(api, api.GetTensorMutableData(output, &result));

    std::vector<float> embeddings_copy, values_copy, result_copy;
    const auto* e = as_float(static_cast<const T*>(embeddings.data), elements(embeddings.shape), embeddings_copy);
    const auto* v =
        given_values.given ? as_float(static_cast<const T*>(values.data), elements(values.shape), values_copy) : e;
    auto* out = static_cast<float*>(result);
    if constexpr (!std::is_same_v<T, float>) {
      result_copy.resize(elements(values.shape));
      out = result_copy.data();
    }
    const ParallelFor parallel_for =
        session_threads ? ParallelFor(SessionThreads(api, context)) : parallel_for_threads(cores());
    walk(embeddings.shape, e, values.shape.back(), v, static_cast<const bool*>(mask.data), out, parallel_for);
    if constexpr (!std::is_same_v<T, float>)
      std::transform(result_copy.begin(), result_copy.end(), static_cast<T*>(result), to_half);
  }

 private:
  void walk(const std::vector<int64_t>& shape, const float* embeddings, int64_t value_channels, const float* values,
            const bool* mask, float* result, const ParallelFor& parallel_for) const {
    Problem<float> p = {};
    p.pixels = shape[shape.size() - 2];
    p.channels = shape.back();
    p.value_channels = value_channels;
    p.alpha = settings.alpha;
    p.steps = settings.steps;
    p.temperature = settings.temperature;
    p.tolerance = settings.tolerance;
    p.anchor = settings.anchor;
    p.anchor_share = settings.anchor_share;
    p.mask_stride = 1;
    const int64_t batches = shape.size() == 3 ? shape[0] : 1;
    for (int64_t batch = 0; batch < batches; ++batch) {
      p.embeddings = {embeddings + batch * p.pixels * p.channels, p.channels, 1};
      p.values = {values + batch * p.pixels * p.value_channels, p.value_channels, 1};
      p.mask = mask ? mask + batch * p.pixels : nullptr;
      p.result = result + batch * p.pixels * p.value_channels;
      rwpm::walk(p, parallel_for);
    }
  }
};

// The description of the operator for one element type. A session reads it as long as it lives.
template <typename T>
struct WalkOp : OrtCustomOp {
  bool session_threads;

  static constexpr ONNXTensorElementDataType type =
      std::is_same_v<T, float> ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;

  explicit WalkOp(bool has_session_threads) : OrtCustomOp(), session_threads(has_session_threads) {
    version = least_api;
    GetName = [](const OrtCustomOp*) { return "Walk"; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
    GetInputTypeCount = [](const OrtCustomOp*) { return size_t(3); };
    GetInputType = [](const OrtCustomOp*, size_t index) {
      return index == 2 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL : type;
    };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t index) {
      return index == 0 ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
    };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
    GetOutputTypeCount = [](const OrtCustomOp*) { return size_t(1); };
    GetOutputType = [](const OrtCustomOp*, size_t) { return type; };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    CreateKernelV2 = [](const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info, void** kernel) {
      return guarded(*api, [&] {
        *kernel = new Kernel{*api, static_cast<const WalkOp*>(op)->session_threads, read_settings(*api, info)};
      });
    };
    KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
      const Kernel& k = *static_cast<Kernel*>(kernel);
      return guarded(k.api, [&] { k.compute<T>(context); });
    };
    KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  }
};

// What a session gets by registering the library.
struct Registration {
  WalkOp<float> of_float;
  WalkOp<uint16_t> of_half;
  explicit Registration(bool session_threads) : of_float(session_threads), of_half(session_threads) {}
};

// The API that comes with a release, which follows its minor version: 16 for 1.16.3.
uint32_t api_of(const char* release) {
  unsigned major = 0, minor = 0;
  std::sscanf(release, "%u.%u", &major, &minor);
  return major > 1 ? api_with_threads : minor;
}

}  // namespace
}  // namespace rwpm::onnxruntime

// Called by ONNX Runtime when a session's options name the library.
extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  using namespace rwpm::onnxruntime;
  const char* const release = base->GetVersionString();
  // Asked only where it is there: a runtime writes to stderr about an API that it has not.
  const OrtApi* const api = api_of(release) >= least_api ? base->GetApi(least_api) : nullptr;
  if (!api) {
    const std::string message =
        "onnxruntime " + std::string(release) + " is too old: rwpm needs API 16, which onnxruntime 1.16 and later have";
    return base->GetApi(1)->CreateStatus(ORT_FAIL, message.c_str());
  }
  return guarded(*api, [&] {
    // Two for all sessions, and never deleted: no runtime tells when the last session ends that uses one.
    static Registration* const registrations[] = {new Registration(false), new Registration(true)};
    Registration* const ops = registrations[api_of(release) >= api_with_threads];
    OrtCustomOpDomain* domain;
    succeed(*api, api->CreateCustomOpDomain("rwpm", &domain));
    succeed(*api, api->CustomOpDomain_Add(domain, &ops->of_float));
    succeed(*api, api->CustomOpDomain_Add(domain, &ops->of_half));
    succeed(*api, api->AddCustomOpDomain(options, domain));
  });
}
