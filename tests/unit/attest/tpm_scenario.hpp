// SPDX-License-Identifier: GPL-2.0-or-later
// One power-on of one vTPM without an emulator: libtpms in a throw-away process plays what chip, processor, loader and
// Linux would make it do, and hands back what tpm2-tools would have written.
#pragma once

#include <functional>
#include <vector>

#include "attest/banks.hpp"
#include "attest/quote.hpp"
#include "vtpm/engine/tpm_life.hpp"

namespace banyan::attest::testing {

/// Runs `work` in a child process and gives back its bytes; throws if it failed.
Bytes in_child(const std::function<Bytes()> &work);

/// Commands to the TPM of this process; a refused one throws.
class Tpm {
public:
    void power_on(const Bytes &permanent, std::uint16_t startup_type = 0); // TPM_SU_CLEAR; 1: TPM_SU_STATE
    Bytes power_off(bool save_state = false);                              // the permanent state
    void hash_sequence(View data);                                         // D-RTM, from locality 4
    void extend(std::uint8_t locality, unsigned pcr, const Digests &digests);
    Bytes pcr_read(Bank bank, unsigned pcr);
    Bytes nv_read(std::uint32_t index);

    struct Quoted {
        Bytes message;
        Bytes signature;
    };
    Quoted quote(std::uint32_t handle, View nonce, const PcrSelections &selections);
    PcrFile read_pcrs(const PcrSelections &selections);
    /// Whole command bytes, for what serves others; never throws.
    Bytes raw(std::uint8_t locality, View command) { return life_.execute(locality, command); }

private:
    Bytes command(std::uint8_t locality, std::uint32_t code, const std::vector<std::uint32_t> &handles,
                  unsigned sessions, View parameters);
    vtpm::TpmLife life_;
};

/// What a launch does to it.
struct Extension {
    unsigned pcr;
    Digests digests;
};

struct Scenario {
    Bytes permanent;
    bool launch = true;
    Bytes slb;
    std::vector<Extension> after_launch; // by the loader, at locality 2
    bool ima = true;                     // Linux: boot_aggregate into PCR 10
    std::vector<Extension> by_linux;     // at locality 0
    Bytes nonce;
    PcrSelections selections{{Bank::kSha256, 0xffffff}, {Bank::kSha384, 0xffffff}};
    /// An earlier life that ends with TPM2_Shutdown(STATE), after which the TPM is started with Startup(STATE).
    std::vector<Extension> earlier_life;
};

struct Outcome {
    Bytes quote_msg;
    Bytes quote_sig;
    Bytes pcrs; // pcrs.bin
    Bytes ek_crt;
    Bytes ek_rsa_crt;
    Bytes iak_crt;
};

/// Puts the TPM of this process where the scenario leaves it.
void play(Tpm &tpm, const Scenario &scenario);
/// In a child: plays, quotes, reads certificates.
Outcome run(const Scenario &scenario);

/// As Debian 6.1 extends PCR 10.
Digests boot_aggregate_as_debian_6_1();

} // namespace banyan::attest::testing
