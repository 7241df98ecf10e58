// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

namespace banyan::vtpm {

/// OpenSSL's memory can come from small blocks of this process (small_blocks.hpp) from now on; until use_small_blocks()
/// all is malloc's. False: OpenSSL has memory already, and it stays malloc's for good.
/// Source: CRYPTO_set_mem_functions(3).
[[nodiscard]] bool own_crypto_memory();

/// From now on what fits does. Blocks taken before stay where they are. From here on one thread of this process uses
/// OpenSSL.
void use_small_blocks();

} // namespace banyan::vtpm
