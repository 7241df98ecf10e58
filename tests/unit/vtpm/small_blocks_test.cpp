// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/small_blocks.hpp"

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>
#include <openssl/crypto.h>

#include "vtpm/engine/crypto_memory.hpp"

namespace banyan::vtpm::testing {
namespace {

std::byte *taken(SmallBlocks &blocks, std::size_t size)
{
    return static_cast<std::byte *>(blocks.take(size));
}

TEST(SmallBlocks, LieBesideEachOther)
{
    const auto blocks = std::make_unique<SmallBlocks>();
    std::byte *first = taken(*blocks, 24);
    ASSERT_NE(first, nullptr);
    EXPECT_EQ(taken(*blocks, 32), first + 32);
    EXPECT_EQ(taken(*blocks, 17), first + 64);
    EXPECT_TRUE(blocks->give_back(first + 32));
    EXPECT_TRUE(blocks->give_back(first));
    EXPECT_EQ(taken(*blocks, 32), first) << "of the free ones the lowest";
    EXPECT_EQ(taken(*blocks, 32), first + 32);
}

TEST(SmallBlocks, AreAlignedForEverything)
{
    const auto blocks = std::make_unique<SmallBlocks>();
    for (std::size_t size = 0; size <= SmallBlocks::kMost; ++size) {
        void *block = blocks->take(size);
        ASSERT_NE(block, nullptr) << size;
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignof(std::max_align_t), 0U) << size;
        EXPECT_GE(blocks->room(block), std::max<std::size_t>(size, 1)) << size;
        EXPECT_TRUE(blocks->owns(block)) << size;
        EXPECT_TRUE(blocks->give_back(block));
    }
}

TEST(SmallBlocks, EndWhereTheirMemoryDoes)
{
    const auto blocks = std::make_unique<SmallBlocks>();
    EXPECT_EQ(blocks->take(SmallBlocks::kMost + 1), nullptr);
    std::vector<void *> all;
    for (void *block = blocks->take(64); block != nullptr; block = blocks->take(64)) {
        all.push_back(block);
        ASSERT_LE(all.size(), SmallBlocks::kCapacity / 64);
    }
    EXPECT_EQ(all.size(), SmallBlocks::kCapacity / 64) << "none is lost";
    EXPECT_EQ(blocks->take(16), nullptr);
    for (void *block : all) {
        EXPECT_TRUE(blocks->give_back(block));
    }
    for (std::size_t i = 0; i < SmallBlocks::kCapacity / SmallBlocks::kMost; ++i) {
        EXPECT_NE(blocks->take(SmallBlocks::kMost), nullptr) << "what is free again serves any size: " << i;
    }
    EXPECT_EQ(blocks->take(1), nullptr);
}

TEST(SmallBlocks, AreGivenBackOnce)
{
    const auto blocks = std::make_unique<SmallBlocks>();
    std::byte *first = taken(*blocks, 200); // two of 208 bytes in a row, and a rest
    std::byte *second = taken(*blocks, 200);
    EXPECT_EQ(second, first + 208);
    EXPECT_FALSE(blocks->give_back(first + 16)) << "the middle of one";
    EXPECT_FALSE(blocks->give_back(first + 416)) << "the rest of the row";
    EXPECT_FALSE(blocks->give_back(first + 1024)) << "a row that nobody uses";
    EXPECT_FALSE(blocks->give_back(first - 16));
    EXPECT_FALSE(blocks->give_back(nullptr));
    EXPECT_TRUE(blocks->give_back(first));
    EXPECT_FALSE(blocks->give_back(first));
    EXPECT_TRUE(blocks->give_back(second));
    EXPECT_FALSE(blocks->give_back(second)) << "in a row that nobody uses any more";
    EXPECT_EQ(taken(*blocks, 512), first) << "and all is as before";
}

TEST(SmallBlocks, OwnNothingElse)
{
    const auto blocks = std::make_unique<SmallBlocks>();
    std::byte *first = taken(*blocks, 16);
    EXPECT_FALSE(blocks->owns(nullptr));
    EXPECT_FALSE(blocks->owns(first - 1));
    EXPECT_TRUE(blocks->owns(first + SmallBlocks::kCapacity - 1));
    EXPECT_FALSE(blocks->owns(first + SmallBlocks::kCapacity));
}

TEST(SmallBlocks, NeverOverlap)
{
    struct Held {
        std::byte *at;
        std::size_t size;
        std::byte mark;
    };
    std::mt19937 random(7); // NOLINT(cert-msc51-cpp): the same each time
    const auto blocks = std::make_unique<SmallBlocks>();
    std::vector<Held> held;
    unsigned refused = 0;
    for (unsigned turn = 0; turn < 200'000; ++turn) {
        if (held.empty() || random() % 100 < (turn / 10'000 % 2 == 0 ? 60 : 40)) { // fuller, then emptier
            const std::size_t size = random() % 8 == 0 ? random() % (SmallBlocks::kMost + 1) : random() % 65;
            std::byte *at = taken(*blocks, size);
            if (at == nullptr) {
                ++refused;
                continue;
            }
            const auto mark = static_cast<std::byte>(random() % 256);
            std::memset(at, static_cast<int>(mark), size);
            held.push_back({at, size, mark});
        } else {
            std::swap(held[random() % held.size()], held.back());
            const Held last = held.back();
            held.pop_back();
            for (std::size_t i = 0; i < last.size; ++i) {
                ASSERT_EQ(last.at[i], last.mark) << "turn " << turn;
            }
            ASSERT_TRUE(blocks->give_back(last.at)) << "turn " << turn;
        }
    }
    EXPECT_GT(refused, 0U) << "it was never full";
}

// One process: OpenSSL's memory functions can be set before its first use alone.
TEST(CryptoMemory, MovesBetweenSmallBlocksAndMalloc)
{
    ASSERT_TRUE(own_crypto_memory());
    auto *before = static_cast<char *>(OPENSSL_malloc(32));
    ASSERT_NE(before, nullptr);
    std::strcpy(before, "taken before");
    use_small_blocks();

    auto *first = static_cast<char *>(OPENSSL_malloc(32));
    auto *second = static_cast<char *>(OPENSSL_malloc(32));
#if !defined(__SANITIZE_ADDRESS__)
    EXPECT_EQ(second, first + 32);
    EXPECT_EQ(OPENSSL_realloc(second, 20), second) << "it has the room";
#endif
    std::strcpy(second, "grows");
    second = static_cast<char *>(OPENSSL_realloc(second, 100));
    ASSERT_NE(second, nullptr);
    EXPECT_STREQ(second, "grows");
    second = static_cast<char *>(OPENSSL_realloc(second, 100'000));
    ASSERT_NE(second, nullptr);
    EXPECT_STREQ(second, "grows");

    before = static_cast<char *>(OPENSSL_realloc(before, 64));
    ASSERT_NE(before, nullptr);
    EXPECT_STREQ(before, "taken before");

    std::vector<void *> many;
    for (int i = 0; i < 2000; ++i) { // more than there is room for
        many.push_back(OPENSSL_zalloc(48));
        ASSERT_NE(many.back(), nullptr);
    }
    for (void *block : many) {
        OPENSSL_free(block);
    }
#if !defined(__SANITIZE_ADDRESS__)
    void *twice = OPENSSL_malloc(32);
    OPENSSL_free(twice);
    EXPECT_DEATH(OPENSSL_free(twice), "");
#endif
    EXPECT_EQ(OPENSSL_realloc(first, 0), nullptr);
    OPENSSL_free(second);
    OPENSSL_free(before);
}

} // namespace
} // namespace banyan::vtpm::testing
