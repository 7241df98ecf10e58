// SPDX-License-Identifier: GPL-2.0-or-later
// What is left of a store on a disk that fails or loses power, at every write and every prefix of it.
#include <cstdio>

#include <gtest/gtest.h>

#include "tests/unit/vtpm/fault_disk.hpp"
#include "tests/unit/vtpm/wanted.hpp"
#include "vtpm/store/store.hpp"

namespace banyan::vtpm::testing {
namespace {

constexpr std::uint32_t kInstance = 3;

StoreKey some_key()
{
    StoreKey key{};
    key.fill(0x42);
    return key;
}

/// A store and its anchor on a disk, opened as the keeper opens them.
struct Opened {
    explicit Opened(FaultDisk &disk)
    {
        const std::shared_ptr<StoreFile> generations = disk.open("generations");
        store = Store::open(disk.open("store"), some_key(), kInstance, Anchor(generations, some_key(), kInstance));
        if (store) {
            settle_all(std::array{store->anchor()}, generations.get());
        }
    }
    [[nodiscard]] bool current() const { return store && store->freshness() == Freshness::kCurrent; }

    Result<Store> store = fail(Errc::kIo);
};

void make_first(FaultDisk &disk, const Bytes &blob)
{
    auto anchor = Anchor(disk.open("generations"), some_key(), kInstance);
    ASSERT_TRUE(Store::adopt_empty(disk.open("store"), some_key(), kInstance, std::move(anchor), blob));
}

Bytes blob(std::uint8_t fill, std::size_t size = 150)
{
    return Bytes(size, fill);
}

/// The power goes in access number `at` (from 0), of which `part` bytes are done if it is a write.
struct CutAt {
    unsigned at;
    std::size_t part;
    unsigned seen = 0;
    std::size_t size = 0; // of that access

    void arm(FaultDisk &disk)
    {
        disk.fault = [this](const FaultDisk::Access &access) {
            if (seen++ != at) {
                return Fault::kNone;
            }
            size = access.size;
            return Fault::kCut;
        };
        disk.part = [this](std::size_t whole) { return std::min(part, whole); };
    }
    static void disarm(FaultDisk &disk)
    {
        disk.fault = [](const FaultDisk::Access &) { return Fault::kNone; };
    }
};

/// Calls body(disk, first): first has run on it with the power cut in the given place, and power is back.
template <typename Scenario, typename Check>
unsigned cut_everywhere(const Scenario &scenario, const Check &check)
{
    using Survivors = FaultDisk::Survivors;
    unsigned cuts = 0;
    for (unsigned at = 0;; ++at) {
        for (std::size_t part = 0;; ++part) {
            bool reached = false;
            std::size_t size = 0;
            for (const Survivors which : {Survivors::kAll, Survivors::kNone, Survivors::kLast, Survivors::kAny}) {
                FaultDisk disk(at * 1000 + part);
                make_first(disk, blob(1));
                CutAt cut{at, part};
                cut.arm(disk);
                const bool acknowledged = scenario(disk);
                reached = disk.cut;
                size = cut.size;
                CutAt::disarm(disk);
                disk.come_back(which);
                check(disk, acknowledged, reached);
                if (::testing::Test::HasFatalFailure()) {
                    ADD_FAILURE() << "cut in access " << at << " after " << part << " bytes, survivors "
                                  << static_cast<int>(which);
                    return cuts;
                }
                ++cuts;
            }
            if (!reached) {
                return cuts; // the scenario is over before
            }
            if (part >= size) {
                break;
            }
        }
    }
}

TEST(AStoreWhosePowerIsCut, AtAnyByteOfAnyWriteHasTheOldRecordOrTheAnsweredOne)
{
    const unsigned cuts = cut_everywhere(
        [](FaultDisk &disk) {
            Opened opened(disk);
            return opened.store && opened.store->commit(blob(2), true).has_value();
        },
        [](FaultDisk &disk, bool acknowledged, bool reached) {
            ASSERT_EQ(acknowledged, !reached) << "answered only when everything is durable";
            {
                Opened opened(disk);
                ASSERT_TRUE(opened.current()) << "never locked out";
                const StoreRecord &record = opened.store->record();
                ASSERT_TRUE(record.permanent == blob(2) || (!acknowledged && record.permanent == blob(1)));
                ASSERT_EQ(record.established, record.permanent == blob(2)) << "as a whole";
                ASSERT_TRUE(opened.store->commit(blob(3, 99), false)) << "and it goes on";
            }
            disk.come_back(FaultDisk::Survivors::kNone);
            const Opened again(disk);
            ASSERT_TRUE(again.current());
            ASSERT_EQ(again.store->record().permanent, blob(3, 99));
        });
    std::printf("%u cuts\n", cuts);
    EXPECT_GT(cuts, 1600U);
}

TEST(AStoreWhosePowerIsCut, WhileAnOlderFileIsAcceptedIsStillTheOldOneOrTheAcceptedOne)
{
    const unsigned cuts = cut_everywhere(
        [](FaultDisk &disk) {
            const auto fault = std::exchange(disk.fault, [](const FaultDisk::Access &) { return Fault::kNone; });
            const auto old = disk.durable("store");
            for (std::uint8_t i = 2; i < 5; ++i) {
                Opened opened(disk);
                EXPECT_TRUE(opened.store->commit(blob(i), false));
            }
            disk.set_content("store", old);
            disk.fault = fault;
            Opened opened(disk);
            return opened.store && opened.store->freshness() == Freshness::kRolledBack &&
                   opened.store->accept().has_value();
        },
        [](FaultDisk &disk, bool acknowledged, bool reached) {
            ASSERT_EQ(acknowledged, !reached);
            Opened opened(disk);
            ASSERT_TRUE(opened.store);
            ASSERT_EQ(opened.store->record().permanent, blob(1));
            if (acknowledged) {
                ASSERT_TRUE(opened.current());
            }
            if (opened.current()) {
                ASSERT_GT(opened.store->record().generation, 4U) << "above every generation seen";
            } else {
                ASSERT_EQ(opened.store->freshness(), Freshness::kRolledBack);
                ASSERT_EQ(opened.store->commit(blob(9), false).error(), Errc::kBadState);
                ASSERT_TRUE(opened.store->accept());
            }
        });
    EXPECT_GT(cuts, 1600U);
}

TEST(AStoreWhosePowerIsCut, WhileItIsErasedIsWholeOrErasedForGood)
{
    // The overwriting itself is long: cut it in a few places, the anchor at every byte.
    for (unsigned at = 0; at < 12; ++at) {
        for (std::size_t part = 0; part <= 96; ++part) {
            FaultDisk disk(at * 1000 + part);
            make_first(disk, blob(1));
            const auto old = disk.durable("store");
            CutAt cut{at, part};
            cut.arm(disk);
            {
                Opened opened(disk);
                const bool erased = opened.store && opened.store->erase().has_value();
                EXPECT_EQ(erased, !disk.cut);
            }
            const bool reached = disk.cut;
            CutAt::disarm(disk);
            disk.come_back();
            const Opened opened(disk);
            ASSERT_TRUE(opened.store);
            if (opened.current()) {
                ASSERT_TRUE(reached);
                ASSERT_EQ(opened.store->record().permanent, blob(1));
                continue;
            }
            ASSERT_EQ(opened.store->freshness(), Freshness::kErased);
            const auto &now = disk.durable("store");
            ASSERT_TRUE(std::all_of(now.begin(), now.end(), [](std::uint8_t byte) { return byte == 0; }));
            disk.set_content("store", old);
            ASSERT_EQ(Opened(disk).store->freshness(), Freshness::kErased);
        }
    }
}

/// Random faults, restarts and cuts, against a model of what may be there.
TEST(AStore, OnABadDiskLosesNothingAcknowledgedAndHasNothingHalf)
{
    const unsigned long cuts_wanted = wanted("BANYAN_TEST_STORE_CUTS", 1000);
    const unsigned long seed = wanted("BANYAN_TEST_SEED", 1);
    FaultDisk disk(seed);
    Bytes acknowledged = blob(1);
    make_first(disk, acknowledged);
    unsigned long cuts = 0;
    unsigned long commits = 0;
    unsigned long failed = 0;
    unsigned long came_true = 0; // failed commits that were there after a cut, see below
    std::vector<Bytes> doubtful; // failed, and their anchor could not be taken back yet
    const auto in_doubt = [&](const Bytes &found) {
        return std::find(doubtful.begin(), doubtful.end(), found) != doubtful.end();
    };
    bool armed = false;
    const auto fault = [&](const FaultDisk::Access &) {
        if (armed && disk.below(25) == 0) {
            return Fault::kCut;
        }
        const std::size_t dice = disk.below(30);
        return dice == 0 ? Fault::kHalf : dice == 1 ? Fault::kNoSpace : dice == 2 ? Fault::kIo : Fault::kNone;
    };
    while (cuts < cuts_wanted) {
        Bytes in_flight;
        // Some restarts of the process, then a cut.
        for (std::size_t restarts = disk.below(3); !disk.cut; restarts -= restarts > 0 ? 1 : 0) {
            armed = restarts == 0;
            disk.fault = fault;
            Opened opened(disk);
            if (disk.cut) {
                break;
            }
            ASSERT_TRUE(opened.current());
            const Bytes found = opened.store->record().permanent;
            ASSERT_TRUE(found == acknowledged || in_doubt(found));
            // What is found in doubt may be in the page cache alone. Nobody is told of it before it is durable: a TPM's
            // first command writes.
            Bytes current = found;
            const auto settled = [&] {
                if (!opened.store->anchor()->in_doubt()) {
                    came_true += acknowledged != current ? 1 : 0;
                    acknowledged = current;
                    doubtful.clear();
                }
            };
            settled();
            for (std::size_t n = 1 + disk.below(6); n > 0 && !disk.cut; --n) {
                Bytes next(1 + disk.below(9000));
                std::generate(next.begin(), next.end(), [&] { return static_cast<std::uint8_t>(disk.random()); });
                const bool done = opened.store->commit(next, false).has_value();
                ++commits;
                if (done) {
                    ASSERT_FALSE(opened.store->anchor()->in_doubt());
                    acknowledged = current = next;
                    doubtful.clear();
                    continue;
                }
                settled();
                if (disk.cut) {
                    in_flight = next;
                } else {
                    ++failed;
                    ASSERT_EQ(opened.store->record().permanent, current);
                    if (opened.store->anchor()->in_doubt()) {
                        doubtful.push_back(next);
                    }
                }
            }
        }
        ++cuts;
        disk.come_back();
        disk.fault = [](const FaultDisk::Access &) { return Fault::kNone; };
        const Opened opened(disk);
        ASSERT_TRUE(opened.current()) << "locked out after " << cuts << " cuts, seed " << seed;
        const Bytes found = opened.store->record().permanent;
        ASSERT_TRUE(found == acknowledged || (!in_flight.empty() && found == in_flight) || in_doubt(found))
            << "after " << cuts << " cuts, seed " << seed;
        came_true += found != acknowledged && found != in_flight ? 1 : 0;
        doubtful.clear();
        acknowledged = found;
    }
    std::printf("seed %lu: %lu cuts, %lu commits, %lu of them failed, %lu failed ones found done after a cut\n", seed,
                cuts, commits, failed, came_true);
    EXPECT_GT(failed, cuts_wanted / 20);
}

TEST(AStore, ThatFailsSaysWhetherTheDiskIsFull)
{
    FaultDisk disk(1);
    make_first(disk, blob(1));
    Opened opened(disk);
    disk.fault = [](const FaultDisk::Access &access) { return access.sync ? Fault::kNone : Fault::kNoSpace; };
    EXPECT_EQ(opened.store->commit(blob(2), false).error(), Errc::kNoSpace);
    disk.fault = [](const FaultDisk::Access &access) { return access.sync ? Fault::kIo : Fault::kNone; };
    EXPECT_EQ(opened.store->commit(blob(2), false).error(), Errc::kIo);
    disk.fault = [&](const FaultDisk::Access &access) { return access.sync ? Fault::kNone : Fault::kHalf; };
    EXPECT_TRUE(opened.store->commit(blob(2, 5000), false)) << "short writes are gone on with";
    EXPECT_EQ(Opened(disk).store->record().permanent, blob(2, 5000));
}

} // namespace
} // namespace banyan::vtpm::testing
