// What training computes between products: heads out of tiles and back, dropout with residual and LayerNorm, attention's
// softmax with dropout.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "csr.h"

namespace spd_ray {
namespace {

constexpr int64_t BLOCK = 64;  // tokens whose gradients of gamma and beta are summed up together

Dropout dropout_of(const std::optional<Tensor>& bits, int64_t count, int64_t least, double scale) {
    if (!bits.has_value()) return {nullptr, 0, 1.f};
    TORCH_CHECK(bits->scalar_type() == at::kShort && bits->is_contiguous() && bits->numel() >= count, "bits: int16");
    return {bits->data_ptr<int16_t>(), (int32_t)least, (float)scale};
}

Dropout from(const Dropout& all, int64_t at) { return {all.bits ? all.bits + at : nullptr, all.least, all.scale}; }

// For each run of tokens that lie in one tile and one sequence: (tile, first lane, sequence, first position, count).
template <class Of>
void for_runs(int64_t batch, int64_t length, int64_t width, Of of) {
    at::parallel_for(0, batch, 1, [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; b++)
            for (int64_t l = 0, count; l < length; l += count) {
                const int64_t t = b * length + l, lane = t % width;
                count = std::min(width - lane, length - l);
                of(t / width, lane, b, l, count);
            }
    });
}

// (tiles, heads * d, width) -> (batch, heads, length, d)
Tensor heads_of_tiles(const Tensor& x, int64_t batch, int64_t length, int64_t heads) {
    TORCH_CHECK(x.dim() == 3 && x.size(1) % heads == 0 && x.size(0) * x.size(2) >= batch * length, "tiles of heads");
    const int64_t features = x.size(1), d = features / heads, width = x.size(2);
    Tensor y = at::empty({batch, heads, length, d}, x.options());
    const float* from = floats(x);
    float* to = y.data_ptr<float>();
    for_runs(batch, length, width, [&](int64_t tile, int64_t lane, int64_t b, int64_t l, int64_t count) {
        for (int64_t h = 0; h < heads; h++)
            isa->untile(from + (tile * features + h * d) * width + lane, count, d, to + ((b * heads + h) * length + l) * d,
                        d, width);
    });
    return y;
}

// (batch, heads, length, d) -> (tiles, heads * d, width), what is beyond the last token zero
Tensor tiles_of_heads(const Tensor& x, int64_t width) {
    TORCH_CHECK(x.dim() == 4, "x: (batch, heads, length, d)");
    check_width(width);
    const int64_t batch = x.size(0), heads = x.size(1), length = x.size(2), d = x.size(3), features = heads * d;
    const int64_t tiles = (batch * length + width - 1) / width;
    Tensor y = at::empty({tiles, features, width}, x.options());
    if (batch * length % width) y.narrow(0, tiles - 1, 1).zero_();
    const float* from = floats(x);
    float* to = y.data_ptr<float>();
    for_runs(batch, length, width, [&](int64_t tile, int64_t lane, int64_t b, int64_t l, int64_t count) {
        for (int64_t h = 0; h < heads; h++)
            isa->untile(from + ((b * heads + h) * length + l) * d, d, count, to + (tile * features + h * d) * width + lane,
                        width, d);
    });
    return y;
}

std::tuple<Tensor, Tensor, Tensor> add_norm(const Tensor& h, const std::optional<Tensor>& bits, int64_t least,
                                            double scale, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                                            double eps) {
    TORCH_CHECK(h.dim() == 2 && h.size(1) % 16 == 0, "h: (tokens, features), features a multiple of 16");
    const int64_t tokens = h.size(0), n = h.size(1);
    Tensor y = at::empty({tokens, n}, h.options()), normal = at::empty({tokens, n}, h.options());
    Tensor inverse = at::empty({tokens}, h.options());
    const Dropout dropout = dropout_of(bits, tokens * n, least, scale);
    const float *h_ = floats(h), *x_ = floats(x, tokens * n), *gamma_ = floats(gamma, n), *beta_ = floats(beta, n);
    float *y_ = y.data_ptr<float>(), *normal_ = normal.data_ptr<float>(), *inverse_ = inverse.data_ptr<float>();
    at::parallel_for(0, tokens, 16, [&](int64_t t, int64_t end) {
        isa->add_norm({from(dropout, t * n), end - t, n, h_ + t * n, x_ + t * n, gamma_, beta_, (float)eps, y_ + t * n,
                       normal_ + t * n, inverse_ + t});
    });
    return {y, normal, inverse};
}

// (dh, dx, dgamma, dbeta); dh is dx where nothing is dropped. Sums over tokens do not depend on the number of threads.
std::tuple<Tensor, Tensor, Tensor, Tensor> add_norm_gradient(const Tensor& dy, const Tensor& normal,
                                                             const Tensor& inverse, const Tensor& gamma,
                                                             const std::optional<Tensor>& bits, int64_t least,
                                                             double scale) {
    const int64_t tokens = normal.size(0), n = normal.size(1), blocks = (tokens + BLOCK - 1) / BLOCK;
    Tensor dx = at::empty({tokens, n}, dy.options()), dh = bits.has_value() ? at::empty({tokens, n}, dy.options()) : dx;
    Tensor sums = at::zeros({2, blocks, n}, dy.options());
    const Dropout dropout = dropout_of(bits, tokens * n, least, scale);
    const float *dy_ = floats(dy, tokens * n), *normal_ = floats(normal), *inverse_ = floats(inverse, tokens);
    const float* gamma_ = floats(gamma, n);
    float *dx_ = dx.data_ptr<float>(), *dh_ = dh.data_ptr<float>(), *sums_ = sums.data_ptr<float>();
    at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
            const int64_t t = i * BLOCK, at = t * n;
            isa->add_norm_gradient({from(dropout, at), std::min(BLOCK, tokens - t), n, dy_ + at, normal_ + at,
                                    inverse_ + t, gamma_, dh_ + at, dx_ + at, sums_ + i * n, sums_ + (blocks + i) * n});
        }
    });
    const Tensor total = sums.sum(1);
    return {dh, dx, total[0], total[1]};
}

// scores (batch, heads, queries, keys), mask broadcast to it; (probabilities, dropped), the same tensor without dropout
std::tuple<Tensor, Tensor> softmax(const Tensor& scores, const std::optional<Tensor>& mask, double scale,
                                   const std::optional<Tensor>& bits, int64_t least, double kept_scale) {
    TORCH_CHECK(scores.dim() == 4, "scores: (batch, heads, queries, keys)");
    const int64_t heads = scores.size(1), queries = scores.size(2), keys = scores.size(3);
    Tensor p = at::empty(scores.sizes(), scores.options()), wide;
    Tensor dropped = bits.has_value() ? at::empty(scores.sizes(), scores.options()) : p;
    const Dropout dropout = dropout_of(bits, scores.numel(), least, kept_scale);
    if (mask.has_value()) {
        TORCH_CHECK(mask->scalar_type() == at::kFloat && (keys == 1 || mask->stride(-1) == 1), "mask: fp32");
        wide = mask->expand(scores.sizes());
    }
    const float *scores_ = floats(scores), *mask_ = mask.has_value() ? wide.data_ptr<float>() : nullptr;
    const int64_t over_batch = mask_ ? wide.stride(0) : 0, over_heads = mask_ ? wide.stride(1) : 0;
    const int64_t over_queries = mask_ ? wide.stride(2) : 0;
    float *p_ = p.data_ptr<float>(), *dropped_ = dropped.data_ptr<float>();
    at::parallel_for(0, scores.numel() / std::max<int64_t>(keys, 1), 64, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; r++) {
            const int64_t i = r % queries, h = r / queries % heads, b = r / queries / heads;
            const float* row = mask_ ? mask_ + b * over_batch + h * over_heads + i * over_queries : nullptr;
            isa->softmax({from(dropout, r * keys), keys, (float)scale, scores_ + r * keys, row, p_ + r * keys,
                          dropped_ + r * keys});
        }
    });
    return {p, dropped};
}

Tensor softmax_gradient(const Tensor& p, const std::optional<Tensor>& dp, const std::optional<Tensor>& ddropped,
                        double scale, const std::optional<Tensor>& bits, int64_t least, double kept_scale) {
    const int64_t keys = p.size(-1), count = p.numel();
    Tensor dscores = at::empty(p.sizes(), p.options());
    const Dropout dropout = dropout_of(bits, count, least, kept_scale);
    const float *p_ = floats(p), *dp_ = dp.has_value() ? floats(*dp, count) : nullptr;
    const float* ddropped_ = ddropped.has_value() ? floats(*ddropped, count) : nullptr;
    float* dscores_ = dscores.data_ptr<float>();
    at::parallel_for(0, count / std::max<int64_t>(keys, 1), 64, [&](int64_t begin, int64_t end) {
        for (int64_t at = begin * keys; at < end * keys; at += keys)
            isa->softmax_gradient({from(dropout, at), keys, (float)scale, p_ + at, dp_ ? dp_ + at : nullptr,
                                   ddropped_ ? ddropped_ + at : nullptr, dscores_ + at});
    });
    return dscores;
}

}  // namespace
}  // namespace spd_ray

TORCH_LIBRARY_FRAGMENT(spd_ray, m) {
    m.def("heads_of_tiles(Tensor x, int batch, int length, int heads) -> Tensor");
    m.def("tiles_of_heads(Tensor x, int width) -> Tensor");
    m.def("add_norm(Tensor h, Tensor? bits, int least, float scale, Tensor x, Tensor gamma, Tensor beta, float eps)"
          " -> (Tensor, Tensor, Tensor)");
    m.def("add_norm_gradient(Tensor dy, Tensor normal, Tensor inverse, Tensor gamma, Tensor? bits, int least, float scale)"
          " -> (Tensor, Tensor, Tensor, Tensor)");
    m.def("softmax(Tensor scores, Tensor? mask, float scale, Tensor? bits, int least, float kept_scale)"
          " -> (Tensor, Tensor)");
    m.def("softmax_gradient(Tensor p, Tensor? dp, Tensor? ddropped, float scale, Tensor? bits, int least,"
          " float kept_scale) -> Tensor");
}

TORCH_LIBRARY_IMPL(spd_ray, CPU, m) {
    m.impl("heads_of_tiles", spd_ray::heads_of_tiles);
    m.impl("tiles_of_heads", spd_ray::tiles_of_heads);
    m.impl("add_norm", spd_ray::add_norm);
    m.impl("add_norm_gradient", spd_ray::add_norm_gradient);
    m.impl("softmax", spd_ray::softmax);
    m.impl("softmax_gradient", spd_ray::softmax_gradient);
}
