// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>

#include "banyan/arch/domain_table.hpp"

// The management protocol: what the disengaged hypervisor can be asked, and nothing else. Freestanding.
// Framed, little-endian, over the first serial port (COM1, a UNIX socket on the outside); one request, one response.
// A frame that does not check out is answered with kBadFrame and changes nothing. Specification: docs/spec/management.md.

namespace banyan::mgmt {

inline constexpr std::uint32_t kMagic = 0x4D59'4E42; // "BNYM"
inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::uint32_t kMaxPayload = 4096;

enum class Type : std::uint16_t {
    kHello = 0,  // sent once by the hypervisor when it is ready: HelloPayload
    kCreate = 1, // CreateRequest; response payload: the receipt (COSE_Sign1)
    kDelete = 2, // DomainRequest (erase may be 1); no payload
    kStart = 3,  // StartRequest; no payload: all are started, then the gates open together
    kStop = 4,   // DomainRequest; no payload
    kStatus = 5, // no payload; response payload: StatusResponse
};
inline constexpr std::uint16_t kResponse = 0x8000; // or-ed to the request's type

enum class Result : std::uint32_t {
    kOk = 0,
    kBadFrame = 1,
    kUnknown = 2,  // unknown type: nothing was changed
    kBadField = 3, // a field is out of range
    kBadState = 4, // the domain is not in a state for this
    kRefused = 5,  // the domain table refused; detail is dt::Status
    kNoModule = 6, // a placement names a module that was not booted
    kNoMemory = 7, // a placement does not lie in the domain's RAM
    kNoCore = 8,   // a core did not come up
};

/// Header of each frame; `crc` is CRC-32 (IEEE 802.3) of the header with crc = 0, and the payload.
struct Header {
    std::uint32_t magic;
    std::uint16_t version;
    std::uint16_t type;
    std::uint32_t sequence; // chosen by the caller, repeated in the response
    std::uint32_t result;   // Result; 0 in requests
    std::uint32_t detail;   // dt::Status when result is kRefused, else 0
    std::uint32_t length;   // bytes of payload, at most kMaxPayload
    std::uint32_t crc;
};
static_assert(sizeof(Header) == 28);

inline constexpr std::size_t kMaxPlacements = 16;
inline constexpr std::size_t kModuleName = 32;

/// Copy the boot module called `module` (its multiboot command line after the file's name) to guest physical `gpa`.
struct Placement {
    char module[kModuleName]; // NUL-padded
    std::uint64_t gpa;
};

struct CreateRequest {
    std::uint32_t domain; // 1..dt::kMaxDomains
    std::uint32_t placement_count;
    std::uint32_t nonce_size; // 1..64, for the receipt
    std::uint32_t reserved;
    std::uint8_t nonce[64];
    dt::Descriptor descriptor;
    Placement placements[kMaxPlacements];
};
static_assert(sizeof(CreateRequest) == 16 + 64 + 840 + 16 * 40);
static_assert(sizeof(CreateRequest) <= kMaxPayload);

struct DomainRequest {
    std::uint32_t domain;
    std::uint32_t erase; // kDelete only: 1 zeroises the vTPM instance too
};

struct StartRequest {
    std::uint64_t domains; // bit d: domain d
};

struct HelloPayload {
    std::uint32_t modules;  // boot modules found
    std::uint32_t cores;    // cores besides core 0, as the ACPI MADT names them
    std::uint32_t launched; // 1: this hypervisor was started by SKINIT
    std::uint32_t reserved;
};

struct DomainStatus {
    std::uint32_t state;  // dt::State
    std::uint32_t reason; // dt::EndReason
    std::uint64_t start_count;
    std::uint64_t launch_count;
    std::uint64_t exit_code; // of the boot core's last #VMEXIT, 0 before
};

struct StatusResponse {
    DomainStatus domains[dt::kMaxDomains + 1]; // [0] is unused
};
static_assert(sizeof(StatusResponse) <= kMaxPayload);

} // namespace banyan::mgmt
