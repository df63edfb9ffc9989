// The operators of torch.ops.spd_ray: checks of shapes, tiles shared out over torch's threads.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "csr.h"

namespace spd_ray {

static const Isa* chosen() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return &avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) return &avx2;
#endif
    return &portable;
}

const Isa* isa = chosen();

namespace {

// Calls `of` with a tile's index and rows first .. last: where tiles are few, their rows are shared out, too.
template <class Of>
void for_rows(int64_t tiles, int64_t rows, Of of) {
    const int64_t parts = tiles >= at::get_num_threads() ? 1 : at::get_num_threads();
    at::parallel_for(0, tiles * parts, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
            const int64_t p = i % parts;
            of(i / parts, rows * p / parts, rows * (p + 1) / parts);
        }
    });
}

// x (tiles, in, width), to be multiplied by a matrix of `out` rows: what the result looks like, uninitialised.
Tensor result_of(const Tensor& x, int64_t out) {
    TORCH_CHECK(x.dim() == 3, "x: (tiles, in, width)");
    check_width(x.size(2));
    return at::empty({x.size(0), out, x.size(2)}, x.options());
}

Tensor product(const Tensor& values, const Tensor& columns, const Tensor& rows, const Tensor& x,
               const std::optional<Tensor>& bias, const std::optional<Tensor>& residual) {
    const Csr csr = csr_of(values, columns, rows);
    Tensor y = result_of(x, csr.out);
    const int64_t in = x.size(1), width = x.size(2);
    const float *from = floats(x), *added = bias.has_value() ? floats(*bias, csr.out) : nullptr;
    const float* also = residual.has_value() ? floats(*residual, y.numel()) : nullptr;
    float* to = y.data_ptr<float>();
    for_rows(x.size(0), csr.out, [&](int64_t t, int64_t first, int64_t last) {
        const int64_t at = t * csr.out * width;
        isa->product(csr, first, last, from + t * in * width, to + at, added, also ? also + at : nullptr, false, width);
    });
    return y;
}

// The sums and their GELU.
std::tuple<Tensor, Tensor> product_and_gelu(const Tensor& values, const Tensor& columns, const Tensor& rows,
                                            const Tensor& x, const std::optional<Tensor>& bias) {
    const Csr csr = csr_of(values, columns, rows);
    TORCH_CHECK(!csr.bf16, "values: fp32");
    Tensor before = result_of(x, csr.out), after = result_of(x, csr.out);
    const int64_t in = x.size(1), width = x.size(2);
    const float *from = floats(x), *added = bias.has_value() ? floats(*bias, csr.out) : nullptr;
    float *sums = before.data_ptr<float>(), *to = after.data_ptr<float>();
    for_rows(x.size(0), csr.out, [&](int64_t t, int64_t first, int64_t last) {
        const int64_t at = t * csr.out * width;
        isa->product_and_gelu(csr, first, last, from + t * in * width, sums + at, to + at, added, width);
    });
    return {before, after};
}

// A product times GELU's derivative at `before`, as the chain rule has it.
Tensor product_through_gelu(const Tensor& values, const Tensor& columns, const Tensor& rows, const Tensor& dy,
                            const Tensor& before) {
    const Csr csr = csr_of(values, columns, rows);
    TORCH_CHECK(!csr.bf16, "values: fp32");
    Tensor y = result_of(dy, csr.out);
    const int64_t in = dy.size(1), width = dy.size(2);
    const float *from = floats(dy), *sums = floats(before, y.numel());
    float* to = y.data_ptr<float>();
    for_rows(dy.size(0), csr.out, [&](int64_t t, int64_t first, int64_t last) {
        const int64_t at = t * csr.out * width;
        isa->product_through_gelu(csr, first, last, from + t * in * width, sums + at, to + at, width);
    });
    return y;
}

std::tuple<Tensor, Tensor> dots(const Tensor& columns, const Tensor& rows, const Tensor& dy, const Tensor& x) {
    Tensor grad = at::zeros({columns.numel()}, x.options());
    const Csr csr = csr_of(grad, columns, rows);
    Tensor sums = at::zeros({csr.out}, x.options());
    TORCH_CHECK(x.dim() == 3 && dy.dim() == 3 && x.size(0) == dy.size(0) && x.size(2) == dy.size(2) &&
                    dy.size(1) == csr.out,
                "dy: (tiles, out, width), x: (tiles, in, width)");
    const int64_t tiles = x.size(0), in = x.size(1), width = x.size(2);
    check_width(width);
    const float *of_y = floats(dy), *of_x = floats(x);
    float *to = grad.data_ptr<float>(), *sums_to = sums.data_ptr<float>();
    at::parallel_for(0, csr.out, 16, [&](int64_t begin, int64_t end) {  // a row's order of sums is the same for any threads
        for (int64_t t = 0; t < tiles; t++)
            isa->dots(csr, begin, end, of_y + t * csr.out * width, of_x + t * in * width, to, sums_to, width);
    });
    return {grad, sums};
}

// The kept weights of a dense (out, in) matrix; a column beyond it was never in its pattern, so `in` is checked alone.
Tensor gather(const Tensor& weight, const Tensor& columns, const Tensor& rows, int64_t in) {
    Tensor values = at::empty({columns.numel()}, weight.options());
    const Csr csr = csr_of(values, columns, rows);
    const float* from = floats(weight, csr.out * in);
    float* to = values.data_ptr<float>();
    at::parallel_for(0, csr.out, 64, [&](int64_t begin, int64_t end) {
        for (int64_t o = begin; o < end; o++)
            for (int64_t j = csr.rows[o]; j < csr.rows[o + 1]; j++) to[j] = from[o * in + csr.columns[j]];
    });
    return values;
}

// A dense (out, in) matrix of zeros but for `values`.
Tensor scatter(const Tensor& values, const Tensor& columns, const Tensor& rows, int64_t in) {
    const Csr csr = csr_of(values, columns, rows);
    Tensor weight = at::zeros({csr.out, in}, values.options());
    const float* from = floats(values);
    float* to = weight.data_ptr<float>();
    at::parallel_for(0, csr.out, 64, [&](int64_t begin, int64_t end) {
        for (int64_t o = begin; o < end; o++)
            for (int64_t j = csr.rows[o]; j < csr.rows[o + 1]; j++) to[o * in + csr.columns[j]] = from[j];
    });
    return weight;
}

Tensor tile(const Tensor& x, int64_t width) {
    TORCH_CHECK(x.dim() == 2, "x: (tokens, features)");
    check_width(width);
    const int64_t tokens = x.size(0), features = x.size(1), tiles = (tokens + width - 1) / width;
    Tensor y = at::empty({tiles, features, width}, x.options());
    const float* from = floats(x);
    float* to = y.data_ptr<float>();
    at::parallel_for(0, tiles, 1, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; t++)
            isa->tile(from + t * width * features, features, std::min(width, tokens - t * width), features,
                      to + t * width * features, width);
    });
    return y;
}

Tensor untile(const Tensor& x, int64_t tokens) {
    TORCH_CHECK(x.dim() == 3, "x: (tiles, features, width)");
    const int64_t tiles = x.size(0), features = x.size(1), width = x.size(2);
    TORCH_CHECK(tokens >= 0 && tokens <= tiles * width, "tokens: as many as the tiles hold");
    Tensor y = at::empty({tokens, features}, x.options());
    const float* from = floats(x);
    float* to = y.data_ptr<float>();
    at::parallel_for(0, (tokens + width - 1) / width, 1, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; t++)
            isa->untile(from + t * width * features, std::min(width, tokens - t * width), features,
                        to + t * width * features, features, width);
    });
    return y;
}

Tensor gelu(const Tensor& x) {
    Tensor y = at::empty(x.sizes(), x.options());
    const float* from = floats(x);
    float* to = y.data_ptr<float>();
    at::parallel_for(0, y.numel(), 1 << 14,
                     [&](int64_t begin, int64_t end) { isa->gelu(from + begin, to + begin, end - begin); });
    return y;
}

std::string instruction_set() { return isa->name; }

// For tests and measurements: the name of what now runs, or "" where this machine has it not.
std::string use_instruction_set(const std::string& name) {
    const Isa* best = chosen();
    for (const Isa* one : {&portable, &avx2, &avx512})
        if (one->name && name == one->name && one->lanes <= best->lanes) isa = one;
    return isa->name == name ? name : "";
}

}  // namespace
}  // namespace spd_ray

TORCH_LIBRARY(spd_ray, m) {
    m.def("product(Tensor values, Tensor columns, Tensor rows, Tensor x, Tensor? bias, Tensor? residual) -> Tensor");
    m.def("product_and_gelu(Tensor values, Tensor columns, Tensor rows, Tensor x, Tensor? bias) -> (Tensor, Tensor)");
    m.def("product_through_gelu(Tensor values, Tensor columns, Tensor rows, Tensor dy, Tensor before) -> Tensor");
    m.def("dots(Tensor columns, Tensor rows, Tensor dy, Tensor x) -> (Tensor, Tensor)");
    m.def("gather(Tensor weight, Tensor columns, Tensor rows, int inputs) -> Tensor");
    m.def("scatter(Tensor values, Tensor columns, Tensor rows, int inputs) -> Tensor");
    m.def("tile(Tensor x, int width) -> Tensor");
    m.def("untile(Tensor x, int tokens) -> Tensor");
    m.def("gelu(Tensor x) -> Tensor");
    m.def("instruction_set() -> str", spd_ray::instruction_set);
    m.def("use_instruction_set(str name) -> str", spd_ray::use_instruction_set);
}

TORCH_LIBRARY_IMPL(spd_ray, CPU, m) {
    m.impl("product", spd_ray::product);
    m.impl("product_and_gelu", spd_ray::product_and_gelu);
    m.impl("product_through_gelu", spd_ray::product_through_gelu);
    m.impl("dots", spd_ray::dots);
    m.impl("gather", spd_ray::gather);
    m.impl("scatter", spd_ray::scatter);
    m.impl("tile", spd_ray::tile);
    m.impl("untile", spd_ray::untile);
    m.impl("gelu", spd_ray::gelu);
}
