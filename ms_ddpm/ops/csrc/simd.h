// What is compiled once per instruction set. Arrays are float32, dense, channels last.
#pragma once

#include <cstdint>

namespace msd {

enum class Statistics { kRms, kLayer, kGroup };  // over a pixel's channels, the same less the mean, or 1/8 of an image

// y = act(normalised(x) * gain * (scale + 1) + bias * (scale + 1) + shift) + residual; absent arrays are null.
struct Norm {
  Statistics statistics;
  bool silu;
  int64_t batch, pixels, channels;
  const float* x;            // (batch, pixels, channels)
  const float* gain;         // (channels)
  const float* bias;         // (channels)
  const float* scale_shift;  // (batch, 2 channels): scale, then shift
  const float* residual;     // like x
};

struct NormGradients {
  const float* dy;
  float *dx, *dgain, *dbias, *dscale_shift;
};

// qkv (batch, pixels, 3 heads d): queries, keys, values; memory keys and values as in nets/attention.py, or null.
struct Attend {
  int64_t batch, pixels, heads, d, memories;
  float scale;  // of the product of queries and keys (full) or of the result (linear)
  const float* qkv;
  const float *memory;
};

struct Adam {
  float lr_corrected, beta1, one_minus_beta1, beta2, one_minus_beta2, root_correction2, eps, decay, decoupled_factor;
};

struct Simd {
  const char* name;
  void (*norm_forward)(const Norm&, float* y);
  void (*norm_backward)(const Norm&, const NormGradients&);
  void (*linear_attention_forward)(const Attend&, float* out);
  void (*linear_attention_backward)(const Attend&, const float* dout, float* dqkv, float* dmemory);
  void (*attention_forward)(const Attend&, float* out);
  void (*attention_backward)(const Attend&, const float* dout, float* dqkv, float* dmemory);
};

namespace base { extern const Simd simd; }
namespace avx2 { extern const Simd simd; }
namespace avx512 { extern const Simd simd; }

}  // namespace msd
