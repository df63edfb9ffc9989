// The kernels for AVX2 machines; all below the pragma is compiled for them, and runs only where they are.
#include "isa.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#define LANES 8
#define ISA_NAME "avx2"
#define ISA avx2
#include "body.h"
#include "rows.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
namespace spd_ray {
const Isa avx2 = {};
}
#endif
