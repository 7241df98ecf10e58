// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/small_blocks.hpp"

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <utility>
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

/// All of it can be had in blocks of one size, and no more.
void expect_all_free(SmallBlocks &blocks)
{
    constexpr std::size_t kSize = 64;
    for (std::size_t i = 0; i < SmallBlocks::kCapacity / kSize; ++i) {
        ASSERT_NE(blocks.take(kSize), nullptr) << i;
    }
    EXPECT_EQ(blocks.take(1), nullptr);
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
    for (void *block = blocks->take(32); block != nullptr; block = blocks->take(32)) {
        all.push_back(block);
        ASSERT_LE(all.size(), SmallBlocks::kCapacity / 32);
    }
    EXPECT_EQ(all.size(), SmallBlocks::kCapacity / 32) << "none is lost";
    EXPECT_EQ(blocks->take(16), nullptr);
    for (void *block : all) {
        EXPECT_TRUE(blocks->give_back(block));
    }
    expect_all_free(*blocks); // what is free again serves any size
}

TEST(SmallBlocks, HaveNothingBehindThemThatCounts)
{
    const auto blocks = std::make_unique<SmallBlocks>();
    std::byte *first = taken(*blocks, 16);
    const std::byte *begin = reinterpret_cast<const std::byte *>(blocks.get());
    EXPECT_EQ(first + SmallBlocks::kCapacity, begin + sizeof(SmallBlocks));
}

TEST(SmallBlocks, AreGivenBackOnce)
{
    const auto blocks = std::make_unique<SmallBlocks>();
    std::byte *first = taken(*blocks, 100); // four of 112 bytes in a row, and a rest
    std::byte *second = taken(*blocks, 100);
    EXPECT_EQ(second, first + 112);
    for (void *none : {static_cast<void *>(first + 16),   // the middle of one
                       static_cast<void *>(first + 224),  // not taken
                       static_cast<void *>(first + 448),  // the rest of the row
                       static_cast<void *>(first + 1024), // a row of nobody
                       static_cast<void *>(first - 16), static_cast<void *>(nullptr)}) {
        EXPECT_FALSE(blocks->give_back(none));
        EXPECT_EQ(blocks->room(none), 0U);
    }
    EXPECT_EQ(blocks->room(first), 112U);
    EXPECT_TRUE(blocks->give_back(first));
    EXPECT_FALSE(blocks->give_back(first));
    EXPECT_EQ(blocks->room(first), 0U);
    EXPECT_TRUE(blocks->give_back(second));
    EXPECT_FALSE(blocks->give_back(second)) << "in a row of nobody";
    expect_all_free(*blocks);
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
            const std::size_t size = random() % (SmallBlocks::kMost + 1);
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
    for (const Held &each : held) {
        EXPECT_TRUE(blocks->give_back(each.at));
    }
    expect_all_free(*blocks);
}

// OpenSSL's memory functions can be set before its first use alone.
class CryptoMemory : public ::testing::Test {
protected:
    static void SetUpTestSuite()
    {
        ASSERT_TRUE(own_crypto_memory());
        before = static_cast<char *>(OPENSSL_malloc(kSize));
        ASSERT_NE(before, nullptr);
        fill(before, kSize);
        use_small_blocks();
    }
    static void fill(char *block, std::size_t size)
    {
        for (std::size_t i = 0; i < size; ++i) {
            block[i] = static_cast<char>('a' + i % 26);
        }
    }
    static ::testing::AssertionResult is_filled(const char *block, std::size_t size)
    {
        for (std::size_t i = 0; i < size; ++i) {
            if (block[i] != static_cast<char>('a' + i % 26)) {
                return ::testing::AssertionFailure() << "byte " << i << " of " << size;
            }
        }
        return ::testing::AssertionSuccess();
    }

    static constexpr std::size_t kSize = 32;
    static inline char *before = nullptr; // malloc's
};

TEST_F(CryptoMemory, KeepsBytesFromBlockToBlock)
{
    auto *block = static_cast<char *>(OPENSSL_malloc(kSize));
    ASSERT_NE(block, nullptr);
    fill(block, kSize);
    for (const std::size_t size : {SmallBlocks::kMost, std::size_t{100'000}}) {
        block = static_cast<char *>(OPENSSL_realloc(block, size));
        ASSERT_NE(block, nullptr);
        EXPECT_TRUE(is_filled(block, kSize));
    }
    OPENSSL_free(block);
    before = static_cast<char *>(OPENSSL_realloc(before, 64));
    ASSERT_NE(before, nullptr);
    EXPECT_TRUE(is_filled(before, kSize));
    OPENSSL_free(before);
}

TEST_F(CryptoMemory, GoesOnWithMallocWhereThereIsNoRoom)
{
    std::vector<void *> many;
    for (std::size_t i = 0; i < 2 * SmallBlocks::kCapacity / 48; ++i) {
        many.push_back(OPENSSL_zalloc(48));
        ASSERT_NE(many.back(), nullptr);
    }
    for (void *block : many) {
        OPENSSL_free(block);
    }
}

TEST_F(CryptoMemory, HasNoBlockOfSizeZero)
{
    EXPECT_EQ(OPENSSL_malloc(0), nullptr);
    EXPECT_EQ(OPENSSL_realloc(nullptr, 0), nullptr);
    void *block = OPENSSL_realloc(nullptr, 16);
    EXPECT_NE(block, nullptr);
    EXPECT_EQ(OPENSSL_realloc(block, 0), nullptr);
    OPENSSL_free(nullptr);
}

#if !defined(__SANITIZE_ADDRESS__) // there all is malloc's

TEST_F(CryptoMemory, ReusesWhatWasGivenBack)
{
    auto *first = static_cast<char *>(OPENSSL_malloc(kSize));
    auto *second = static_cast<char *>(OPENSSL_malloc(kSize));
    EXPECT_EQ(second, first + kSize);
    EXPECT_EQ(OPENSSL_realloc(second, 20), second) << "it has the room";
    void *larger = OPENSSL_realloc(second, 100);
    EXPECT_NE(larger, second);
    EXPECT_EQ(OPENSSL_malloc(kSize), second) << "what was moved from is free";
    EXPECT_EQ(OPENSSL_realloc(second, 0), nullptr);
    EXPECT_EQ(OPENSSL_malloc(kSize), second);
    OPENSSL_free(larger);
    OPENSSL_free(second);
    OPENSSL_free(first);
}

TEST_F(CryptoMemory, EndsAProgramThatFreesTwice)
{
    void *block = OPENSSL_malloc(kSize);
    OPENSSL_free(block);
    EXPECT_EXIT(OPENSSL_free(block), ::testing::KilledBySignal(SIGILL), "");
    EXPECT_EXIT((void)OPENSSL_realloc(block, 16), ::testing::KilledBySignal(SIGILL), "");
}

#if !defined(__SANITIZE_THREAD__) // its malloc ends the program

TEST_F(CryptoMemory, LeavesABlockThatCannotGrow)
{
    auto *block = static_cast<char *>(OPENSSL_malloc(kSize));
    fill(block, kSize);
    EXPECT_EQ(OPENSSL_realloc(block, SIZE_MAX / 2), nullptr);
    EXPECT_TRUE(is_filled(block, kSize));
    EXPECT_EQ(OPENSSL_realloc(block, 20), block) << "still taken";
    OPENSSL_free(block);
}

#endif
#endif

} // namespace
} // namespace banyan::vtpm::testing
