// SPDX-License-Identifier: GPL-2.0-or-later
// Many instances at once. The long runs: BANYAN_TEST_INSTANCES=1000 vtpm_scale_test.
#include <cstdlib>
#include <set>
#include <sys/resource.h>

#include "tests/unit/vtpm/processes.hpp"
#include "tests/unit/vtpm/vtpm_machine.hpp"

namespace banyan::vtpm::testing {
namespace {

std::uint32_t how_many()
{
    const char *wanted = std::getenv("BANYAN_TEST_INSTANCES");
    return wanted != nullptr ? static_cast<std::uint32_t>(std::atoi(wanted)) : 40;
}

/// The domain that asks, of one instance after another.
Bytes ask(Machine &machine, std::uint32_t instance, const Bytes &command)
{
    (void)banyan_vtpm_unbind(machine.vtpm, 0); // which has instance 0 from the start
    EXPECT_EQ(banyan_vtpm_bind(machine.vtpm, 15, instance), 0);
    Guest guest(machine.vtpm, 15);
    Bytes answer = guest.command(command);
    EXPECT_EQ(banyan_vtpm_unbind(machine.vtpm, 15), 0);
    return answer;
}

Bytes read_public(std::uint32_t handle)
{
    Bytes body;
    put32(body, handle);
    return tpm_command(0x8001, 0x173, body);
}

/// Creates a primary key of the endorsement hierarchy from a template of its own: a function of the seed.
Bytes seed_witness()
{
    Bytes body;
    put32(body, 0x4000000b); // TPM_RH_ENDORSEMENT
    const Bytes area = auth_area();
    body.insert(body.end(), area.begin(), area.end());
    put16(body, 4);
    put32(body, 0);
    Bytes tmpl;
    put16(tmpl, 0x0023);     // ECC
    put16(tmpl, 0x000b);     // SHA-256
    put32(tmpl, 0x00040472); // signing key
    put16(tmpl, 0);
    put16(tmpl, 0x0010); // no symmetric algorithm
    put16(tmpl, 0x0018); // ECDSA, SHA-256
    put16(tmpl, 0x000b);
    put16(tmpl, 0x0003); // P-256
    put16(tmpl, 0x0010);
    put16(tmpl, 0);
    put16(tmpl, 0);
    put16(body, static_cast<std::uint32_t>(tmpl.size()));
    body.insert(body.end(), tmpl.begin(), tmpl.end());
    put16(body, 0);
    put32(body, 0);
    return tpm_command(0x8002, 0x131, body);
}

TEST(ManyInstances, StartAtOnceAndShareNeitherKeysNorSeedsNorRandomNumbers)
{
    const std::uint32_t many = how_many();
    Machine machine({.instances = many});
    ASSERT_EQ(machine.status, 0) << machine.why;
    for (std::uint32_t i = 0; i < many; ++i) {
        ASSERT_EQ(banyan_vtpm_power_on(machine.vtpm, i), 0) << i;
    }
    std::set<Bytes> keys;
    std::set<Bytes> seeds;
    std::set<Bytes> numbers;
    for (std::uint32_t i = 0; i < many; ++i) {
        banyan_vtpm_state state = machine.settle(i);
        for (int more = 0; more < 20 && state == BANYAN_VTPM_STARTING; ++more) {
            state = machine.settle(i);
        }
        ASSERT_EQ(state, BANYAN_VTPM_READY) << i << machine.describe();
        for (const std::uint32_t handle : {0x81010001U, 0x81010016U, 0x81010100U}) {
            const Bytes key = ask(machine, i, read_public(handle));
            EXPECT_EQ(code_of(key), 0U) << i;
            keys.insert(key);
        }
        const Bytes primary = ask(machine, i, seed_witness());
        ASSERT_EQ(code_of(primary), 0U) << i;
        // handle, parameterSize, then TPM2B_PUBLIC
        seeds.insert(Bytes(primary.begin() + 18, primary.begin() + 18 + 2 + load_be16(primary, 18)));
        EXPECT_EQ(code_of(ask(machine, i, flush(primary))), 0U);
        for (int n = 0; n < 4; ++n) {
            numbers.insert(ask(machine, i, get_random(32)));
        }
    }
    EXPECT_EQ(keys.size(), 3U * many);
    EXPECT_EQ(seeds.size(), many);
    EXPECT_EQ(numbers.size(), 4U * many);
    // All of them, once more: alive while the others worked.
    for (std::uint32_t i = 0; i < many; ++i) {
        EXPECT_EQ(code_of(ask(machine, i, pcr_extend(16, 1))), 0U) << i;
    }
}

TEST(ManyInstances, AreAsManyAsTheInterfaceSays)
{
    Machine machine({.instances = 1024});
    ASSERT_EQ(machine.status, 0) << machine.why;
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    EXPECT_GE(files.rlim_cur, std::min<rlim_t>(files.rlim_max, 3 * 1024 + 100));
    ASSERT_TRUE(machine.power(1023)) << machine.describe();
    EXPECT_EQ(code_of(ask(machine, 1023, get_random(8))), 0U);
    ASSERT_EQ(banyan_vtpm_erase(machine.vtpm, 1023), 0);
    EXPECT_EQ(machine.settle(1023), BANYAN_VTPM_ABSENT);
    ASSERT_TRUE(machine.power(959)) << "64 below: its own erasure, not that of another";
    EXPECT_LT(banyan_vtpm_power_on(machine.vtpm, 1023), 0);

    const Machine more({.instances = 1025});
    EXPECT_LT(more.status, 0);
    EXPECT_NE(more.why.find("1 to 1024"), std::string::npos) << more.why;
}

} // namespace
} // namespace banyan::vtpm::testing
