// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

// Object identifiers of the Trusted Computing Group. TCG OID registry 1.00; EK Credential Profile 2.6, 3.2.

namespace banyan::attest::oid {

inline constexpr const char *kTpmManufacturer = "2.23.133.2.1"; // tcg-at-tpmManufacturer
inline constexpr const char *kTpmModel = "2.23.133.2.2";        // tcg-at-tpmModel
inline constexpr const char *kTpmVersion = "2.23.133.2.3";      // tcg-at-tpmVersion
inline constexpr const char *kKpEk = "2.23.133.8.1";            // tcg-kp-EKCertificate
inline constexpr const char *kKpAik = "2.23.133.8.3";           // tcg-kp-AIKCertificate
inline constexpr const char *kKpPlatformKey = "2.23.133.8.4";   // tcg-kp-PlatformKeyCertificate

} // namespace banyan::attest::oid
