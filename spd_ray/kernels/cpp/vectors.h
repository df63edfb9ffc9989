// Vectors of LANES floats and what is computed within them; compiled once per instruction set, as body.h is.

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
INLINE vec phi_of(vec x) {
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
    return z * (odd * u + even) + 0.5f;
}

INLINE vec gelu_of(vec x) {
    vec kept = x < -5.3f ? all(0.f) : x;
    return kept * phi_of(x);
}

INLINE vec gelu_derivative(vec x) { return phi_of(x) + x * (exponential(x * x * -0.5f) * 0.3989422804f); }

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

// A square of LANES vectors, transposed: each stage swaps the off-diagonal quarters of all squares of 2 S.
template <int S, int... J>
INLINE void swap_quarters(vec* square, std::integer_sequence<int, J...>) {
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        if (!(i & S)) {
            const vec a = square[i], b = square[i + S];
            square[i] = __builtin_shufflevector(a, b, (J & S ? LANES + J - S : J)...);
            square[i + S] = __builtin_shufflevector(a, b, (J & S ? LANES + J : J + S)...);
        }
}

INLINE void transpose(vec* square) {
    constexpr auto lanes = std::make_integer_sequence<int, LANES>{};
    swap_quarters<1>(square, lanes);
    swap_quarters<2>(square, lanes);
#if LANES >= 8
    swap_quarters<4>(square, lanes);
#endif
#if LANES >= 16
    swap_quarters<8>(square, lanes);
#endif
}

// The square at `from`, rows `from_pitch` apart, transposed to `to`.
INLINE void transpose_square(const float* from, int64_t from_pitch, float* to, int64_t to_pitch) {
    vec square[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) square[i] = load(from + i * from_pitch);
    transpose(square);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) store(to + i * to_pitch, square[i]);
}

// Calls `of` on whole vectors of x, the last of them filled up with zeros, and writes y.
template <class Of>
INLINE void for_vectors(const float* x, float* y, int64_t count, Of of) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) store(y + i, of(load(x + i)));
    if (i < count) {
        float rest[LANES] = {};
        memcpy(rest, x + i, (count - i) * sizeof(float));
        store(rest, of(load(rest)));
        memcpy(y + i, rest, (count - i) * sizeof(float));
    }
}

}  // namespace
}  // namespace spd_ray
