// Convolutions by the oneDNN inside MindSpore's wheel, on arrays with channels last.
#pragma once

#include <cstdint>

namespace msd {

// x (B, H, W, C) * w (D, C, K, K) -> y (B, out_height, out_width, D), `padding` zeros above and on the left; below and
// on the right as many as y's sides need, or, where the last pixels of x fill no step, less than none.
struct ConvShape {
  int64_t batch, height, width, channels, filters, kernel, stride, padding, out_height, out_width;
  bool bias;
};

// Finds oneDNN's functions in the library at `path`, and holds it at the instruction set `isa` (a dnnl_cpu_isa) unless
// that is 0. Empty text where all is well, otherwise what is missing.
const char* load_onednn(const char* path, int isa);

void conv_forward(const ConvShape& shape, const float* x, const float* w, const float* bias, float* y);
void conv_backward_data(const ConvShape& shape, const float* dy, const float* w, float* dx);
void conv_backward_weights(const ConvShape& shape, const float* x, const float* dy, float* dw, float* dbias);

}  // namespace msd
