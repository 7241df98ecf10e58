// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tool/plan.hpp"

namespace banyan::tool {

/// Names in the run folder, which is QEMU's working folder: short, without spaces and commas, whatever the user's
/// files are called.
namespace run_file {
inline constexpr const char *kQmp = "qmp.sock";
inline constexpr const char *kManagement = "mgmt.sock";
inline constexpr const char *kHypervisor = "hypervisor.elf"; // symbolic links from here on
inline constexpr const char *kEvidence = "evidence";         // the evidence folder
std::string agent(unsigned domain);                          // socket
std::string module(std::size_t index);
} // namespace run_file

struct QemuOptions {
    std::filesystem::path qemu;
    std::filesystem::path engine;                // banyan-vtpm-engine
    std::vector<std::filesystem::path> firmware; // searched in order
    std::vector<std::string> extra;              // arguments at the end
};

std::vector<std::string> qemu_command(const Plan &plan, const QemuOptions &options);

/// Where QEMU finds its firmware on this host: build/qemu/firmware-dirs if there, else Debian's folders.
std::vector<std::filesystem::path> firmware_folders(const Places &places);

/// Lays out the run folder: links to the files, and the modules that were made here.
Outcome<void> fill_run_folder(const Plan &plan, const std::filesystem::path &folder,
                              const std::filesystem::path &evidence);

} // namespace banyan::tool
