// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <span>

// Key templates of a Banyan vTPM, as far as they enter a key's TPM name. docs/spec/platform.md, section 4.

namespace banyan::attest {

/// ECC P-384, nameAlg SHA-384, no KDF. A key that signs: ECDSA with SHA-384. One that does not: AES-256-CFB.
struct KeyTemplate {
    std::uint32_t attributes; // TPMA_OBJECT. TPM 2.0 Library part 2, 8.3
    bool signs;
    std::span<const std::uint8_t> policy;
};

namespace attribute {
inline constexpr std::uint32_t kFixedTpm = 1u << 1;
inline constexpr std::uint32_t kFixedParent = 1u << 4;
inline constexpr std::uint32_t kSensitiveDataOrigin = 1u << 5;
inline constexpr std::uint32_t kUserWithAuth = 1u << 6;
inline constexpr std::uint32_t kAdminWithPolicy = 1u << 7;
inline constexpr std::uint32_t kNoDa = 1u << 10;
inline constexpr std::uint32_t kRestricted = 1u << 16;
inline constexpr std::uint32_t kDecrypt = 1u << 17;
inline constexpr std::uint32_t kSign = 1u << 18;
} // namespace attribute

/// PolicyB for SHA-384. TCG EK Credential Profile 2.6, B.6.5.
inline constexpr std::array<std::uint8_t, 48> kPolicyB{
    0xB2, 0x6E, 0x7D, 0x28, 0xD1, 0x1A, 0x50, 0xBC, 0x53, 0xD8, 0x82, 0xBC, 0xF5, 0xFD, 0x3A, 0x1A,
    0x07, 0x41, 0x48, 0xBB, 0x35, 0xD3, 0xB4, 0xE4, 0xCB, 0x1C, 0x0A, 0xD9, 0xBD, 0xE4, 0x19, 0xCA,
    0xCB, 0x47, 0xBA, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0F, 0x9F, 0xC0, 0x00, 0xF3, 0xF8, 0x0E, 0x12,
};

/// Template H-3. TCG EK Credential Profile 2.6, B.4.6.
inline constexpr KeyTemplate kEkP384Template{
    attribute::kFixedTpm | attribute::kFixedParent | attribute::kSensitiveDataOrigin | attribute::kUserWithAuth |
        attribute::kAdminWithPolicy | attribute::kRestricted | attribute::kDecrypt,
    false,
    kPolicyB,
};

/// Restricted signing key in the endorsement hierarchy, empty authorization, no policy. Not subject to the dictionary attack
/// logic: a VM that is stopped after a quote would count as a wrong guess, and three of them would lock the key.
inline constexpr KeyTemplate kIakTemplate{
    attribute::kFixedTpm | attribute::kFixedParent | attribute::kSensitiveDataOrigin | attribute::kUserWithAuth |
        attribute::kNoDa | attribute::kRestricted | attribute::kSign,
    true,
    {},
};

} // namespace banyan::attest
