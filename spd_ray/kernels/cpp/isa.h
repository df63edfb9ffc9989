// What one instruction set offers: plain functions over raw memory, no torch.
//
// Activations are feature-major in tiles: x[tile][feature][width], width tokens side by side, width 16, 32 or 64.
// Weights are CSR: row o has the kept weights rows[o] .. rows[o + 1], their columns are 16-bit numbers.
#pragma once
#include <cstdint>
#include <cstring>
#include <utility>

namespace spd_ray {

struct Csr {
    const void* values;       // float, or bfloat16 where `bf16`
    const uint16_t* columns;  // below 65536, ascending within a row (any order is right)
    const int32_t* rows;      // out + 1 offsets into the two above
    int64_t out;
    bool bf16;
};

// One head's attention of one sequence. Queries, keys, values and context are rows of tokens, one for each of head_dim
// features. Rows of q and context hold whole pairs of vectors (what lies beyond `queries` is computed and not used),
// rows of k hold whole fours, and head_dim is a multiple of four.
struct Attention {
    const float *q, *k, *v;
    float* context;
    float* scores;                         // scratch: (keys + 4) pairs of vectors
    int64_t queries, keys, head_dim;
    int64_t q_stride, kv_stride;           // from one row to the next
};

// Dropout by 16 random bits an element: what is kept is multiplied by `scale`. Null bits: all is kept, unscaled.
struct Dropout {
    const int16_t* bits;
    int32_t least;  // kept from here on
    float scale;
};

// Rows of features, one a token: y = LayerNorm(dropout(h) + x), and what its gradient needs.
struct AddNorm {
    Dropout dropout;
    int64_t tokens, features;  // features: whole vectors of sixteen
    const float *h, *x, *gamma, *beta;
    float eps;
    float *y, *normal, *inverse;  // normal: (tokens, features) before gamma and beta; inverse: 1 / deviation, a token
};

struct AddNormGradient {
    Dropout dropout;
    int64_t tokens, features;
    const float *dy, *normal, *inverse, *gamma;
    float *dh, *dx;          // dh may be dx where nothing is dropped
    float *dgamma, *dbeta;   // added to
};

// One row of attention: p = softmax(scale * scores + mask), dropped = dropout(p). Gradients of either may be null.
struct Softmax {
    Dropout dropout;
    int64_t keys;
    float scale;
    const float *scores, *mask;  // mask may be null
    float *p, *dropped;          // dropped is not written where nothing is dropped
};

struct SoftmaxGradient {
    Dropout dropout;
    int64_t keys;
    float scale;
    const float *p, *dp, *ddropped;
    float* dscores;
};

struct Isa {
    const char* name;
    int64_t lanes;
    // y[o][:] = act(sum of values[j] * x[columns[j]][:] + bias[o] + residual[o][:]), for first <= o < last, one tile.
    // bias and residual may be null. gelu: act is GELU by the error function, to 1e-6.
    void (*product)(const Csr&, int64_t first, int64_t last, const float* x, float* y, const float* bias,
                    const float* residual, bool gelu, int64_t width);
    // Training's: the sums before GELU and after; a product times GELU's derivative at such sums. Values: fp32.
    void (*product_and_gelu)(const Csr&, int64_t first, int64_t last, const float* x, float* before, float* after,
                             const float* bias, int64_t width);
    void (*product_through_gelu)(const Csr&, int64_t first, int64_t last, const float* x, const float* before, float* y,
                                 int64_t width);
    // grad[j] += dot(dy[o][:], x[columns[j]][:]) for the kept weights j of rows first <= o < last, one tile;
    // sums_of_dy[o] += sum of dy[o][:] where it is not null.
    void (*dots)(const Csr&, int64_t first, int64_t last, const float* dy, const float* x, float* grad,
                 float* sums_of_dy, int64_t width);
    // LayerNorm over the features of one tile, in place: x is (features, width).
    void (*norm)(float* x, int64_t features, const float* gamma, const float* beta, float eps, int64_t width);
    void (*attention)(const Attention&);
    void (*scale)(float* x, int64_t count, float factor);
    void (*gelu)(const float* x, float* y, int64_t count);  // y may be x
    // (tokens, features) with rows `pitch` apart -> (features, width); tokens that are not there become zeros.
    void (*tile)(const float* x, int64_t pitch, int64_t tokens, int64_t features, float* y, int64_t width);
    void (*untile)(const float* x, int64_t tokens, int64_t features, float* y, int64_t pitch, int64_t width);
    void (*add_norm)(const AddNorm&);
    void (*add_norm_gradient)(const AddNormGradient&);
    void (*softmax)(const Softmax&);
    void (*softmax_gradient)(const SoftmaxGradient&);
};

extern const Isa portable;
extern const Isa avx2;    // null name where the machine's family has none
extern const Isa avx512;
extern const Isa* isa;    // the one in use

}  // namespace spd_ray
