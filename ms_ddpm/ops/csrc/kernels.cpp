// What MindSpore calls: one function for every operator, on float32 arrays with channels last.
//
// The signature is that of MindSpore's ahead-of-time custom operators: inputs, then outputs, in `params`, with their
// shapes. 0 is success. Sizes come from the shapes alone.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <new>
#include <string>

#include "memory.h"
#include "onednn.h"
#include "pool.h"
#include "simd.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace msd {

void* scratch(size_t bytes) {
  static void* memory = nullptr;
  static size_t held = 0;
  if (bytes > held) {
    std::free(memory);
    held = (bytes + 4095) / 4096 * 4096;
    memory = std::aligned_alloc(4096, held);
    if (memory == nullptr) {
      held = 0;
      throw std::bad_alloc();
    }
  }
  return memory;
}

namespace {

const Simd* simd = &base::simd;

struct Call {
  int count;
  void** params;
  int* ndims;
  int64_t** shapes;

  const float* in(int i) const { return static_cast<const float*>(params[i]); }
  float* out(int i) const { return static_cast<float*>(params[i]); }
  int64_t side(int i, int axis) const { return shapes[i][axis]; }
  int64_t size(int i) const {
    int64_t product = 1;
    for (int axis = 0; axis < ndims[i]; ++axis) product *= shapes[i][axis];
    return product;
  }
};

// Seconds and calls by operator and shape of its first input, while `profiling`.
struct Spent {
  int64_t calls = 0;
  double seconds = 0;
};
bool profiling = false;
std::map<std::string, Spent> spent;

std::string label(const char* name, const Call& call) {
  std::string text = name;
  for (int axis = 0; axis < call.ndims[0]; ++axis) text += (axis ? "x" : " ") + std::to_string(call.side(0, axis));
  return text;
}

std::mutex one_at_a_time;  // every kernel uses all threads and the same scratch memory

template <class F>
int guarded(const char* name, int count, void** params, int* ndims, int64_t** shapes, const char** dtypes, F body) {
  try {
    for (int i = 0; i < count; ++i) {
      if (std::strcmp(dtypes[i], "float32") != 0) {
        std::fprintf(stderr, "ms_ddpm kernel %s: argument %d is %s, expected float32\n", name, i, dtypes[i]);
        return 2;
      }
    }
    std::lock_guard<std::mutex> lock(one_at_a_time);
    const Call call{count, params, ndims, shapes};
    if (!profiling) {
      body(call);
      return 0;
    }
    const auto start = std::chrono::steady_clock::now();
    body(call);
    Spent& entry = spent[label(name, call)];
    entry.calls += 1;
    entry.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ms_ddpm kernel %s: %s\n", name, error.what());
    return 1;
  }
}

#define OPERATOR(name)                                                                                        \
  void body_of_##name(const Call& call);                                                                      \
  }                                                                                                           \
  }                                                                                                           \
  EXPORT int name(int count, void** params, int* ndims, int64_t** shapes, const char** dtypes, void*, void*) { \
    return msd::guarded(#name, count, params, ndims, shapes, dtypes, msd::body_of_##name);                    \
  }                                                                                                           \
  namespace msd {                                                                                             \
  namespace {                                                                                                 \
  void body_of_##name(const Call& call)

// --- convolution: x (B, H, W, C), w (D, C, K, K), y (B, H', W', D) ---------------------------------------------------

// Stride and padding are part of an operator's name: where sides do not divide, the shapes do not tell them.
ConvShape conv_shape(const Call& call, int x, int w, int y, int64_t stride, int64_t padding, bool bias) {
  return {call.side(x, 0), call.side(x, 1), call.side(x, 2), call.side(x, 3), call.side(w, 0), call.side(w, 2),
          stride,          padding,         call.side(y, 1), call.side(y, 2), bias};
}

constexpr int64_t kPixels = 256;  // a task of what only copies or adds

// y (pixels, channels) += b.
void add_bias(int64_t pixels, int64_t channels, const float* b, float* y) {
  parallel(static_cast<int>((pixels + kPixels - 1) / kPixels), [&](int task, int) {
    const int64_t last = std::min(pixels, (task + 1) * kPixels);
    for (int64_t p = task * kPixels; p < last; ++p) {
      for (int64_t c = 0; c < channels; ++c) y[p * channels + c] += b[c];
    }
  });
}

// db = the sum of dy (pixels, channels) over pixels: in blocks, which are added in double precision.
void sum_pixels(int64_t pixels, int64_t channels, const float* dy, float* db) {
  const int64_t tasks = (pixels + kPixels - 1) / kPixels;
  float* partial = static_cast<float*>(scratch(tasks * channels * sizeof(float)));
  parallel(static_cast<int>(tasks), [&](int task, int) {
    const int64_t last = std::min(pixels, (task + 1) * kPixels);
    float* sum = partial + task * channels;
    std::memset(sum, 0, channels * sizeof(float));
    for (int64_t p = task * kPixels; p < last; ++p) {
      for (int64_t c = 0; c < channels; ++c) sum[c] += dy[p * channels + c];
    }
  });
  for (int64_t c = 0; c < channels; ++c) {
    double sum = 0;
    for (int64_t task = 0; task < tasks; ++task) sum += partial[task * channels + c];
    db[c] = static_cast<float>(sum);
  }
}

// dx (+ b) of a convolution. oneDNN would fill up few channels to sixteen.
void data_of(const Call& call, int64_t stride, int64_t padding, const float* b, int dx) {
  const ConvShape s = conv_shape(call, dx, 1, 0, stride, padding, false);
  if (s.channels <= 4) {
    simd->few_channels({s.batch, s.out_height, s.out_width, s.filters, s.channels, s.kernel, stride, padding, s.height,
                        s.width},
                       call.in(0), call.in(1), b, call.out(dx));
    return;
  }
  conv_backward_data(s, call.in(0), call.in(1), call.out(dx));
  if (b != nullptr) add_bias(s.batch * s.height * s.width, s.channels, b, call.out(dx));
}

// A transposed convolution is conv_data, with its x as dy and its y as dx: (B, H, W, D), w (D, C, K, K) -> (.., C).
#define CONV(s, p)                                                                                            \
  OPERATOR(conv_##s##_##p) { /* x, w -> y */                                                                  \
    conv_forward(conv_shape(call, 0, 1, 2, s, p, false), call.in(0), call.in(1), nullptr, call.out(2));       \
  }                                                                                                           \
  OPERATOR(conv_bias_##s##_##p) { /* x, w, b -> y */                                                          \
    conv_forward(conv_shape(call, 0, 1, 3, s, p, true), call.in(0), call.in(1), call.in(2), call.out(3));     \
  }                                                                                                           \
  OPERATOR(conv_data_##s##_##p) { /* dy, w[, x for its shape] -> dx */                                        \
    data_of(call, s, p, nullptr, call.count - 1);                                                             \
  }                                                                                                           \
  OPERATOR(conv_data_bias_##s##_##p) { /* dy, w, b of the transposed convolution -> dx + b */                 \
    data_of(call, s, p, call.in(2), 3);                                                                       \
  }                                                                                                           \
  OPERATOR(conv_weights_##s##_##p) { /* x, dy -> dw */                                                        \
    conv_backward_weights(conv_shape(call, 0, 2, 1, s, p, false), call.in(0), call.in(1), call.out(2), nullptr); \
  }                                                                                                           \
  OPERATOR(conv_weights_bias_##s##_##p) { /* x, dy -> dw, db */                                               \
    conv_backward_weights(conv_shape(call, 0, 2, 1, s, p, true), call.in(0), call.in(1), call.out(2), call.out(3)); \
  }                                                                                                           \
  OPERATOR(conv_weights_data_bias_##s##_##p) { /* the same of a transposed convolution: dy, x -> dw, db */    \
    conv_backward_weights(conv_shape(call, 0, 2, 1, s, p, false), call.in(0), call.in(1), call.out(2), nullptr); \
    sum_pixels(call.size(0) / call.side(0, 3), call.side(0, 3), call.in(0), call.out(3));                     \
  }

CONV(1, 0)
CONV(1, 1)
CONV(1, 2)
CONV(1, 3)
CONV(2, 0)
CONV(2, 1)
CONV(2, 2)
CONV(2, 3)

// --- normalisation: x (B, H, W, C) ----------------------------------------------------------------------------------

enum class By { kNothing, kTime, kSum };  // what else enters a norm: scale and shift after it, a vector before it

// Inputs: x, gain, [bias], [scale and shift, or what is added], then the residual (forward) or dy (backward). The gain of
// a group norm is (groups, channels of a group).
Norm norm_of(const Call& call, Statistics statistics, double eps, bool silu, bool bias, By by, int* next) {
  Norm norm = {};
  norm.statistics = statistics;
  norm.eps = eps;
  norm.silu = silu;
  norm.batch = call.side(0, 0);
  norm.pixels = call.side(0, 1) * call.side(0, 2);
  norm.channels = call.side(0, 3);
  norm.groups = statistics == Statistics::kGroup ? call.side(1, 0) : 1;
  norm.x = call.in(0);
  norm.gain = call.in(1);
  *next = 2;
  if (bias) norm.bias = call.in((*next)++);
  if (by == By::kTime) norm.scale_shift = call.in((*next)++);
  if (by == By::kSum) norm.added = call.in((*next)++);
  return norm;
}

void norm_forward(const Call& call, Statistics statistics, double eps, bool silu, bool bias, By by, bool residual) {
  int next;
  Norm norm = norm_of(call, statistics, eps, silu, bias, by, &next);
  if (residual) norm.residual = call.in(next++);
  simd->norm_forward(norm, call.out(next));
}

void norm_backward(const Call& call, Statistics statistics, double eps, bool silu, bool bias, By by) {
  int next;
  const Norm norm = norm_of(call, statistics, eps, silu, bias, by, &next);
  NormGradients gradients = {};
  gradients.dy = call.in(next++);
  gradients.dx = call.out(next++);
  gradients.dgain = call.out(next++);
  if (bias) gradients.dbias = call.out(next++);
  if (by == By::kTime) gradients.dscale_shift = call.out(next++);
  if (by == By::kSum) gradients.dadded = call.out(next++);
  simd->norm_backward(norm, gradients);
}

#define NORM(name, statistics, eps, silu, bias, by)                                                           \
  OPERATOR(name) { norm_forward(call, Statistics::statistics, eps, silu, bias, By::by, false); }         \
  OPERATOR(name##_add) { norm_forward(call, Statistics::statistics, eps, silu, bias, By::by, true); }    \
  OPERATOR(name##_backward) { norm_backward(call, Statistics::statistics, eps, silu, bias, By::by); }

NORM(rms, kRms, 0, false, false, kNothing)
NORM(rms_silu, kRms, 0, true, false, kNothing)
NORM(rms_silu_time, kRms, 0, true, false, kTime)
NORM(layer, kLayer, 1e-5, false, false, kNothing)
NORM(layer_bias, kLayer, 1e-5, false, true, kNothing)
NORM(group, kGroup, 1e-5, false, true, kNothing)
NORM(group_silu, kGroup, 1e-5, true, true, kNothing)
NORM(group_silu_time, kGroup, 1e-5, true, true, kTime)
NORM(group_silu_sum, kGroup, 1e-5, true, true, kSum)
// Of an eps of 1e-6, which nothing but the name tells:
NORM(group6, kGroup, 1e-6, false, true, kNothing)
NORM(group6_silu, kGroup, 1e-6, true, true, kNothing)
NORM(group6_silu_time, kGroup, 1e-6, true, true, kTime)
NORM(group6_silu_sum, kGroup, 1e-6, true, true, kSum)

// --- attention of an image to itself: qkv (B, H, W, 3 heads d) -> (B, H, W, heads d) --------------------------------

// Memory keys and values are (2, heads, d, M) for linear attention, (2, heads, M, d) for full; without memory an array
// (heads,) comes in their place, since nothing else tells how many heads there are.
Attend attend_of(const Call& call, bool linear, bool memory) {
  const int64_t pixels = call.side(0, 1) * call.side(0, 2), hidden = call.side(0, 3) / 3;
  const int64_t heads = memory ? call.side(1, 1) : call.side(1, 0);
  const int64_t d = hidden / heads;
  float scale = static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(d)));
  if (linear && !memory) scale /= pixels;  // the layout of 2022
  const float* qkv = call.in(0);
  return {call.side(0, 0), pixels, pixels, heads, d, memory ? call.size(1) / (2 * hidden) : 0, scale, qkv,
          qkv + hidden, qkv + 2 * hidden, 3 * hidden, 3 * hidden, memory ? call.in(1) : nullptr};
}

OPERATOR(linear_attention) { simd->linear_attention_forward(attend_of(call, true, true), call.out(2)); }
OPERATOR(linear_attention_plain) { simd->linear_attention_forward(attend_of(call, true, false), call.out(2)); }
OPERATOR(attention) { simd->attention_forward(attend_of(call, false, true), call.out(2)); }
OPERATOR(attention_plain) { simd->attention_forward(attend_of(call, false, false), call.out(2)); }

OPERATOR(linear_attention_backward) {  // qkv, memory, dout -> dqkv, dmemory
  simd->linear_attention_backward(attend_of(call, true, true), call.in(2), call.out(3), call.out(4));
}
OPERATOR(linear_attention_plain_backward) {  // qkv, heads, dout -> dqkv
  simd->linear_attention_backward(attend_of(call, true, false), call.in(2), call.out(3), nullptr);
}
// The gradients of queries, keys and values stand side by side, as they do.
void attention_backward(const Call& call, bool memory) {
  const int64_t hidden = call.side(0, 3) / 3;
  float* dqkv = call.out(3);
  simd->attention_backward(attend_of(call, false, memory), call.in(2), dqkv, dqkv + hidden, dqkv + 2 * hidden,
                           memory ? call.out(4) : nullptr);
}
OPERATOR(attention_backward) { attention_backward(call, true); }
OPERATOR(attention_plain_backward) { attention_backward(call, false); }

// --- attention to other rows: q (B, T, heads d), k and v (B, S, heads d), heads (heads,) -> (B, T, heads d) ----------

Attend attend_to_others(const Call& call) {
  const int64_t hidden = call.side(0, 2), heads = call.side(3, 0), d = hidden / heads;
  const float scale = static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(d)));
  return {call.side(0, 0), call.side(0, 1), call.side(1, 1), heads, d, 0, scale, call.in(0), call.in(1), call.in(2),
          hidden, hidden, nullptr};
}

OPERATOR(attention_to) { simd->attention_forward(attend_to_others(call), call.out(4)); }
OPERATOR(attention_to_backward) {  // q, k, v, heads, dout -> dq, dk, dv
  simd->attention_backward(attend_to_others(call), call.in(4), call.out(5), call.out(6), call.out(7), nullptr);
}

// --- copies ---------------------------------------------------------------------------------------------------------

OPERATOR(upsample) {  // x (B, H, W, C) -> (B, 2H, 2W, C), nearest neighbour
  const int64_t height = call.side(0, 1), width = call.side(0, 2), channels = call.side(0, 3);
  const float* x = call.in(0);
  float* y = call.out(1);
  const int64_t row = 2 * width * channels;
  parallel(static_cast<int>(call.side(0, 0) * height), [&](int task, int) {
    const float* from = x + task * width * channels;
    float* to = y + task * 2 * row;
    for (int64_t j = 0; j < width; ++j) {
      std::memcpy(to + 2 * j * channels, from + j * channels, channels * sizeof(float));
      std::memcpy(to + (2 * j + 1) * channels, from + j * channels, channels * sizeof(float));
    }
    std::memcpy(to + row, to, row * sizeof(float));
  });
}

OPERATOR(upsample_backward) {  // dy (B, 2H, 2W, C) -> (B, H, W, C): the sum of four
  const int64_t width = call.side(1, 2), channels = call.side(1, 3);
  const float* dy = call.in(0);
  float* dx = call.out(1);
  const int64_t row = 2 * width * channels;
  parallel(static_cast<int>(call.side(1, 0) * call.side(1, 1)), [&](int task, int) {
    const float* from = dy + task * 2 * row;
    float* to = dx + task * width * channels;
    for (int64_t j = 0; j < width; ++j) {
      const float *a = from + 2 * j * channels, *b = a + channels, *c = a + row, *d = b + row;
      for (int64_t k = 0; k < channels; ++k) to[j * channels + k] = (a[k] + b[k]) + (c[k] + d[k]);
    }
  });
}

OPERATOR(concat) {  // a (..., C), b (..., D) -> (..., C + D)
  const int last = call.ndims[0] - 1;
  const int64_t c = call.side(0, last), d = call.side(1, last), pixels = call.size(0) / c;
  const float *a = call.in(0), *b = call.in(1);
  float* y = call.out(2);
  parallel(static_cast<int>((pixels + kPixels - 1) / kPixels), [&](int task, int) {
    for (int64_t p = task * kPixels; p < pixels && p < (task + 1) * kPixels; ++p) {
      std::memcpy(y + p * (c + d), a + p * c, c * sizeof(float));
      std::memcpy(y + p * (c + d) + c, b + p * d, d * sizeof(float));
    }
  });
}

OPERATOR(concat_backward) {  // dy (..., C + D), and a and b for their shapes -> (..., C), (..., D)
  const int last = call.ndims[0] - 1;
  const int64_t c = call.side(3, last), d = call.side(4, last), pixels = call.size(3) / c;
  const float* dy = call.in(0);
  float *a = call.out(3), *b = call.out(4);
  parallel(static_cast<int>((pixels + kPixels - 1) / kPixels), [&](int task, int) {
    for (int64_t p = task * kPixels; p < pixels && p < (task + 1) * kPixels; ++p) {
      std::memcpy(a + p * c, dy + p * (c + d), c * sizeof(float));
      std::memcpy(b + p * d, dy + p * (c + d) + c, d * sizeof(float));
    }
  });
}

// --- elementwise ----------------------------------------------------------------------------------------------------

constexpr int64_t kElements = 16384;  // a task of sums
constexpr int64_t kGelus = 2048;      // and of error functions

OPERATOR(plus) {  // x, y of one shape -> x + y
  const int64_t size = call.size(0);
  const float *x = call.in(0), *y = call.in(1);
  float* sum = call.out(2);
  parallel(static_cast<int>((size + kElements - 1) / kElements), [&](int task, int) {
    const int64_t last = std::min(size, (task + 1) * kElements);
    for (int64_t i = task * kElements; i < last; ++i) sum[i] = x[i] + y[i];
  });
}

// The share of a normal distribution below x.
float below(float x) { return 0.5f * (1.0f + std::erf(x * 0.70710678f)); }

OPERATOR(geglu) {  // x (..., 2 C): values, then gates -> values gate Phi(gate), (..., C)
  const int64_t c = call.side(0, call.ndims[0] - 1) / 2, rows = call.size(0) / (2 * c);
  const int64_t block = std::max<int64_t>(1, kGelus / c);
  const float* x = call.in(0);
  float* y = call.out(1);
  parallel(static_cast<int>((rows + block - 1) / block), [&](int task, int) {
    for (int64_t r = task * block; r < std::min(rows, (task + 1) * block); ++r) {
      const float *value = x + 2 * r * c, *gate = value + c;
      for (int64_t i = 0; i < c; ++i) y[r * c + i] = value[i] * (gate[i] * below(gate[i]));
    }
  });
}

OPERATOR(geglu_backward) {  // x, dy -> dx; the gate's slope is Phi(gate) + gate Phi'(gate)
  const int64_t c = call.side(0, call.ndims[0] - 1) / 2, rows = call.size(0) / (2 * c);
  const int64_t block = std::max<int64_t>(1, kGelus / c);
  const float *x = call.in(0), *dy = call.in(1);
  float* dx = call.out(2);
  parallel(static_cast<int>((rows + block - 1) / block), [&](int task, int) {
    for (int64_t r = task * block; r < std::min(rows, (task + 1) * block); ++r) {
      const float *value = x + 2 * r * c, *gate = value + c;
      float *dvalue = dx + 2 * r * c, *dgate = dvalue + c;
      for (int64_t i = 0; i < c; ++i) {
        const float phi = below(gate[i]), density = 0.39894228f * std::exp(-0.5f * gate[i] * gate[i]);
        dvalue[i] = dy[r * c + i] * (gate[i] * phi);
        dgate[i] = dy[r * c + i] * value[i] * (phi + gate[i] * density);
      }
    }
  });
}

// --- dense layers ---------------------------------------------------------------------------------------------------

OPERATOR(linear) {  // x (B, in), w (out, in), b -> y
  simd->linear_forward(call.side(0, 0), call.side(0, 1), call.side(1, 0), call.in(0), call.in(1), call.in(2),
                       call.out(3));
}

OPERATOR(linear_backward) {  // x, w, dy -> dx, dw, db
  simd->linear_backward(call.side(0, 0), call.side(0, 1), call.side(1, 0), call.in(0), call.in(1), call.in(2),
                        call.out(3), call.out(4), call.out(5));
}

OPERATOR(product) {  // x (B, in), w (out, in) -> y
  simd->linear_forward(call.side(0, 0), call.side(0, 1), call.side(1, 0), call.in(0), call.in(1), nullptr,
                       call.out(2));
}

OPERATOR(product_backward) {  // x, w, dy -> dx, dw
  simd->linear_backward(call.side(0, 0), call.side(0, 1), call.side(1, 0), call.in(0), call.in(1), call.in(2),
                        call.out(3), call.out(4), nullptr);
}

// --- all parameters at once -----------------------------------------------------------------------------------------

OPERATOR(flatten) {  // any number of arrays -> one vector
  float* y = call.out(call.count - 1);
  for (int i = 0; i + 1 < call.count; ++i) {
    std::memcpy(y, call.in(i), call.size(i) * sizeof(float));
    y += call.size(i);
  }
}

OPERATOR(norm_of_all) {  // any number of arrays -> (1,): Euclidean norm of them all
  double sum = 0;
  for (int i = 0; i + 1 < call.count; ++i) sum += simd->sum_of_squares(call.size(i), call.in(i));
  *call.out(call.count - 1) = static_cast<float>(__builtin_sqrt(sum));
}

// scalars (10,): whether to act, then the members of Adam; m, v (size,); gradients; weights -> m, v, weights.
OPERATOR(adam) {
  const int arrays = (call.count - 5) / 3;
  const float* s = call.in(0);
  const Adam settings = {s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9]};
  const bool acts = s[0] != 0;
  const int first_output = 3 + 2 * arrays;
  int64_t at = 0;
  for (int i = 0; i < arrays; ++i) {
    const int64_t size = call.size(3 + i);
    const float *gradient = call.in(3 + i), *weight = call.in(3 + arrays + i);
    const float *m = call.in(1) + at, *v = call.in(2) + at;
    float *new_m = call.out(first_output) + at, *new_v = call.out(first_output + 1) + at;
    float* new_weight = call.out(first_output + 2 + i);
    if (acts) {
      simd->adam(settings, size, gradient, weight, m, v, new_weight, new_m, new_v);
    } else {
      std::memcpy(new_weight, weight, size * sizeof(float));
      std::memcpy(new_m, m, size * sizeof(float));
      std::memcpy(new_v, v, size * sizeof(float));
    }
    at += size;
  }
}

}  // namespace
}  // namespace msd

// What the Python side asks before it lets MindSpore use the library. Raise it when an operator's arguments change.
EXPORT int ms_ddpm_kernels_version() { return 5; }

// Empty text where the kernels are ready, otherwise why not.
EXPORT const char* ms_ddpm_kernels_start(const char* onednn, int threads, int onednn_isa) {
  std::lock_guard<std::mutex> lock(msd::one_at_a_time);
  msd::set_threads(threads);
  return msd::load_onednn(onednn, onednn_isa);
}

EXPORT void ms_ddpm_kernels_set_threads(int threads) {
  std::lock_guard<std::mutex> lock(msd::one_at_a_time);
  msd::set_threads(threads);
}

// Starts counting from nothing (1) or stops (0).
EXPORT void ms_ddpm_kernels_profile(int on) {
  std::lock_guard<std::mutex> lock(msd::one_at_a_time);
  msd::profiling = on != 0;
  if (on) msd::spent.clear();
}

// What was counted: lines of operator and shape, calls, seconds, separated by tabs. Valid until the next call.
EXPORT const char* ms_ddpm_kernels_spent() {
  static std::string text;
  std::lock_guard<std::mutex> lock(msd::one_at_a_time);
  text.clear();
  for (const auto& [name, entry] : msd::spent) {
    text += name + "\t" + std::to_string(entry.calls) + "\t" + std::to_string(entry.seconds) + "\n";
  }
  return text.c_str();
}

// 2: AVX-512, 1: AVX2 with FMA, 0: neither; at most `limit`. Returns the name of what is used.
EXPORT const char* ms_ddpm_kernels_isa([[maybe_unused]] int limit) {
  msd::simd = &msd::base::simd;
#if MSD_X86
  __builtin_cpu_init();
  if (limit >= 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) msd::simd = &msd::avx2::simd;
  if (limit >= 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    msd::simd = &msd::avx512::simd;
  }
#endif
  return msd::simd->name;
}
