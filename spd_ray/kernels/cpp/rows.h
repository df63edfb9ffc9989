// What training computes between products, over rows of tokens; compiled once per instruction set, after body.h.

namespace spd_ray {
namespace {

typedef int16_t svec __attribute__((vector_size(LANES * 2)));
typedef int16_t loose_bits __attribute__((vector_size(LANES * 2), aligned(2), may_alias));

INLINE float total(vec v) { return sums(v, v, v, v)[0]; }

// What dropout multiplies the elements from `at` on with. None is read beyond `count`.
INLINE vec factor(const Dropout& drop, int64_t at, int64_t count = LANES) {
    if (!drop.bits) return all(1.f);
    svec bits = {};
    if (count >= LANES)
        bits = *(const loose_bits*)(drop.bits + at);
    else
        memcpy(&bits, drop.bits + at, count * sizeof(int16_t));
    const ivec kept = __builtin_convertvector(bits, ivec) >= drop.least;
    return (vec)(kept & (ivec)all(drop.scale));
}

INLINE vec load_some(const float* p, int64_t count, float rest) {
    if (count >= LANES) return load(p);
    float values[LANES];
    for (int i = 0; i < LANES; i++) values[i] = i < count ? p[i] : rest;
    return load(values);
}

INLINE void store_some(float* p, int64_t count, vec v) {
    if (count >= LANES)
        store(p, v);
    else
        memcpy(p, &v, count * sizeof(float));
}

void add_norm(const AddNorm& a) {
    const float share = 1.f / a.features;
    for (int64_t t = 0; t < a.tokens; t++) {
        const int64_t at = t * a.features;
        float *y = a.y + at, *normal = a.normal + at;
        vec sum = {}, squares = {};
        for (int64_t f = 0; f < a.features; f += LANES) {
            const vec s = load(a.h + at + f) * factor(a.dropout, at + f) + load(a.x + at + f);
            store(normal + f, s);
            sum += s;
        }
        const vec mean = all(total(sum) * share);
        for (int64_t f = 0; f < a.features; f += LANES) {
            const vec s = load(normal + f) - mean;
            squares += s * s;
        }
        const float inverse = 1.f / __builtin_sqrtf(total(squares) * share + a.eps);
        a.inverse[t] = inverse;
        for (int64_t f = 0; f < a.features; f += LANES) {
            const vec n = (load(normal + f) - mean) * inverse;
            store(normal + f, n);
            store(y + f, n * load(a.gamma + f) + load(a.beta + f));
        }
    }
}

void add_norm_gradient(const AddNormGradient& a) {
    const float share = 1.f / a.features;
    for (int64_t t = 0; t < a.tokens; t++) {
        const int64_t at = t * a.features;
        const float *dy = a.dy + at, *normal = a.normal + at;
        vec sum = {}, along = {};
        for (int64_t f = 0; f < a.features; f += LANES) {
            const vec d = load(dy + f), n = load(normal + f), g = d * load(a.gamma + f);
            sum += g;
            along += g * n;
            store(a.dgamma + f, load(a.dgamma + f) + d * n);
            store(a.dbeta + f, load(a.dbeta + f) + d);
        }
        const vec mean = all(total(sum) * share), slope = all(total(along) * share);
        const float inverse = a.inverse[t];
        for (int64_t f = 0; f < a.features; f += LANES) {
            const vec g = (load(dy + f) * load(a.gamma + f) - mean - load(normal + f) * slope) * inverse;
            store(a.dx + at + f, g);
            if (a.dropout.bits) store(a.dh + at + f, g * factor(a.dropout, at + f));
        }
    }
}

void softmax(const Softmax& a) {
    vec top = all(-3.4e38f), sum = {};
    for (int64_t j = 0; j < a.keys; j += LANES) {
        const int64_t count = a.keys - j;
        vec s = load_some(a.scores + j, count, 0.f) * a.scale;
        if (a.mask) s += load_some(a.mask + j, count, 0.f);
        if (count < LANES) s = load_some((const float*)&s, count, -3.4e38f);
        top = max(top, s);
        store_some(a.p + j, count, s);
    }
    float highest = top[0];
    for (int i = 1; i < LANES; i++) highest = top[i] > highest ? top[i] : highest;
    for (int64_t j = 0; j < a.keys; j += LANES) {
        const vec s = load_some(a.p + j, a.keys - j, -3.4e38f) - highest;
        const vec e = s < -87.f ? all(0.f) : exponential(s);
        sum += e;
        store_some(a.p + j, a.keys - j, e);
    }
    const float inverse = 1.f / total(sum);
    for (int64_t j = 0; j < a.keys; j += LANES) {
        const int64_t count = a.keys - j;
        const vec p = load_some(a.p + j, count, 0.f) * inverse;
        store_some(a.p + j, count, p);
        if (a.dropout.bits) store_some(a.dropped + j, count, p * factor(a.dropout, j, count));
    }
}

void softmax_gradient(const SoftmaxGradient& a) {
    vec along = {};
    for (int64_t j = 0; j < a.keys; j += LANES) {
        const int64_t count = a.keys - j;
        vec g = {};
        if (a.ddropped) g = load_some(a.ddropped + j, count, 0.f) * factor(a.dropout, j, count);
        if (a.dp) g += load_some(a.dp + j, count, 0.f);
        along += g * load_some(a.p + j, count, 0.f);
        store_some(a.dscores + j, count, g);
    }
    const float slope = total(along);
    for (int64_t j = 0; j < a.keys; j += LANES) {
        const int64_t count = a.keys - j;
        const vec g = load_some(a.dscores + j, count, 0.f) - slope;
        store_some(a.dscores + j, count, g * load_some(a.p + j, count, 0.f) * a.scale);
    }
}

}  // namespace

extern const Isa ISA = {ISA_NAME, LANES, product, product_and_gelu, product_through_gelu, dots, norm, attention, scale, gelu,
                        tile, untile, add_norm, add_norm_gradient, softmax, softmax_gradient};

}  // namespace spd_ray
