/* The arithmetic of the demo page: products of matrices and the softmax, for WebAssembly with 128-bit vectors.
 *
 * Pointers are addresses in the page's WebAssembly memory. Matrices are stored row by row. `kernels.wasm` is made from this
 * file with: make demo-kernels
 *
 * Everything before a rounding to 8 bits is computed in the order, and with the single rounding of a * b + c, of XNNPACK, with
 * which LiteRT computes. A number that differs in its last bit is sometimes rounded to another of the 255 steps, and then
 * probabilities differ by up to 0.04. Of 123 texts of an encoder that was not fine-tuned, 39 differed by more than 0.001, and 2 do in
 * this order, as many as when LiteRT is compared with itself at another padding.
 */

#include <wasm_simd128.h>

typedef signed char int8;
typedef short int16;
typedef int int32;

#define EXPORT(name) __attribute__((export_name(#name))) name

static inline float sum_of(v128_t values) {
  return wasm_f32x4_extract_lane(values, 0) + wasm_f32x4_extract_lane(values, 1) +
         wasm_f32x4_extract_lane(values, 2) + wasm_f32x4_extract_lane(values, 3);
}

/* a * b + c, rounded once. */
static inline float fused(float a, float b, float c) { return (float)((double)a * (double)b + (double)c); }

/* The same for two numbers, which are kept as doubles. */
static inline v128_t fused_pair(v128_t a, v128_t b, v128_t c) {
  return wasm_f64x2_promote_low_f32x4(wasm_f32x4_demote_f64x2_zero(wasm_f64x2_add(wasm_f64x2_mul(a, b), c)));
}

static inline v128_t load_pair(const float *place) { return wasm_f64x2_promote_low_f32x4(wasm_v128_load64_zero(place)); }

static inline void store_pair(float *place, v128_t pair) {
  wasm_v128_store64_lane(place, wasm_f32x4_demote_f64x2_zero(pair), 0);
}

static inline int32 integer_sum_of(v128_t values) {
  return wasm_i32x4_extract_lane(values, 0) + wasm_i32x4_extract_lane(values, 1) +
         wasm_i32x4_extract_lane(values, 2) + wasm_i32x4_extract_lane(values, 3);
}

/* Rounds each row of `input` [rows, columns] to 8 bits as XNNPACK does (src/xnnpack/quantization.h,
 * xnn_f32_qd8_asymmetric_quantization_params): steps between the row's smallest and largest value and 0. Writes the
 * integers without their zero point into `rounded` and the size of a step into `steps` [rows]. */
void EXPORT(round_rows)(const float *input, int32 rows, int32 columns, int16 *rounded, float *steps) {
  for (int32 row = 0; row < rows; row++, input += columns, rounded += columns) {
    float least = 0, most = 0;
    for (int32 i = 0; i < columns; i++) {
      least = input[i] < least ? input[i] : least;
      most = input[i] > most ? input[i] : most;
    }
    const float scale = least == most ? 1.0f : 255.0f / (most - least);
    const float low = least * scale, high = most * scale;
    float zero = (-128.0f + low) + (127.0f + high) > 0 ? -128.0f - low : 127.0f - high;
    zero = zero < -128.0f ? -128.0f : zero > 127.0f ? 127.0f : zero;
    const int32 zero_point = (int32)__builtin_nearbyintf(zero);
    for (int32 i = 0; i < columns; i++) {
      int32 value = (int32)__builtin_nearbyintf(input[i] * scale) + zero_point;
      value = value < -128 ? -128 : value > 127 ? 127 : value;
      rounded[i] = (int16)(value - zero_point);
    }
    steps[row] = 1.0f / scale;
  }
}

static void multiply_integers(const int16 *a, const float *steps, const int8 *b, const float *scales, int32 scale_count,
                              const float *bias, int32 inner, int32 outputs, int32 relu, float *result,
                              int32 row, int32 column, int32 row_count, int32 column_count) {
  v128_t sums[2][4];
#pragma unroll
  for (int32 i = 0; i < 8; i++) sums[i / 4][i % 4] = wasm_i32x4_splat(0);
  /* A tile at the edge computes its last row or column several times. */
  const int16 *first = a + row * inner, *second = row_count > 1 ? first + inner : first;
  const int8 *kernels[4];
  for (int32 j = 0; j < 4; j++) kernels[j] = b + (column + (j < column_count ? j : column_count - 1)) * inner;
  int32 place = 0;
  for (; place + 8 <= inner; place += 8) {
    const v128_t upper = wasm_v128_load(first + place), lower = wasm_v128_load(second + place);
#pragma unroll
    for (int32 j = 0; j < 4; j++) {
      const v128_t kernel = wasm_i16x8_load8x8(kernels[j] + place);
      sums[0][j] = wasm_i32x4_add(sums[0][j], wasm_i32x4_dot_i16x8(upper, kernel));
      sums[1][j] = wasm_i32x4_add(sums[1][j], wasm_i32x4_dot_i16x8(lower, kernel));
    }
  }
#pragma unroll
  for (int32 i = 0; i < 2; i++) {
    const int16 *values = i ? second : first;
#pragma unroll
    for (int32 j = 0; j < 4; j++) {
      if (i >= row_count || j >= column_count) continue;
      int32 sum = integer_sum_of(sums[i][j]);
      for (int32 rest = place; rest < inner; rest++) sum += values[rest] * kernels[j][rest];
      const float scale = scales[scale_count > 1 ? column + j : 0];
      const float value = fused((float)sum * steps[row + i], scale, bias ? bias[column + j] : 0.0f);
      result[(row + i) * outputs + column + j] = relu && value < 0 ? 0 : value;
    }
  }
}

/* `a` [rows, inner] of round_rows times the transposed `b` [outputs, inner], whose rows have `scales` (or all one scale),
 * plus `bias` [outputs] or nothing (0) → `result` [rows, outputs]. */
void EXPORT(multiply_rounded)(const int16 *a, const float *steps, const int8 *b, const float *scales,
                              int32 scale_count, const float *bias, int32 rows, int32 inner, int32 outputs, int32 relu,
                              float *result) {
  for (int32 column = 0; column < outputs; column += 4)
    for (int32 row = 0; row < rows; row += 2)
      multiply_integers(a, steps, b, scales, scale_count, bias, inner, outputs, relu, result, row, column,
                        rows - row < 2 ? rows - row : 2, outputs - column < 4 ? outputs - column : 4);
}

/* `a` [rows, inner] times the transposed `b` [outputs, inner], plus `bias` [outputs] or nothing (0) → `result`
 * [rows, outputs]. */
void EXPORT(multiply)(const float *a, const float *b, const float *bias, int32 rows, int32 inner, int32 outputs,
                      int32 relu, float *result) {
  for (int32 column = 0; column < outputs; column += 4) {
    const int32 columns = outputs - column < 4 ? outputs - column : 4;
    const float *kernels[4];
    for (int32 j = 0; j < 4; j++) kernels[j] = b + (column + (j < columns ? j : columns - 1)) * inner;
    for (int32 row = 0; row < rows; row += 2) {
      const float *first = a + row * inner, *second = row + 1 < rows ? first + inner : first;
      v128_t sums[2][4];
#pragma unroll
      for (int32 i = 0; i < 8; i++) sums[i / 4][i % 4] = wasm_f32x4_splat(0);
      int32 place = 0;
      for (; place + 4 <= inner; place += 4) {
        const v128_t upper = wasm_v128_load(first + place), lower = wasm_v128_load(second + place);
#pragma unroll
        for (int32 j = 0; j < 4; j++) {
          const v128_t kernel = wasm_v128_load(kernels[j] + place);
          sums[0][j] = wasm_f32x4_add(sums[0][j], wasm_f32x4_mul(upper, kernel));
          sums[1][j] = wasm_f32x4_add(sums[1][j], wasm_f32x4_mul(lower, kernel));
        }
      }
#pragma unroll
      for (int32 i = 0; i < 2; i++) {
        const float *values = i ? second : first;
#pragma unroll
        for (int32 j = 0; j < 4; j++) {
          if (row + i >= rows || j >= columns) continue;
          float sum = sum_of(sums[i][j]);
          for (int32 rest = place; rest < inner; rest++) sum += values[rest] * kernels[j][rest];
          sum += bias ? bias[column + j] : 0.0f;
          result[(row + i) * outputs + column + j] = relu && sum < 0 ? 0 : sum;
        }
      }
    }
  }
}

/* `a` [rows, inner] times `b` [inner, outputs] → `result` [rows, outputs]. */
void EXPORT(multiply_plain)(const float *a, const float *b, int32 rows, int32 inner, int32 outputs, float *result) {
  for (int32 row = 0; row < rows; row++, a += inner, result += outputs) {
    int32 column = 0;
    for (; column + 16 <= outputs; column += 16) {
      v128_t sums[8];
#pragma unroll
      for (int32 j = 0; j < 8; j++) sums[j] = wasm_f64x2_splat(0);
      for (int32 place = 0; place < inner; place++) {
        const v128_t factor = wasm_f64x2_splat(a[place]);
        const float *values = b + place * outputs + column;
#pragma unroll
        for (int32 j = 0; j < 8; j++) sums[j] = fused_pair(factor, load_pair(values + 2 * j), sums[j]);
      }
#pragma unroll
      for (int32 j = 0; j < 8; j++) store_pair(result + column + 2 * j, sums[j]);
    }
    for (; column + 2 <= outputs; column += 2) {
      v128_t sum = wasm_f64x2_splat(0);
      for (int32 place = 0; place < inner; place++)
        sum = fused_pair(wasm_f64x2_splat(a[place]), load_pair(b + place * outputs + column), sum);
      store_pair(result + column, sum);
    }
    for (; column < outputs; column++) {
      float sum = 0;
      for (int32 place = 0; place < inner; place++) sum = fused(a[place], b[place * outputs + column], sum);
      result[column] = sum;
    }
  }
}

/* `input` [rows, columns] → `result` [columns, rows]. */
void EXPORT(transpose)(const float *input, int32 rows, int32 columns, float *result) {
  for (int32 row = 0; row < rows; row++)
    for (int32 column = 0; column < columns; column++) result[column * rows + row] = input[row * columns + column];
}

static inline v128_t factor_of(float factor) { return wasm_f64x2_splat(factor); }

/* e to the power of two numbers, at most 0: 2 to a whole number times a polynomial
 * (XNNPACK, src/f32-raddstoreexpminusmax/avx512f-rr1-p5-scalef.c.in). */
static inline v128_t power_of_e(v128_t x) {
  const v128_t whole = wasm_f64x2_nearest(fused_pair(x, factor_of(0x1.715476p+0f), wasm_f64x2_splat(0)));
  const v128_t rest = fused_pair(whole, factor_of(-0x1.62E43p-1f), x);
  v128_t power = factor_of(0x1.0F9F9Cp-7f);
  power = fused_pair(power, rest, factor_of(0x1.573A1Ap-5f));
  power = fused_pair(power, rest, factor_of(0x1.555A80p-3f));
  power = fused_pair(power, rest, factor_of(0x1.FFFDC6p-2f));
  power = fused_pair(power, rest, factor_of(0x1.FFFFF6p-1f));
  power = fused_pair(power, rest, factor_of(1.0f));
  /* Smaller powers of 2 are 0. The exponent of a double begins at bit 52 and is stored with 1023 added. */
  const v128_t tiny = wasm_f64x2_lt(whole, wasm_f64x2_splat(-149));
  const v128_t small = wasm_i32x4_trunc_sat_f64x2_zero(wasm_f64x2_max(whole, wasm_f64x2_splat(-149)));
  const v128_t exponent = wasm_i64x2_add(wasm_i64x2_extend_low_i32x4(small), wasm_i64x2_splat(1023));
  return wasm_v128_andnot(wasm_f64x2_mul(power, wasm_i64x2_shl(exponent, 52)), tiny);
}

/* The softmax of each row of `input` [rows, columns] → `result`, of the same shape. */
void EXPORT(softmax)(const float *input, int32 rows, int32 columns, float *result) {
  for (int32 row = 0; row < rows; row++, input += columns, result += columns) {
    float largest = input[0];
    for (int32 i = 1; i < columns; i++) largest = input[i] > largest ? input[i] : largest;
    const v128_t shift = wasm_f64x2_splat(largest), zero = wasm_f64x2_splat(0), one = wasm_f64x2_splat(1);
    /* The largest number is a float, so a difference is rounded once. */
    int32 i = 0;
    for (; i + 2 <= columns; i += 2)
      store_pair(result + i, power_of_e(fused_pair(wasm_f64x2_sub(load_pair(input + i), shift), one, zero)));
    if (i < columns) {
      const v128_t last = power_of_e(wasm_f64x2_splat(input[i] - largest));
      result[i] = (float)wasm_f64x2_extract_lane(last, 0);
    }
    /* In 16 sums, as in a vector of 512 bits. */
    v128_t sums[4];
#pragma unroll
    for (int32 j = 0; j < 4; j++) sums[j] = wasm_f32x4_splat(0);
    for (i = 0; i + 16 <= columns; i += 16) {
#pragma unroll
      for (int32 j = 0; j < 4; j++) sums[j] = wasm_f32x4_add(sums[j], wasm_v128_load(result + i + 4 * j));
    }
    float ends[16];
    for (int32 j = 0; j < 4; j++) wasm_v128_store(ends + 4 * j, sums[j]);
    for (; i < columns; i++) ends[i % 16] += result[i];
    for (int32 half = 8; half; half /= 2)
      for (int32 j = 0; j < half; j++) ends[j] += ends[j + half];
    const float factor = 1.0f / ends[0];
    for (i = 0; i < columns; i++) result[i] *= factor;
  }
}

/* Adds `other`, which is repeated every `period` numbers, to `count` numbers. `count` is a multiple of `period`. */
void EXPORT(add)(const float *input, int32 count, const float *other, int32 period, float *result) {
  for (int32 start = 0; start < count; start += period) {
    int32 i = 0;
    for (; i + 4 <= period; i += 4)
      wasm_v128_store(result + start + i,
                      wasm_f32x4_add(wasm_v128_load(input + start + i), wasm_v128_load(other + i)));
    for (; i < period; i++) result[start + i] = input[start + i] + other[i];
  }
}

/* The same for products. */
void EXPORT(scale)(const float *input, int32 count, const float *other, int32 period, float *result) {
  for (int32 start = 0; start < count; start += period) {
    int32 i = 0;
    for (; i + 4 <= period; i += 4)
      wasm_v128_store(result + start + i,
                      wasm_f32x4_mul(wasm_v128_load(input + start + i), wasm_v128_load(other + i)));
    for (; i < period; i++) result[start + i] = input[start + i] * other[i];
  }
}
