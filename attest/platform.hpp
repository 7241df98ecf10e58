// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "attest/pki.hpp"

// A platform's folders: keys in one, what a verifier needs in the other. Specification: docs/spec/platform.md.

namespace banyan::attest {

/// Public keys of one vTPM instance, SubjectPublicKeyInfo in DER.
struct InstanceKeys {
    Bytes ek_rsa;
    Bytes ek;
    Bytes iak;
    Bytes ek_p256{}; // empty unless it was asked for
};

/// Their certificates, DER.
struct InstanceCertificates {
    Bytes ek_rsa;
    Bytes ek;
    Bytes iak;
    Bytes ek_p256{};
};

using CertifyInstance = std::function<Expected<InstanceCertificates>(const InstanceKeys &)>;
using StoreKeyBytes = std::array<std::uint8_t, 32>;

struct ManufacturedInstance {
    InstanceKeys keys;
    InstanceCertificates certificates; // as `certify` gave them
    std::string names_json;
};

/// Makes the TPM and its state file instances/NNN.nvstore below `private_folder`.
using ManufactureInstance =
    std::function<Expected<ManufacturedInstance>(const std::filesystem::path &private_folder, unsigned instance,
                                                 const StoreKeyBytes &store_key, const CertifyInstance &certify)>;

struct PlatformOptions {
    std::filesystem::path private_folder;
    std::filesystem::path public_folder;
    unsigned instances = 16;
    std::string platform_class{kClassMachine};
    /// The ca/ folder of another machine of the same manufacturer, of any class. Empty: a new manufacturer.
    std::filesystem::path manufacturer;
};

inline constexpr unsigned kInstancesMax = 1024;

/// Both folders whole, or neither. Exceptions to "whole": a power failure between two renames.
Expected<void> new_platform(const PlatformOptions &wanted, const ManufactureInstance &manufacture);

/// Makes those below `instances` that the platform does not have yet; how many. One at a time, each whole or, after an
/// interruption, made anew by the next call. Refused while a machine runs on the folder.
Expected<unsigned> add_instances(const std::filesystem::path &private_folder,
                                 const std::filesystem::path &public_folder, unsigned instances,
                                 const ManufactureInstance &manufacture);

/// A ca folder, for PlatformOptions::manufacturer: made, whole or not at all, if it is not there yet.
Expected<Manufacturer> hold_manufacturer(const std::filesystem::path &ca, std::string_view platform_class);

/// What a public folder says of itself, checked against its own root.
struct PlatformFacts {
    std::string platform_class;
    MachineId machine{};
    std::string root_subject;
    std::array<std::uint8_t, 32> root_fingerprint{}; // SHA-256 of its DER
    unsigned instances = 0;
};
Expected<PlatformFacts> read_public_platform(const std::filesystem::path &public_folder);

/// "007", for file names.
std::string instance_number(unsigned instance);

} // namespace banyan::attest
