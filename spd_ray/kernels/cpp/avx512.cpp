// The kernels for AVX512 machines; all below the pragma is compiled for them, and runs only where they are.
#include "isa.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif
#define LANES 16
#define ISA_NAME "avx512"
#define ISA avx512
#include "body.h"
#include "rows.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
namespace spd_ray {
const Isa avx512 = {};
}
#endif
