#!/usr/bin/env bash
# Package: gcc (Debian packages cpp-12 and libgcc-12-dev), version 12.2.0-14+deb12u1, amd64. Needs apt of Debian 12.
#
# Expected: _tile_loadconfig(&config) reads the 64 bytes of the AMX tile configuration, so that every field written to
# `config` before it is in memory when the instruction runs.
#
# Instead: the intrinsic declares an 8-byte memory operand. Stores that reach only bytes 8 to 63 of a local
# configuration, which hold the rows and row bytes of all tiles, are dead to the compiler: -O2 removes them without a
# warning. The arguments of the function below are never read. Output seen:
#     pxor    %xmm0, %xmm0
#     movb    $1, -72(%rsp)
#     movups  %xmm0, -71(%rsp)
#     ldtilecfg       -72(%rsp)
#     ret
#     instructions that read the arguments: 0; with an asm that reads the whole configuration: 5
#
# Why it matters: with AMX a CPU kernel for pixel affinities multiplies 8-bit and bfloat16 embeddings many times
# faster. A configuration computed from the tile's shape, as a kernel for any number of channels has it, is whatever
# the stack held: a fault in one build, right results in another where the configuration happens to be in memory. Keep
# it in a constant, or follow the stores with an empty asm that has the whole object as a memory operand, as shown
# below.

set -euo pipefail
version=12.2.0-14+deb12u1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

apt-get download -q "cpp-12=$version" "libgcc-12-dev=$version" libgmp10 libisl23 libmpc3 libmpfr6 >apt.log 2>&1 ||
  { cat apt.log >&2; exit 1; }
for package in *.deb; do dpkg -x "$package" root; done
gcc=root/usr/lib/gcc/x86_64-linux-gnu/12

cat >tiles.c <<'C'
#include <immintrin.h>

typedef struct {
  unsigned char palette, start_row, reserved[14];
  unsigned short row_bytes[16];
  unsigned char rows[16];
} Tiles;

void configure(int rows, int row_bytes) {
  Tiles tiles = {1};
  for (int i = 0; i < 3; ++i) {
    tiles.rows[i] = rows;
    tiles.row_bytes[i] = row_bytes;
  }
#ifdef KEEP
  __asm__ volatile("" ::"m"(tiles));
#endif
  _tile_loadconfig(&tiles);
}
C

compile() {  # instructions of `configure` at -O2; malloc.h, and with it the C library's headers, is left out
  LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu "$gcc/cc1" -quiet -O2 -mamx-tile -D_MM_MALLOC_H_INCLUDED \
    -isystem "$gcc/include" "$@" tiles.c -o tiles.s
  grep -E '^\s+[a-z]' tiles.s
}

arguments='%(edi|di|dil|esi|si|sil)\b'
echo "GCC $version, -O2:"
compile
read=$(compile | grep -cE "$arguments" || true)
kept=$(compile -DKEEP | grep -cE "$arguments" || true)
echo "instructions that read the arguments: $read; with an asm that reads the whole configuration: $kept"
if [ "$read" -ne 0 ] || [ "$kept" -eq 0 ]; then
  echo "The behavior has changed." >&2
  exit 1
fi
