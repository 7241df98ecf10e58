// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/crypto_memory.hpp"

#include <cstdlib>
#include <cstring>

#include <openssl/crypto.h>

#include "vtpm/engine/small_blocks.hpp"

namespace banyan::vtpm {
namespace {

SmallBlocks blocks;
bool in_use = false;

void *take(std::size_t size, const char * /*file*/, int /*line*/)
{
    void *block = in_use ? blocks.take(size) : nullptr;
    return block != nullptr ? block : std::malloc(size);
}

void give_back(void *block, const char * /*file*/, int /*line*/)
{
    if (!blocks.owns(block)) {
        std::free(block);
    } else if (!blocks.give_back(block)) {
        std::abort(); // freed twice: as malloc's end such a program
    }
}

void *resize(void *block, std::size_t size, const char *file, int line)
{
    if (!blocks.owns(block)) {
        return std::realloc(block, size);
    }
    const std::size_t room = blocks.room(block);
    if (size <= room && size > 0) {
        return block;
    }
    void *moved = size > 0 ? take(size, file, line) : nullptr;
    if (moved != nullptr) {
        std::memcpy(moved, block, room);
    }
    if (moved != nullptr || size == 0) {
        give_back(block, file, line);
    }
    return moved;
}

} // namespace

bool own_crypto_memory()
{
    return CRYPTO_set_mem_functions(take, resize, give_back) == 1;
}

void use_small_blocks()
{
#if !defined(__SANITIZE_ADDRESS__) // it watches over malloc's blocks alone
    in_use = true;
#endif
}

} // namespace banyan::vtpm
