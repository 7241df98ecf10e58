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

/// Commands to a TPM, however it is reached; a refused one throws.
class TpmCommands {
public:
    TpmCommands() = default;
    TpmCommands(const TpmCommands &) = delete;
    TpmCommands &operator=(const TpmCommands &) = delete;
    virtual ~TpmCommands() = default;

    void startup(std::uint16_t type);
    void shutdown(std::uint16_t type);
    void extend(std::uint8_t locality, unsigned pcr, const Digests &digests);
    Bytes pcr_read(Bank bank, unsigned pcr);
    Bytes nv_read(std::uint32_t index);

    struct Quoted {
        Bytes message;
        Bytes signature;
    };
    Quoted quote(std::uint32_t handle, View nonce, const PcrSelections &selections);
    PcrFile read_pcrs(const PcrSelections &selections);

    /// Whole command bytes; never throws.
    virtual Bytes execute(std::uint8_t locality, const Bytes &command) = 0;

private:
    Bytes command(std::uint8_t locality, std::uint32_t code, const std::vector<std::uint32_t> &handles,
                  unsigned sessions, View parameters);
};

/// The TPM of this process.
class Tpm : public TpmCommands {
public:
    void power_on(const Bytes &permanent, std::uint16_t startup_type = 0); // TPM_SU_CLEAR; 1: TPM_SU_STATE
    Bytes power_off(bool save_state = false);                              // the permanent state
    void hash_sequence(View data);                                         // D-RTM, from locality 4
    Bytes execute(std::uint8_t locality, const Bytes &command) override { return life_.execute(locality, command); }

private:
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
/// Quotes and reads the certificates, as the agent in a VM does.
Outcome collect_outcome(TpmCommands &tpm, View nonce, const PcrSelections &selections);
/// In a child: plays, and collects.
Outcome run(const Scenario &scenario);

/// As Debian 6.1 extends PCR 10.
Digests boot_aggregate_as_debian_6_1();

} // namespace banyan::attest::testing
