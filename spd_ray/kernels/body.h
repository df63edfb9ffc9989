// The kernels, written once over vectors of LANES floats and compiled once per instruction set: includes come before.
// A row of the output stays in registers while the row's kept weights stream by: one broadcast, V multiply-adds each.

namespace spd_ray {
namespace {

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));
typedef float loose __attribute__((vector_size(LANES * 4), aligned(4), may_alias));  // at any address
typedef float four __attribute__((vector_size(16)));
typedef float loose4 __attribute__((vector_size(16), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float* p) { return *(const loose*)p; }
INLINE void store(float* p, vec v) { *(loose*)p = v; }
INLINE vec all(float x) { return x - (vec){}; }
INLINE vec max(vec a, vec b) { return a > b ? a : b; }
INLINE vec min(vec a, vec b) { return a < b ? a : b; }

INLINE float weight(const float* values, int64_t j) { return values[j]; }
INLINE float weight(const uint16_t* values, int64_t j) {  // bfloat16 is float's upper half
    uint32_t bits = (uint32_t)values[j] << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

// exp to 2 units in the last place, for x <= 88; what lies below -87 becomes exp(-87).
INLINE vec exponential(vec x) {
    const vec magic = all(12582912.f);  // 1.5 * 2^23: adding it rounds to a whole number, kept in the low bits
    x = max(x, all(-87.f));
    vec shifted = x * 1.44269504f + magic;
    vec n = shifted - magic;
    vec r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    vec p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + (r + 1.f);
    return (vec)((ivec)p + ((ivec)shifted << 23));
}

// x * Phi(x). Phi(x) - 0.5 is x times a polynomial in x^2 up to 5.3 (least squares at Chebyshev's points, |error of
// the product| < 1e-6), beyond which Phi is 0 or 1 to 1e-7.
INLINE vec gelu_of(vec x) {
    const float c = 5.3f;
    static const float p[14] = {1.333925639e-01f,  -6.651823936e-02f, 4.926376224e-02f,  -3.959848338e-02f,
                                3.209135381e-02f,  -2.520310399e-02f, 1.881617209e-02f,  -1.358325994e-02f,
                                9.269517979e-03f,  -5.055892731e-03f, 2.274116172e-03f,  -1.844762737e-03f,
                                1.532106968e-03f,  -4.962449907e-04f};
    vec z = min(max(x, all(-c)), all(c));
    vec u = z * z * (2.f / (c * c)) - 1.f;
    vec u2 = u * u;
    vec even = all(p[12]), odd = all(p[13]);
#pragma GCC unroll 6
    for (int i = 10; i >= 0; i -= 2) {
        even = even * u2 + p[i];
        odd = odd * u2 + p[i + 1];
    }
    vec phi = z * (odd * u + even) + 0.5f;
    vec kept = x < -c ? all(0.f) : x;
    return kept * phi;
}

// The rows first .. last of one tile of V vectors; U kept weights at a time have accumulators of their own.
template <int V, int U, bool GELU, class Value>
INLINE void product_rows(const Csr& csr, int64_t first, int64_t last, const float* x, float* y, const float* bias,
                         const float* residual) {
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
            store(y + o * width + v * LANES, GELU ? gelu_of(total) : total);
        }
    }
}

template <int V, bool GELU, class Value>
void product_width(const Csr& csr, int64_t first, int64_t last, const float* x, float* y, const float* bias,
                   const float* residual) {
    product_rows<V, (V >= 8 ? 1 : 8 / V), GELU, Value>(csr, first, last, x, y, bias, residual);
}

template <bool GELU, class Value>
void product_of(const Csr& csr, int64_t first, int64_t last, const float* x, float* y, const float* bias,
                const float* residual, int64_t width) {
    if (width == 64)
        product_width<64 / LANES, GELU, Value>(csr, first, last, x, y, bias, residual);
    else if (width == 32)
        product_width<32 / LANES, GELU, Value>(csr, first, last, x, y, bias, residual);
    else
        product_width<16 / LANES, GELU, Value>(csr, first, last, x, y, bias, residual);
}

void product(const Csr& csr, int64_t first, int64_t last, const float* x, float* y, const float* bias,
             const float* residual, bool gelu, int64_t width) {
    if (csr.bf16)
        gelu ? product_of<true, uint16_t>(csr, first, last, x, y, bias, residual, width)
             : product_of<false, uint16_t>(csr, first, last, x, y, bias, residual, width);
    else
        gelu ? product_of<true, float>(csr, first, last, x, y, bias, residual, width)
             : product_of<false, float>(csr, first, last, x, y, bias, residual, width);
}

#if LANES == 4
INLINE four fold(vec a) { return a; }
#elif LANES == 8
INLINE four fold(vec a) {
    return __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
}
#else
INLINE four fold(vec a) {
    return (__builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7)) +
           (__builtin_shufflevector(a, a, 8, 9, 10, 11) + __builtin_shufflevector(a, a, 12, 13, 14, 15));
}
#endif

// The sums of four vectors, side by side.
INLINE four sums(vec a, vec b, vec c, vec d) {
    four e = fold(a), f = fold(b), g = fold(c), h = fold(d);
    four ef = __builtin_shufflevector(e, f, 0, 4, 1, 5) + __builtin_shufflevector(e, f, 2, 6, 3, 7);
    four gh = __builtin_shufflevector(g, h, 0, 4, 1, 5) + __builtin_shufflevector(g, h, 2, 6, 3, 7);
    return __builtin_shufflevector(ef, gh, 0, 1, 4, 5) + __builtin_shufflevector(ef, gh, 2, 3, 6, 7);
}

template <int V>
void dots_width(const Csr& csr, int64_t first, int64_t last, const float* dy, const float* x, float* grad) {
    const int64_t width = V * LANES;
    for (int64_t o = first; o < last; o++) {
        vec d[V];
#pragma GCC unroll 16
        for (int v = 0; v < V; v++) d[v] = load(dy + o * width + v * LANES);
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

void dots(const Csr& csr, int64_t first, int64_t last, const float* dy, const float* x, float* grad, int64_t width) {
    if (width == 64)
        dots_width<64 / LANES>(csr, first, last, dy, x, grad);
    else if (width == 32)
        dots_width<32 / LANES>(csr, first, last, dy, x, grad);
    else
        dots_width<16 / LANES>(csr, first, last, dy, x, grad);
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

void gelu(float* x, int64_t count) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) store(x + i, gelu_of(load(x + i)));
    if (i < count) {
        float rest[LANES] = {};
        memcpy(rest, x + i, (count - i) * sizeof(float));
        store(rest, gelu_of(load(rest)));
        memcpy(x + i, rest, (count - i) * sizeof(float));
    }
}

// Sixteen features at a time: a cache line of every token is read once, sixteen lines are written.
void tile(const float* x, int64_t pitch, int64_t tokens, int64_t features, float* y, int64_t width) {
    for (int64_t f0 = 0; f0 < features; f0 += 16) {
        const int64_t f1 = f0 + 16 < features ? f0 + 16 : features;
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t f = f0; f < f1; f++) y[f * width + t] = x[t * pitch + f];
        for (int64_t f = f0; f < f1; f++)
            for (int64_t t = tokens; t < width; t++) y[f * width + t] = 0.f;
    }
}

void untile(const float* x, int64_t tokens, int64_t features, float* y, int64_t pitch, int64_t width) {
    for (int64_t f0 = 0; f0 < features; f0 += 16) {
        const int64_t f1 = f0 + 16 < features ? f0 + 16 : features;
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t f = f0; f < f1; f++) y[t * pitch + f] = x[f * width + t];
    }
}

}  // namespace

extern const Isa ISA = {ISA_NAME, LANES, product, dots, norm, attention, scale, gelu, tile, untile};

}  // namespace spd_ray
