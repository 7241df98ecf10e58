// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/crypto_memory.hpp"

#include <cstdlib>
#include <cstring>

#include <openssl/crypto.h>

#include "vtpm/engine/small_blocks.hpp"

namespace banyan::vtpm {
namespace {

/// What every command touches first, in the page of the first blocks.
struct alignas(4096) CryptoMemory {
    bool in_use = false;
    SmallBlocks blocks;
};
constinit CryptoMemory memory;

extern "C" {

// Of size 0 there is no block, as without these functions.
static void *take(std::size_t size, const char * /*file*/, int /*line*/)
{
    if (size == 0) {
        return nullptr;
    }
    void *block = memory.in_use ? memory.blocks.take(size) : nullptr;
    return block != nullptr ? block : std::malloc(size);
}

// libtpms gives OpenSSL labels of malloc's to free.
static void give_back(void *block, const char * /*file*/, int /*line*/)
{
    if (!memory.blocks.owns(block)) {
        std::free(block);
    } else if (!memory.blocks.give_back(block)) {
        __builtin_trap(); // freed twice. Not abort: its system calls are refused, and that would be what is told
    }
}

static void *resize(void *block, std::size_t size, const char *file, int line)
{
    if (block == nullptr) {
        return take(size, file, line);
    }
    if (!memory.blocks.owns(block)) {
        return std::realloc(block, size);
    }
    const std::size_t room = memory.blocks.room(block);
    if (room == 0) {
        __builtin_trap(); // freed before
    }
    if (size > 0 && size <= room) {
        return block;
    }
    void *moved = take(size, file, line);
    if (moved != nullptr) {
        std::memcpy(moved, block, room);
    }
    if (moved != nullptr || size == 0) {
        give_back(block, file, line);
    }
    return moved;
}

} // extern "C"

} // namespace

bool own_crypto_memory()
{
    return CRYPTO_set_mem_functions(take, resize, give_back) == 1;
}

void use_small_blocks()
{
#if !defined(__SANITIZE_ADDRESS__) // it watches over malloc's blocks alone
    memory.in_use = true;
#endif
}

} // namespace banyan::vtpm
