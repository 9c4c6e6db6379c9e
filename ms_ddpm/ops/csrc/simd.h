// What is compiled once per instruction set. Arrays are float32, dense, channels last.
#pragma once

#include <cstdint>

namespace msd {

enum class Statistics { kRms, kLayer, kGroup };  // over a pixel's channels, the same less the mean, or a group's

// y = act(normalised(x + added) * gain * (scale + 1) + bias * (scale + 1) + shift) + residual; absent arrays are null.
struct Norm {
  Statistics statistics;
  bool silu;
  double eps;                // added to the variance; kRms has none
  int64_t batch, pixels, channels, groups;
  const float* x;            // (batch, pixels, channels)
  const float* gain;         // (channels)
  const float* bias;         // (channels)
  const float* scale_shift;  // (batch, 2 channels): scale, then shift
  const float* added;        // (batch, channels), kGroup only
  const float* residual;     // like x
};

struct NormGradients {
  const float* dy;
  float *dx, *dgain, *dbias, *dscale_shift, *dadded;
};

// Queries (batch, pixels, heads d), keys and values (batch, sources, heads d), each row `ld` floats after the one before:
// three thirds of one array where an image attends to itself. Memory keys and values as in nn/attention.py, or null.
struct Attend {
  int64_t batch, pixels, sources, heads, d, memories;
  float scale;  // of the product of queries and keys (full) or of the result (linear)
  const float *q, *k, *v;
  int64_t ld_q, ld_kv;
  const float* memory;
};

// A transposed convolution: x (batch, height, width, depth), w (depth, channels, kernel, kernel), b (channels) or null ->
// y (batch, out_height, out_width, channels).
struct FewChannels {
  int64_t batch, height, width, depth, channels, kernel, stride, padding, out_height, out_width;
};

// One update of Adam over `size` weights, moments m and v; see optim.py.
struct Adam {
  float clip;               // factor on the gradient
  float rate;               // learning rate / (1 - beta1^t)
  float root_correction;    // sqrt(1 - beta2^t)
  float new1, beta2, new2;  // 1 - beta1, beta2, 1 - beta2
  float eps;
  float l2, shrink;         // added to the gradient times the weight; factor on the weight (AdamW)
};

struct Simd {
  const char* name;
  void (*norm_forward)(const Norm&, float* y);
  void (*norm_backward)(const Norm&, const NormGradients&);
  void (*linear_attention_forward)(const Attend&, float* out);
  void (*linear_attention_backward)(const Attend&, const float* dout, float* dqkv, float* dmemory);
  void (*attention_forward)(const Attend&, float* out);
  void (*attention_backward)(const Attend&, const float* dout, float* dq, float* dk, float* dv, float* dmemory);
  // y (rows, out) = x (rows, in) w^T + b, w (out, in); b and db may be null.
  void (*linear_forward)(int64_t rows, int64_t in, int64_t out, const float* x, const float* w, const float* b, float* y);
  void (*linear_backward)(int64_t rows, int64_t in, int64_t out, const float* x, const float* w, const float* dy,
                          float* dx, float* dw, float* db);
  void (*few_channels)(const FewChannels&, const float* x, const float* w, const float* b, float* y);
  double (*sum_of_squares)(int64_t size, const float* x);
  void (*adam)(const Adam&, int64_t size, const float* gradient, const float* weight, const float* m, const float* v,
               float* new_weight, float* new_m, float* new_v);
};

namespace base { extern const Simd simd; }
namespace avx2 { extern const Simd simd; }
namespace avx512 { extern const Simd simd; }

}  // namespace msd
