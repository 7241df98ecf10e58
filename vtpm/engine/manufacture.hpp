// SPDX-License-Identifier: GPL-2.0-or-later
// Makes one TPM: seeds, PCR banks, EKs, IAK, certificates in NV. Target banyan_vtpm_manufacture (APP; libtpms).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "banyan/base/result.hpp"

namespace banyan::vtpm {

using Bytes = std::vector<std::uint8_t>;

// TCG EK Credential Profile 2.x (templates L-1, L-2 and H-3) and TPM 2.0 Keys for Device Identity and Attestation.
inline constexpr std::uint32_t kEkRsaHandle = 0x81010001;
inline constexpr std::uint32_t kEkP256Handle = 0x8101000A;
inline constexpr std::uint32_t kEkP384Handle = 0x81010016;
inline constexpr std::uint32_t kIakHandle = 0x81010100;
inline constexpr std::uint32_t kEkRsaCertificateIndex = 0x01C00002;
inline constexpr std::uint32_t kEkP256CertificateIndex = 0x01C0000A;
inline constexpr std::uint32_t kEkP384CertificateIndex = 0x01C00016;
inline constexpr std::uint32_t kIakCertificateIndex = 0x01C90100;

struct KeyPublic {
    Bytes spki;        // SubjectPublicKeyInfo, DER
    Bytes public_area; // TPM2B_PUBLIC, marshalled
    Bytes name;        // nameAlg || digest
};

struct Publics {
    KeyPublic ek_rsa;  // RSA-2048, template L-1
    KeyPublic ek_p384; // ECC P-384, template H-3
    KeyPublic ek_p256; // ECC P-256, template L-2; empty unless asked for
    KeyPublic iak;     // restricted signing, ECC P-384, ECDSA with SHA-384
};

/// DER certificates; an empty one is not written and its NV index not defined.
struct Certificates {
    Bytes ek_rsa;
    Bytes ek_p384;
    Bytes iak;
    Bytes ek_p256{};
};

using Certify = std::function<Result<Certificates>(const Publics &)>;

struct Manufactured {
    Publics publics;
    Bytes permanent; // for create_instance()
};

/// Manufactures one TPM with libtpms in the calling process. The process must be single-threaded and *throw-away*:
/// libtpms keeps one TPM per process, and a fork of a process that has had one would share its random numbers. So
/// fork() first, call this once in the child, hand the result back, _exit(). The certify callback runs in between, in
/// the same process; an empty callback means no certificates. *why, when not null, gets a sentence on failure.
///
/// The TPM has exactly the banks SHA-1, SHA-256 and SHA-384, empty authorizations, EKs and IAK persistent at the
/// handles above, certificates in the NV indices above (PPREAD, OWNERREAD, AUTHREAD, NO_DA, PLATFORMCREATE), and was
/// shut down in order.
/// ek_p256: with that key too.
[[nodiscard]] Result<Manufactured> manufacture(const Certify &certify, std::string *why = nullptr,
                                               bool ek_p256 = false);

/// NNN.names of the private platform folder: {"ek":"<hex name of the P-384 EK>","iak":"<hex name of the IAK>"}.
[[nodiscard]] std::string names_json(const Publics &publics);
[[nodiscard]] std::string names_json(std::span<const std::uint8_t> ek, std::span<const std::uint8_t> iak);

} // namespace banyan::vtpm
