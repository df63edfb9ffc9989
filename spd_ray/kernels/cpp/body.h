// The kernels, written once over vectors of LANES floats and compiled once per instruction set: includes come before.
// A row of the output stays in registers while the row's kept weights stream by: one broadcast, V multiply-adds each.

#include "vectors.h"

namespace spd_ray {
namespace {

// What becomes of a sum: itself, its GELU, its GELU beside itself (in `before`), the sum times GELU's derivative there.
enum End { PLAIN, GELU, GELU_AND_SUM, TIMES_DERIVATIVE };

// The rows first .. last of one tile of V vectors; U kept weights at a time have accumulators of their own.
template <int V, int U, End END, class Value>
INLINE void product_rows(const Csr& csr, int64_t first, int64_t last, const float* x, float* y, const float* bias,
                         const float* residual, float* before) {
    const int64_t width = V * LANES;
    const Value* values = (const Value*)csr.values;
    const uint16_t* columns = csr.columns;
    for (int64_t o = first; o < last; o++) {
        vec sum[U][V];
#pragma GCC unroll 16
        for (int v = 0; v < V; v++) {
            sum[0][v] = all(bias ? bias[o] : 0.f);
            if (residual) sum[0][v] += load(residual + o * width + v * LANES);
#pragma GCC unroll 8
            for (int u = 1; u < U; u++) sum[u][v] = (vec){};
        }
        int64_t j = csr.rows[o];
        const int64_t end = csr.rows[o + 1];
        for (; j + U <= end; j += U) {
#pragma GCC unroll 8
            for (int u = 0; u < U; u++) {
                const vec w = all(weight(values, j + u));
                const float* row = x + (int64_t)columns[j + u] * width;
#pragma GCC unroll 16
                for (int v = 0; v < V; v++) sum[u][v] += w * load(row + v * LANES);
            }
        }
        for (; U > 1 && j < end; j++) {
            const vec w = all(weight(values, j));
            const float* row = x + (int64_t)columns[j] * width;
#pragma GCC unroll 16
            for (int v = 0; v < V; v++) sum[0][v] += w * load(row + v * LANES);
        }
#pragma GCC unroll 16
        for (int v = 0; v < V; v++) {
            vec total = sum[0][v];
#pragma GCC unroll 8
            for (int u = 1; u < U; u++) total += sum[u][v];
            const int64_t at = o * width + v * LANES;
            if (END == GELU_AND_SUM) store(before + at, total);
            if (END == TIMES_DERIVATIVE) total *= gelu_derivative(load(before + at));
            store(y + at, END == GELU || END == GELU_AND_SUM ? gelu_of(total) : total);
        }
    }
}

template <End END, class Value>
void product_of(const Csr& csr, int64_t first, int64_t last, const float* x, float* y, const float* bias,
                const float* residual, float* before, int64_t width) {
    constexpr int wide = 64 / LANES, half = 32 / LANES, least = 16 / LANES;
    if (width == 64)
        product_rows<wide, (wide >= 8 ? 1 : 8 / wide), END, Value>(csr, first, last, x, y, bias, residual, before);
    else if (width == 32)
        product_rows<half, (half >= 8 ? 1 : 8 / half), END, Value>(csr, first, last, x, y, bias, residual, before);
    else
        product_rows<least, (least >= 8 ? 1 : 8 / least), END, Value>(csr, first, last, x, y, bias, residual, before);
}

void product(const Csr& csr, int64_t first, int64_t last, const float* x, float* y, const float* bias,
             const float* residual, bool gelu, int64_t width) {
    if (csr.bf16)
        gelu ? product_of<GELU, uint16_t>(csr, first, last, x, y, bias, residual, nullptr, width)
             : product_of<PLAIN, uint16_t>(csr, first, last, x, y, bias, residual, nullptr, width);
    else
        gelu ? product_of<GELU, float>(csr, first, last, x, y, bias, residual, nullptr, width)
             : product_of<PLAIN, float>(csr, first, last, x, y, bias, residual, nullptr, width);
}

void product_and_gelu(const Csr& csr, int64_t first, int64_t last, const float* x, float* before, float* after,
                      const float* bias, int64_t width) {
    product_of<GELU_AND_SUM, float>(csr, first, last, x, after, bias, nullptr, before, width);
}

void product_through_gelu(const Csr& csr, int64_t first, int64_t last, const float* x, const float* before, float* y,
                          int64_t width) {
    product_of<TIMES_DERIVATIVE, float>(csr, first, last, x, y, nullptr, nullptr, const_cast<float*>(before), width);
}

template <int V>
void dots_width(const Csr& csr, int64_t first, int64_t last, const float* dy, const float* x, float* grad,
                float* sums_of_dy) {
    const int64_t width = V * LANES;
    for (int64_t o = first; o < last; o++) {
        vec d[V];
#pragma GCC unroll 16
        for (int v = 0; v < V; v++) d[v] = load(dy + o * width + v * LANES);
        if (sums_of_dy) {
            vec s = d[0];
#pragma GCC unroll 16
            for (int v = 1; v < V; v++) s += d[v];
            sums_of_dy[o] += sums(s, s, s, s)[0];
        }
        int64_t j = csr.rows[o];
        const int64_t end = csr.rows[o + 1];
        for (; j + 4 <= end; j += 4) {
            vec s[4];
#pragma GCC unroll 4
            for (int u = 0; u < 4; u++) {
                const float* row = x + (int64_t)csr.columns[j + u] * width;
                s[u] = d[0] * load(row);
#pragma GCC unroll 16
                for (int v = 1; v < V; v++) s[u] += d[v] * load(row + v * LANES);
            }
            *(loose4*)(grad + j) += sums(s[0], s[1], s[2], s[3]);
        }
        for (; j < end; j++) {
            const float* row = x + (int64_t)csr.columns[j] * width;
            vec s = d[0] * load(row);
#pragma GCC unroll 16
            for (int v = 1; v < V; v++) s += d[v] * load(row + v * LANES);
            grad[j] += sums(s, s, s, s)[0];
        }
    }
}

void dots(const Csr& csr, int64_t first, int64_t last, const float* dy, const float* x, float* grad, float* sums_of_dy,
          int64_t width) {
    if (width == 64)
        dots_width<64 / LANES>(csr, first, last, dy, x, grad, sums_of_dy);
    else if (width == 32)
        dots_width<32 / LANES>(csr, first, last, dy, x, grad, sums_of_dy);
    else
        dots_width<16 / LANES>(csr, first, last, dy, x, grad, sums_of_dy);
}

// Tokens are lanes, so the sums over features are vertical: mean, then centred squares, then the result.
template <int V>
void norm_width(float* x, int64_t features, const float* gamma, const float* beta, float eps) {
    const int64_t width = V * LANES;
    vec mean[V], square[V];
    for (int v = 0; v < V; v++) mean[v] = square[v] = (vec){};
    for (int64_t f = 0; f < features; f++)
        for (int v = 0; v < V; v++) mean[v] += load(x + f * width + v * LANES);
    for (int v = 0; v < V; v++) mean[v] *= 1.f / features;
    for (int64_t f = 0; f < features; f++)
        for (int v = 0; v < V; v++) {
            vec c = load(x + f * width + v * LANES) - mean[v];
            square[v] += c * c;
        }
    for (int v = 0; v < V; v++)
        for (int i = 0; i < LANES; i++) square[v][i] = 1.f / __builtin_sqrtf(square[v][i] * (1.f / features) + eps);
    for (int64_t f = 0; f < features; f++)
        for (int v = 0; v < V; v++) {
            vec c = load(x + f * width + v * LANES) - mean[v];
            store(x + f * width + v * LANES, c * square[v] * gamma[f] + beta[f]);
        }
}

void norm(float* x, int64_t features, const float* gamma, const float* beta, float eps, int64_t width) {
    if (width == 64)
        norm_width<64 / LANES>(x, features, gamma, beta, eps);
    else if (width == 32)
        norm_width<32 / LANES>(x, features, gamma, beta, eps);
    else
        norm_width<16 / LANES>(x, features, gamma, beta, eps);
}

// Q vectors of queries against all keys. Queries are lanes: the softmax over keys is vertical.
template <int Q>
void attend(const Attention& a, int64_t at) {
    const int64_t wide = Q * LANES, n = a.keys;
    vec top[Q];
    for (int i = 0; i < Q; i++) top[i] = all(-3e38f);
    for (int64_t j = 0; j < n; j += 4) {  // rows beyond n are zeros, their scores are not looked at
        vec s[4][Q];
#pragma GCC unroll 4
        for (int u = 0; u < 4; u++)
#pragma GCC unroll 4
            for (int i = 0; i < Q; i++) s[u][i] = (vec){};
        const float *k = a.k + j, *q = a.q + at;
        for (int64_t d = 0; d < a.head_dim; d++, k += a.kv_stride, q += a.q_stride) {
            vec x[Q];
#pragma GCC unroll 4
            for (int i = 0; i < Q; i++) x[i] = load(q + i * LANES);
#pragma GCC unroll 4
            for (int u = 0; u < 4; u++)
#pragma GCC unroll 4
                for (int i = 0; i < Q; i++) s[u][i] += k[u] * x[i];
        }
#pragma GCC unroll 4
        for (int u = 0; u < 4; u++)
#pragma GCC unroll 4
            for (int i = 0; i < Q; i++) {
                store(a.scores + (j + u) * wide + i * LANES, s[u][i]);
                if (j + u < n) top[i] = max(top[i], s[u][i]);
            }
    }
    vec sum[Q];
    for (int i = 0; i < Q; i++) sum[i] = (vec){};
    for (int64_t j = 0; j < n; j++)
#pragma GCC unroll 4
        for (int i = 0; i < Q; i++) {
            vec e = exponential(load(a.scores + j * wide + i * LANES) - top[i]);
            sum[i] += e;
            store(a.scores + j * wide + i * LANES, e);
        }
    for (int i = 0; i < Q; i++) sum[i] = 1.f / sum[i];
    for (int64_t d = 0; d < a.head_dim; d += 4) {
        vec o[4][Q];
#pragma GCC unroll 4
        for (int u = 0; u < 4; u++)
#pragma GCC unroll 4
            for (int i = 0; i < Q; i++) o[u][i] = (vec){};
        const float* v = a.v + d * a.kv_stride;
        for (int64_t j = 0; j < n; j++) {
            vec p[Q];
#pragma GCC unroll 4
            for (int i = 0; i < Q; i++) p[i] = load(a.scores + j * wide + i * LANES);
#pragma GCC unroll 4
            for (int u = 0; u < 4; u++)
#pragma GCC unroll 4
                for (int i = 0; i < Q; i++) o[u][i] += v[u * a.kv_stride + j] * p[i];
        }
#pragma GCC unroll 4
        for (int u = 0; u < 4; u++)
#pragma GCC unroll 4
            for (int i = 0; i < Q; i++) store(a.context + (d + u) * a.q_stride + at + i * LANES, o[u][i] * sum[i]);
    }
}

void attention(const Attention& a) {
    int64_t at = 0;
    for (; at + LANES < a.queries; at += 2 * LANES) attend<2>(a, at);
    if (at < a.queries) attend<1>(a, at);
}

void scale(float* x, int64_t count, float factor) {
    for (int64_t i = 0; i < count; i++) x[i] *= factor;
}

void gelu(const float* x, float* y, int64_t count) {
    for_vectors(x, y, count, [](vec a) __attribute__((always_inline)) { return gelu_of(a); });
}

// What is left beside whole squares goes one by one.
INLINE void transpose_all(const float* from, int64_t rows, int64_t columns, int64_t from_pitch, float* to,
                          int64_t to_pitch) {
    int64_t r = 0;
    for (; r + LANES <= rows; r += LANES) {
        int64_t c = 0;
        for (; c + LANES <= columns; c += LANES)
            transpose_square(from + r * from_pitch + c, from_pitch, to + c * to_pitch + r, to_pitch);
        for (; c < columns; c++)
            for (int64_t i = r; i < r + LANES; i++) to[c * to_pitch + i] = from[i * from_pitch + c];
    }
    for (; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) to[c * to_pitch + r] = from[r * from_pitch + c];
}

void tile(const float* x, int64_t pitch, int64_t tokens, int64_t features, float* y, int64_t width) {
    transpose_all(x, tokens, features, pitch, y, width);
    for (int64_t f = 0; f < features; f++)
        for (int64_t t = tokens; t < width; t++) y[f * width + t] = 0.f;
}

// By blocks of tokens, so that what is written of a token comes one line after the other.
void untile(const float* x, int64_t tokens, int64_t features, float* y, int64_t pitch, int64_t width) {
    for (int64_t t = 0; t < tokens; t += LANES)
        transpose_all(x + t, features, tokens - t < LANES ? tokens - t : LANES, width, y + t * pitch, pitch);
}

}  // namespace
}  // namespace spd_ray
