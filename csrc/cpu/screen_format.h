// The format in which screening multiplies unit vectors: bfloat16 with AMX tiles, 8-bit integers with VNNI, else
// float32 as it is. Part of sparse_kernel.cpp, which is compiled once per instruction set. Each of them defines
//   quantizes              whether the cosines of screening are rounded, so that those which matter are refined
//   min_leading_pixels     as in SparseKernels
//   stripe                 keys that approximate_cosines multiplies with a panel of queries
//   unit                   keys that later stages take at a time
//   parts_error            as in SparseKernels
//   ScreenUnits            where there are leading channels, `approximate` for up to max_count units that are `vectors`
//                          of queries wide; where it quantizes, max_refined units at a time, one vector wide; where
//                          parts have an error, `refine_in_parts` of so many
#pragma once

#if defined(__AMX_BF16__)
#include "cpu/screen_amx.h"
#elif defined(__AVX512VNNI__)
#include "cpu/screen_vnni.h"
#else
#include "cpu/screen_float32.h"
#endif
