// SPDX-License-Identifier: GPL-2.0-or-later
// The chip with its real processes: what the machine chooses for an instance, and both interfaces side by side.
#include <atomic>
#include <set>

#include <openssl/evp.h>

#include "tests/unit/vtpm/crb_guest.hpp"
#include "tests/unit/vtpm/processes.hpp"
#include "tests/unit/vtpm/vtpm_machine.hpp"

namespace banyan::vtpm::testing {
namespace {

constexpr std::uint16_t kSha1 = 0x0004;
constexpr std::uint16_t kSha256 = 0x000b;
constexpr std::uint16_t kSha384 = 0x000c;

Bytes hash(std::uint16_t algorithm, const Bytes &data)
{
    const EVP_MD *type = algorithm == kSha1 ? EVP_sha1() : algorithm == kSha256 ? EVP_sha256() : EVP_sha384();
    Bytes digest(static_cast<std::size_t>(EVP_MD_get_size(type)));
    EXPECT_EQ(EVP_Digest(data.data(), data.size(), digest.data(), nullptr, type, nullptr), 1);
    return digest;
}

Bytes extended(std::uint16_t algorithm, Bytes pcr, const Bytes &digest)
{
    pcr.insert(pcr.end(), digest.begin(), digest.end());
    return hash(algorithm, pcr);
}

Bytes some_block(std::size_t size)
{
    Bytes block(size);
    for (std::size_t i = 0; i < size; ++i) {
        block[i] = static_cast<std::uint8_t>(i * 11 + i / 256);
    }
    return block;
}

banyan_vtpm_instance_config config_of(banyan_vtpm_interface interface)
{
    banyan_vtpm_instance_config config{};
    config.size = sizeof(config);
    config.interface = interface;
    return config;
}

/// Instance 0 has a CRB, instance 1 the FIFO.
class TwoInterfaces : public ::testing::Test {
protected:
    void SetUp() override
    {
        const banyan_vtpm_instance_config config = config_of(BANYAN_VTPM_CRB);
        ASSERT_EQ(machine.status, 0) << machine.why;
        ASSERT_EQ(banyan_vtpm_configure(machine.vtpm, 0, &config), 0);
        ASSERT_EQ(banyan_vtpm_bind(machine.vtpm, 1, 1), 0);
        ASSERT_TRUE(machine.power(0)) << machine.describe();
        ASSERT_TRUE(machine.power(1)) << machine.describe();
    }

    Machine machine{{.instances = 2, .sync_bound_ns = 0}};
    CrbGuest guest{machine.vtpm};
    Guest neighbour{machine.vtpm, 1};
};

/// The neighbour extends PCR 9 of its own all the while, and finds at the end what it must.
class BesideABusyNeighbour : public TwoInterfaces {
protected:
    void SetUp() override
    {
        TwoInterfaces::SetUp();
        busy_ = std::thread([this] {
            ASSERT_TRUE(neighbour.request(0));
            while (!stop_) {
                ASSERT_EQ(code_of(neighbour.command(0, pcr_extend(9, static_cast<std::uint8_t>(extends_)))), 0U);
                expected_ = extended(kSha256, expected_, Bytes(32, static_cast<std::uint8_t>(extends_)));
                ++extends_;
            }
        });
        while (extends_ == 0) {
            std::this_thread::yield();
        }
    }
    void TearDown() override
    {
        const unsigned before = extends_;
        while (extends_ < before + 2) { // it goes on after whatever the test did
            std::this_thread::yield();
        }
        stop_ = true;
        busy_.join();
        EXPECT_EQ(digest_of(neighbour.command(0, pcr_read(9))), expected_);
        EXPECT_EQ(digest_of(neighbour.command(0, pcr_read(17))), Bytes(32, 0xff));
    }

private:
    std::atomic<bool> stop_{false};
    std::atomic<unsigned> extends_{0};
    Bytes expected_ = Bytes(32, 0);
    std::thread busy_;
};

TEST_F(TwoInterfaces, EachAnswersThroughItsOwn)
{
    for (int i = 0; i < 4; ++i) {
        EXPECT_EQ(guest.command(get_random(32)).size(), 44U) << machine.describe();
        EXPECT_EQ(neighbour.command(get_random(32)).size(), 44U);
    }
    EXPECT_EQ(code_of(guest.command(pcr_extend(9, 7))), 0U);
    EXPECT_EQ(digest_of(guest.command(pcr_read(9))), extended(kSha256, Bytes(32, 0), Bytes(32, 7)));
    EXPECT_EQ(digest_of(neighbour.command(pcr_read(9))), Bytes(32, 0));
}

TEST_F(TwoInterfaces, AreToldApartByTheInterfaceIdentifier)
{
    constexpr auto kId = static_cast<std::uint32_t>(crb::Reg::kIntfId);
    static_assert(kId == static_cast<std::uint32_t>(tis::Reg::kInterfaceId));
    EXPECT_EQ(crb::IntfId::InterfaceType::get(guest.read(0, crb::Reg::kIntfId)), crb::kInterfaceTypeCrb);
    EXPECT_EQ(crb::IntfId::InterfaceType::get(neighbour.read(0, tis::Reg::kInterfaceId)), 0U);
}

TEST_F(TwoInterfaces, TheTpmKnowsTheSizeOfItsInterfacesBuffer)
{
    constexpr std::uint32_t kMaxCommandSize = 0x11e;
    Bytes body;
    put32(body, 6); // TPM_CAP_TPM_PROPERTIES
    put32(body, kMaxCommandSize);
    put32(body, 2);
    const Bytes ask = tpm_command(0x8001, 0x17a, body);
    for (const auto &[answer, size] :
         {std::pair{guest.command(ask), 3968U}, std::pair{neighbour.command(ask), 4096U}}) {
        ASSERT_GE(answer.size(), 35U);
        EXPECT_EQ(load_be32(answer, 19), kMaxCommandSize);
        EXPECT_EQ(load_be32(answer, 23), size);
        EXPECT_EQ(load_be32(answer, 31), size) << "of a response";
    }
}

TEST_F(TwoInterfaces, ManyCommandsFollowOneCmdReadyAsLinuxSendsThem)
{
    ASSERT_TRUE(guest.request(0));
    ASSERT_TRUE(guest.command_ready(0));
    std::set<Bytes> numbers;
    for (int i = 0; i < 8; ++i) {
        numbers.insert(guest.transmit(0, get_random(32)));
    }
    EXPECT_EQ(numbers.size(), 8U);
    ASSERT_TRUE(guest.go_idle(0));
    EXPECT_TRUE(crb::CtrlSts::TpmIdle::get(guest.read(0, crb::Reg::kCtrlSts)));
}

TEST_F(TwoInterfaces, ACommandOfAnySizeGetsTheAnswerOfTheSpecification)
{
    ASSERT_TRUE(guest.request(0));
    for (const std::uint32_t size : {0U, 9U, 3969U, 4097U, 0xffff'ffffU}) {
        ASSERT_TRUE(guest.command_ready(0));
        Bytes command = get_random(8);
        for (unsigned i = 0; i < 4; ++i) {
            command[kTpmSizeAt + i] = static_cast<std::uint8_t>(size >> (24 - 8 * i));
        }
        EXPECT_EQ(code_of(guest.transmit(0, command)), 0x142U) << size;
    }
    // The longest that fits is the engine's to judge: the interface has taken every byte.
    Bytes longest = tpm_command(0x8001, 0x17b, Bytes(3968 - 10, 0));
    EXPECT_EQ(code_of(guest.transmit(0, longest)), 0x95U) << "TPM_RC_SIZE: GetRandom has two bytes of parameters";
    EXPECT_EQ(code_of(guest.transmit(0, get_random(8))), 0U);
}

TEST_F(BesideABusyNeighbour, ABufferThatChangesAfterTheDoorbellChangesNothing)
{
    ASSERT_TRUE(guest.request(0));
    ASSERT_TRUE(guest.command_ready(0));
    int caught = 0;
    for (int i = 0; i < 3; ++i) {
        guest.send(0, create_primary_rsa()); // long enough to be met while it runs
        for (unsigned word = 0; word < 32; ++word) {
            guest.write_at(0, crb::kDataBufferAt + 4 * word, 0xffff'ffff, 4);
        }
        if (crb::CtrlStart::Start::get(guest.read(0, crb::Reg::kCtrlStart))) {
            ++caught;
            EXPECT_EQ(guest.read(0, crb::Reg::kDataBuffer), 0xffff'ffffU) << "not to be read either";
            guest.write(0, crb::Reg::kCtrlReq, crb::CtrlReq::GoIdle::kMask);
            guest.write(0, crb::Reg::kCtrlStart, crb::CtrlStart::Start::kMask);
        }
        const Bytes key = guest.receive(0);
        ASSERT_EQ(code_of(key), 0U) << "as it was at the doorbell";
        EXPECT_EQ(load_be16(key, 10 + 4 + 4 + 2 + 2 + 2 + 4 + 2 + 6 + 2), 3072U) << "keyBits of the public area";
        EXPECT_EQ(code_of(guest.transmit(0, flush(key))), 0U);
    }
    EXPECT_GT(caught, 0) << "some were met while they ran";
}

TEST_F(BesideABusyNeighbour, CancelEndsAKeyGeneration)
{
    ASSERT_TRUE(guest.request(0));
    ASSERT_TRUE(guest.command_ready(0));
    int cancelled = 0;
    for (int i = 0; i < 10; ++i) {
        guest.send(0, create_primary_rsa());
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        guest.write(0, crb::Reg::kCtrlCancel, crb::CtrlCancel::Cancel::kMask);
        const Bytes made = guest.receive(0);
        const std::uint32_t code = code_of(made);
        EXPECT_TRUE(code == 0 || code == 0x909) << std::hex << code;
        cancelled += code == 0x909 ? 1 : 0;
        if (code == 0) {
            EXPECT_EQ(code_of(guest.transmit(0, flush(made))), 0U);
        }
        EXPECT_EQ(code_of(guest.transmit(0, get_random(4))), 0U) << "the next command is not cancelled";
    }
    EXPECT_GT(cancelled, 0);
}

TEST_F(BesideABusyNeighbour, ALaunchCancelsWhatRunsAndExtendsPcr17)
{
    ASSERT_TRUE(guest.request(0));
    for (int i = 0; i < 5; ++i) {
        ASSERT_TRUE(guest.command_ready(0));
        guest.send(0, create_primary_rsa());
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        ASSERT_EQ(machine.launch(0, some_block(5000)), 0) << machine.describe();
        EXPECT_FALSE(crb::LocSts::Granted::get(guest.read(0, crb::Reg::kLocSts)));
        EXPECT_TRUE(crb::LocSts::BeenSeized::get(guest.read(0, crb::Reg::kLocSts)));
        EXPECT_EQ(guest.read(0, crb::Reg::kCtrlStart), 0xffff'ffffU) << "locality 0 is not active";
        EXPECT_FALSE(crb::LocState::TpmEstablished::get(guest.read(0, crb::Reg::kLocState)));
        ASSERT_TRUE(guest.request(0));
        EXPECT_FALSE(crb::LocSts::BeenSeized::get(guest.read(0, crb::Reg::kLocSts)));
        ASSERT_TRUE(guest.command_ready(0));
        EXPECT_EQ(digest_of(guest.transmit(0, pcr_read(17))),
                  extended(kSha256, Bytes(32, 0), hash(kSha256, some_block(5000))));
    }
}

TEST_F(BesideABusyNeighbour, AnOpenLaunchHoldsSoftwareOff)
{
    ASSERT_EQ(machine.drtm(0, BANYAN_DRTM_START), 0);
    ASSERT_EQ(machine.drtm(0, BANYAN_DRTM_DATA, some_block(50)), 0);
    EXPECT_EQ(crb::LocState::ActiveLocality::get(guest.read(0, crb::Reg::kLocState)), 4U);
    for (unsigned l = 0; l < 5; ++l) {
        guest.write(l, crb::Reg::kLocCtrl, crb::LocCtrl::RequestAccess::kMask | crb::LocCtrl::Seize::kMask);
        EXPECT_EQ(crb::LocSts::Granted::get(guest.read(l, crb::Reg::kLocSts)), l == 4) << l;
        guest.write(l, crb::Reg::kCtrlReq, crb::CtrlReq::CmdReady::kMask);
        guest.send(l, get_random(4));
        guest.write(l, crb::Reg::kLocCtrl, crb::LocCtrl::Relinquish::kMask);
    }
    ASSERT_EQ(machine.drtm(0, BANYAN_DRTM_END), 0) << machine.describe();
    EXPECT_EQ(digest_of(guest.command(pcr_read(17))), extended(kSha256, Bytes(32, 0), hash(kSha256, some_block(50))));
    EXPECT_NE(machine.json().find("\"locality4_writes\":"), std::string::npos);
}

TEST_F(BesideABusyNeighbour, TwoCoresHammerTheCrb)
{
    std::vector<std::thread> cores;
    for (unsigned core = 0; core < 2; ++core) {
        cores.emplace_back([this, core] {
            banyan_cycle cycle = guest.cycle;
            std::uint64_t seed = core + 1;
            for (int i = 0; i < 10000; ++i) {
                seed = seed * 6364136223846793005U + 1442695040888963407U;
                const std::uint64_t offset = (seed >> 33) % 5 * 0x1000 + ((seed >> 40) % 40) * 4;
                std::uint64_t value = 0;
                if ((seed & 1) != 0) {
                    (void)banyan_vtpm_mmio_read(machine.vtpm, &cycle, offset, 4, &value);
                } else {
                    (void)banyan_vtpm_mmio_write(machine.vtpm, &cycle, offset, 4, (seed >> 20) & 0xf);
                }
            }
        });
    }
    for (auto &core : cores) {
        core.join();
    }
    EXPECT_EQ(machine.settle(0), BANYAN_VTPM_READY);
}

TEST(Crb, AKilledWorkerComesBackWithItsPcrsAndBanks)
{
    Machine machine;
    banyan_vtpm_instance_config config = config_of(BANYAN_VTPM_CRB);
    config.banks = BANYAN_VTPM_SHA256;
    ASSERT_EQ(banyan_vtpm_configure(machine.vtpm, 0, &config), 0);
    ASSERT_TRUE(machine.power(0)) << machine.describe();
    CrbGuest guest(machine.vtpm);
    Bytes pcr(32, 0);
    for (std::uint8_t i = 1; i <= 3; ++i) {
        EXPECT_EQ(code_of(guest.command(pcr_extend(9, i))), 0U) << machine.describe();
        pcr = extended(kSha256, pcr, Bytes(32, i));
        ASSERT_TRUE(end_process(last_worker()));
        const std::string restarted = "\"restarts\":" + std::to_string(i);
        for (int look = 0; look < 5000 && machine.json().find(restarted) == std::string::npos; ++look) {
            EXPECT_EQ(machine.settle(0), BANYAN_VTPM_READY);
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
        EXPECT_EQ(digest_of(guest.command(pcr_read(9))), pcr);
        EXPECT_TRUE(digest_of(guest.command(pcr_read(9, kSha384))).empty());
    }
}

/// Each subset of the banks, on a TPM that was made with all three.
class EveryChoiceOfBanks : public ::testing::TestWithParam<std::uint32_t> {
protected:
    static bool chosen(std::uint16_t bank, std::uint32_t banks)
    {
        return (banks & (bank == kSha1     ? BANYAN_VTPM_SHA1
                         : bank == kSha256 ? BANYAN_VTPM_SHA256
                                           : BANYAN_VTPM_SHA384)) != 0;
    }
};

TEST_P(EveryChoiceOfBanks, HoldsFromPowerOnAndAgainstTheGuest)
{
    Machine machine;
    banyan_vtpm_instance_config config = config_of(BANYAN_VTPM_CRB);
    config.banks = GetParam();
    ASSERT_EQ(banyan_vtpm_configure(machine.vtpm, 0, &config), 0);
    CrbGuest guest(machine.vtpm);
    Bytes keys;
    for (int cycle = 0; cycle < 3; ++cycle) {
        ASSERT_TRUE(machine.power(0)) << machine.describe();
        ASSERT_EQ(machine.launch(0, some_block(4097)), 0);
        for (const std::uint16_t bank : {kSha1, kSha256, kSha384}) {
            const Bytes digest = hash(bank, some_block(4097));
            const Bytes seen = digest_of(guest.command(pcr_read(17, bank)));
            if (chosen(bank, GetParam())) {
                EXPECT_EQ(seen, extended(bank, Bytes(digest.size(), 0), digest)) << bank;
            } else {
                EXPECT_TRUE(seen.empty()) << bank;
            }
        }
        const Bytes key = guest.command(tpm_command(0x8001, 0x173, {0x81, 0x01, 0x00, 0x16}));
        EXPECT_EQ(code_of(key), 0U);
        EXPECT_TRUE(keys.empty() || keys == key) << "the TPM is the same";
        keys = key;
        // Software with platform authorization asks for SHA-512 alone; after the next power-on it has what was chosen.
        Bytes body;
        put32(body, 0x4000000c);
        const Bytes area = auth_area();
        body.insert(body.end(), area.begin(), area.end());
        put32(body, 4);
        for (const std::uint16_t bank : {kSha1, kSha256, kSha384, std::uint16_t{0x000d}}) {
            put16(body, bank);
            body.push_back(3);
            body.insert(body.end(), 3, bank == 0x000d ? 0xff : 0);
        }
        EXPECT_EQ(code_of(guest.command(tpm_command(0x8002, 0x12b, body))), 0U);
        EXPECT_EQ(code_of(guest.command(shutdown(0))), 0U);
    }
}

INSTANTIATE_TEST_SUITE_P(Subsets, EveryChoiceOfBanks, ::testing::Range(1U, 8U));

TEST(Configuration, IsTakenWhileTheInstanceIsOffAlone)
{
    Machine machine;
    const banyan_vtpm_instance_config config = config_of(BANYAN_VTPM_CRB);
    ASSERT_TRUE(machine.power(0));
    EXPECT_LT(banyan_vtpm_configure(machine.vtpm, 0, &config), 0);
    Guest guest(machine.vtpm);
    EXPECT_EQ(code_of(guest.command(get_random(4))), 0U) << "still the FIFO";
    ASSERT_EQ(banyan_vtpm_power_off(machine.vtpm, 0), 0);
    EXPECT_EQ(machine.settle(0), BANYAN_VTPM_OFF);
    EXPECT_EQ(banyan_vtpm_configure(machine.vtpm, 0, &config), 0);
    ASSERT_TRUE(machine.power(0));
    CrbGuest other(machine.vtpm);
    EXPECT_EQ(code_of(other.command(get_random(4))), 0U);
}

TEST(Configuration, ThatMakesNoSenseIsRefused)
{
    Machine machine;
    const auto refused = [&](auto change) {
        banyan_vtpm_instance_config config = config_of(BANYAN_VTPM_CRB);
        change(config);
        return banyan_vtpm_configure(machine.vtpm, 0, &config) < 0;
    };
    EXPECT_TRUE(refused([](auto &c) { c.size = 8; }));
    EXPECT_TRUE(refused([](auto &c) { c.interface = 2; }));
    EXPECT_TRUE(refused([](auto &c) { c.banks = 8; }));
    EXPECT_TRUE(refused([](auto &c) { c.reserved = 1; }));
    EXPECT_TRUE(refused([](auto &c) { c.window = 0xfed4'0001; }));
    EXPECT_TRUE(refused([](auto &c) { c.interrupts = 1; })) << "nothing is wired";
    EXPECT_LT(banyan_vtpm_configure(machine.vtpm, 0, nullptr), 0);
    const banyan_vtpm_instance_config good = config_of(BANYAN_VTPM_CRB);
    EXPECT_LT(banyan_vtpm_configure(machine.vtpm, 1, &good), 0);
}

TEST(Configuration, IsReadFromACommandLinesWords)
{
    banyan_vtpm_instance_config config = config_of(BANYAN_VTPM_TIS);
    config.banks = BANYAN_VTPM_SHA1;
    EXPECT_EQ(banyan_vtpm_parse(&config, nullptr, nullptr), 0);
    EXPECT_EQ(config.banks, BANYAN_VTPM_SHA1);
    EXPECT_EQ(banyan_vtpm_parse(&config, "crb", "sha256+sha384"), 0);
    EXPECT_EQ(config.interface, BANYAN_VTPM_CRB);
    EXPECT_EQ(config.banks, std::uint32_t{BANYAN_VTPM_SHA256 | BANYAN_VTPM_SHA384});
    for (const char *bad : {"", "+", "sha256+", "+sha1", "sha512", "sha1,sha256", "SHA1"}) {
        EXPECT_LT(banyan_vtpm_parse(&config, "tis", bad), 0) << bad;
    }
    for (const char *bad : {"", "fifo", "crb "}) {
        EXPECT_LT(banyan_vtpm_parse(&config, bad, "sha1"), 0) << bad;
    }
    EXPECT_EQ(config.interface, BANYAN_VTPM_CRB) << "what is refused changes nothing";
    config.size = 4;
    EXPECT_LT(banyan_vtpm_parse(&config, "tis", nullptr), 0);
}

TEST(Configuration, VendorAndWindowAreTheMachinesChoice)
{
    Machine machine;
    banyan_vtpm_instance_config config = config_of(BANYAN_VTPM_CRB);
    config.did_vid = 0x3204'1114;
    config.window = 0x1'fee0'0000;
    ASSERT_EQ(banyan_vtpm_configure(machine.vtpm, 0, &config), 0);
    ASSERT_TRUE(machine.power(0));
    CrbGuest guest(machine.vtpm);
    EXPECT_EQ(guest.read(0, crb::Reg::kIntfIdHigh), 0x3204'1114U);
    for (unsigned l = 0; l < 5; ++l) {
        const std::uint64_t buffer = 0x1'fee0'0080 + l * 0x1000U;
        EXPECT_EQ(guest.read(l, crb::Reg::kCtrlCmdLaddr), static_cast<std::uint32_t>(buffer));
        EXPECT_EQ(guest.read(l, crb::Reg::kCtrlCmdHaddr), 1U);
        EXPECT_EQ(guest.read_at(l, static_cast<std::uint32_t>(crb::Reg::kCtrlRspAddr), 8), buffer);
    }
}

/// What the firmware of a machine does before anything else runs. PCR 0 is computed here, from the bytes.
class HCrtm : public ::testing::TestWithParam<banyan_vtpm_interface> {
protected:
    void SetUp() override
    {
        const banyan_vtpm_instance_config config = config_of(GetParam());
        ASSERT_EQ(banyan_vtpm_configure(machine.vtpm, 0, &config), 0);
    }
    Bytes command(const Bytes &bytes)
    {
        return GetParam() == BANYAN_VTPM_CRB ? crb_guest.command(bytes) : tis_guest.command(bytes);
    }
    bool established()
    {
        return GetParam() == BANYAN_VTPM_CRB
                   ? !crb::LocState::TpmEstablished::get(crb_guest.read(0, crb::Reg::kLocState))
                   : !tis::Access::TpmEstablishment::get(tis_guest.read(0, tis::Reg::kAccess, 1));
    }

    Machine machine;
    CrbGuest crb_guest{machine.vtpm};
    Guest tis_guest{machine.vtpm};
};

TEST_P(HCrtm, ExtendsPcr0FromFourBeforeStartup)
{
    const Bytes firmware = some_block(10000);
    for (int cycle = 0; cycle < 2; ++cycle) {
        ASSERT_TRUE(machine.power_held(0)) << machine.describe();
        EXPECT_EQ(tis_guest.read(0, tis::Reg::kAccess, 1), 0U) << "software is to come again";
        EXPECT_EQ(tis_guest.read(0, tis::Reg::kDidVid), 0xffff'ffffU);
        ASSERT_EQ(machine.launch(0, firmware), 0) << machine.describe();
        ASSERT_EQ(banyan_vtpm_instance_state(machine.vtpm, 0), BANYAN_VTPM_READY) << machine.describe();
        for (const std::uint16_t bank : {kSha1, kSha256, kSha384}) {
            const Bytes digest = hash(bank, firmware);
            Bytes four(digest.size(), 0);
            four.back() = 4;
            EXPECT_EQ(digest_of(command(pcr_read(0, bank))), extended(bank, four, digest)) << bank;
            EXPECT_EQ(digest_of(command(pcr_read(17, bank))), Bytes(digest.size(), 0xff));
        }
        EXPECT_FALSE(established()) << "not a dynamic launch";
        EXPECT_EQ(code_of(command(startup(0))), 0x100U) << "the chip has done it";
    }
    ASSERT_EQ(machine.launch(0, some_block(9)), 0);
    EXPECT_TRUE(established());
    EXPECT_EQ(digest_of(command(pcr_read(17))), extended(kSha256, Bytes(32, 0), hash(kSha256, some_block(9))));
    // The next power-on without it knows nothing of it.
    ASSERT_TRUE(machine.power(0));
    EXPECT_EQ(digest_of(command(pcr_read(0))), Bytes(32, 0));
}

TEST_P(HCrtm, OutlivesAWorkerThatDiesAfterIt)
{
    ASSERT_TRUE(machine.power_held(0)) << machine.describe();
    ASSERT_EQ(machine.launch(0, some_block(77)), 0);
    const Bytes before = command(pcr_read(0));
    ASSERT_EQ(code_of(before), 0U);
    ASSERT_TRUE(end_process(last_worker()));
    for (int look = 0; look < 5000 && machine.json().find("\"restarts\":1") == std::string::npos; ++look) {
        EXPECT_EQ(machine.settle(0), BANYAN_VTPM_READY);
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    EXPECT_EQ(digest_of(command(pcr_read(0))), digest_of(before));
}

TEST_P(HCrtm, AnEmptySequenceCountsToo)
{
    ASSERT_TRUE(machine.power_held(0)) << machine.describe();
    ASSERT_EQ(machine.launch(0, {}), 0);
    Bytes four(32, 0);
    four.back() = 4;
    EXPECT_EQ(digest_of(command(pcr_read(0))), extended(kSha256, four, hash(kSha256, {})));
}

TEST_P(HCrtm, ThatIsBrokenOffFailsTheInstance)
{
    for (const bool killed : {false, true}) {
        ASSERT_TRUE(machine.power_held(0)) << machine.describe();
        ASSERT_EQ(machine.drtm(0, BANYAN_DRTM_START), 0);
        ASSERT_EQ(machine.drtm(0, BANYAN_DRTM_DATA, some_block(100)), 0);
        if (killed) {
            ASSERT_TRUE(end_process(last_worker()));
            EXPECT_LT(machine.drtm(0, BANYAN_DRTM_END), 0);
        } else {
            EXPECT_LT(machine.drtm(0, BANYAN_DRTM_ABORT), 0);
        }
        EXPECT_EQ(machine.settle(0), BANYAN_VTPM_FAILED);
        EXPECT_EQ(code_of(command(pcr_read(0))), 0x101U);
    }
    ASSERT_TRUE(machine.power(0));
    EXPECT_EQ(digest_of(command(pcr_read(0))), Bytes(32, 0));
}

TEST_P(HCrtm, AWorkerThatDiesBeforeItFailsTheInstance)
{
    ASSERT_TRUE(machine.power_held(0)) << machine.describe();
    ASSERT_TRUE(end_process(last_worker()));
    for (int look = 0; look < 5000 && machine.settle(0) != BANYAN_VTPM_FAILED; ++look) {
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    EXPECT_EQ(machine.settle(0), BANYAN_VTPM_FAILED);
}

INSTANTIATE_TEST_SUITE_P(Interfaces, HCrtm, ::testing::Values(BANYAN_VTPM_TIS, BANYAN_VTPM_CRB));

TEST(HCrtmUnderIcount, APollWaitsForTheStartup)
{
    Machine machine({.deterministic = true});
    ASSERT_EQ(banyan_vtpm_power_on_held(machine.vtpm, 0), 0);
    ASSERT_EQ(banyan_vtpm_instance_state(machine.vtpm, 0), BANYAN_VTPM_HELD) << "the first look waits";
    ASSERT_EQ(banyan_vtpm_drtm(machine.vtpm, 0, BANYAN_DRTM_START, nullptr, 0), 0);
    ASSERT_EQ(banyan_vtpm_drtm_poll(machine.vtpm, 0), 0);
    ASSERT_EQ(banyan_vtpm_drtm(machine.vtpm, 0, BANYAN_DRTM_END, nullptr, 0), 0);
    ASSERT_EQ(banyan_vtpm_drtm_poll(machine.vtpm, 0), 0);
    EXPECT_EQ(banyan_vtpm_instance_state(machine.vtpm, 0), BANYAN_VTPM_READY);
}

/// A guest that looks at its line alone.
TEST(InterruptLine, TellsACrbDriverThatTheResponseIsThere)
{
    Machine machine({.instances = 2, .sync_bound_ns = 0, .wired = true});
    banyan_vtpm_instance_config config = config_of(BANYAN_VTPM_CRB);
    config.interrupts = 1;
    ASSERT_EQ(banyan_vtpm_configure(machine.vtpm, 0, &config), 0);
    ASSERT_TRUE(machine.power(0));
    CrbGuest guest(machine.vtpm);
    ASSERT_TRUE(guest.request(0));
    guest.write(0, crb::Reg::kIntEnable, crb::IntEnable::Start::kMask | crb::IntEnable::GlobalInterruptEnable::kMask);
    ASSERT_TRUE(guest.command_ready(0));
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(machine.irq[0], 0);
        guest.send(0, create_primary_rsa());
        for (int look = 0; look < 20000 && machine.irq[0] == 0; ++look) { // the host's look, not the guest's
            EXPECT_EQ(banyan_vtpm_instance_state(machine.vtpm, 0), BANYAN_VTPM_READY);
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
        EXPECT_EQ(machine.irq[0], 1);
        EXPECT_FALSE(crb::CtrlStart::Start::get(guest.read(0, crb::Reg::kCtrlStart)));
        EXPECT_EQ(guest.read(0, crb::Reg::kIntSts), crb::IntEnable::Start::kMask);
        EXPECT_EQ(machine.irq[0], 1) << "a level";
        guest.write(0, crb::Reg::kIntSts, crb::IntEnable::Start::kMask);
        EXPECT_EQ(machine.irq[0], 0);
        const Bytes made = guest.receive(0);
        ASSERT_EQ(code_of(made), 0U);
        EXPECT_EQ(code_of(guest.transmit(0, flush(made))), 0U);
        guest.write(0, crb::Reg::kIntSts, crb::IntEnable::Start::kMask);
    }
    EXPECT_EQ(machine.irq[1], 0) << "the other instance's line";
    guest.send(0, get_random(4));
    ASSERT_TRUE(guest.complete(0));
    EXPECT_EQ(machine.irq[0], 1);
    ASSERT_EQ(banyan_vtpm_power_off(machine.vtpm, 0), 0);
    EXPECT_EQ(machine.irq[0], 0) << "no power, no line";
}

} // namespace
} // namespace banyan::vtpm::testing
