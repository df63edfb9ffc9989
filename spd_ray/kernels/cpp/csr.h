// Tensors as the kernels see them, checked: what is wrong becomes torch's RuntimeError.
#pragma once
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <optional>

#include "isa.h"

namespace spd_ray {

using at::Tensor;

inline void check_width(int64_t width) {
    TORCH_CHECK(width == 16 || width == 32 || width == 64, "a tile is 16, 32 or 64 wide");
}

// The rows' offsets are checked at both ends; columns are trusted: they are checked where an index is made or read.
inline Csr csr_of(const Tensor& values, const Tensor& columns, const Tensor& rows) {
    TORCH_CHECK(values.is_contiguous() && columns.is_contiguous() && rows.is_contiguous(), "CSR must be contiguous");
    TORCH_CHECK(values.scalar_type() == at::kFloat || values.scalar_type() == at::kBFloat16, "values: fp32 or bf16");
    TORCH_CHECK(columns.scalar_type() == at::kUInt16, "columns: uint16");
    TORCH_CHECK(rows.scalar_type() == at::kInt && rows.dim() == 1 && rows.numel() > 0, "rows: int32");
    TORCH_CHECK(values.numel() == columns.numel(), "as many values as columns");
    const int32_t* offsets = rows.data_ptr<int32_t>();
    TORCH_CHECK(offsets[0] == 0 && offsets[rows.numel() - 1] == values.numel(), "rows end where the values end");
    return {values.data_ptr(), (const uint16_t*)columns.data_ptr(), offsets, rows.numel() - 1,
            values.scalar_type() == at::kBFloat16};
}

inline const float* floats(const Tensor& x) {
    TORCH_CHECK(x.scalar_type() == at::kFloat && x.is_contiguous(), "fp32 and contiguous is expected");
    return x.data_ptr<float>();
}

inline const float* floats(const Tensor& x, int64_t count) {
    TORCH_CHECK(x.numel() == count, "a vector of ", count, " is expected, got ", x.numel());
    return floats(x);
}

}  // namespace spd_ray
