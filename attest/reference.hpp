// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tl/expected.hpp>

// Reference values: what a verifier predicts about a VM from the owner's files, before it has seen any evidence.

namespace banyan::attest {

/// A value, or one sentence that says what was tried, what happened, and what to do.
template <typename T>
using Expected = tl::expected<T, std::string>;

[[nodiscard]] inline tl::unexpected<std::string> problem(std::string text)
{
    return tl::unexpected<std::string>(std::move(text));
}

using Sha384 = std::array<std::uint8_t, 48>;

/// One digest in every active bank.
struct Digests {
    std::array<std::uint8_t, 20> sha1{};
    std::array<std::uint8_t, 32> sha256{};
    Sha384 sha384{};

    friend bool operator==(const Digests &, const Digests &) = default;
};

/// One event: extend(pcr, digests), bank by bank.
struct MeasuredItem {
    unsigned pcr = 0;
    std::uint32_t event_type = 0;
    std::string text;   // event text, without NUL: one of boot::kText...
    std::string source; // the file's path, or a description; refusals name it
    Digests digests;    // H_bank(the measured bytes)
};

/// What one VM must show.
struct VmReference {
    std::string name;
    std::uint32_t domain = 0;
    std::uint32_t instance = 0;
    std::string kernel;                       // label for tables
    Sha384 descriptor{};                      // SHA-384 of the dt::Descriptor that the machine file gives
    Sha384 hypervisor{};                      // SHA-384 of hypervisor.slb's measured bytes
    std::vector<MeasuredItem> items;          // in order of extension; the first is the SLB, by SKINIT, in PCR 17
    std::vector<std::string> accept_insecure; // names of enum banyan_insecure, "dma-drain"
};

/// Cannot fail, except by lack of memory.
Digests digest_bytes(std::span<const std::uint8_t> bytes);

/// Reads the file once, piece by piece.
Expected<Digests> digest_file(const std::filesystem::path &path);

/// The measured bytes of a secure loader block: the first `header.measured` bytes (boot::SlbHeader) of the file.
Expected<std::vector<std::uint8_t>> read_slb_measured(const std::filesystem::path &path);

/// An item whose bytes are at hand, or in a file.
MeasuredItem item_of_bytes(unsigned pcr, std::uint32_t event_type, std::string_view text, std::string source,
                           std::span<const std::uint8_t> bytes);
Expected<MeasuredItem> item_of_file(unsigned pcr, std::uint32_t event_type, std::string_view text,
                                    const std::filesystem::path &path);

} // namespace banyan::attest
