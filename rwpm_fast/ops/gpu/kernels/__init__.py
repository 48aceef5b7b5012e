"""The Triton kernels. ``@triton.jit`` stands in this folder only; the modules one level up launch them.

Launched are ``pack_embeddings``, ``largest_values``, ``pack_values``, ``row_sums``, ``exact.step``, ``screen``,
``select``, ``list_columns``, ``weigh``, ``sparse.step``, ``multiply_pairs``, ``weigh_pairs``, ``spread`` and
``gather``; all others are device functions.

The first letter of a variable says what it holds, as in flash-linear-attention:

====== ==========================================================================================================
``p_`` pointer to the first element of a tensor (once ``i_batch`` was added: of the program's image), or a tile of
       pointers (``p_key``, ``p_value``, ``p_word``)
``i_`` index: of a program's image, tile or group, or of the first pixel of a tile
``o_`` offsets: pixels, channels or bits of a tile, or elements of a tensor. ``o_row`` and ``o_col`` are pixels of the
       image, ``o_row_out`` the same in a tensor [B, padded]
``m_`` mask
``b_`` tile or vector that was loaded or computed; held in registers or shared memory
====== ==========================================================================================================

Other lower-case names are scalars, upper-case ones are fixed when a kernel is compiled. A slot is a position in a
group's list of columns, a word the bits of 32 columns; ``words`` are those of all columns, ``WORDS`` those of one
iteration; ``width`` is the number of channels of the state, padding included. Rows are the pixels whose weights are
normalized ("queries"), columns those they are compared with ("keys"). A tile has BM rows and BN columns, an embedding
D0 + D1 channels and the value that a program carries C0 + C1, each a power of two (:func:`tiles.split_channels`).
``_low`` is the second half of a number in two halves (see ``tiles``); without one (``HAS_LOW`` and its kin) its
pointer repeats the first half's and is not read.

Pointers come first, in this order, each kernel taking those of them that it reads or writes; outputs are marked. Then
come scalars, then compile-time constants.

1. graph: keys, keys_low, inv_norm, valid (``PackedGraph.pointers``), or, where only the high halves are compared, keys,
   inv_norm, valid, quant_error (``PackedGraph.high_pointers``)
2. screening: log_keep_threshold, dropped_mass, max_logit_bound, bits, counts (``PairMask``); in ``screen``
   row_lse_bound and max_logit in place of the first and third
3. sums of rows: row_max, inv_row_sum (``RowSums``), and streaming_blocks, which says whose rows are streamed
4. lists: begins, counts, columns, weights, weights_low, weight_factor (``Pairs.pointers``)
5. gradient: left, left_low, right, right_low, offset (``PairFactors``), long rows of ``depth`` channels
6. state: start, start_low, source, source_low, target, target_low (``HalfPair.pointers`` of each)
"""
