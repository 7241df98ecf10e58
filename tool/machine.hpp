// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "attest/banks.hpp"
#include "attest/reference.hpp"
#include "tool/exit_status.hpp"

// The machine file: which VMs an owner wants. Specification: docs/spec/machine-file.md.

namespace banyan::tool {

enum class OnReboot { kStop, kRestart };

/// What one TPM of a VM looks like: docs/spec/vtpm.md, section 1.
struct MachineTpm {
    bool crb = false;                     // else a FIFO
    std::vector<attest::Bank> banks;      // none: all that there are
    std::optional<std::uint32_t> did_vid; // none: the chip's

    friend bool operator==(const MachineTpm &, const MachineTpm &) = default;
};

struct MachineVm {
    std::string name;
    std::uint64_t memory = 0;          // bytes
    std::optional<std::uint64_t> base; // physical address of its RAM, when the file gives one
    std::string kernel_label;          // as the file writes it
    std::filesystem::path kernel;
    std::filesystem::path initrd;
    std::filesystem::path loader; // secure loader block
    std::filesystem::path stage0;
    std::string command_line;
    OnReboot on_reboot = OnReboot::kStop;
    std::vector<MachineTpm> tpms = std::vector<MachineTpm>(1); // /dev/tpm0 and on; the first is the launch's
};

struct Machine {
    std::filesystem::path file;
    std::string name;
    unsigned cores = 0;                        // of the emulated server; core 0 is the hypervisor's
    std::filesystem::path hypervisor;          // multiboot image
    std::filesystem::path hypervisor_slb;      // what SKINIT measures on the bare core
    std::filesystem::path platform_private;    // keys and vTPM state; the verifier never reads it
    std::filesystem::path platform_public;     // trust anchors
    std::optional<std::uint64_t> hash_rate;    // bytes per second of the bus between core and vTPM; 0: not modelled
    std::optional<std::string> launch_arbiter; // "parallel" or "serial"
    std::vector<std::string> accept_insecure;
    std::vector<MachineVm> vms; // VM k of the file (from 1) is domain k
};

/// Where the names `banyan:…` and `debian:…` lead.
struct Places {
    std::filesystem::path bin;    // our programs
    std::filesystem::path share;  // hypervisor, loader, stage 0, initrds
    std::filesystem::path images; // kernels by flavour

    /// bin/, and share/banyan/ and images/ beside it. BANYAN_BUILD_DIR in the environment comes first.
    static Places of_executable();
};

/// Reads and checks a machine file. An error is one sentence; where it can be, it begins with FILE:LINE:COLUMN.
/// Files that the machine file names must be readable.
Outcome<Machine> read_machine(const std::filesystem::path &file, const Places &places);

/// As read_machine, for text at hand; `file` is its name in messages and the base of relative paths.
Outcome<Machine> parse_machine(std::string_view text, const std::filesystem::path &file, const Places &places);

/// As read_machine with Places::of_executable(), for callers that need no exit status.
tl::expected<Machine, std::string> load_machine(const std::filesystem::path &file);

/// What a verifier must see of each VM, computed from the files that the machine file names and from nothing else.
tl::expected<std::vector<attest::VmReference>, std::string> references(const Machine &machine);

} // namespace banyan::tool
