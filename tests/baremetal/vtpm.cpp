// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/domain.hpp"
#include "tests/baremetal/lib/launch.hpp"
#include "tests/baremetal/lib/tpm.hpp"

// The vTPM's window from inside domains: whose instance it is, and what software cannot make it do.

using namespace banyan;
using namespace banyan::bare;

namespace {

u8 pcr_byte(u32 locality, u32 pcr, u32 index = 0)
{
    u8 value[48];
    BANYAN_EXPECT_EQ(tpm::pcr_read(locality, pcr, tpm::kSha256, value), 0);
    return value[index];
}

/// All 32 bytes are `value`.
void expect_pcr_filled(u32 pcr, u8 value)
{
    u8 digest[48];
    BANYAN_EXPECT_EQ(tpm::pcr_read(0, pcr, tpm::kSha256, digest), 0);
    for (u32 i = 0; i < 32; ++i) {
        BANYAN_EXPECT_EQ(digest[i], value);
    }
}

void run_in_domain(GuestMain main)
{
    Domain d(1, main);
    d.run();
}

} // namespace

// The chip has started the instance; PCR 10 is zero, PCR 17 ones: there was no launch.
BANYAN_SELFTEST(a_new_life_begins_with_a_started_tpm)
{
    run_in_domain([](u64) {
        BANYAN_EXPECT(tpm::request(0));
        expect_pcr_filled(10, 0);
        expect_pcr_filled(17, 0xFF);
        BANYAN_EXPECT_EQ(tpm::startup(0, 0), 0x100); // TPM_RC_INITIALIZE: it is started already
    });
}

// The registers that begin, feed and end a launch measurement are the processor's: software writes them at locality 4, and
// at all others, in every width.
BANYAN_SELFTEST(software_cannot_begin_a_launch_measurement)
{
    const GuestMain attack = [](u64) {
        for (u32 locality = 0; locality < 5; ++locality) {
            for (const u32 reg : {tpm::kHashStart, tpm::kHashData, tpm::kHashEnd, tpm::kHashStart}) {
                if (locality < 4 && reg == tpm::kHashData) {
                    continue; // the FIFO there
                }
                write<u8>(tpm::at(locality, reg), 0);
                write<u32>(tpm::at(locality, reg), 0);
                write<u64>(tpm::at(locality, reg & ~7u), 0);
            }
        }
        for (u32 i = 0; i < 64; ++i) {
            write<u32>(tpm::at(4, tpm::kHashData), i);
        }
        write<u8>(tpm::at(4, tpm::kHashEnd), 0);
        BANYAN_EXPECT(tpm::request(0));
        expect_pcr_filled(17, 0xFF);
    };
    run_in_domain(attack);
    attack(0); // the host's instance 0 is as well guarded
    tpm::relinquish(0);
}

BANYAN_SELFTEST(software_cannot_have_locality_4)
{
    run_in_domain([](u64) {
        write<u8>(tpm::at(4, tpm::kAccess), tpm::kRequestUse);
        spin(5 * kMillisecond);
        const u8 first = tpm::access(4);
        BANYAN_EXPECT(first == 0xFF || (first & tpm::kActive) == 0);
        write<u8>(tpm::at(4, tpm::kAccess), tpm::kSeize);
        spin(5 * kMillisecond);
        const u8 second = tpm::access(4);
        BANYAN_EXPECT(second == 0xFF || (second & tpm::kActive) == 0);
        BANYAN_EXPECT(tpm::request(0)); // and it is in nobody's way
        expect_pcr_filled(17, 0xFF);
    });
}

// A launched domain's PCR 17 can be extended at locality 2 and not at 0; its PCR 17 cannot be reset by software.
BANYAN_SELFTEST(launch_pcrs_obey_the_locality)
{
    run_in_domain([](u64) {
        make_block(kSlb, 0x200);
        launch();
        BANYAN_EXPECT(tpm::request(0));
        const u8 launched = pcr_byte(0, 17, 5);
        BANYAN_EXPECT(tpm::pcr_extend(0, 17, 0x11) != 0);
        BANYAN_EXPECT(tpm::pcr_extend(0, 18, 0x11) != 0);
        BANYAN_EXPECT_EQ(pcr_byte(0, 17, 5), launched);
        tpm::relinquish(0);
        BANYAN_EXPECT(tpm::request(2));
        u8 before[48], after[48];
        BANYAN_EXPECT_EQ(tpm::pcr_read(2, 17, tpm::kSha256, before), 0);
        BANYAN_EXPECT_EQ(tpm::pcr_extend(2, 17, 0x11), 0);
        BANYAN_EXPECT_EQ(tpm::pcr_read(2, 17, tpm::kSha256, after), 0);
        u32 same = 0;
        for (u32 i = 0; i < 32; ++i) {
            same += before[i] == after[i] ? 1 : 0;
        }
        BANYAN_EXPECT(same < 16);
    });
}

// Three domains and the host extend PCR 10 of the TPM that they see at one address, at the same time, each with its own
// value. Passes if each finds its own extensions alone.
BANYAN_SELFTEST(every_domain_has_a_tpm_of_its_own)
{
    const GuestMain main = [](u64 argument) {
        BANYAN_EXPECT(tpm::request(0));
        expect_pcr_filled(10, 0);
        guest::signal(1);
        guest::await(2);
        for (u32 i = 0; i < 5; ++i) {
            BANYAN_EXPECT_EQ(tpm::pcr_extend(0, 10, static_cast<u8>(argument)), 0);
        }
        u8 value[48];
        BANYAN_EXPECT_EQ(tpm::pcr_read(0, 10, tpm::kSha256, value), 0);
        for (u32 i = 0; i < 32; ++i) {
            guest::result(i, value[i]);
        }
    };
    Domain one(1, main, 0x11), two(2, main, 0x22), three(3, main, 0x33);
    Domain *const all[] = {&one, &two, &three};
    for (Domain *d : all) {
        d->start();
        d->await(1);
    }
    for (Domain *d : all) {
        d->signal(2);
    }
    BANYAN_EXPECT(tpm::request(0));
    expect_pcr_filled(10, 0); // the host's
    tpm::relinquish(0);
    u8 fill = 0;
    for (Domain *d : all) {
        fill = static_cast<u8>(fill + 0x11);
        d->wait();
        const dt::EndReason why = d->reason();
        d->remove();
        BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
        for (u32 i = 0; i < 32; i += 5) {
            BANYAN_EXPECT_EQ(d->result(i), ask("extended 5 ", u64{fill}, " ", u64{i}));
        }
    }
}

// Domain 1 has instances 1 and 3, domain 2 has instance 2 alone. Passes if the further window of domain 1 holds a TPM of its
// own, which a launch does not reach and which each life begins anew, and if nobody else finds anything there.
BANYAN_SELFTEST(a_domains_further_window_holds_a_further_tpm)
{
    static constexpr u64 kSecond = dt::vtpm_window(1);
    static constexpr u64 kThird = dt::vtpm_window(2);
    const GuestMain main = [](u64) {
        BANYAN_EXPECT_EQ(read<u32>(kSecond + tpm::kDidVid), 0x0001'1014);
        BANYAN_EXPECT_EQ(read<u32>(kThird + tpm::kDidVid), ~0u);
        tpm::window = kSecond;
        BANYAN_EXPECT(tpm::request(0));
        expect_pcr_filled(10, 0);
        BANYAN_EXPECT_EQ(tpm::pcr_extend(0, 10, 0x55), 0);
        tpm::window = dt::kVtpmBase;
        BANYAN_EXPECT(tpm::request(0));
        expect_pcr_filled(10, 0);
        make_block(kSlb, 0x200);
        launch();
        BANYAN_EXPECT(tpm::request(0));
        BANYAN_EXPECT(pcr_byte(0, 17, 5) != 0xFF || pcr_byte(0, 17, 6) != 0xFF);
        tpm::window = kSecond;
        BANYAN_EXPECT_EQ(tpm::access(0) & (tpm::kActive | tpm::kBeenSeized), tpm::kActive);
        expect_pcr_filled(17, 0xFF);
    };
    Domain two(2, [](u64) {
        BANYAN_EXPECT_EQ(read<u32>(dt::kVtpmBase + tpm::kDidVid), 0x0001'1014);
        BANYAN_EXPECT_EQ(read<u32>(kSecond + tpm::kDidVid), ~0u);
        write<u8>(kSecond + tpm::kAccess, tpm::kSeize);
    });
    for (u32 life = 0; life < 2; ++life) {
        Domain one(1, main);
        one.descriptor().further_vtpms[0] = 3;
        one.start();
        BANYAN_EXPECT_EQ(read<u32>(kSecond + tpm::kDidVid), ~0u); // the host
        if (life == 0) {
            two.run();
            BANYAN_EXPECT_EQ(two.report("denied.mmio"), 2);
        }
        one.wait();
        BANYAN_EXPECT_EQ(one.reason(), dt::EndReason::kPoweroff);
        one.remove();
    }
}

// The guest extends PCR 10, saves the TPM's state with TPM2_Shutdown(STATE) and ends. In its next life, on the same instance,
// it asks for that state back by TPM2_Startup(STATE). Passes if nothing comes back.
BANYAN_SELFTEST(nothing_of_an_earlier_life_comes_back)
{
    run_in_domain([](u64) {
        make_block(kSlb, 0x200);
        launch();
        BANYAN_EXPECT(tpm::request(0));
        BANYAN_EXPECT_EQ(tpm::pcr_extend(0, 10, 0x77), 0);
        BANYAN_EXPECT_EQ(tpm::shutdown(0, 1), 0);
    });
    run_in_domain([](u64) {
        BANYAN_EXPECT(tpm::request(0));
        BANYAN_EXPECT(tpm::startup(0, 1) != 0);
        expect_pcr_filled(10, 0);
        expect_pcr_filled(17, 0xFF);
    });
}

// A higher locality takes the TPM over, a lower one waits its turn; who lost it can tell.
BANYAN_SELFTEST(localities_take_turns)
{
    run_in_domain([](u64) {
        BANYAN_EXPECT(tpm::request(0));
        write<u8>(tpm::at(2, tpm::kAccess), tpm::kRequestUse);
        spin(kMillisecond);
        BANYAN_EXPECT_EQ(tpm::access(2) & tpm::kActive, 0);
        BANYAN_EXPECT_EQ(tpm::access(0) & (tpm::kActive | tpm::kPendingRequest), tpm::kActive | tpm::kPendingRequest);
        tpm::relinquish(0);
        BANYAN_EXPECT(eventually([] { return (tpm::access(2) & tpm::kActive) != 0; }, kSecond));
        BANYAN_EXPECT_EQ(tpm::access(0) & tpm::kActive, 0);
        write<u8>(tpm::at(1, tpm::kAccess), tpm::kSeize); // a lower one cannot
        spin(kMillisecond);
        BANYAN_EXPECT_EQ(tpm::access(2) & tpm::kActive, tpm::kActive);
        write<u8>(tpm::at(3, tpm::kAccess), tpm::kSeize);
        BANYAN_EXPECT(eventually([] { return (tpm::access(3) & tpm::kActive) != 0; }, kSecond));
        BANYAN_EXPECT_EQ(tpm::access(2) & (tpm::kActive | tpm::kBeenSeized), tpm::kBeenSeized);
        u8 value[48];
        BANYAN_EXPECT_EQ(tpm::pcr_read(3, 10, tpm::kSha256, value), 0);
    });
}

// Commands whose size field lies, that are too long, too short, empty, that never end; reads of an answer that is not
// there. After each the TPM does a proper command.
BANYAN_SELFTEST(commands_of_hostile_size_harm_nobody)
{
    run_in_domain([](u64) {
        BANYAN_EXPECT(tpm::request(0));
        for (const u32 size : {0u, 1u, 9u, 10u, 11u, 4095u, 4096u, 4097u, 0xFFFFu, 0x7FFF'FFFFu, 0xFFFF'FFFFu}) {
            for (const u32 sent : {0u, 6u, 10u, 12u, 4200u}) {
                write<u8>(tpm::at(0, tpm::kStatus), tpm::kReady);
                BANYAN_EXPECT(tpm::wait_status(0, tpm::kReady));
                const u8 header[] = {0x80,
                                     0x01,
                                     static_cast<u8>(size >> 24),
                                     static_cast<u8>(size >> 16),
                                     static_cast<u8>(size >> 8),
                                     static_cast<u8>(size),
                                     0,
                                     0,
                                     1,
                                     0x44,
                                     0,
                                     0};
                for (u32 i = 0; i < sent; ++i) {
                    write<u8>(tpm::at(0, tpm::kFifo), i < sizeof header ? header[i] : 0x5A);
                }
                write<u8>(tpm::at(0, tpm::kStatus), tpm::kGo);
                spin(kMillisecond / 4);
                for (u32 i = 0; i < 64; ++i) {
                    (void)read<u32>(tpm::at(0, tpm::kFifo));
                }
            }
            expect_pcr_filled(10, 0);
        }
        // Every offset in every width: no access may do harm, and the instance answers afterwards.
        for (u32 locality = 0; locality < 5; ++locality) {
            for (u32 offset = 0; offset < 0x1000; offset += offset < 0x100 ? 1 : 0x3F) {
                (void)read<u8>(tpm::at(locality, offset));
                (void)read<u16>(tpm::at(locality, offset));
                (void)read<u32>(tpm::at(locality, offset));
                (void)read<u64>(tpm::at(locality, offset));
            }
        }
        expect_pcr_filled(10, 0);
    });
}

// The guest posts a command and ends at once, many times over. Passes if each next life has a TPM that answers.
BANYAN_SELFTEST(a_life_that_ends_in_the_middle_of_a_command_leaves_a_working_tpm)
{
    for (u32 life = 0; life < 5; ++life) {
        run_in_domain([](u64) {
            BANYAN_EXPECT(tpm::request(0));
            expect_pcr_filled(10, 0);
            BANYAN_EXPECT_EQ(tpm::pcr_extend(0, 10, 0x42), 0);
            const u8 command[] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, 0x20}; // GetRandom
            write<u8>(tpm::at(0, tpm::kStatus), tpm::kReady);
            BANYAN_EXPECT(tpm::wait_status(0, tpm::kReady));
            for (const u8 byte : command) {
                write<u8>(tpm::at(0, tpm::kFifo), byte);
            }
            write<u8>(tpm::at(0, tpm::kStatus), tpm::kGo);
        });
    }
}
