// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/store/store.hpp"

#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "vtpm/store/inspect.hpp"

namespace banyan::vtpm {
namespace {

constexpr off_t kSlot = 132 * 1024; // docs/spec/vtpm.md, "Store file"

class StoreFile : public testing::Test {
protected:
    StoreFile()
    {
        char name[] = "/tmp/banyan-store-XXXXXX";
        folder = ::mkdtemp(name);
        path = folder + "/007.nvstore";
        key.fill(0x42);
    }
    ~StoreFile() override
    {
        (void)::unlink(path.c_str());
        (void)::rmdir(folder.c_str());
    }
    void poke(off_t at, char value) const
    {
        const int fd = ::open(path.c_str(), O_RDWR);
        ASSERT_EQ(::pwrite(fd, &value, 1, at), 1);
        ::close(fd);
    }
    static Bytes blob(std::uint8_t fill, std::size_t size = 3000) { return Bytes(size, fill); }

    std::string folder;
    std::string path;
    StoreKey key{};
};

TEST_F(StoreFile, GivesBackWhatWasCommitted)
{
    ASSERT_TRUE(create_store(path, key, 7, blob(1)));
    auto store = Store::open(path, key, 7);
    ASSERT_TRUE(store);
    EXPECT_EQ(store->record().generation, 1U);
    for (std::uint8_t i = 2; i < 10; ++i) {
        ASSERT_TRUE(store->commit(blob(i, 100U * i), i % 2 == 0));
        const auto read = load_store(path, key, 7);
        ASSERT_TRUE(read);
        EXPECT_EQ(read->generation, i);
        EXPECT_EQ(read->established, i % 2 == 0);
        EXPECT_EQ(read->permanent, blob(i, 100U * i));
    }
}

TEST_F(StoreFile, IsTheOwnersAlone)
{
    ASSERT_TRUE(create_store(path, key, 7, blob(1)));
    struct stat info {};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777U, 0600U);
    EXPECT_EQ(create_store(path, key, 7, blob(1)).error(), Errc::kBadState) << "never overwritten";
    EXPECT_EQ(load_store(path + "x", key, 7).error(), Errc::kNotFound);
}

TEST_F(StoreFile, AnyChangedByteOfTheNewestSlotBringsTheOlderBack)
{
    ASSERT_TRUE(create_store(path, key, 7, blob(1)));
    auto store = Store::open(path, key, 7);
    ASSERT_TRUE(store->commit(blob(2), true)); // generation 2: slot 0
    for (const off_t at : {0, 8, 12, 16, 24, 28, 32, 63, 4096, 4096 + 1500, 4096 + 2999}) {
        Bytes old(1);
        const int fd = ::open(path.c_str(), O_RDWR);
        ASSERT_EQ(::pread(fd, old.data(), 1, at), 1);
        ::close(fd);
        poke(at, static_cast<char>(old[0] ^ 0x10));
        const auto read = load_store(path, key, 7);
        ASSERT_TRUE(read) << at;
        EXPECT_EQ(read->generation, 1U) << at;
        EXPECT_EQ(read->permanent, blob(1));
        poke(at, static_cast<char>(old[0]));
        EXPECT_EQ(load_store(path, key, 7)->generation, 2U);
    }
    poke(0, 'x');
    poke(kSlot, 'x');
    EXPECT_EQ(load_store(path, key, 7).error(), Errc::kCorrupt);
}

TEST_F(StoreFile, AnotherKeyOrInstanceReadsNothing)
{
    ASSERT_TRUE(create_store(path, key, 7, blob(1)));
    EXPECT_EQ(load_store(path, key, 8).error(), Errc::kCorrupt);
    StoreKey other = key;
    other[31] ^= 1;
    EXPECT_EQ(load_store(path, other, 7).error(), Errc::kCorrupt);
}

TEST_F(StoreFile, EveryPrefixOfACommitsWritesIsOneOfTheTwoStates)
{
    ASSERT_TRUE(create_store(path, key, 7, blob(1)));
    std::ifstream before_file(path, std::ios::binary);
    const std::string before((std::istreambuf_iterator<char>(before_file)), {});
    {
        auto store = Store::open(path, key, 7);
        ASSERT_TRUE(store->commit(blob(2), false));
    }
    std::ifstream after_file(path, std::ios::binary);
    const std::string after((std::istreambuf_iterator<char>(after_file)), {});
    ASSERT_EQ(before.size(), after.size());
    // The blob is written first, then the head: cut after n bytes of the sequence.
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < 3000; ++i) {
        order.push_back(4096 + i);
    }
    for (std::size_t i = 0; i < 64; ++i) {
        order.push_back(i);
    }
    for (std::size_t cut = 0; cut <= order.size(); cut += cut < 2990 ? 97 : 1) {
        std::string torn = before;
        for (std::size_t i = 0; i < cut; ++i) {
            torn[order[i]] = after[order[i]];
        }
        std::ofstream(path, std::ios::binary | std::ios::trunc) << torn;
        const auto read = load_store(path, key, 7);
        ASSERT_TRUE(read) << cut;
        EXPECT_EQ(read->permanent, blob(cut == order.size() ? 2 : 1)) << cut;
    }
}

TEST_F(StoreFile, ACommitThatFailsLeavesTheEarlierRecord)
{
    ASSERT_TRUE(create_store(path, key, 7, blob(1)));
    auto store = Store::open(path, key, 7);
    EXPECT_EQ(store->commit(Bytes(kPermanentMax + 1), false).error(), Errc::kBadArgument);
    EXPECT_EQ(store->commit({}, false).error(), Errc::kBadArgument);
    ::signal(SIGXFSZ, SIG_IGN);
    rlimit old{};
    ::getrlimit(RLIMIT_FSIZE, &old);
    const rlimit small{8192, old.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small); // a disk that takes no more: the second half of the blob is cut off
    EXPECT_FALSE(store->commit(Bytes(6000, 3), false));
    ::setrlimit(RLIMIT_FSIZE, &old);
    EXPECT_EQ(store->record().generation, 1U);
    EXPECT_EQ(load_store(path, key, 7)->permanent, blob(1));
    ASSERT_TRUE(store->commit(blob(4), false));
    EXPECT_EQ(load_store(path, key, 7)->permanent, blob(4));
}

TEST_F(StoreFile, EraseLeavesNoByteOfIt)
{
    ASSERT_TRUE(create_store(path, key, 7, blob(0xa7)));
    auto store = Store::open(path, key, 7);
    ASSERT_TRUE(store->commit(blob(0xa7), false));
    ASSERT_TRUE(store->erase());
    EXPECT_EQ(load_store(path, key, 7).error(), Errc::kCorrupt);
    std::ifstream file(path, std::ios::binary);
    const std::string all((std::istreambuf_iterator<char>(file)), {});
    EXPECT_EQ(all.find_first_not_of('\0'), std::string::npos);
}

TEST_F(StoreFile, IsToldFromAnOlderOneByWhoeverInspectsIt)
{
    using Verdict = StoreFacts::Verdict;
    ASSERT_EQ(::mkdir((folder + "/instances").c_str(), 0700), 0);
    ASSERT_TRUE(create_instance(folder, key, 7, blob(1)));
    const std::string file = instance_file(folder, 7, "nvstore");
    const auto look = [&] {
        auto store = open_disk_file(file, O_RDWR);
        auto generations = open_disk_file(generations_file(folder), O_RDWR);
        return inspect_store(**store, &key, std::move(*generations));
    };
    const auto opened = [&] {
        return Store::open(std::move(*open_disk_file(file, O_RDWR)), key, 7,
                           Anchor(std::move(*open_disk_file(generations_file(folder), O_RDWR)), key, 7));
    };
    EXPECT_EQ(look().verdict, Verdict::kCurrent);
    std::ifstream before(file, std::ios::binary);
    const std::string old((std::istreambuf_iterator<char>(before)), {});
    {
        auto store = opened();
        ASSERT_TRUE(store && store->commit(blob(2), true) && store->commit(blob(3), true));
    }
    const StoreFacts newest = look();
    EXPECT_EQ(newest.verdict, Verdict::kCurrent);
    EXPECT_EQ(newest.anchored, 3U);
    EXPECT_TRUE(newest.slots[1].current && !newest.slots[0].current && newest.slots[0].established);
    std::ofstream(file, std::ios::binary) << old;
    EXPECT_EQ(look().verdict, Verdict::kRolledBack);
    ASSERT_TRUE(opened()->erase());
    std::ofstream(file, std::ios::binary) << old;
    EXPECT_EQ(look().verdict, Verdict::kErased);
    ASSERT_EQ(::unlink(file.c_str()), 0);
    ASSERT_EQ(::unlink(generations_file(folder).c_str()), 0);
    ASSERT_EQ(::rmdir((folder + "/instances").c_str()), 0);
}

TEST(InstanceFile, HasThreeDigits)
{
    EXPECT_EQ(instance_file("/p", 0, "nvstore"), "/p/instances/000.nvstore");
    EXPECT_EQ(instance_file("/p", 63, "names"), "/p/instances/063.names");
}

} // namespace
} // namespace banyan::vtpm
