// The whole encoder of a post-LN BERT over real tokens: no padding is computed, nothing leaves its feature-major tiles.
//
// Sequences are packed end to end into a stream of tokens, cut into tiles. They go through all layers in groups that
// stay within the caches. Within a group, a layer is: [tiles] queries, keys and values; [sequences x heads] attention;
// [tiles] all the rest. The last layer needs no more than first tokens, where no more is asked for.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <vector>

#include "csr.h"

namespace spd_ray {
namespace {

struct Linear {
    Csr csr;
    const float* bias;
};

struct Norm {
    const float *gamma, *beta;
};

struct Layer {
    Linear qkv, out, up, down;  // qkv: the rows of queries, then keys, then values
    Norm after_attention, after_all;
};

struct Shape {
    int64_t hidden, inner, heads, head_dim;
    float eps;
};

constexpr int64_t TENSORS = 20;  // of a layer

Layer layer_of(const std::vector<Tensor>& all, int64_t first, const Shape& shape) {
    const Tensor* t = &all[first];
    auto linear = [&](int64_t i, int64_t out) {
        Linear one{csr_of(t[i], t[i + 1], t[i + 2]), floats(t[i + 3], out)};
        TORCH_CHECK(one.csr.out == out, "a matrix of ", out, " rows is expected");
        return one;
    };
    auto norm = [&](int64_t i) { return Norm{floats(t[i], shape.hidden), floats(t[i + 1], shape.hidden)}; };
    return {linear(0, 3 * shape.hidden), linear(4, shape.hidden), linear(8, shape.inner), linear(12, shape.hidden),
            norm(16), norm(18)};
}

// The width whose tiles, shared out over the threads, cost least. Measured on a core with 512 KiB of second-level cache,
// hidden sizes 384 and 768: 32 lanes are best, since a tile and its feed-forward's inside stay in that cache; 16 use
// each weight less often; 64 leave it.
int64_t width_of(int64_t tokens) {
    const int64_t threads = at::get_num_threads();
    int64_t best = 32;
    double least = 1e30;
    const struct { int64_t width; double cost; } choices[] = {{32, 32 * 1.0}, {16, 16 * 1.07}, {64, 64 * 1.07}};
    for (auto& choice : choices) {
        const int64_t tiles = (tokens + choice.width - 1) / choice.width;
        const double cost = (tiles + threads - 1) / threads * choice.cost;
        if (cost < least) least = cost, best = choice.width;
    }
    return best;
}

struct Sequence {
    int64_t start, length;  // in the group's stream of tokens
};

// Copies rows of tokens out of, or into, tiles of `rows` features: a run of tokens may lie in several tiles.
template <bool INTO>
void move_rows(float* tiles, int64_t rows, int64_t width, int64_t feature, int64_t count, Sequence s, float* lines,
               int64_t stride) {
    for (int64_t at = 0; at < s.length;) {
        const int64_t token = s.start + at, lane = token % width, run = std::min(s.length - at, width - lane);
        float* tile = tiles + (token / width * rows + feature) * width + lane;
        for (int64_t f = 0; f < count; f++) {
            float *one = tile + f * width, *other = lines + f * stride + at;
            if (INTO)
                memcpy(one, other, run * sizeof(float));
            else
                memcpy(other, one, run * sizeof(float));
        }
        at += run;
    }
}

class Group {
  public:
    Group(const Shape& shape, int64_t longest, int64_t tokens, int64_t sequences, int64_t width)
        : shape_(shape), width_(width) {
        const int64_t padded = (tokens + 63) / 64 * 64, firsts = (sequences + 15) / 16 * 16, pair = 2 * isa->lanes;
        stride_ = (longest + pair - 1) / pair * pair + 16;  // rows a power of two apart would share cache sets
        const int64_t attention = 4 * shape.head_dim * stride_ + (longest + 4) * pair;
        const int64_t per_thread = std::max(attention, (shape.inner + shape.hidden) * width);
        per_thread_ = (per_thread + 31) / 16 * 16;
        const int64_t stream = padded * shape.hidden, few = (firsts + 64) * shape.hidden;
        const size_t need = 5 * stream + 3 * few + per_thread_ * at::get_num_threads() + 64;
        static thread_local std::vector<float> kept;  // grows to what the largest group has needed
        if (kept.size() < need) kept.resize(need);
        float* base = (float*)(((uintptr_t)kept.data() + 63) / 64 * 64);
        x_ = base;
        qkv_ = x_ + stream;
        context_ = qkv_ + 3 * stream;
        first_x_ = context_ + stream;
        first_q_ = first_x_ + few;
        first_context_ = first_q_ + few;
        scratch_ = first_context_ + few;
    }

    // embeddings: (tokens, hidden) of these sequences, one after the other; result: as `embeddings`, or of the first
    // token of each sequence.
    void run(const std::vector<Layer>& layers, Norm norm, const float* embeddings, const std::vector<Sequence>& all,
             bool first_only, float* result) {
        const int64_t h = shape_.hidden, w = width_;
        const int64_t tokens = all.back().start + all.back().length, tiles = (tokens + w - 1) / w;
        parallel(tiles, [&](int64_t t) {
            float* x = x_ + t * h * w;
            isa->tile(embeddings + t * w * h, h, std::min(w, tokens - t * w), h, x, w);
            isa->norm(x, h, norm.gamma, norm.beta, shape_.eps, w);
        });
        const int64_t whole = (int64_t)layers.size() - (first_only && !layers.empty());
        for (int64_t i = 0; i < whole; i++) {
            const Layer& layer = layers[i];
            parallel(tiles, [&](int64_t t) { linear(layer.qkv, 0, 3 * h, x_ + t * h * w, qkv_ + t * 3 * h * w, w); });
            attend(all, qkv_, 3 * h, w, context_, w, false);
            parallel(tiles, [&](int64_t t) { rest(layer, context_ + t * h * w, x_ + t * h * w, w); });
        }
        if (!first_only) {
            parallel(tiles, [&](int64_t t) {
                isa->untile(x_ + t * h * w, std::min(w, tokens - t * w), h, result + t * w * h, h, w);
            });
            return;
        }
        firsts(layers, all, tiles, result);
    }

  private:
    template <class Body>
    static void parallel(int64_t count, const Body& body) {
        at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i++) body(i);
        });
    }

    float* scratch() const { return scratch_ + at::get_thread_num() * per_thread_; }

    // The rows first .. last of y (of the matrix's row 0 on) from x, one tile.
    static void linear(const Linear& l, int64_t first, int64_t last, const float* x, float* y, int64_t w) {
        isa->product(l.csr, first, last, x, y, l.bias, nullptr, false, w);
    }

    // x becomes the layer's output: projection of the context, residual, norm, feed-forward, residual, norm.
    void rest(const Layer& l, const float* context, float* x, int64_t w) const {
        float *h = scratch(), *inner = h + shape_.hidden * w;
        isa->product(l.out.csr, 0, shape_.hidden, context, h, l.out.bias, x, false, w);
        isa->norm(h, shape_.hidden, l.after_attention.gamma, l.after_attention.beta, shape_.eps, w);
        isa->product(l.up.csr, 0, shape_.inner, h, inner, l.up.bias, nullptr, true, w);
        isa->product(l.down.csr, 0, shape_.hidden, inner, x, l.down.bias, h, false, w);
        isa->norm(x, shape_.hidden, l.after_all.gamma, l.after_all.beta, shape_.eps, w);
    }

    // Attention of all sequences and heads. `queries`: tiles of `query_rows` features; with `first`, sequence i's one
    // query is token i of them. Keys and values lie in qkv_.
    void attend(const std::vector<Sequence>& all, float* queries, int64_t query_rows, int64_t query_width,
                float* context, int64_t context_width, bool first) const {
        const int64_t h = shape_.hidden, d = shape_.head_dim, w = width_, heads = shape_.heads;
        parallel((int64_t)all.size() * heads, [&](int64_t i) {
            const Sequence s = all[i / heads], asked = first ? Sequence{i / heads, 1} : s;
            const int64_t f = i % heads * d;
            float *q = scratch(), *k = q + d * stride_, *v = k + d * stride_, *c = v + d * stride_;
            if (asked.length % (2 * isa->lanes)) memset(q, 0, d * stride_ * sizeof(float));
            move_rows<false>(queries, query_rows, query_width, f, d, asked, q, stride_);
            isa->scale(q, d * stride_, 1.f / std::sqrt((float)d));
            Attention a{q, k, v, c, c + d * stride_, asked.length, s.length, d, stride_, stride_};
            if (s.start % w + s.length <= w) {  // within one tile: read where they are
                const float* tile = qkv_ + (s.start / w * 3 * h + f) * w + s.start % w;
                a.k = tile + h * w;
                a.v = tile + 2 * h * w;
                a.kv_stride = w;
            } else {
                move_rows<false>(qkv_, 3 * h, w, h + f, d, s, k, stride_);
                move_rows<false>(qkv_, 3 * h, w, 2 * h + f, d, s, v, stride_);
            }
            isa->attention(a);
            move_rows<true>(context, h, context_width, f, d, asked, c, stride_);
        });
    }

    // The last layer, for the first token of every sequence alone.
    void firsts(const std::vector<Layer>& layers, const std::vector<Sequence>& all, int64_t tiles, float* result) {
        const int64_t h = shape_.hidden, w = width_, count = all.size();
        const int64_t few = std::min(width_of(count), w), few_tiles = (count + few - 1) / few;
        memset(first_x_, 0, few_tiles * few * h * sizeof(float));
        memset(first_context_, 0, few_tiles * few * h * sizeof(float));
        for (int64_t i = 0; i < count; i++)
            for (int64_t f = 0; f < h; f++)
                first_x_[(i / few * h + f) * few + i % few] = x_[(all[i].start / w * h + f) * w + all[i].start % w];
        if (!layers.empty()) {
            const Layer& layer = layers.back();
            parallel(tiles, [&](int64_t t) { linear(layer.qkv, h, 3 * h, x_ + t * h * w, qkv_ + t * 3 * h * w, w); });
            parallel(few_tiles,
                     [&](int64_t t) { linear(layer.qkv, 0, h, first_x_ + t * h * few, first_q_ + t * h * few, few); });
            attend(all, first_q_, h, few, first_context_, few, true);
            parallel(few_tiles,
                     [&](int64_t t) { rest(layer, first_context_ + t * h * few, first_x_ + t * h * few, few); });
        }
        for (int64_t t = 0; t < few_tiles; t++)
            isa->untile(first_x_ + t * h * few, std::min(few, count - t * few), h, result + t * few * h, h, few);
    }

    Shape shape_;
    int64_t width_, stride_, per_thread_;
    float *x_, *qkv_, *context_, *first_x_, *first_q_, *first_context_, *scratch_;
};

Tensor encoder(const Tensor& embeddings, at::IntArrayRef lengths, const std::vector<Tensor>& weights, const Tensor& gamma,
               const Tensor& beta, int64_t heads, double eps, bool first_only, int64_t width, int64_t group) {
    TORCH_CHECK(embeddings.dim() == 2, "embeddings: (tokens, hidden)");
    TORCH_CHECK(weights.size() % TENSORS == 0, "20 tensors a layer");
    TORCH_CHECK(group > 0, "a group has at least one token");
    if (width) check_width(width);
    const int64_t hidden = embeddings.size(1), count = lengths.size();
    TORCH_CHECK(heads > 0 && hidden % heads == 0 && hidden / heads % 4 == 0, "a head's features: a multiple of four");
    int64_t tokens = 0, longest = 0;
    for (int64_t length : lengths) {
        TORCH_CHECK(length > 0, "a sequence has at least one token");
        tokens += length;
        longest = std::max(longest, length);
    }
    TORCH_CHECK(tokens == embeddings.size(0), "as many tokens as the lengths say");
    Shape shape{hidden, weights.empty() ? 0 : weights[11].numel(), heads, hidden / heads, (float)eps};
    std::vector<Layer> layers;
    for (size_t i = 0; i < weights.size(); i += TENSORS) layers.push_back(layer_of(weights, i, shape));
    const Norm norm{floats(gamma, hidden), floats(beta, hidden)};
    const float* from = floats(embeddings);
    Tensor result = at::empty({first_only ? count : tokens, hidden}, embeddings.options());
    float* to = result.data_ptr<float>();
    for (int64_t i = 0; i < count;) {
        std::vector<Sequence> all;
        int64_t stream = 0, top = 0;
        for (; i < count && (all.empty() || stream + lengths[i] <= group); i++) {
            all.push_back({stream, lengths[i]});
            stream += lengths[i];
            top = std::max<int64_t>(top, lengths[i]);
        }
        Group(shape, top, stream, all.size(), width ? width : width_of(stream))
            .run(layers, norm, from, all, first_only, to);
        from += stream * hidden;
        to += (first_only ? (int64_t)all.size() : stream) * hidden;
    }
    return result;
}

}  // namespace
}  // namespace spd_ray

TORCH_LIBRARY_FRAGMENT(spd_ray, m) {
    m.def(
        "encoder(Tensor embeddings, int[] lengths, Tensor[] weights, Tensor gamma, Tensor beta, int heads, float eps, "
        "bool first_only, int width, int group) -> Tensor");
}

TORCH_LIBRARY_IMPL(spd_ray, CPU, m) { m.impl("encoder", spd_ray::encoder); }
