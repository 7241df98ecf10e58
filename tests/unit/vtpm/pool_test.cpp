// SPDX-License-Identifier: GPL-2.0-or-later
// TPMs made ahead: who gets which, and that nobody gets one twice.
#include "vtpm/engine/pool.hpp"

#include <filesystem>
#include <fstream>
#include <set>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/vtpm/processes.hpp"
#include "tests/unit/vtpm/stage.hpp"
#include "tests/unit/vtpm/vtpm_machine.hpp"
#include "vtpm/engine/standby.hpp"
#include "vtpm/store/store.hpp"
#include "vtpm/store/store_slot.hpp"

namespace banyan::vtpm::testing {
namespace {

using Need = Pool::Need;

SignerNames named(std::uint8_t fill)
{
    SignerNames names;
    names.ek_size = 1;
    names.ek[0] = fill;
    return names;
}

TEST(Pool, MakesAheadOneAtATimeUpToItsDepth)
{
    Pool pool(kPoolDepth + 5);
    for (std::uint32_t i = 0; i < kPoolDepth; ++i) {
        ASSERT_EQ(pool.need(), Need::kAhead) << i;
        pool.begun(Need::kAhead);
        EXPECT_EQ(pool.need(), Need::kNone) << "one in the background";
        (void)pool.made(Need::kAhead, named(1));
    }
    EXPECT_EQ(pool.need(), Need::kNone);
    pool.want(7);
    ASSERT_TRUE(pool.grant().has_value());
    EXPECT_EQ(pool.need(), Need::kAhead) << "refilled";
}

TEST(Pool, MakesNoMoreThanInstancesAreLeft)
{
    Pool pool(1);
    EXPECT_EQ(pool.need(), Need::kAhead);
    pool.begun(Need::kAhead);
    (void)pool.made(Need::kAhead, named(1));
    EXPECT_EQ(pool.need(), Need::kNone);
    pool.want(0);
    ASSERT_TRUE(pool.grant().has_value());
    EXPECT_EQ(pool.need(), Need::kNone);
    EXPECT_EQ(Pool(0).need(), Need::kNone) << "every instance has its TPM";
}

TEST(Pool, WhoWaitsDoesNotWaitForTheBackground)
{
    Pool pool(100);
    pool.begun(Need::kAhead);
    pool.want(3);
    EXPECT_EQ(pool.need(), Need::kUrgent);
    pool.begun(Need::kUrgent);
    EXPECT_EQ(pool.need(), Need::kNone) << "one waits, one is made for it";
    for (std::uint32_t i = 10; i < 90; ++i) {
        pool.want(i);
    }
    for (std::uint32_t i = 1; i < kMakersAtOnce; ++i) {
        EXPECT_EQ(pool.need(), Need::kUrgent);
        pool.begun(Need::kUrgent);
    }
    EXPECT_EQ(pool.need(), Need::kNone) << "bounded, however many wait";
}

TEST(Pool, GrantsEachTicketOnceInTheOrderOfWaiting)
{
    Pool pool(10);
    EXPECT_FALSE(pool.grant().has_value());
    std::set<std::uint32_t> tickets;
    for (const std::uint32_t instance : {5U, 2U, 9U}) {
        pool.want(instance);
        pool.want(instance); // a second power-on of it while it waits
    }
    pool.forget(2);
    for (const std::uint32_t instance : {5U, 9U}) {
        pool.begun(Need::kUrgent);
        const std::uint32_t ticket = pool.made(Need::kUrgent, named(static_cast<std::uint8_t>(instance)));
        const auto grant = pool.grant();
        ASSERT_TRUE(grant.has_value());
        EXPECT_EQ(grant->instance, instance);
        EXPECT_EQ(grant->ticket, ticket);
        EXPECT_EQ(grant->names.ek[0], instance);
        EXPECT_TRUE(tickets.insert(ticket).second);
    }
    EXPECT_FALSE(pool.grant().has_value());
}

TEST(Pool, AMakerThatFailsFailsOneAndIsNotTriedForever)
{
    Pool pool(10);
    pool.begun(Need::kAhead);
    EXPECT_FALSE(pool.failed(Need::kAhead).has_value());
    EXPECT_EQ(pool.need(), Need::kNone) << "no loop of forks";
    pool.want(1);
    EXPECT_EQ(pool.need(), Need::kUrgent) << "who asks is tried for";
    pool.begun(Need::kUrgent);
    EXPECT_EQ(pool.failed(Need::kUrgent), 1U);
    EXPECT_EQ(pool.need(), Need::kNone);
    pool.want(1);
    pool.begun(Need::kUrgent);
    (void)pool.made(Need::kUrgent, named(1));
    ASSERT_TRUE(pool.grant().has_value());
    EXPECT_EQ(pool.need(), Need::kAhead) << "it works again";
}

TEST(Pool, GivesAheadOnlyWhatNobodyWaitsForAndEachOnce)
{
    Pool pool(3);
    EXPECT_FALSE(pool.grant_ahead(0).has_value()) << "there is none";
    pool.begun(Need::kAhead);
    const std::uint32_t ticket = pool.made(Need::kAhead, named(5));
    pool.want(2);
    EXPECT_FALSE(pool.grant_ahead(0).has_value()) << "somebody waits";
    pool.forget(2);
    const auto ahead = pool.grant_ahead(0);
    ASSERT_TRUE(ahead.has_value());
    EXPECT_EQ(ahead->instance, 0U);
    EXPECT_EQ(ahead->ticket, ticket);
    EXPECT_EQ(ahead->names.ek[0], 5);
    pool.want(2);
    EXPECT_FALSE(pool.grant().has_value());
    EXPECT_FALSE(pool.grant_ahead(1).has_value());
}

TEST(Pool, MakesNoneForInstancesThatGotTheirsAhead)
{
    Pool pool(1);
    pool.begun(Need::kAhead);
    (void)pool.made(Need::kAhead, named(1));
    ASSERT_TRUE(pool.grant_ahead(0).has_value());
    EXPECT_EQ(pool.need(), Need::kNone);
}

TEST(Pool, MakesAnotherForOneWhoseTpmWasLost)
{
    Pool pool(1);
    pool.want(0);
    pool.begun(Need::kUrgent);
    (void)pool.made(Need::kUrgent, named(1));
    ASSERT_TRUE(pool.grant().has_value());
    EXPECT_EQ(pool.need(), Need::kNone);
    pool.lost();
    EXPECT_EQ(pool.need(), Need::kAhead);
}

TEST(Pool, GrantsNothingThatIsNowhere)
{
    Pool pool(3);
    pool.begun(Need::kAhead);
    const std::uint32_t ticket = pool.made(Need::kAhead, named(1));
    pool.spoilt(ticket);
    EXPECT_EQ(pool.need(), Need::kNone) << "what spoilt this one would spoil the next";
    EXPECT_FALSE(pool.grant_ahead(0).has_value());
    pool.want(0);
    EXPECT_FALSE(pool.grant().has_value());
    ASSERT_EQ(pool.need(), Need::kUrgent) << "who asks is tried for";
    pool.begun(Need::kUrgent);
    const std::uint32_t next = pool.made(Need::kUrgent, named(2));
    pool.spoilt(ticket); // told late: it is another one's
    const auto grant = pool.grant();
    ASSERT_TRUE(grant.has_value());
    EXPECT_EQ(grant->ticket, next);
    pool.spoilt(next); // granted meanwhile: lost() is said of it
    pool.lost();
    pool.want(0);
    EXPECT_EQ(pool.need(), Need::kUrgent);
}

TEST(StandBy, RestsAfterManyDeathsInARowUntilSomebodyAsks)
{
    StandBy standby(true);
    for (int round = 0; round < 3; ++round) {
        for (unsigned death = 0; death < kStandbyDeathsMax; ++death) {
            EXPECT_TRUE(standby.may(0)) << death;
            standby.died();
        }
        EXPECT_FALSE(standby.may(0)) << "no loop of forks";
        EXPECT_FALSE(standby.wait_ns(0)) << "time does not help";
        standby.somebody_asked();
    }
    for (unsigned death = 0; death < 3 * kStandbyDeathsMax; ++death) {
        standby.died();
        standby.taken();
    }
    EXPECT_TRUE(standby.may(0)) << "not in a row";
}

TEST(StandBy, RestsAfterOneThatGaveUp)
{
    StandBy standby(true);
    standby.gave_up();
    EXPECT_FALSE(standby.may(0));
    standby.somebody_asked();
    EXPECT_TRUE(standby.may(0));
}

TEST(StandBy, KeepsQuietWhileASnapshotIsLoadedAndOnAFolderOfAnotherMachine)
{
    StandBy standby(true);
    standby.snapshot_asks();
    EXPECT_FALSE(standby.may(100 * kQuietNs)) << "a slow disk's answer is not there yet";
    EXPECT_FALSE(standby.wait_ns(100 * kQuietNs).has_value()) << "and no time brings it";
    standby.snapshot_answered(1000);
    standby.somebody_asked();
    EXPECT_FALSE(standby.may(1000));
    EXPECT_EQ(standby.wait_ns(1001), kQuietNs - 1);
    EXPECT_TRUE(standby.may(1000 + kQuietNs));
    standby.folder(false);
    EXPECT_FALSE(standby.may(1000 + kQuietNs));
    standby.somebody_asked();
    EXPECT_FALSE(standby.may(1000 + kQuietNs));
    EXPECT_FALSE(standby.wait_ns(1001));
    standby.folder(true);
    EXPECT_TRUE(standby.may(1000 + kQuietNs));
    EXPECT_FALSE(StandBy(false).may(0)) << "before a migration that comes";
}

int memory_file(const Bytes &bytes)
{
    const int file = ::memfd_create("made", MFD_CLOEXEC);
    EXPECT_EQ(::write(file, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    return file;
}

TEST(Stock, HandsAStateOutOnceAndLeavesNoCopyBehind)
{
    Stock stock;
    const Bytes state(3000, 0xa5);
    const int file = memory_file(state);
    ASSERT_TRUE(stock.put(4, file));
    Bytes left(state.size());
    EXPECT_EQ(::pread(file, left.data(), left.size(), 0), static_cast<ssize_t>(left.size()));
    EXPECT_EQ(left, Bytes(state.size(), 0)) << "the maker's file is wiped";
    ::close(file);
    EXPECT_FALSE(stock.take(5).has_value());
    EXPECT_EQ(stock.take(4), state);
    EXPECT_FALSE(stock.take(4).has_value());
    EXPECT_EQ(stock.size(), 0U);
}

TEST(Stock, TakesNoSecondStateForATicketAndNoNonsense)
{
    Stock stock;
    const int file = memory_file(Bytes(10, 1));
    EXPECT_TRUE(stock.put(1, file));
    EXPECT_FALSE(stock.put(1, file));
    const int empty = memory_file({});
    EXPECT_FALSE(stock.put(2, empty));
    const int large = memory_file(Bytes(kPermanentMax + 1, 1));
    EXPECT_FALSE(stock.put(3, large));
    EXPECT_EQ(stock.size(), 1U);
    for (const int fd : {file, empty, large}) {
        ::close(fd);
    }
}

/// A folder in which the engine makes instances.
class AFolder : public ::testing::Test {
protected:
    AFolder()
    {
        char name[] = "/tmp/banyan-pool-XXXXXX";
        folder_ = ::mkdtemp(name);
        const std::string command = std::string(BANYAN_TEST_TOOL) + " platform new " + folder_ +
                                    "/p --instances 1 >/dev/null && echo test >" + folder_ + "/p/class";
        EXPECT_EQ(std::system(command.c_str()), 0); // NOLINT(cert-env33-c): fixed words
    }
    ~AFolder() override { std::filesystem::remove_all(folder_); }
    AFolder(const AFolder &) = delete;
    AFolder &operator=(const AFolder &) = delete;

    [[nodiscard]] Machine::Options options(std::uint32_t instances) const
    {
        Machine::Options options;
        options.instances = instances;
        options.platform = folder_ + "/p";
        return options;
    }

    static Bytes ek_of(Machine &machine, std::uint32_t instance, std::uint32_t handle = 0x81010016)
    {
        (void)banyan_vtpm_unbind(machine.vtpm, 0); // which has instance 0 from the start
        EXPECT_EQ(banyan_vtpm_bind(machine.vtpm, 15, instance), 0);
        Guest guest(machine.vtpm, 15);
        Bytes body;
        put32(body, handle);
        Bytes key = guest.command(tpm_command(0x8001, 0x173, body));
        EXPECT_EQ(code_of(key), 0U) << instance;
        EXPECT_EQ(banyan_vtpm_unbind(machine.vtpm, 15), 0);
        return key;
    }

    std::string folder_;
};

TEST_F(AFolder, OfAClassThatIsNotMachineGetsItsInstancesFromThePool)
{
    std::vector<Bytes> keys;
    std::set<Bytes> different;
    {
        Machine machine(options(6));
        ASSERT_EQ(machine.status, 0) << machine.why;
        for (std::uint32_t i = 1; i < 6; ++i) {
            ASSERT_TRUE(machine.power(i)) << machine.describe();
            keys.push_back(ek_of(machine, i));
            EXPECT_FALSE(ek_of(machine, i, 0x81010001).empty());
            different.insert(keys.back());
        }
    }
    EXPECT_EQ(different.size(), 5U);
    Machine machine(options(6));
    for (std::uint32_t i = 1; i < 6; ++i) {
        ASSERT_TRUE(machine.power(i)) << machine.describe();
        EXPECT_EQ(ek_of(machine, i), keys[i - 1]) << "it was durable when it was ready";
        std::ifstream names(instance_file(folder_ + "/p", i, "names"));
        std::string text;
        std::getline(names, text);
        EXPECT_EQ(text.size(), 2U * 100 + 18) << text;
    }
}

/// Until as many stand by. None: they do not come.
std::vector<pid_t> standing_by(std::size_t count, int looks = 6000)
{
    std::vector<pid_t> found;
    for (int i = 0; i < looks; ++i) {
        found = children_of(only_child());
        std::erase_if(found, [](pid_t pid) { return name_of_process(pid) != "vtpm-standby"; });
        if (found.size() == count) {
            return found;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return {};
}

/// Whether a first record comes into a store file that is made ahead, empty.
bool gets_a_record(const std::string &path)
{
    for (int i = 0; i < 6000; ++i) {
        for (const off_t slot : {slot_of(0), slot_of(1)}) {
            std::ifstream file(path, std::ios::binary);
            file.seekg(slot);
            if (file.get() == kStoreMagic[0]) {
                return true;
            }
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
}

TEST_F(AFolder, HasTheNextFewInstancesStandByAndTheyAreTheOnesThatStart)
{
    Bytes key;
    {
        Machine machine(options(3));
        ASSERT_EQ(machine.status, 0) << machine.why;
        const std::vector<pid_t> ahead = standing_by(2);
        ASSERT_EQ(ahead.size(), 2U);
        ASSERT_TRUE(machine.power(1)) << machine.describe();
        EXPECT_EQ(workers(), std::vector<pid_t>{ahead[0]});
        key = ek_of(machine, 1);
        EXPECT_TRUE(machine.events().empty()) << machine.describe();
    }
    Machine machine(options(3));
    ASSERT_TRUE(machine.power(1)) << machine.describe();
    ASSERT_TRUE(machine.power(2)) << machine.describe();
    EXPECT_EQ(ek_of(machine, 1), key);
    EXPECT_NE(ek_of(machine, 2), key) << "made for it before it asked";
}

TEST_F(AFolder, StartsOneThatStoodByAnewForAnotherSetup)
{
    Machine machine(options(2));
    ASSERT_EQ(machine.status, 0) << machine.why;
    const std::vector<pid_t> ahead = standing_by(1);
    ASSERT_EQ(ahead.size(), 1U);
    ASSERT_TRUE(machine.power_held(1)) << machine.describe();
    EXPECT_NE(workers(), std::vector<pid_t>{ahead[0]});
    EXPECT_EQ(machine.drtm(1, BANYAN_DRTM_START), 0) << "an H-CRTM sequence, before TPM2_Startup";
    EXPECT_EQ(machine.drtm(1, BANYAN_DRTM_END), 0);
}

TEST_F(AFolder, StartsTheInstanceOfOneThatDiedWhileItStoodBy)
{
    Machine machine(options(2));
    ASSERT_EQ(machine.status, 0) << machine.why;
    const std::vector<pid_t> ahead = standing_by(1);
    ASSERT_EQ(ahead.size(), 1U);
    ASSERT_TRUE(end_process(ahead[0]));
    ASSERT_TRUE(machine.power(1)) << machine.describe(); // which may still find it at the door
    EXPECT_FALSE(ek_of(machine, 1).empty());
}

TEST_F(AFolder, HasAnotherOneStandByForOneThatDied)
{
    Machine machine(options(2));
    ASSERT_EQ(machine.status, 0) << machine.why;
    std::vector<pid_t> ahead = standing_by(1);
    for (int death = 0; death < 3; ++death) {
        ASSERT_EQ(ahead.size(), 1U);
        const pid_t before = ahead[0];
        ASSERT_TRUE(end_process(before));
        for (int i = 0; i < 6000 && (ahead.empty() || ahead[0] == before); ++i) {
            ahead = standing_by(1);
        }
    }
    ASSERT_TRUE(machine.power(1)) << machine.describe();
    EXPECT_EQ(workers(), ahead);
    EXPECT_TRUE(machine.events().empty()) << machine.describe();
}

TEST_F(AFolder, HasNobodyStandByAfterManyDeathsUntilAnInstanceStarts)
{
    const Stage stage;
    stage.die(Moment::kBeforeStir, kStandbyDeathsMax);
    Machine::Options staged = options(3);
    staged.engine = BANYAN_TEST_STAGED_ENGINE;
    Machine machine(staged);
    ASSERT_EQ(machine.status, 0) << machine.why;
    for (int i = 0; i < 6000 && stage->deaths > 0; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ASSERT_EQ(stage->deaths, 0);
    std::vector<pid_t> ahead;
    for (int i = 0; i < 60 && ahead.size() != 2; ++i) { // the last death may be collected only after a start
        ASSERT_TRUE(machine.power(0)) << machine.describe();
        ahead = standing_by(2, 100);
    }
    ASSERT_EQ(ahead.size(), 2U);
    ASSERT_TRUE(machine.power(1)) << machine.describe();
    EXPECT_TRUE(machine.events().empty()) << "nobody had asked for them\n" << machine.describe();
}

TEST_F(AFolder, HasNobodyStandByFromAHandOverOnAndGoesOnWhenThatCameToNothing)
{
    Machine machine(options(3));
    ASSERT_EQ(machine.status, 0) << machine.why;
    const std::vector<pid_t> ahead = standing_by(2);
    ASSERT_EQ(ahead.size(), 2U);
    ASSERT_FALSE(machine.save(true).empty()) << machine.why;
    for (const pid_t one : ahead) {
        for (int i = 0; i < 6000 && name_of_process(one) == "vtpm-standby"; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        EXPECT_NE(name_of_process(one), "vtpm-standby") << "another machine may run its TPM";
    }
    EXPECT_FALSE(machine.power(1)) << "the folder is another machine's";
    ASSERT_TRUE(machine.run()) << machine.why;
    EXPECT_EQ(standing_by(1).size(), 1U) << "for the one that has not asked";
    ASSERT_TRUE(machine.power(2)) << machine.describe();
    EXPECT_FALSE(ek_of(machine, 2).empty());
}

TEST_F(AFolder, LoadsASnapshotThatIsOlderThanATpmNobodyAskedFor)
{
    constexpr std::uint32_t kNext = kStandbyMax + 1; // instance 0 was there
    Machine machine(options(kNext + 2));
    ASSERT_EQ(machine.status, 0) << machine.why;
    ASSERT_EQ(standing_by(kStandbyMax).size(), kStandbyMax);
    for (std::uint32_t i = 1; i <= kStandbyMax; ++i) {
        ASSERT_TRUE(gets_a_record(instance_file(folder_ + "/p", i, "nvstore"))) << "else it is not in the snapshot";
    }
    const Bytes older = machine.save();
    ASSERT_FALSE(older.empty()) << machine.why;
    ASSERT_TRUE(machine.power(1)) << machine.describe();
    const std::string names = instance_file(folder_ + "/p", kNext, "names");
    std::error_code none_yet;
    for (int i = 0; i < 6000 && (std::filesystem::file_size(names, none_yet) == 0 || none_yet); ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ASSERT_GT(std::filesystem::file_size(names, none_yet), 0U) << "the next one gets its TPM";
    ASSERT_TRUE(machine.load(older)) << machine.why;
    ASSERT_TRUE(machine.run()) << machine.why;
    EXPECT_EQ(standing_by(2).size(), 2U) << "for the two that neither asked nor are in the snapshot";
    ASSERT_TRUE(machine.power(kNext)) << machine.describe();
    EXPECT_FALSE(ek_of(machine, kNext).empty());
}

TEST_F(AFolder, WhoseDiskTakesNoFileStartsTheInstanceWhenItDoes)
{
    const std::string in_the_way = instance_file(folder_ + "/p", 1, "names");
    std::filesystem::create_directory(in_the_way);
    Machine machine(options(2));
    ASSERT_EQ(machine.status, 0) << machine.why;
    EXPECT_FALSE(machine.power(1));
    EXPECT_TRUE(machine.saw("store-failed", "store file could not be made")) << machine.describe();
    std::filesystem::remove(in_the_way);
    ASSERT_EQ(banyan_vtpm_power_off(machine.vtpm, 1), 0);
    (void)machine.settle(1);
    ASSERT_TRUE(machine.power(1)) << machine.describe();
    EXPECT_FALSE(ek_of(machine, 1).empty());
}

TEST_F(AFolder, WhoseDiskIsFullStartsTheInstanceWhenItHasRoomAgain)
{
    constexpr Full kWays[] = {Full::kEverything, Full::kFiles,   Full::kNames,
                              Full::kRecords,    Full::kAnchors, Full::kStock};
    const Stage stage;
    std::set<Bytes> keys;
    std::uint32_t instance = 1;
    for (const Full full : kWays) {
        const std::string way = "way " + std::to_string(static_cast<int>(full));
        stage->full = full;
        Machine::Options staged = options(instance + 1); // the others have theirs
        staged.engine = BANYAN_TEST_STAGED_ENGINE;
        Bytes key;
        {
            Machine machine(staged);
            ASSERT_EQ(machine.status, 0) << machine.why;
            for (int tries = 0; tries < 3; ++tries) {
                EXPECT_FALSE(machine.power(instance)) << way;
            }
            EXPECT_TRUE(machine.saw("store-failed")) << way << machine.describe();
            EXPECT_EQ(machine.json().find("\"restarts\":1"), std::string::npos) << "not tried again by itself";
            stage->full = Full::kNothing;
            ASSERT_TRUE(machine.power(instance)) << way << machine.describe();
            key = ek_of(machine, instance);
            EXPECT_TRUE(keys.insert(key).second) << way;
        }
        Machine machine(options(instance + 1));
        ASSERT_TRUE(machine.power(instance)) << way << machine.describe();
        EXPECT_EQ(ek_of(machine, instance), key) << way << ": it was durable when it was ready";
        ++instance;
    }
}

TEST_F(AFolder, OfClassMachineGetsNone)
{
    std::ofstream(folder_ + "/p/class") << "machine\n";
    Machine machine(options(2));
    ASSERT_EQ(machine.status, 0) << machine.why;
    EXPECT_TRUE(machine.power(0));
    EXPECT_FALSE(machine.power(1));
    EXPECT_TRUE(machine.saw("store-failed", "no store file")) << machine.describe();
}

TEST_F(AFolder, NoTwoInstancesShareATpmWhateverIsKilledMeanwhile)
{
    constexpr std::uint32_t kInstances = 12;
    std::vector<Bytes> keys(kInstances);
    unsigned seed = 4;
    for (int round = 0; round < 8; ++round) {
        Machine machine(options(kInstances));
        ASSERT_EQ(machine.status, 0) << machine.why;
        const pid_t zygote = only_child();
        std::vector<pid_t> victims = children_of(zygote);
        std::erase_if(victims, [](pid_t pid) { return name_of_process(pid) != "vtpm-keeper"; });
        ASSERT_EQ(victims.size(), 1U);
        seed = seed * 1103515245 + 12345;
        const unsigned delay_us = (seed >> 16) % 60000;
        std::thread killer([victim = round % 2 == 0 ? victims.front() : zygote, delay_us] {
            std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
            EXPECT_TRUE(end_process(victim));
        });
        for (std::uint32_t i = 1; i < kInstances; ++i) {
            (void)banyan_vtpm_power_on(machine.vtpm, i);
        }
        for (std::uint32_t i = 1; i < kInstances; ++i) {
            (void)machine.settle(i);
        }
        killer.join();
    }
    Machine machine(options(kInstances));
    std::set<Bytes> different;
    for (std::uint32_t i = 0; i < kInstances; ++i) {
        ASSERT_TRUE(machine.power(i)) << machine.describe();
        for (const std::uint32_t handle : {0x81010001U, 0x81010016U, 0x81010100U}) {
            EXPECT_TRUE(different.insert(ek_of(machine, i, handle)).second) << i;
        }
    }
}

} // namespace
} // namespace banyan::vtpm::testing
