// SPDX-License-Identifier: GPL-2.0-or-later
// The few TPM 2.0 commands that the probe sends, and what it reads of their responses. TPM 2.0 library, part 3.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace banyan::tpmprobe {

using Bytes = std::vector<std::uint8_t>;

inline constexpr std::size_t kSha256Size = 32;

[[nodiscard]] Bytes pcr_extend(std::uint32_t pcr, std::span<const std::uint8_t, kSha256Size> digest);
[[nodiscard]] Bytes pcr_read(std::uint32_t pcr); // SHA-256 bank
[[nodiscard]] Bytes get_random(std::uint16_t size);
[[nodiscard]] Bytes create_primary_rsa(); // a 2048 bit storage key in the owner hierarchy
[[nodiscard]] Bytes flush(std::uint32_t handle);

/// TPM_RC of a response; all ones if it is none.
[[nodiscard]] std::uint32_t result_of(std::span<const std::uint8_t> response);
/// The digest in a response to pcr_read(); empty if there is none.
[[nodiscard]] std::span<const std::uint8_t> digest_of(std::span<const std::uint8_t> response);
/// What a response to get_random() holds; empty if there is none.
[[nodiscard]] std::span<const std::uint8_t> random_of(std::span<const std::uint8_t> response);
/// The handle in a response to create_primary_rsa(); 0 if there is none.
[[nodiscard]] std::uint32_t handle_of(std::span<const std::uint8_t> response);

} // namespace banyan::tpmprobe
