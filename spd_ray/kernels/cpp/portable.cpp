// The kernels for any machine: vectors of four floats, which every compiler lowers to what it has.
#include "isa.h"
#define LANES 4
#define ISA_NAME "portable"
#define ISA portable
#include "body.h"
#include "rows.h"
