// Normalisation and attention. Compiled several times, with MSD_ISA naming the instruction set: nothing here may be
// shared between object files (no inline functions of the standard library), or the linker could keep the wrong one.
#include "simd.h"

#include <string.h>

#include "memory.h"
#include "pool.h"

namespace msd {
namespace MSD_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kRows = 8;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kRows = 6;
#else
constexpr int kLanes = 4, kRows = 6;
#endif
typedef float Vector __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline float larger(float a, float b) { return a > b ? a : b; }  // b where one is NaN
inline int64_t padded(int64_t floats) { return (floats + 15) / 16 * 16; }
inline float root(float x) { return __builtin_sqrtf(x); }

// e^x to about one unit in the last place: x = n log 2 + r, and Taylor's series of e^r. At most e^88; 0 where it would be
// less than the smallest float that is not denormal: what is left there of a softmax that is decided would be wrong.
inline float exponential(float x) {
  const float low = -87.3365f;
  float z = x < low ? low : x > 88.f ? 88.f : x;
  const float magic = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer, found in the low bits
  const float shifted = z * 1.44269504f + magic;
  const float n = shifted - magic;
  float r = z - n * 0.693145752f;  // log 2 in two parts; the first has trailing zeros, so the product is exact
  r = r - n * 1.42860677e-6f;
  float p = 1.f / 5040;
  p = p * r + 1.f / 720;
  p = p * r + 1.f / 120;
  p = p * r + 1.f / 24;
  p = p * r + 1.f / 6;
  p = p * r + 0.5f;
  p = p * r * r + r;
  int32_t bits;
  memcpy(&bits, &shifted, 4);
  bits = (bits - 0x4B400000 + 127) << 23;
  float power;
  memcpy(&power, &bits, 4);
  return x < low ? 0.f : p * power + power;
}

inline float sigmoid(float x) { return 1.f / (1.f + exponential(-x)); }

// --- small matrix products ----------------------------------------------------------------------------------------

// One block of up to kRows rows and kLanes * W columns of C (+)= A B, A(m, k) at a[m * row + k * column].
template <int W>
inline void block(int64_t rows, int64_t depth, const float* a, int64_t row, int64_t column, const float* b,
                  int64_t ldb, float* c, int64_t ldc, bool add) {
  Vector sum[kRows][W];
  for (int m = 0; m < kRows; ++m) {
    for (int w = 0; w < W; ++w) sum[m][w] = Vector{};
  }
  if (rows == kRows) {
    for (int64_t k = 0; k < depth; ++k) {
      Vector right[W];
      for (int w = 0; w < W; ++w) right[w] = *reinterpret_cast<const Vector*>(b + k * ldb + w * kLanes);
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) {
        const float left = a[m * row + k * column];
        for (int w = 0; w < W; ++w) sum[m][w] += left * right[w];
      }
    }
  } else {
    for (int64_t k = 0; k < depth; ++k) {
      Vector right[W];
      for (int w = 0; w < W; ++w) right[w] = *reinterpret_cast<const Vector*>(b + k * ldb + w * kLanes);
      for (int m = 0; m < rows; ++m) {
        const float left = a[m * row + k * column];
        for (int w = 0; w < W; ++w) sum[m][w] += left * right[w];
      }
    }
  }
  for (int m = 0; m < rows; ++m) {
    for (int w = 0; w < W; ++w) {
      Vector* to = reinterpret_cast<Vector*>(c + m * ldc + w * kLanes);
      *to = add ? *to + sum[m][w] : sum[m][w];
    }
  }
}

// C (M, N) = A B, or += with `add`.
void multiply(int64_t m_count, int64_t n_count, int64_t depth, const float* a, int64_t row, int64_t column,
              const float* b, int64_t ldb, float* c, int64_t ldc, bool add) {
  for (int64_t m = 0; m < m_count; m += kRows) {
    const int64_t rows = smaller(kRows, m_count - m);
    int64_t n = 0;
    for (; n + 2 * kLanes <= n_count; n += 2 * kLanes) {
      block<2>(rows, depth, a + m * row, row, column, b + n, ldb, c + m * ldc + n, ldc, add);
    }
    for (; n + kLanes <= n_count; n += kLanes) {
      block<1>(rows, depth, a + m * row, row, column, b + n, ldb, c + m * ldc + n, ldc, add);
    }
    for (; n < n_count; ++n) {
      for (int64_t i = m; i < m + rows; ++i) {
        float sum = 0;
        for (int64_t k = 0; k < depth; ++k) sum += a[i * row + k * column] * b[k * ldb + n];
        c[i * ldc + n] = add ? c[i * ldc + n] + sum : sum;
      }
    }
  }
}

// to (columns, rows) = from (rows, columns) transposed.
void transpose(int64_t rows, int64_t columns, const float* from, int64_t ld, float* to) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) to[j * rows + i] = from[i * ld + j];
  }
}

// --- normalisation ------------------------------------------------------------------------------------------------

constexpr int64_t kChunk = 64;  // pixels a task: fixed, so that sums do not depend on the number of threads
constexpr float kTiny = 1e-24f;  // RMSNorm divides by at least 1e-12

inline int64_t chunks(int64_t pixels) { return (pixels + kChunk - 1) / kChunk; }

// What multiplies and what is added to normalised channels, of one image.
inline void affine(const Norm& n, int64_t image, float* factor, float* offset) {
  const int64_t c_count = n.channels;
  const float width = n.statistics == Statistics::kRms ? root(static_cast<float>(c_count)) : 1.f;
  const float* scale = n.scale_shift == nullptr ? nullptr : n.scale_shift + image * 2 * c_count;
  for (int64_t c = 0; c < c_count; ++c) {
    const float one_plus = scale == nullptr ? 1.f : scale[c] + 1.f;
    factor[c] = n.gain[c] * width * one_plus;
    offset[c] = (n.bias == nullptr ? 0.f : n.bias[c] * one_plus) + (scale == nullptr ? 0.f : scale[c_count + c]);
  }
}

// Mean and reciprocal deviation of one pixel.
inline void pixel_statistics(const Norm& n, const float* x, float* mean, float* r) {
  float sum = 0, square = 0;
  if (n.statistics == Statistics::kRms) {
#pragma omp simd reduction(+ : square)
    for (int64_t c = 0; c < n.channels; ++c) square += x[c] * x[c];
    *mean = 0;
    *r = 1.f / root(larger(kTiny, square));
    return;
  }
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < n.channels; ++c) sum += x[c];
  const float m = sum / n.channels;
#pragma omp simd reduction(+ : square)
  for (int64_t c = 0; c < n.channels; ++c) square += (x[c] - m) * (x[c] - m);
  *mean = m;
  *r = 1.f / root(square / n.channels + static_cast<float>(n.eps));
}

// Doubles that a group norm needs per worker, two per group, in floats.
inline int64_t group_floats(const Norm& n) { return padded(4 * n.groups); }

// Mean and reciprocal deviation of every channel's group in one image; `work` holds `channels` floats, `total` a double
// a group. What is added to the image is taken off the mean instead, so that nobody else has to know of it.
void group_statistics(const Norm& n, int64_t image, float* mean, float* r, float* work, double* total) {
  const int64_t width = n.channels / n.groups;
  const float* x = n.x + image * n.pixels * n.channels;
  const float* added = n.added == nullptr ? nullptr : n.added + image * n.channels;
  for (int pass = 0; pass < 2; ++pass) {
    for (int64_t g = 0; g < n.groups; ++g) total[g] = 0;
    for (int64_t first = 0; first < n.pixels; first += kChunk) {
      const int64_t last = smaller(first + kChunk, n.pixels);
      memset(work, 0, n.channels * sizeof(float));
      for (int64_t p = first; p < last; ++p) {
        const float* row = x + p * n.channels;
        if (pass == 0) {
#pragma omp simd
          for (int64_t c = 0; c < n.channels; ++c) work[c] += row[c];
        } else {
#pragma omp simd
          for (int64_t c = 0; c < n.channels; ++c) work[c] += (row[c] - mean[c]) * (row[c] - mean[c]);
        }
      }
      for (int64_t g = 0, c = 0; g < n.groups; ++g) {
        for (const int64_t end = c + width; c < end; ++c) total[g] += work[c];
      }
    }
    if (pass == 0 && added != nullptr) {
      for (int64_t c = 0; c < n.channels; ++c) total[c / width] += static_cast<double>(added[c]) * n.pixels;
    }
    for (int64_t c = 0; c < n.channels; ++c) {
      const double average = total[c / width] / (static_cast<double>(width) * n.pixels);
      if (pass == 0) {
        mean[c] = static_cast<float>(added == nullptr ? average : average - added[c]);
      } else {
        r[c] = static_cast<float>(1.0 / __builtin_sqrt(average + n.eps));
      }
    }
  }
}

// The statistics of the groups of one image, and of all of them: mean, then r, (batch, 2, channels).
inline void image_statistics(const Norm& n, int64_t image, int worker, float* statistics, float* work, float* totals) {
  float* mean = statistics + image * 2 * n.channels;
  group_statistics(n, image, mean, mean + n.channels, work + worker * 2 * padded(n.channels),
                   reinterpret_cast<double*>(totals + worker * group_floats(n)));
}

void all_group_statistics(const Norm& n, float* statistics, float* work, float* totals) {
  parallel(static_cast<int>(n.batch),
           [&](int image, int worker) { image_statistics(n, image, worker, statistics, work, totals); });
}

// y of one pixel, its statistics given per pixel (stride 0) or per channel (stride 1).
template <bool kSilu, bool kAdd, bool kPerChannel>
inline void normalise(int64_t channels, const float* x, const float* mean, const float* r, const float* factor,
                      const float* offset, const float* residual, float* y) {
  const float m = mean[0], s = r[0];
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    const float centred = kPerChannel ? (x[c] - mean[c]) * r[c] : (x[c] - m) * s;
    float z = centred * factor[c] + offset[c];
    if (kSilu) z = z * sigmoid(z);
    y[c] = kAdd ? z + residual[c] : z;
  }
}

template <bool kSilu, bool kAdd, bool kGroup>
void forward(const Norm& n, float* y) {
  const int64_t row = padded(n.channels), of_image = chunks(n.pixels);
  float* work = static_cast<float*>(
      scratch((threads() * (2 * row + group_floats(n)) + n.batch * 2 * n.channels) * sizeof(float)));
  float* totals = work + threads() * 2 * row;
  float* statistics = totals + threads() * group_floats(n);
  auto chunk = [&](int64_t task, int worker, bool alone) {
    const int64_t image = task / of_image, first = task % of_image * kChunk;
    const int64_t last = smaller(first + kChunk, n.pixels);
    float *factor = work + worker * 2 * row, *offset = factor + row;
    if (alone || first == 0) affine(n, image, factor, offset);
    const float* of_group = statistics + image * 2 * n.channels;
    for (int64_t p = image * n.pixels + first; p < image * n.pixels + last; ++p) {
      const float* x = n.x + p * n.channels;
      float mean = 0, r = 0;
      if (!kGroup) pixel_statistics(n, x, &mean, &r);
      normalise<kSilu, kAdd, kGroup>(n.channels, x, kGroup ? of_group : &mean, kGroup ? of_group + n.channels : &r,
                                     factor, offset, kAdd ? n.residual + p * n.channels : nullptr,
                                     y + p * n.channels);
    }
  };
  if (kGroup && n.batch >= 2 * threads()) {  // image by image, which the cache holds
    parallel(static_cast<int>(n.batch), [&](int image, int worker) {
      image_statistics(n, image, worker, statistics, work, totals);
      for (int64_t i = 0; i < of_image; ++i) chunk(image * of_image + i, worker, false);
    });
    return;
  }
  if (kGroup) all_group_statistics(n, statistics, work, totals);
  parallel(static_cast<int>(n.batch * of_image), [&](int task, int worker) { chunk(task, worker, true); });
}

template <bool kGroup>
void forward_of(const Norm& n, float* y) {
  if (n.silu) {
    n.residual ? forward<true, true, kGroup>(n, y) : forward<true, false, kGroup>(n, y);
  } else {
    n.residual ? forward<false, true, kGroup>(n, y) : forward<false, false, kGroup>(n, y);
  }
}

void norm_forward(const Norm& n, float* y) {
  n.statistics == Statistics::kGroup ? forward_of<true>(n, y) : forward_of<false>(n, y);
}

// dz of one pixel (into dx, times the factor), and what it adds to the gradients of factor and offset.
template <bool kSilu, bool kPerChannel>
inline void through_affine(int64_t channels, const float* x, const float* mean, const float* r, const float* factor,
                           const float* offset, const float* dy, float* dx, float* dfactor, float* doffset) {
  const float m = mean[0], s = r[0];
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    const float normal = kPerChannel ? (x[c] - mean[c]) * r[c] : (x[c] - m) * s;
    float dz = dy[c];
    if (kSilu) {
      const float z = normal * factor[c] + offset[c];
      const float gate = sigmoid(z);
      dz = dz * (gate + z * gate * (1.f - gate));
    }
    dfactor[c] += dz * normal;
    doffset[c] += dz;
    dx[c] = dz * factor[c];
  }
}

template <bool kSilu, bool kGroup>
void backward(const Norm& n, const NormGradients& out) {
  const int64_t c_count = n.channels, row = padded(c_count), of_image = chunks(n.pixels);
  const int64_t tasks = n.batch * of_image;
  // Per task: gradients of factor and offset over its pixels. Then per worker: factor and offset; then statistics.
  float* partial = static_cast<float*>(
      scratch((tasks * 2 * row + threads() * (3 * row + group_floats(n)) + n.batch * 2 * c_count) * sizeof(float)));
  float* work = partial + tasks * 2 * row;
  float* totals = work + threads() * 2 * row;
  float* sums = totals + threads() * group_floats(n);
  float* statistics = sums + threads() * row;
  auto chunk = [&](int64_t task, int worker) {
    const int64_t image = task / of_image, first = task % of_image * kChunk;
    const int64_t last = smaller(first + kChunk, n.pixels);
    float *factor = work + worker * 2 * row, *offset = factor + row;
    float *dfactor = partial + task * 2 * row, *doffset = dfactor + row;
    memset(dfactor, 0, 2 * row * sizeof(float));
    affine(n, image, factor, offset);
    const float* of_group = statistics + image * 2 * c_count;
    for (int64_t p = image * n.pixels + first; p < image * n.pixels + last; ++p) {
      const float* x = n.x + p * c_count;
      float* dx = out.dx + p * c_count;
      float mean = 0, r = 0;
      if (!kGroup) pixel_statistics(n, x, &mean, &r);
      through_affine<kSilu, kGroup>(c_count, x, kGroup ? of_group : &mean, kGroup ? of_group + c_count : &r, factor,
                                    offset, out.dy + p * c_count, dx, dfactor, doffset);
      if (kGroup) continue;
      float along = 0, sum = 0;
#pragma omp simd reduction(+ : along, sum)
      for (int64_t c = 0; c < c_count; ++c) {
        along += dx[c] * ((x[c] - mean) * r);
        sum += dx[c];
      }
      if (n.statistics == Statistics::kRms) {
        sum = 0;
        if (r >= 1e12f) along = 0;  // the norm was clamped: a constant
      } else {
        along /= c_count;
        sum /= c_count;
      }
#pragma omp simd
      for (int64_t c = 0; c < c_count; ++c) dx[c] = (dx[c] - sum - (x[c] - mean) * r * along) * r;
    }
  };
  if (!kGroup) {
    parallel(static_cast<int>(tasks), [&](int task, int worker) { chunk(task, worker); });
  } else {
    const int64_t width = c_count / n.groups;
    const bool by_image = n.batch >= 2 * threads();  // which the cache holds
    if (!by_image) {
      all_group_statistics(n, statistics, work, totals);
      parallel(static_cast<int>(tasks), [&](int task, int worker) { chunk(task, worker); });
    }
    parallel(static_cast<int>(n.batch), [&](int image, int worker) {
      if (by_image) {
        image_statistics(n, image, worker, statistics, work, totals);
        for (int64_t i = 0; i < of_image; ++i) chunk(image * of_image + i, worker);
      }
      float *factor = work + worker * 2 * row, *offset = factor + row;
      affine(n, image, factor, offset);
      const float *mean = statistics + image * 2 * c_count, *r = mean + c_count;
      double *along = reinterpret_cast<double*>(totals + worker * group_floats(n)), *sum = along + n.groups;
      for (int64_t g = 0; g < 2 * n.groups; ++g) along[g] = 0;
      for (int64_t task = image * of_image; task < (image + 1) * of_image; ++task) {
        const float *dfactor = partial + task * 2 * row, *doffset = dfactor + row;
        for (int64_t c = 0; c < c_count; ++c) {
          along[c / width] += static_cast<double>(dfactor[c]) * factor[c];
          sum[c / width] += static_cast<double>(doffset[c]) * factor[c];
        }
      }
      const double count = static_cast<double>(width) * n.pixels;
      for (int64_t c = 0; c < c_count; ++c) {  // factor and offset are not needed any more
        factor[c] = static_cast<float>(along[c / width] / count);
        offset[c] = static_cast<float>(sum[c / width] / count);
      }
      float *dadded = out.dadded == nullptr ? nullptr : out.dadded + image * c_count, *part = sums + worker * row;
      if (dadded != nullptr) memset(dadded, 0, c_count * sizeof(float));
      for (int64_t first = 0; first < n.pixels; first += kChunk) {
        const int64_t last = smaller(first + kChunk, n.pixels);
        if (dadded != nullptr) memset(part, 0, c_count * sizeof(float));
        for (int64_t p = image * n.pixels + first; p < image * n.pixels + last; ++p) {
          const float* x = n.x + p * c_count;
          float* dx = out.dx + p * c_count;
#pragma omp simd
          for (int64_t c = 0; c < c_count; ++c) {
            dx[c] = (dx[c] - offset[c] - (x[c] - mean[c]) * r[c] * factor[c]) * r[c];
          }
          if (dadded == nullptr) continue;
#pragma omp simd
          for (int64_t c = 0; c < c_count; ++c) part[c] += dx[c];
        }
        for (int64_t c = 0; dadded != nullptr && c < c_count; ++c) dadded[c] += part[c];
      }
    });
  }
  // From the gradients of factor and offset, image by image, to those of the parameters.
  const float width = n.statistics == Statistics::kRms ? root(static_cast<float>(c_count)) : 1.f;
  for (int64_t c = 0; c < c_count; ++c) {
    double dgain = 0, dbias = 0;
    for (int64_t image = 0; image < n.batch; ++image) {
      double dfactor = 0, doffset = 0;
      for (int64_t task = image * of_image; task < (image + 1) * of_image; ++task) {
        dfactor += partial[task * 2 * row + c];
        doffset += partial[task * 2 * row + row + c];
      }
      const float* scale = n.scale_shift == nullptr ? nullptr : n.scale_shift + image * 2 * c_count;
      const double one_plus = scale == nullptr ? 1.0 : scale[c] + 1.0;
      dgain += dfactor * width * one_plus;
      dbias += doffset * one_plus;
      if (scale != nullptr) {
        float* ds = out.dscale_shift + image * 2 * c_count;
        ds[c] = static_cast<float>(dfactor * width * n.gain[c] + (n.bias == nullptr ? 0.0 : doffset * n.bias[c]));
        ds[c_count + c] = static_cast<float>(doffset);
      }
    }
    out.dgain[c] = static_cast<float>(dgain);
    if (out.dbias != nullptr) out.dbias[c] = static_cast<float>(dbias);
  }
}

void norm_backward(const Norm& n, const NormGradients& out) {
  if (n.statistics == Statistics::kGroup) {
    n.silu ? backward<true, true>(n, out) : backward<false, true>(n, out);
  } else {
    n.silu ? backward<true, false>(n, out) : backward<false, false>(n, out);
  }
}

// --- transposed convolution to few channels ---------------------------------------------------------------------

// What every pixel gives to its K x K neighbours is one product, (W, D) by (D, K K C), added up where it belongs.
void few_channels(const FewChannels& f, const float* x, const float* w, const float* b, float* y) {
  const int64_t taps = f.kernel * f.kernel, wide = (taps * f.channels + kLanes - 1) / kLanes * kLanes;
  const int64_t each = padded(f.width * wide);
  float* turned = static_cast<float*>(scratch((padded(f.depth * wide) + threads() * each) * sizeof(float)));
  float* work = turned + padded(f.depth * wide);
  for (int64_t d = 0; d < f.depth; ++d) {
    for (int64_t i = 0; i < wide; ++i) {
      const int64_t tap = i / f.channels, c = i % f.channels;
      turned[d * wide + i] = tap < taps ? w[(d * f.channels + c) * taps + tap] : 0.f;
    }
  }
  parallel(static_cast<int>(f.batch), [&](int image, int worker) {
    float *gifts = work + worker * each, *out = y + image * f.out_height * f.out_width * f.channels;
    for (int64_t i = 0; i < f.out_height * f.out_width; ++i) {
      for (int64_t c = 0; c < f.channels; ++c) out[i * f.channels + c] = b == nullptr ? 0.f : b[c];
    }
    for (int64_t i = 0; i < f.height; ++i) {
      multiply(f.width, wide, f.depth, x + (image * f.height + i) * f.width * f.depth, f.depth, 1, turned, wide, gifts,
               wide, false);
      for (int64_t tap = 0; tap < taps; ++tap) {
        const int64_t row = i * f.stride + tap / f.kernel - f.padding, left = tap % f.kernel - f.padding;
        if (row < 0 || row >= f.out_height) continue;
        for (int64_t j = 0; j < f.width; ++j) {
          const int64_t column = j * f.stride + left;
          if (column < 0 || column >= f.out_width) continue;
          float* to = out + (row * f.out_width + column) * f.channels;
          const float* from = gifts + j * wide + tap * f.channels;
          for (int64_t c = 0; c < f.channels; ++c) to[c] += from[c];
        }
      }
    }
  });
}

// --- attention ----------------------------------------------------------------------------------------------------

// Each row of (rows, columns) becomes its softmax.
void softmax_rows(int64_t rows, int64_t columns, float* x, int64_t ld) {
  for (int64_t i = 0; i < rows; ++i) {
    float* row = x + i * ld;
    float top = row[0], sum = 0;
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < columns; ++j) top = top > row[j] ? top : row[j];
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < columns; ++j) {
      row[j] = exponential(row[j] - top);
      sum += row[j];
    }
    const float share = 1.f / sum;
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j) row[j] *= share;
  }
}

// In place: ds = p * (ds - sum of p * ds along the row).
void softmax_rows_backward(int64_t rows, int64_t columns, const float* p, int64_t ldp, float* ds, int64_t ld) {
  for (int64_t i = 0; i < rows; ++i) {
    const float* weight = p + i * ldp;
    float *row = ds + i * ld, sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < columns; ++j) sum += weight[j] * row[j];
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j) row[j] = weight[j] * (row[j] - sum);
  }
}

// Where one head of one image stands.
struct Head {
  int64_t q, kv, out;  // where it begins in the queries, in keys and values, and in the result
  const float *memory_k, *memory_v;
};

inline Head head_of(const Attend& a, int64_t image, int64_t head) {
  const int64_t column = head * a.d, memory = a.d * a.memories;
  const float* memory_k = a.memory == nullptr ? nullptr : a.memory + head * memory;
  return {image * a.pixels * a.ld_q + column, image * a.sources * a.ld_kv + column,
          image * a.pixels * a.heads * a.d + column, memory_k,
          a.memory == nullptr ? nullptr : memory_k + a.heads * memory};
}

void copy_rows(int64_t rows, int64_t columns, const float* from, int64_t ld_from, float* to, int64_t ld_to) {
  for (int64_t i = 0; i < rows; ++i) memcpy(to + i * ld_to, from + i * ld_from, columns * sizeof(float));
}

// Linear attention, all heads of an image together and kRowsOfChunk pixels at a time, so that a pixel's numbers are read
// in one go and everything in between stays in the cache. Memory keys and values are (d, memories) columns.
constexpr int64_t kRowsOfChunk = 128;

struct LinearTask {
  int64_t image, first_head, heads, width;  // width: floats of these heads in a pixel
  float *chunk, *chunk2;                    // (kRowsOfChunk, width)
  float *top, *share, *part;                // (width): largest key, 1 / sum of exponentials
  float *context, *other;                   // (heads, d, d)
};

// How many heads a task has: all, unless there would be too few tasks. Heads do not meet, so it changes no result.
inline int64_t heads_of_task(const Attend& a) {
  int64_t heads = a.heads;
  while (heads % 2 == 0 && a.batch * (a.heads / heads) < 2 * threads()) heads /= 2;
  return heads;
}

inline int64_t linear_floats(const Attend& a, int64_t heads) {
  const int64_t width = padded(heads * a.d);
  return 2 * kRowsOfChunk * width + 3 * width + 2 * padded(heads * a.d * a.d) + padded(a.d * a.d);
}

inline LinearTask linear_task(const Attend& a, int64_t heads, int task, float* work) {
  const int64_t groups = a.heads / heads, width = heads * a.d;
  LinearTask t;
  t.image = task / groups;
  t.first_head = task % groups * heads;
  t.heads = heads;
  t.width = width;
  t.chunk = work;
  t.chunk2 = t.chunk + kRowsOfChunk * padded(width);
  t.top = t.chunk2 + kRowsOfChunk * padded(width);
  t.share = t.top + padded(width);
  t.part = t.share + padded(width);
  t.context = t.part + padded(width);
  t.other = t.context + padded(heads * a.d * a.d);
  return t;
}

// A number of a memory key or value of these heads: row j, column c of `width`.
inline float memory_at(const Attend& a, const LinearTask& t, int64_t half, int64_t j, int64_t c) {
  return a.memory[(half * a.heads + t.first_head) * a.d * a.memories + c * a.memories + j];
}

// exp(keys - top) of a chunk of rows into to, and its sums over the rows added to `part`.
void exponentials(int64_t rows, int64_t width, const float* keys, int64_t ld, const float* top, float* to, float* sum) {
  for (int64_t i = 0; i < rows; ++i) {
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      const float e = exponential(keys[i * ld + c] - top[c]);
      to[i * width + c] = e;
      sum[c] += e;
    }
  }
}

// One chunk of keys and values into the running context, whose exponentials are relative to the largest key so far.
void absorb(const Attend& a, const LinearTask& t, int64_t rows, const float* keys, const float* values, int64_t ld,
            bool first) {
  const int64_t d = a.d;
  for (int64_t c = 0; c < t.width; ++c) t.part[c] = first ? keys[c] : t.top[c];
  for (int64_t i = 0; i < rows; ++i) {
#pragma omp simd
    for (int64_t c = 0; c < t.width; ++c) t.part[c] = t.part[c] > keys[i * ld + c] ? t.part[c] : keys[i * ld + c];
  }
  for (int64_t c = 0; c < t.width; ++c) {
    if (!first && t.part[c] != t.top[c]) {
      const float shrink = exponential(t.top[c] - t.part[c]);
      t.share[c] *= shrink;
      float* row = t.context + c * d;  // (heads, d, d) is (width, d)
#pragma omp simd
      for (int64_t e = 0; e < d; ++e) row[e] *= shrink;
    }
    t.top[c] = t.part[c];
    t.part[c] = 0;
  }
  exponentials(rows, t.width, keys, ld, t.top, t.chunk, t.part);
  for (int64_t c = 0; c < t.width; ++c) t.share[c] = first ? t.part[c] : t.share[c] + t.part[c];
  for (int64_t h = 0; h < t.heads; ++h) {
    multiply(d, d, rows, t.chunk + h * d, 1, t.width, values + h * d, ld, t.context + h * d * d, d, !first);
  }
}

// The context of every head, scaled: sum over rows of softmax(keys)^T values.
void make_context(const Attend& a, const LinearTask& t) {
  const int64_t hidden = a.heads * a.d, ld = 3 * hidden;
  const float* keys = a.q + t.image * a.pixels * ld + hidden + t.first_head * a.d;
  for (int64_t first = 0; first < a.pixels; first += kRowsOfChunk) {
    const float* at = keys + first * ld;
    absorb(a, t, smaller(kRowsOfChunk, a.pixels - first), at, at + hidden, ld, first == 0);
  }
  if (a.memories > 0) {
    float* values = t.chunk2 + a.memories * t.width;
    for (int64_t j = 0; j < a.memories; ++j) {
      for (int64_t c = 0; c < t.width; ++c) {
        t.chunk2[j * t.width + c] = memory_at(a, t, 0, j, c);
        values[j * t.width + c] = memory_at(a, t, 1, j, c);
      }
    }
    absorb(a, t, a.memories, t.chunk2, values, t.width, false);
  }
  for (int64_t c = 0; c < t.width; ++c) {
    t.share[c] = 1.f / t.share[c];
    const float factor = t.share[c] * a.scale;
    for (int64_t e = 0; e < a.d; ++e) t.context[c * a.d + e] *= factor;
  }
}

// Softmaxed queries of a chunk into t.chunk.
void make_queries(const Attend& a, const LinearTask& t, int64_t rows, const float* queries, int64_t ld) {
  for (int64_t i = 0; i < rows; ++i) {
    memcpy(t.chunk + i * t.width, queries + i * ld, t.width * sizeof(float));
  }
  softmax_rows(rows * t.heads, a.d, t.chunk, a.d);
}

void linear_attention_forward(const Attend& a, float* out) {
  const int64_t hidden = a.heads * a.d, d = a.d, heads = heads_of_task(a), each = linear_floats(a, heads);
  float* work = static_cast<float*>(scratch(threads() * each * sizeof(float)));
  parallel(static_cast<int>(a.batch * (a.heads / heads)), [&](int task, int worker) {
    const LinearTask t = linear_task(a, heads, task, work + worker * each);
    make_context(a, t);
    for (int64_t first = 0; first < a.pixels; first += kRowsOfChunk) {
      const int64_t rows = smaller(kRowsOfChunk, a.pixels - first), pixel = t.image * a.pixels + first;
      make_queries(a, t, rows, a.q + pixel * 3 * hidden + t.first_head * d, 3 * hidden);
      for (int64_t h = 0; h < heads; ++h) {
        multiply(rows, d, d, t.chunk + h * d, t.width, 1, t.context + h * d * d, d,
                 out + pixel * hidden + (t.first_head + h) * d, hidden, false);
      }
    }
  });
}

// The gradients of the memories of all images, in the images' order.
void sum_memories(const Attend& a, const float* partial, float* dmemory) {
  const int64_t each = a.d * a.memories;  // of one head, keys or values
  for (int64_t half = 0; half < 2; ++half) {
    for (int64_t head = 0; head < a.heads; ++head) {
      for (int64_t i = 0; i < each; ++i) {
        double sum = 0;
        for (int64_t image = 0; image < a.batch; ++image) {
          sum += partial[((image * a.heads + head) * 2 + half) * each + i];
        }
        dmemory[(half * a.heads + head) * each + i] = static_cast<float>(sum);
      }
    }
  }
}

// Gradients of a chunk of keys and values; with t.context turned and t.other, the context's gradient, scaled.
void keys_backward(const Attend& a, const LinearTask& t, int64_t rows, const float* keys, const float* values,
                   int64_t ld, const float* along, float* dkeys, float* dvalues, int64_t ld_out) {
  const int64_t d = a.d;
  for (int64_t i = 0; i < rows; ++i) {
#pragma omp simd
    for (int64_t c = 0; c < t.width; ++c) {
      t.chunk[i * t.width + c] = exponential(keys[i * ld + c] - t.top[c]) * t.share[c];
    }
  }
  for (int64_t h = 0; h < t.heads; ++h) {
    multiply(rows, d, d, t.chunk + h * d, t.width, 1, t.other + h * d * d, d, dvalues + h * d, ld_out, false);
    multiply(rows, d, d, values + h * d, ld, 1, t.context + h * d * d, d, dkeys + h * d, ld_out, false);
  }
  for (int64_t i = 0; i < rows; ++i) {
#pragma omp simd
    for (int64_t c = 0; c < t.width; ++c) {
      dkeys[i * ld_out + c] = t.chunk[i * t.width + c] * (dkeys[i * ld_out + c] - along[c]);
    }
  }
}

void linear_attention_backward(const Attend& a, const float* dout, float* dqkv, float* dmemory) {
  const int64_t hidden = a.heads * a.d, d = a.d, ld = 3 * hidden, heads = heads_of_task(a);
  const int64_t each = linear_floats(a, heads) + 2 * a.memories * padded(heads * d), of_memory = d * a.memories;
  float* work = static_cast<float*>(scratch((threads() * each + 2 * a.batch * a.heads * of_memory) * sizeof(float)));
  float* partial = work + threads() * each;
  parallel(static_cast<int>(a.batch * (a.heads / heads)), [&](int task, int worker) {
    const LinearTask t = linear_task(a, heads, task, work + worker * each);
    float *turned = t.other + padded(heads * d * d), *memory_gradients = turned + padded(d * d);
    make_context(a, t);
    // Queries: dcontext = queries^T dy, dq = softmax'(dy context^T).
    for (int64_t first = 0; first < a.pixels; first += kRowsOfChunk) {
      const int64_t rows = smaller(kRowsOfChunk, a.pixels - first), pixel = t.image * a.pixels + first;
      make_queries(a, t, rows, a.q + pixel * ld + t.first_head * d, ld);
      const float* dy = dout + pixel * hidden + t.first_head * d;
      float* dq = dqkv + pixel * ld + t.first_head * d;
      for (int64_t h = 0; h < heads; ++h) {
        multiply(d, d, rows, t.chunk + h * d, 1, t.width, dy + h * d, hidden, t.other + h * d * d, d, first > 0);
        transpose(d, d, t.context + h * d * d, d, turned);
        multiply(rows, d, d, dy + h * d, hidden, 1, turned, d, t.chunk2 + h * d, t.width, false);
      }
      softmax_rows_backward(rows * heads, d, t.chunk, d, t.chunk2, d);
      copy_rows(rows, t.width, t.chunk2, t.width, dq, ld);
    }
    // Keys: along is the sum over rows of keys * dkeys, which is the sum over e of dcontext * context.
    for (int64_t c = 0; c < t.width; ++c) {
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t e = 0; e < d; ++e) sum += t.other[c * d + e] * t.context[c * d + e];
      t.part[c] = sum;
    }
    for (int64_t i = 0; i < t.width * d; ++i) t.other[i] *= a.scale;
    for (int64_t h = 0; h < heads; ++h) transpose(d, d, t.other + h * d * d, d, t.context + h * d * d);
    for (int64_t first = 0; first < a.pixels; first += kRowsOfChunk) {
      const int64_t rows = smaller(kRowsOfChunk, a.pixels - first);
      const int64_t at = (t.image * a.pixels + first) * ld + hidden + t.first_head * d;
      keys_backward(a, t, rows, a.q + at, a.q + at + hidden, ld, t.part, dqkv + at, dqkv + at + hidden, ld);
    }
    if (a.memories == 0) return;
    float *keys = t.chunk2, *values = keys + a.memories * t.width;
    for (int64_t j = 0; j < a.memories; ++j) {
      for (int64_t c = 0; c < t.width; ++c) {
        keys[j * t.width + c] = memory_at(a, t, 0, j, c);
        values[j * t.width + c] = memory_at(a, t, 1, j, c);
      }
    }
    float *dkeys = memory_gradients, *dvalues = dkeys + a.memories * t.width;
    keys_backward(a, t, a.memories, keys, values, t.width, t.part, dkeys, dvalues, t.width);
    for (int64_t c = 0; c < t.width; ++c) {
      float* to = partial + ((t.image * a.heads + t.first_head + c / d) * 2 * d + c % d) * a.memories;
      for (int64_t j = 0; j < a.memories; ++j) {
        to[j] = dkeys[j * t.width + c];
        to[of_memory + j] = dvalues[j * t.width + c];
      }
    }
  });
  if (a.memories > 0) sum_memories(a, partial, dmemory);
}

// Full attention, in blocks of queries. Memory keys and values are (memories, d) rows.
constexpr int64_t kQueries = 64;

inline int64_t full_floats(const Attend& a) {
  const int64_t keys = a.memories + a.sources;
  return padded(5 * keys * a.d + 2 * kQueries * keys + kQueries * a.d);
}

struct FullHead {
  float *keys_turned, *values, *keys, *dkeys, *dvalues, *weights, *dweights, *queries;
};

inline FullHead full_head(const Attend& a, float* work) {
  const int64_t keys = a.memories + a.sources, d = a.d;
  FullHead h;
  h.keys = work;
  h.values = h.keys + keys * d;
  h.keys_turned = h.values + keys * d;
  h.dkeys = h.keys_turned + keys * d;
  h.dvalues = h.dkeys + keys * d;
  h.weights = h.dvalues + keys * d;
  h.dweights = h.weights + kQueries * keys;
  h.queries = h.dweights + kQueries * keys;
  return h;
}

void gather_full(const Attend& a, const Head& from, const FullHead& h) {
  const int64_t d = a.d, keys = a.memories + a.sources;
  copy_rows(a.memories, d, from.memory_k, d, h.keys, d);
  copy_rows(a.memories, d, from.memory_v, d, h.values, d);
  copy_rows(a.sources, d, a.k + from.kv, a.ld_kv, h.keys + a.memories * d, d);
  copy_rows(a.sources, d, a.v + from.kv, a.ld_kv, h.values + a.memories * d, d);
  transpose(keys, d, h.keys, d, h.keys_turned);
}

// The weights (count, keys) of a block of queries.
void attend(const Attend& a, const Head& from, const FullHead& h, int64_t first, int64_t count) {
  const int64_t d = a.d, keys = a.memories + a.sources;
  const float* q = a.q + from.q + first * a.ld_q;
  for (int64_t i = 0; i < count; ++i) {
#pragma omp simd
    for (int64_t c = 0; c < d; ++c) h.queries[i * d + c] = q[i * a.ld_q + c] * a.scale;
  }
  multiply(count, keys, d, h.queries, d, 1, h.keys_turned, keys, h.weights, keys, false);
  softmax_rows(count, keys, h.weights, keys);
}

void attention_forward(const Attend& a, float* out) {
  const int64_t each = full_floats(a), hidden = a.heads * a.d, keys = a.memories + a.sources;
  float* work = static_cast<float*>(scratch(threads() * each * sizeof(float)));
  parallel(static_cast<int>(a.batch * a.heads), [&](int task, int worker) {
    const Head from = head_of(a, task / a.heads, task % a.heads);
    const FullHead h = full_head(a, work + worker * each);
    gather_full(a, from, h);
    for (int64_t first = 0; first < a.pixels; first += kQueries) {
      const int64_t count = smaller(kQueries, a.pixels - first);
      attend(a, from, h, first, count);
      multiply(count, a.d, keys, h.weights, keys, 1, h.values, a.d, out + from.out + first * hidden, hidden, false);
    }
  });
}

void attention_backward(const Attend& a, const float* dout, float* dq, float* dk, float* dv, float* dmemory) {
  const int64_t d = a.d, hidden = a.heads * d, keys = a.memories + a.sources;
  const int64_t each = full_floats(a) + padded(keys * d), memory = 2 * d * a.memories;
  float* work = static_cast<float*>(scratch((threads() * each + a.batch * a.heads * memory) * sizeof(float)));
  float* partial = work + threads() * each;
  parallel(static_cast<int>(a.batch * a.heads), [&](int task, int worker) {
    const Head from = head_of(a, task / a.heads, task % a.heads);
    const FullHead h = full_head(a, work + worker * each);
    float* values_turned = work + worker * each + full_floats(a);
    gather_full(a, from, h);
    transpose(keys, d, h.values, d, values_turned);
    for (int64_t first = 0; first < a.pixels; first += kQueries) {
      const int64_t count = smaller(kQueries, a.pixels - first);
      attend(a, from, h, first, count);
      const float* dy = dout + from.out + first * hidden;
      multiply(keys, d, count, h.weights, 1, keys, dy, hidden, h.dvalues, d, first > 0);
      multiply(count, keys, d, dy, hidden, 1, values_turned, keys, h.dweights, keys, false);
      softmax_rows_backward(count, keys, h.weights, keys, h.dweights, keys);
      float* dq_of = dq + from.q + first * a.ld_q;
      multiply(count, d, keys, h.dweights, keys, 1, h.keys, d, dq_of, a.ld_q, false);
      for (int64_t i = 0; i < count; ++i) {
#pragma omp simd
        for (int64_t c = 0; c < d; ++c) dq_of[i * a.ld_q + c] *= a.scale;
      }
      multiply(keys, d, count, h.dweights, 1, keys, h.queries, d, h.dkeys, d, first > 0);  // queries hold the scale
    }
    float* dmemory_of = partial + task * memory;
    memcpy(dmemory_of, h.dkeys, a.memories * d * sizeof(float));
    memcpy(dmemory_of + a.memories * d, h.dvalues, a.memories * d * sizeof(float));
    copy_rows(a.sources, d, h.dkeys + a.memories * d, d, dk + from.kv, a.ld_kv);
    copy_rows(a.sources, d, h.dvalues + a.memories * d, d, dv + from.kv, a.ld_kv);
  });
  if (a.memories > 0) sum_memories(a, partial, dmemory);
}

// --- dense layers and the optimizer -------------------------------------------------------------------------------

constexpr int64_t kOutputs = 64;  // of a dense layer, a task

void linear_forward(int64_t rows, int64_t in, int64_t out, const float* x, const float* w, const float* b, float* y) {
  float* turned = static_cast<float*>(scratch(threads() * kOutputs * in * sizeof(float)));
  parallel(static_cast<int>((out + kOutputs - 1) / kOutputs), [&](int task, int worker) {
    const int64_t first = task * kOutputs, count = smaller(kOutputs, out - first);
    float* wt = turned + worker * kOutputs * in;
    transpose(count, in, w + first * in, in, wt);
    multiply(rows, count, in, x, in, 1, wt, count, y + first, out, false);
    for (int64_t i = 0; b != nullptr && i < rows; ++i) {
#pragma omp simd
      for (int64_t j = 0; j < count; ++j) y[i * out + first + j] += b[first + j];
    }
  });
}

void linear_backward(int64_t rows, int64_t in, int64_t out, const float* x, const float* w, const float* dy, float* dx,
                     float* dw, float* db) {
  const int64_t tasks = (in + kOutputs - 1) / kOutputs;
  parallel(static_cast<int>(tasks), [&](int task, int) {
    const int64_t first = task * kOutputs, count = smaller(kOutputs, in - first);
    multiply(rows, count, out, dy, out, 1, w + first, in, dx + first, in, false);
    multiply(out, count, rows, dy, 1, out, x + first, in, dw + first, in, false);
  });
  if (db == nullptr) return;
  double* sum = static_cast<double*>(scratch(out * sizeof(double)));
  for (int64_t j = 0; j < out; ++j) sum[j] = 0;
  for (int64_t i = 0; i < rows; ++i) {
#pragma omp simd
    for (int64_t j = 0; j < out; ++j) sum[j] += dy[i * out + j];
  }
  for (int64_t j = 0; j < out; ++j) db[j] = static_cast<float>(sum[j]);
}

constexpr int64_t kWeights = 1 << 14;  // a task of the optimizer

double sum_of_squares(int64_t size, const float* x) {
  const int64_t tasks = (size + kWeights - 1) / kWeights;
  double* partial = static_cast<double*>(scratch(tasks * sizeof(double)));
  parallel(static_cast<int>(tasks), [&](int task, int) {
    double total = 0;
    const int64_t last = smaller((task + 1) * kWeights, size);
    for (int64_t first = task * kWeights; first < last; first += 1024) {
      const int64_t end = smaller(first + 1024, last);
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = first; i < end; ++i) sum += x[i] * x[i];
      total += sum;
    }
    partial[task] = total;
  });
  double total = 0;
  for (int64_t task = 0; task < tasks; ++task) total += partial[task];
  return total;
}

void adam(const Adam& a, int64_t size, const float* gradient, const float* weight, const float* m, const float* v,
          float* new_weight, float* new_m, float* new_v) {
  const int64_t tasks = (size + kWeights - 1) / kWeights;
  parallel(static_cast<int>(tasks), [&](int task, int) {
    const int64_t first = task * kWeights, last = smaller(first + kWeights, size);
#pragma omp simd
    for (int64_t i = first; i < last; ++i) {
      const float g = gradient[i] * a.clip + a.l2 * weight[i];
      const float mean = m[i] + a.new1 * (g - m[i]);
      const float square = a.beta2 * v[i] + a.new2 * (g * g);
      const float denominator = root(square) / a.root_correction + a.eps;
      new_weight[i] = weight[i] * a.shrink - a.rate * (mean / denominator);
      new_m[i] = mean;
      new_v[i] = square;
    }
  });
}

}  // namespace

#define MSD_TEXT_OF(name) #name
#define MSD_TEXT(name) MSD_TEXT_OF(name)
extern const Simd simd;
const Simd simd = {MSD_TEXT(MSD_ISA),  norm_forward,       norm_backward,  linear_attention_forward,
                   linear_attention_backward, attention_forward, attention_backward, linear_forward,
                   linear_backward,    few_channels,       sum_of_squares, adam};

}  // namespace MSD_ISA
}  // namespace msd
