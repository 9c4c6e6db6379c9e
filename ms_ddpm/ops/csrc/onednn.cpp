#include "onednn.h"

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_threadpool_iface.hpp>

#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "memory.h"
#include "pool.h"

// Declared here because the header that has it is empty unless oneDNN itself was configured for thread pools.
extern "C" {
dnnl_status_t dnnl_threadpool_interop_stream_create(dnnl_stream_t*, dnnl_engine_t, void*);
dnnl_status_t dnnl_threadpool_interop_set_max_concurrency(int);
}

namespace msd {
namespace {

// The functions are looked up in a library that is chosen at run time, so nothing is linked and another oneDNN in the
// process (PyTorch has one) is neither used nor disturbed.
#define FUNCTIONS(X)                               \
  X(set_max_cpu_isa)                               \
  X(engine_create)                                 \
  X(threadpool_interop_stream_create)              \
  X(threadpool_interop_set_max_concurrency)        \
  X(memory_desc_create_with_tag)                   \
  X(memory_desc_equal)                             \
  X(memory_desc_get_size)                          \
  X(memory_create)                                 \
  X(memory_set_data_handle)                        \
  X(primitive_attr_create)                         \
  X(primitive_attr_set_scratchpad_mode)            \
  X(convolution_forward_primitive_desc_create)     \
  X(convolution_backward_data_primitive_desc_create)    \
  X(convolution_backward_weights_primitive_desc_create) \
  X(reorder_primitive_desc_create)                 \
  X(primitive_desc_query_md)                       \
  X(primitive_desc_destroy)                        \
  X(primitive_create)                              \
  X(primitive_execute)

struct Functions {
#define MEMBER(name) decltype(&::dnnl_##name) name;
  FUNCTIONS(MEMBER)
#undef MEMBER
} dnnl;

dnnl_engine_t engine;
dnnl_stream_t stream;
dnnl_primitive_attr_t attributes;
int concurrency;  // of the primitives that were made: it decides how oneDNN cuts its sums

void check(dnnl_status_t status, const char* what) {
  if (status != dnnl_success) throw std::runtime_error(std::string("oneDNN could not ") + what);
}

struct Threads : dnnl::threadpool_interop::threadpool_iface {
  int get_num_threads() const override { return threads(); }
  bool get_in_parallel() const override { return inside_task(); }
  uint64_t get_flags() const override { return 0; }
  void wait() override {}
  void parallel_for(int count, const std::function<void(int, int)>& body) override {
    parallel(count, [&](int task, int) { body(task, count); });
  }
} pool;

dnnl_memory_desc_t plain(std::vector<dnnl_dim_t> dims, dnnl_format_tag_t tag) {
  dnnl_memory_desc_t desc;
  check(dnnl.memory_desc_create_with_tag(&desc, static_cast<int>(dims.size()), dims.data(), dnnl_f32, tag),
        "describe an array");
  return desc;
}

// An argument of a primitive: as MindSpore has it, and as the primitive wants it.
struct Argument {
  int id;
  dnnl_memory_desc_t given;
  const_dnnl_memory_desc_t wanted;
  bool output;
  bool same = false;  // given is what is wanted
  size_t bytes = 0;   // of the wanted form, where it is another
  dnnl_memory_t memory_given = nullptr, memory_wanted = nullptr;
  dnnl_primitive_t reorder = nullptr;
};

// A primitive with its arguments. Made once for every shape; scratch memory is shared by all of them.
class Primitive {
 public:
  Primitive(dnnl_primitive_desc_t desc, std::vector<Argument> arguments) : arguments_(std::move(arguments)) {
    check(dnnl.primitive_create(&primitive_, desc), "make a convolution");
    const_dnnl_memory_desc_t scratch = dnnl.primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
    scratch_bytes_ = scratch == nullptr ? 0 : dnnl.memory_desc_get_size(scratch);
    if (scratch_bytes_ > 0) check(dnnl.memory_create(&scratch_, scratch, engine, nullptr), "describe scratch memory");
    for (auto& argument : arguments_) {
      argument.same = dnnl.memory_desc_equal(argument.given, argument.wanted) != 0;
      argument.bytes = argument.same ? 0 : dnnl.memory_desc_get_size(argument.wanted);
      check(dnnl.memory_create(&argument.memory_given, argument.given, engine, nullptr), "describe an argument");
      argument.memory_wanted = argument.memory_given;
      if (!argument.same) {
        check(dnnl.memory_create(&argument.memory_wanted, argument.wanted, engine, nullptr), "describe an argument");
        dnnl_primitive_desc_t reorder;
        const_dnnl_memory_desc_t from = argument.output ? argument.wanted : argument.given;
        const_dnnl_memory_desc_t to = argument.output ? argument.given : argument.wanted;
        check(dnnl.reorder_primitive_desc_create(&reorder, from, engine, to, engine, nullptr), "plan a reorder");
        check(dnnl.primitive_create(&argument.reorder, reorder), "make a reorder");
        dnnl.primitive_desc_destroy(reorder);
      }
      extra_bytes_ += rounded(argument.bytes);
      call_.push_back({argument.id, argument.memory_wanted});
    }
    if (scratch_ != nullptr) call_.push_back({DNNL_ARG_SCRATCHPAD, scratch_});
    dnnl.primitive_desc_destroy(desc);
  }

  void operator()(std::initializer_list<const void*> pointers) {
    char* memory = static_cast<char*>(scratch(extra_bytes_ + rounded(scratch_bytes_)));
    auto pointer = pointers.begin();
    for (auto& argument : arguments_) {
      check(dnnl.memory_set_data_handle(argument.memory_given, const_cast<void*>(*pointer++)), "set an argument");
      if (!argument.same) {
        check(dnnl.memory_set_data_handle(argument.memory_wanted, memory), "set an argument");
        memory += rounded(argument.bytes);
        if (!argument.output) move(argument.reorder, argument.memory_given, argument.memory_wanted);
      }
    }
    if (scratch_ != nullptr) check(dnnl.memory_set_data_handle(scratch_, memory), "set scratch memory");
    check(dnnl.primitive_execute(primitive_, stream, static_cast<int>(call_.size()), call_.data()), "convolve");
    for (auto& argument : arguments_) {
      if (!argument.same && argument.output) move(argument.reorder, argument.memory_wanted, argument.memory_given);
    }
  }

 private:
  static size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }

  static void move(dnnl_primitive_t reorder, dnnl_memory_t from, dnnl_memory_t to) {
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    check(dnnl.primitive_execute(reorder, stream, 2, arguments), "reorder");
  }

  std::vector<Argument> arguments_;
  std::vector<dnnl_exec_arg_t> call_;
  dnnl_primitive_t primitive_ = nullptr;
  dnnl_memory_t scratch_ = nullptr;
  size_t scratch_bytes_ = 0, extra_bytes_ = 0;
};

enum class Pass { kForward, kData, kWeights };
using Key = std::tuple<Pass, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                       bool>;

std::unique_ptr<Primitive> make(Pass pass, const ConvShape& s) {
  const dnnl_dims_t strides = {s.stride, s.stride}, dilates = {0, 0};
  const dnnl_dims_t padding = {s.padding, s.padding};
  auto after = [&](int64_t side, int64_t out) { return (out - 1) * s.stride + s.kernel - side - s.padding; };
  const dnnl_dims_t padding_after = {after(s.height, s.out_height), after(s.width, s.out_width)};
  dnnl_memory_desc_t x = plain({s.batch, s.channels, s.height, s.width}, dnnl_nhwc);
  dnnl_memory_desc_t y = plain({s.batch, s.filters, s.out_height, s.out_width}, dnnl_nhwc);
  dnnl_memory_desc_t w = plain({s.filters, s.channels, s.kernel, s.kernel}, dnnl_oihw);
  dnnl_memory_desc_t any = plain({s.filters, s.channels, s.kernel, s.kernel}, dnnl_format_tag_any);
  dnnl_memory_desc_t b = s.bias ? plain({s.filters}, dnnl_a) : nullptr;
  dnnl_primitive_desc_t forward;
  check(dnnl.convolution_forward_primitive_desc_create(&forward, engine, dnnl_forward_training,
                                                       dnnl_convolution_direct, x, any, b, y, strides, dilates,
                                                       padding, padding_after, attributes),
        "plan a convolution");
  auto wanted = [&](dnnl_primitive_desc_t desc, dnnl_query_t what) {
    return dnnl.primitive_desc_query_md(desc, what, 0);
  };
  if (pass == Pass::kForward) {
    std::vector<Argument> arguments = {{DNNL_ARG_SRC, x, wanted(forward, dnnl_query_src_md), false},
                                       {DNNL_ARG_WEIGHTS, w, wanted(forward, dnnl_query_weights_md), false},
                                       {DNNL_ARG_DST, y, wanted(forward, dnnl_query_dst_md), true}};
    if (s.bias) arguments.push_back({DNNL_ARG_BIAS, b, b, false});
    return std::make_unique<Primitive>(forward, arguments);
  }
  dnnl_primitive_desc_t desc;
  std::vector<Argument> arguments;
  if (pass == Pass::kData) {
    check(dnnl.convolution_backward_data_primitive_desc_create(&desc, engine, dnnl_convolution_direct, x, any, y,
                                                               strides, dilates, padding, padding_after, forward,
                                                               attributes),
          "plan a convolution's gradient");
    arguments = {{DNNL_ARG_DIFF_DST, y, wanted(desc, dnnl_query_diff_dst_md), false},
                 {DNNL_ARG_WEIGHTS, w, wanted(desc, dnnl_query_weights_md), false},
                 {DNNL_ARG_DIFF_SRC, x, wanted(desc, dnnl_query_diff_src_md), true}};
  } else {
    check(dnnl.convolution_backward_weights_primitive_desc_create(&desc, engine, dnnl_convolution_direct, x, any, b, y,
                                                                  strides, dilates, padding, padding_after, forward,
                                                                  attributes),
          "plan a convolution's gradient");
    arguments = {{DNNL_ARG_SRC, x, wanted(desc, dnnl_query_src_md), false},
                 {DNNL_ARG_DIFF_DST, y, wanted(desc, dnnl_query_diff_dst_md), false},
                 {DNNL_ARG_DIFF_WEIGHTS, w, wanted(desc, dnnl_query_diff_weights_md), true}};
    if (s.bias) arguments.push_back({DNNL_ARG_DIFF_BIAS, b, b, true});
  }
  auto primitive = std::make_unique<Primitive>(desc, arguments);
  dnnl.primitive_desc_destroy(forward);
  return primitive;
}

Primitive& cached(Pass pass, const ConvShape& s) {
  static std::map<Key, std::unique_ptr<Primitive>> cache;
  if (concurrency != threads()) {  // primitives are made for a number of threads
    cache.clear();
    concurrency = threads();
    check(dnnl.threadpool_interop_set_max_concurrency(concurrency), "set the number of threads");
  }
  const Key key{pass,     s.batch,   s.height,     s.width,     s.channels, s.filters,
                s.kernel, s.stride, s.padding, s.out_height, s.out_width, s.bias};
  auto& entry = cache[key];
  if (entry == nullptr) entry = make(pass, s);
  return *entry;
}

}  // namespace

const char* load_onednn(const char* path, int isa) {
  static std::string problem;
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return (problem = dlerror()).c_str();
#define FIND(name)                                                                              \
  dnnl.name = reinterpret_cast<decltype(dnnl.name)>(dlsym(library, "dnnl_" #name));             \
  if (dnnl.name == nullptr) return (problem = "it has no function dnnl_" #name).c_str();
  FUNCTIONS(FIND)
#undef FIND
  try {
    if (isa != 0) check(dnnl.set_max_cpu_isa(static_cast<dnnl_cpu_isa_t>(isa)), "use an older instruction set");
    check(dnnl.engine_create(&engine, dnnl_cpu, 0), "start");
    check(dnnl.threadpool_interop_stream_create(&stream, engine, &pool), "take our threads");
    check(dnnl.primitive_attr_create(&attributes), "start");
    check(dnnl.primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user), "start");
  } catch (const std::exception& error) {
    return (problem = error.what()).c_str();
  }
  return "";
}

void conv_forward(const ConvShape& shape, const float* x, const float* w, const float* bias, float* y) {
  cached(Pass::kForward, shape)({x, w, y, bias});
}

void conv_backward_data(const ConvShape& shape, const float* dy, const float* w, float* dx) {
  cached(Pass::kData, shape)({dy, w, dx});
}

void conv_backward_weights(const ConvShape& shape, const float* x, const float* dy, float* dw, float* dbias) {
  cached(Pass::kWeights, shape)({x, dy, dw, dbias});
}

}  // namespace msd
