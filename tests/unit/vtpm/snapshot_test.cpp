// SPDX-License-Identifier: GPL-2.0-or-later
// Saving and bringing back the whole chip, with its real processes.
#include "vtpm/link/snapshot.hpp"

#include <fstream>
#include <set>

#include "tests/unit/vtpm/crb_guest.hpp"
#include "tests/unit/vtpm/extended.hpp"
#include "tests/unit/vtpm/processes.hpp"
#include "tests/unit/vtpm/vtpm_machine.hpp"

namespace banyan::vtpm::testing {
namespace {

// Commands whose outcome has randomness in it.
Bytes start_session()
{
    Bytes body;
    put32(body, 0x40000007); // TPM_RH_NULL
    put32(body, 0x40000007);
    put16(body, 16);
    body.insert(body.end(), 16, 0x5a);
    put16(body, 0);
    body.push_back(0); // HMAC
    put16(body, 0x0010);
    put16(body, 0x000b);
    return tpm_command(0x8001, 0x176, body);
}
Bytes create_ecc_in(std::uint32_t hierarchy, std::uint32_t code)
{
    Bytes body;
    put32(body, hierarchy);
    const Bytes area = auth_area();
    body.insert(body.end(), area.begin(), area.end());
    put16(body, 4);
    put32(body, 0);
    Bytes tmpl;
    put16(tmpl, 0x0023); // ECC
    put16(tmpl, 0x000b);
    put32(tmpl, code == 0x131 ? 0x00030072 : 0x00040072); // storage key, or signing key
    put16(tmpl, 0);
    if (code == 0x131) {
        put16(tmpl, 6); // AES-128-CFB
        put16(tmpl, 128);
        put16(tmpl, 0x0043);
    } else {
        put16(tmpl, 0x0010);
    }
    put16(tmpl, 0x0010);
    put16(tmpl, 3); // P-256
    put16(tmpl, 0x0010);
    put16(tmpl, 0);
    put16(tmpl, 0);
    put16(body, static_cast<std::uint32_t>(tmpl.size()));
    body.insert(body.end(), tmpl.begin(), tmpl.end());
    put16(body, 0);
    put32(body, 0);
    return tpm_command(0x8002, code, body);
}
Bytes quote_by(std::uint32_t key)
{
    Bytes body;
    put32(body, key);
    const Bytes area = auth_area();
    body.insert(body.end(), area.begin(), area.end());
    put16(body, 4);
    put32(body, 0x01020304);
    put16(body, 0x0010); // the key's scheme
    put32(body, 1);
    put16(body, 0x000b);
    body.insert(body.end(), {3, 1, 0, 0});
    return tpm_command(0x8002, 0x158, body);
}
Bytes start_hash()
{
    Bytes body;
    put16(body, 0);
    put16(body, 0x000b);
    return tpm_command(0x8001, 0x186, body);
}
Bytes feed_hash(std::uint32_t handle, std::uint32_t code, const Bytes &data)
{
    Bytes body;
    put32(body, handle);
    const Bytes area = auth_area();
    body.insert(body.end(), area.begin(), area.end());
    put16(body, static_cast<std::uint32_t>(data.size()));
    body.insert(body.end(), data.begin(), data.end());
    if (code == 0x13e) {
        put32(body, 0x40000007);
    }
    return tpm_command(0x8002, code, body);
}
Bytes read_public(std::uint32_t handle)
{
    Bytes body;
    put32(body, handle);
    return tpm_command(0x8001, 0x173, body);
}
std::uint32_t handle_in(const Bytes &response)
{
    return response.size() < 14 ? 0 : load_be32(response, 10);
}
bool has(const Bytes &text, const Bytes &part)
{
    return std::search(text.begin(), text.end(), part.begin(), part.end()) != text.end();
}

class Snapshot : public ::testing::Test {
protected:
    Snapshot()
    {
        char name[] = "/tmp/banyan-snapshot-XXXXXX";
        key_ = name;
        const int fd = ::mkstemp(key_.data());
        const Bytes key(32, 0x42);
        EXPECT_EQ(::write(fd, key.data(), key.size()), 32);
        ::close(fd);
    }
    ~Snapshot() override { ::unlink(key_.c_str()); }

    [[nodiscard]] Machine::Options options(std::uint32_t instances = 1, bool incoming = false) const
    {
        return {.instances = instances, .snapshot_key = key_, .incoming = incoming};
    }

    std::string key_;
};

TEST_F(Snapshot, BringsBackThePcrsOfEveryInstance)
{
    Machine machine(options(3));
    std::vector<Guest> guests;
    for (std::uint32_t i = 0; i < 3; ++i) {
        ASSERT_TRUE(machine.power(i)) << machine.describe();
        ASSERT_EQ(banyan_vtpm_bind(machine.vtpm, i, i), 0);
        guests.emplace_back(machine.vtpm, i);
        EXPECT_EQ(code_of(guests[i].command(pcr_extend(9, static_cast<std::uint8_t>(i + 1)))), 0U);
    }
    const Bytes saved = machine.save();
    ASSERT_FALSE(saved.empty()) << machine.why;
    EXPECT_LE(saved.size(), BANYAN_VTPM_SNAPSHOT_MAX(3));
    for (std::uint32_t i = 0; i < 3; ++i) { // the machine goes on
        EXPECT_EQ(code_of(guests[i].command(pcr_extend(9, 0x77))), 0U);
    }
    ASSERT_TRUE(machine.load(saved)) << machine.why;
    for (std::uint32_t i = 0; i < 3; ++i) {
        EXPECT_EQ(digest_of(guests[i].command(pcr_read(9))), extended(Bytes(32, 0), static_cast<std::uint8_t>(i + 1)));
        EXPECT_EQ(code_of(guests[i].command(pcr_extend(9, 5))), 0U) << "and goes on from there";
    }
    EXPECT_NE(machine.json().find("\"restores\":1"), std::string::npos) << machine.json();
}

TEST_F(Snapshot, GoesOnInAnotherProcessInTheMiddleOfACommand)
{
    const Bytes command = pcr_extend(4, 0x66);
    Bytes saved;
    Bytes key;
    {
        Machine machine(options());
        ASSERT_TRUE(machine.power(0));
        Guest guest(machine.vtpm);
        key = guest.command(read_public(0x81010016));
        EXPECT_EQ(code_of(guest.command(pcr_extend(4, 0x55))), 0U);
        ASSERT_TRUE(guest.request(2));
        guest.put(2, Bytes(command.begin(), command.begin() + 20));
        saved = machine.save(true);
        ASSERT_FALSE(saved.empty()) << machine.why;
    }
    Machine machine(options(1, true));
    ASSERT_EQ(banyan_vtpm_power_on(machine.vtpm, 0), 0); // the machine's own reset, before the state comes
    ASSERT_TRUE(machine.load(saved)) << machine.why;
    EXPECT_TRUE(machine.run());
    ASSERT_EQ(banyan_vtpm_instance_state(machine.vtpm, 0), BANYAN_VTPM_READY);
    Guest guest(machine.vtpm);
    EXPECT_TRUE(tis::Access::ActiveLocality::get(guest.read(2, tis::Reg::kAccess, 1)));
    EXPECT_TRUE(tis::Sts::Expect::get(guest.read(2, tis::Reg::kSts)));
    for (std::size_t i = 20; i < command.size(); ++i) {
        guest.write(2, tis::Reg::kDataFifo, command[i], 1);
    }
    guest.go(2);
    EXPECT_EQ(code_of(guest.take(2)), 0U);
    guest.relinquish(2);
    EXPECT_EQ(digest_of(guest.command(pcr_read(4))), extended(extended(Bytes(32, 0), 0x55), 0x66));
    EXPECT_EQ(guest.command(read_public(0x81010016)), key) << "it is the same TPM";
}

TEST_F(Snapshot, CarriesHashSequencesSessionsAndObjects)
{
    Machine machine(options());
    ASSERT_TRUE(machine.power(0));
    Guest guest(machine.vtpm);
    const Bytes hash = guest.command(start_hash());
    ASSERT_EQ(code_of(hash), 0U);
    ASSERT_EQ(code_of(guest.command(feed_hash(handle_in(hash), 0x15c, Bytes(40, 1)))), 0U);
    const Bytes session = guest.command(start_session());
    ASSERT_EQ(code_of(session), 0U);
    const Bytes object = guest.command(create_ecc_in(0x40000001, 0x131));
    ASSERT_EQ(code_of(object), 0U);
    const Bytes public_part = guest.command(read_public(handle_in(object)));
    const Bytes saved = machine.save();
    ASSERT_FALSE(saved.empty()) << machine.why;
    ASSERT_TRUE(machine.power(0)); // all three are gone
    EXPECT_NE(code_of(guest.command(read_public(handle_in(object)))), 0U);
    ASSERT_TRUE(machine.load(saved)) << machine.why;
    const Bytes end = guest.command(feed_hash(handle_in(hash), 0x13e, Bytes(24, 2)));
    Bytes text(40, 1);
    text.insert(text.end(), 24, 2);
    EXPECT_EQ(code_of(end), 0U);
    EXPECT_TRUE(has(end, sha256(text)));
    EXPECT_EQ(guest.command(read_public(handle_in(object))), public_part);
    EXPECT_EQ(code_of(guest.command(flush(handle_in(session)))), 0U);
}

TEST_F(Snapshot, RestoredTwiceSharesNoRandomNumberNoKeyAndNoNonce)
{
    Bytes saved;
    {
        Machine machine(options());
        ASSERT_TRUE(machine.power(0));
        Guest guest(machine.vtpm);
        ASSERT_EQ(code_of(guest.command(create_ecc_in(0x40000001, 0x131))), 0U); // at 0x80000000
        saved = machine.save(true);
        ASSERT_FALSE(saved.empty()) << machine.why;
    }
    constexpr unsigned kTwice = 2;
    std::set<Bytes> numbers;
    std::set<Bytes> nonces;
    std::set<Bytes> keys;
    std::set<Bytes> signatures;
    for (unsigned i = 0; i < kTwice; ++i) {
        Machine machine(options(1, true));
        ASSERT_TRUE(machine.load(saved)) << machine.why;
        Guest guest(machine.vtpm);
        for (int n = 0; n < 4; ++n) {
            const Bytes random = guest.command(get_random(32));
            ASSERT_EQ(code_of(random), 0U);
            numbers.insert(random);
            const Bytes session = guest.command(start_session());
            ASSERT_EQ(code_of(session), 0U);
            nonces.insert(Bytes(session.end() - 16, session.end())); // nonceTPM
            ASSERT_EQ(code_of(guest.command(flush(handle_in(session)))), 0U);
            Bytes key = guest.command(create_ecc_in(0x80000000, 0x153)); // TPM2_Create
            if (code_of(key) == 0x922) { // TPM_RC_RETRY: the first use of a key that dictionary attack protects
                key = guest.command(create_ecc_in(0x80000000, 0x153));
            }
            ASSERT_EQ(code_of(key), 0U);
            keys.insert(key);
            const Bytes quote = guest.command(quote_by(0x81010100));
            ASSERT_EQ(code_of(quote), 0U);
            signatures.insert(Bytes(quote.end() - 98, quote.end() - 50)); // r, made of the signature's nonce
        }
    }
    EXPECT_EQ(numbers.size(), 4 * kTwice);
    EXPECT_EQ(nonces.size(), 4 * kTwice);
    EXPECT_EQ(keys.size(), 4 * kTwice);
    EXPECT_EQ(signatures.size(), 4 * kTwice);
}

TEST_F(Snapshot, CountsEveryRestoreAboveAllThatWereSeen)
{
    Machine machine(options());
    ASSERT_TRUE(machine.power(0));
    const Bytes first = machine.save();
    ASSERT_TRUE(machine.load(first)) << machine.why;
    const Bytes second = machine.save();
    ASSERT_TRUE(machine.load(first)) << machine.why; // the old one again
    EXPECT_NE(machine.json().find("\"restores\":2"), std::string::npos) << machine.json();
    Machine other(options(1, true));
    ASSERT_TRUE(other.load(second)) << other.why;
    EXPECT_NE(other.json().find("\"restores\":2"), std::string::npos) << other.json();
    ASSERT_TRUE(other.load(first)) << other.why;
    EXPECT_NE(other.json().find("\"restores\":3"), std::string::npos) << other.json();
    // Generations too: what a later snapshot says of itself is above what an earlier one said.
    std::string why;
    const auto head = [&](const Bytes &bytes) { return *parse_part((*parse_snapshot(bytes, 1, why))[0]); };
    const Bytes third = other.save();
    EXPECT_GT(head(second).generation, head(first).generation);
    EXPECT_GT(head(third).generation, head(second).generation);
    EXPECT_EQ(head(third).restores, 3U);
}

TEST_F(Snapshot, LetsARunningCommandEndAndKeepsItsAnswer)
{
    Machine::Options slow = options();
    slow.sync_bound_ns = 0;
    Machine machine(slow);
    ASSERT_TRUE(machine.power(0));
    Guest guest(machine.vtpm);
    ASSERT_TRUE(guest.request(0));
    for (int i = 0; i < 5; ++i) {
        guest.put(0, create_ecc_in(0x40000001, 0x131));
        guest.go(0);
        const Bytes saved = machine.save();
        ASSERT_FALSE(saved.empty()) << machine.why;
        const Bytes answer = guest.take(0);
        EXPECT_EQ(code_of(answer), 0U);
        ASSERT_TRUE(machine.load(saved)) << machine.why;
        EXPECT_EQ(guest.take(0), answer) << "the response is there again";
        guest.write(0, tis::Reg::kSts, tis::Sts::CommandReady::kMask, 1);
        EXPECT_EQ(code_of(guest.command(0, read_public(handle_in(answer)))), 0U) << "and what it did";
        EXPECT_EQ(code_of(guest.command(0, flush(handle_in(answer)))), 0U);
    }
}

TEST_F(Snapshot, LosesNoAnsweredExtendWheneverItIsTaken)
{
    Machine::Options eager = options();
    eager.sync_bound_ns = 0;
    Machine machine(eager);
    ASSERT_TRUE(machine.power(0));
    Guest guest(machine.vtpm);
    ASSERT_TRUE(guest.request(0));
    unsigned seed = 7;
    Bytes pcr(32, 0);
    for (int round = 0; round < 40; ++round) {
        seed = seed * 1103515245 + 12345;
        const unsigned answered = (seed >> 16) % 4;
        for (unsigned i = 0; i < answered; ++i) {
            ASSERT_EQ(code_of(guest.command(0, pcr_extend(9, static_cast<std::uint8_t>(round)))), 0U);
            pcr = extended(pcr, static_cast<std::uint8_t>(round));
        }
        guest.put(0, pcr_extend(9, 0xee)); // under way
        guest.go(0);
        std::this_thread::sleep_for(std::chrono::microseconds((seed >> 20) % 30));
        const Bytes saved = machine.save();
        ASSERT_FALSE(saved.empty()) << machine.why;
        ASSERT_EQ(code_of(guest.take(0)), 0U);
        ASSERT_TRUE(machine.load(saved)) << machine.why;
        ASSERT_EQ(code_of(guest.take(0)), 0U) << "its answer is in the snapshot, so it happened";
        pcr = extended(pcr, 0xee);
        guest.write(0, tis::Reg::kSts, tis::Sts::CommandReady::kMask, 1);
        ASSERT_EQ(digest_of(guest.command(0, pcr_read(9))), pcr) << "round " << round;
    }
}

TEST_F(Snapshot, IsRefusedWhileALaunchIsOpen)
{
    Machine machine(options(2));
    ASSERT_TRUE(machine.power(0));
    ASSERT_TRUE(machine.power(1));
    const Bytes before = machine.save();
    ASSERT_FALSE(before.empty());
    ASSERT_EQ(machine.drtm(1, BANYAN_DRTM_START), 0);
    EXPECT_TRUE(machine.save().empty());
    EXPECT_NE(machine.why.find("instance 1: a launch is open"), std::string::npos) << machine.why;
    EXPECT_FALSE(machine.load(before)) << "nor does an older state come back now";
    EXPECT_NE(machine.why.find("a launch is open"), std::string::npos) << machine.why;
    ASSERT_EQ(machine.drtm(1, BANYAN_DRTM_DATA, Bytes(100, 1)), 0);
    EXPECT_TRUE(machine.save().empty());
    ASSERT_EQ(machine.drtm(1, BANYAN_DRTM_END), 0);
    ASSERT_EQ(banyan_vtpm_bind(machine.vtpm, 1, 1), 0);
    Guest guest(machine.vtpm, 1);
    const Bytes measured = guest.command(pcr_read(17));
    const Bytes after = machine.save();
    ASSERT_FALSE(after.empty()) << machine.why;
    ASSERT_TRUE(machine.power(1));
    ASSERT_TRUE(machine.load(after)) << machine.why;
    EXPECT_EQ(guest.command(pcr_read(17)), measured);
    EXPECT_FALSE(tis::Access::TpmEstablishment::get(guest.read(0, tis::Reg::kAccess, 1))) << "a launch happened";
}

TEST_F(Snapshot, KeepsOffAndFailedInstancesAsTheyWere)
{
    Machine machine(options(3));
    ASSERT_TRUE(machine.power(0));
    ASSERT_TRUE(machine.power(1));
    EXPECT_LT(machine.drtm(1, BANYAN_DRTM_END), 0); // failed; 2 was never on
    const Bytes saved = machine.save();
    ASSERT_FALSE(saved.empty()) << machine.why;
    ASSERT_TRUE(machine.power(1));
    ASSERT_TRUE(machine.power(2));
    ASSERT_TRUE(machine.load(saved)) << machine.why;
    EXPECT_EQ(banyan_vtpm_instance_state(machine.vtpm, 0), BANYAN_VTPM_READY);
    EXPECT_EQ(banyan_vtpm_instance_state(machine.vtpm, 1), BANYAN_VTPM_FAILED);
    EXPECT_EQ(banyan_vtpm_instance_state(machine.vtpm, 2), BANYAN_VTPM_OFF);
    EXPECT_TRUE(machine.power(1)) << "until the next power-on";
    EXPECT_TRUE(machine.power(2));
}

TEST_F(Snapshot, RefusesABlobThatIsNotWhatWasSealed)
{
    Machine machine(options(2));
    ASSERT_TRUE(machine.power(0));
    Guest guest(machine.vtpm);
    const Bytes saved = machine.save();
    ASSERT_EQ(code_of(guest.command(pcr_extend(9, 1))), 0U);
    const Bytes pcr = digest_of(guest.command(pcr_read(9)));
    const auto refused = [&](const Bytes &blob, const std::string &sentence) {
        EXPECT_FALSE(machine.load(blob));
        EXPECT_NE(machine.why.find(sentence), std::string::npos) << machine.why;
        EXPECT_EQ(digest_of(guest.command(pcr_read(9))), pcr) << "nothing has changed";
    };
    refused({}, "damaged");
    for (const std::size_t size : {std::size_t{15}, std::size_t{16}, std::size_t{100}, saved.size() - 1}) {
        refused(Bytes(saved.begin(), saved.begin() + static_cast<std::ptrdiff_t>(size)), "damaged");
    }
    Bytes longer = saved;
    longer.push_back(0);
    refused(longer, "damaged");
    // A bit anywhere: header, sizes, text, tag. The positions are spread over the whole.
    for (std::size_t at = 0; at < saved.size(); at += saved.size() / 61) {
        Bytes changed = saved;
        changed[at] ^= 0x10;
        EXPECT_FALSE(machine.load(changed)) << at;
    }
    Bytes last = saved;
    last.back() ^= 1;
    refused(last, "changed, or sealed by another platform");
    Bytes version = saved;
    version[8] = 9;
    refused(version, "version");
    // Parts of two snapshots, each of them good.
    const Bytes second = machine.save();
    std::string why;
    const auto of_first = *parse_snapshot(saved, 2, why);
    const auto of_second = *parse_snapshot(second, 2, why);
    const std::vector<Bytes> mixed{Bytes(of_first[0].begin(), of_first[0].end()),
                                   Bytes(of_second[1].begin(), of_second[1].end())};
    refused(frame_snapshot(mixed), "put together from several");
    const std::vector<Bytes> swapped{Bytes(of_first[1].begin(), of_first[1].end()),
                                     Bytes(of_first[0].begin(), of_first[0].end())};
    refused(frame_snapshot(swapped), "put together from several");
    // Another key.
    std::ofstream(key_, std::ios::binary) << std::string(32, 'x');
    Machine stranger(options(2, true));
    EXPECT_FALSE(stranger.load(saved));
    EXPECT_NE(stranger.why.find("sealed by another platform"), std::string::npos) << stranger.why;
    Machine smaller(options(1, true));
    EXPECT_FALSE(smaller.load(saved));
    EXPECT_NE(smaller.why.find("a vTPM with 2 instances, this one has 1"), std::string::npos) << smaller.why;
    EXPECT_TRUE(machine.load(saved)) << machine.why;
}

TEST_F(Snapshot, HoldsNothingReadable)
{
    Machine machine(options());
    ASSERT_TRUE(machine.power(0));
    Guest guest(machine.vtpm);
    ASSERT_EQ(code_of(guest.command(pcr_extend(9, 0x31))), 0U);
    ASSERT_TRUE(guest.request(0));
    const Bytes half(200, 0xa7); // in the interface's buffer
    Bytes command = tpm_command(0x8001, 0x17b, half);
    command.pop_back();
    guest.put(0, command);
    const Bytes saved = machine.save();
    ASSERT_FALSE(saved.empty());
    EXPECT_FALSE(has(saved, Bytes(8, 0xa7)));
    const Bytes sealed(saved.begin() + 20 + SnapshotHead::kSize, saved.end());
    EXPECT_FALSE(has(sealed, Bytes(8, 0))) << "no plain field of a state either, all of them have zeros";
}

TEST_F(Snapshot, NeedsAKeyThatAnotherProcessCanHave)
{
    Machine machine;
    ASSERT_TRUE(machine.power(0));
    EXPECT_TRUE(machine.save().empty());
    EXPECT_NE(machine.why.find("snapshot-key"), std::string::npos) << machine.why;
    Machine::Options wrong = options();
    wrong.snapshot_key = "/nonexistent/key";
    const Machine other(wrong);
    EXPECT_LT(other.status, 0);
    EXPECT_NE(other.why.find("/nonexistent/key"), std::string::npos) << other.why;
}

TEST_F(Snapshot, AWorkerThatDiesAfterARestoreComesBackToIt)
{
    Machine machine(options());
    ASSERT_TRUE(machine.power(0));
    Guest guest(machine.vtpm);
    ASSERT_EQ(code_of(guest.command(pcr_extend(9, 1))), 0U);
    const Bytes saved = machine.save();
    ASSERT_EQ(code_of(guest.command(pcr_extend(9, 2))), 0U);
    ASSERT_TRUE(machine.load(saved)) << machine.why;
    ASSERT_TRUE(end_process(last_worker()));
    Bytes seen = guest.command(pcr_read(9));
    if (code_of(seen) == 0x101) {
        seen = guest.command(pcr_read(9));
    }
    EXPECT_EQ(digest_of(seen), extended(Bytes(32, 0), 1));
}

TEST_F(Snapshot, UnderIcountAResponseKeepsItsTime)
{
    Machine::Options exact = options();
    exact.deterministic = true;
    Machine machine(exact);
    ASSERT_TRUE(machine.power(0));
    Guest guest(machine.vtpm);
    ASSERT_TRUE(guest.request(0));
    guest.put(0, get_random(16));
    const std::int64_t sent = guest.cycle.vtime_ns;
    guest.go(0);
    const Bytes saved = machine.save();
    ASSERT_FALSE(saved.empty()) << machine.why;
    const Bytes answer = guest.take(0);
    ASSERT_EQ(code_of(answer), 0U);
    ASSERT_TRUE(machine.load(saved)) << machine.why;
    guest.cycle.vtime_ns = sent;
    EXPECT_FALSE(tis::Sts::DataAvail::get(guest.read(0, tis::Reg::kSts))) << "not before its time";
    EXPECT_EQ(guest.take(0), answer);
}

[[nodiscard]] bool make_crb(const Machine &machine, std::uint32_t banks = 0)
{
    banyan_vtpm_instance_config config{};
    config.size = sizeof(config);
    config.interface = BANYAN_VTPM_CRB;
    config.banks = banks;
    return banyan_vtpm_configure(machine.vtpm, 0, &config) == 0;
}

TEST_F(Snapshot, CarriesTheCommandResponseBufferInTheMiddleOfACommand)
{
    const Bytes command = pcr_extend(5, 0x44);
    Bytes saved;
    {
        Machine machine(options());
        ASSERT_TRUE(make_crb(machine));
        ASSERT_TRUE(machine.power(0));
        CrbGuest guest(machine.vtpm);
        ASSERT_TRUE(guest.request(1));
        ASSERT_TRUE(guest.command_ready(1));
        guest.put(1, Bytes(command.begin(), command.begin() + 40));
        saved = machine.save(true);
        ASSERT_FALSE(saved.empty()) << machine.why;
    }
    Machine other(options(1, true)); // a FIFO
    EXPECT_FALSE(other.load(saved));
    EXPECT_NE(other.why.find("another interface"), std::string::npos) << other.why;
    ASSERT_TRUE(make_crb(other, BANYAN_VTPM_SHA256));
    EXPECT_FALSE(other.load(saved)) << "other banks";
    ASSERT_TRUE(make_crb(other));
    ASSERT_TRUE(other.load(saved)) << other.why;
    CrbGuest guest(other.vtpm);
    EXPECT_TRUE(crb::LocSts::Granted::get(guest.read(1, crb::Reg::kLocSts)));
    for (std::size_t at = 40; at < command.size(); ++at) {
        guest.write_at(1, crb::kDataBufferAt + static_cast<std::uint32_t>(at), command[at], 1);
    }
    guest.write(1, crb::Reg::kCtrlStart, crb::CtrlStart::Start::kMask);
    ASSERT_TRUE(guest.wait_for(1, crb::Reg::kCtrlStart, crb::CtrlStart::Start::kMask, 0));
    const Bytes again = other.save(); // with its response
    ASSERT_TRUE(other.load(again)) << other.why;
    Bytes response;
    for (std::uint32_t at = 0; at < 10; ++at) {
        response.push_back(static_cast<std::uint8_t>(guest.read_at(1, crb::kDataBufferAt + at, 1)));
    }
    EXPECT_EQ(code_of(response), 0U);
}

TEST_F(Snapshot, IsRefusedBetweenInitAndStartup)
{
    Machine machine(options());
    ASSERT_TRUE(machine.power(0));
    ASSERT_EQ(banyan_vtpm_power_on_held(machine.vtpm, 0), 0);
    EXPECT_TRUE(machine.save().empty());
    EXPECT_NE(machine.why.find("a launch is open"), std::string::npos) << machine.why;
    ASSERT_TRUE(machine.power(0));
    EXPECT_FALSE(machine.save().empty()) << machine.why;
}

TEST_F(Snapshot, WithoutAStateAMachineThatWaitedForOneHasNoTpm)
{
    Machine machine(options(1, true));
    ASSERT_EQ(banyan_vtpm_power_on(machine.vtpm, 0), 0);
    EXPECT_EQ(banyan_vtpm_instance_state(machine.vtpm, 0), BANYAN_VTPM_OFF);
    EXPECT_FALSE(machine.run());
    EXPECT_NE(machine.why.find("no state of the vTPM came"), std::string::npos) << machine.why;
    EXPECT_EQ(banyan_vtpm_instance_state(machine.vtpm, 0), BANYAN_VTPM_OFF);
    EXPECT_TRUE(machine.power(0)) << "until the next reset";
}

} // namespace
} // namespace banyan::vtpm::testing
