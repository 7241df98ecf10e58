// SPDX-License-Identifier: GPL-2.0-or-later
// swtpm's control protocol over sockets, as <swtpm/tpm_ioctl.h> (0.7.1) documents it and swtpm answers. All numbers are
// big-endian. A request is its code and its fields; a reply its result and its fields.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace banyan::vtpm::swtpm {

enum class Code : std::uint32_t { // CMD_*
    kGetCapability = 0x01,
    kInit = 0x02,
    kShutdown = 0x03,
    kGetTpmEstablished = 0x04,
    kSetLocality = 0x05,
    kHashStart = 0x06,
    kHashData = 0x07,
    kHashEnd = 0x08,
    kCancelTpmCmd = 0x09,
    kStoreVolatile = 0x0a,
    kResetTpmEstablished = 0x0b,
    kGetStateBlob = 0x0c,
    kSetStateBlob = 0x0d,
    kStop = 0x0e,
    kGetConfig = 0x0f,
    kSetDataFd = 0x10,
    kSetBufferSize = 0x11,
    kGetInfo = 0x12,
    kLockStorage = 0x13, // swtpm 0.8
};

struct CodeSpec {
    Code code;
    const char *name;
    std::uint8_t fields; // bytes after the code
    bool has_data;       // bytes after the fields; the last field of four says how many
    std::uint64_t capability;
};

inline constexpr std::array kCodes{
    CodeSpec{Code::kGetCapability, "CMD_GET_CAPABILITY", 0, false, 0},
    CodeSpec{Code::kInit, "CMD_INIT", 4, false, 1U << 0}, // init_flags
    CodeSpec{Code::kShutdown, "CMD_SHUTDOWN", 0, false, 1U << 1},
    CodeSpec{Code::kGetTpmEstablished, "CMD_GET_TPMESTABLISHED", 0, false, 1U << 2},
    CodeSpec{Code::kSetLocality, "CMD_SET_LOCALITY", 1, false, 1U << 3},
    CodeSpec{Code::kHashStart, "CMD_HASH_START", 0, false, 1U << 4},
    CodeSpec{Code::kHashData, "CMD_HASH_DATA", 4, true, 1U << 4},
    CodeSpec{Code::kHashEnd, "CMD_HASH_END", 0, false, 1U << 4},
    CodeSpec{Code::kCancelTpmCmd, "CMD_CANCEL_TPM_CMD", 0, false, 1U << 5},
    CodeSpec{Code::kStoreVolatile, "CMD_STORE_VOLATILE", 0, false, 1U << 6},
    CodeSpec{Code::kResetTpmEstablished, "CMD_RESET_TPMESTABLISHED", 1, false, 1U << 7},
    CodeSpec{Code::kGetStateBlob, "CMD_GET_STATEBLOB", 12, false, 1U << 8}, // state_flags, type, offset
    CodeSpec{Code::kSetStateBlob, "CMD_SET_STATEBLOB", 12, true, 1U << 9},  // state_flags, type, length
    CodeSpec{Code::kStop, "CMD_STOP", 0, false, 1U << 10},
    CodeSpec{Code::kGetConfig, "CMD_GET_CONFIG", 0, false, 1U << 11},
    CodeSpec{Code::kSetDataFd, "CMD_SET_DATAFD", 0, false, 1U << 12},
    CodeSpec{Code::kSetBufferSize, "CMD_SET_BUFFERSIZE", 4, false, 1U << 13},
    CodeSpec{Code::kGetInfo, "CMD_GET_INFO", 16, false, 1U << 14},        // flags (8), offset, padding
    CodeSpec{Code::kLockStorage, "CMD_LOCK_STORAGE", 4, false, 1U << 16}, // retries
};
inline constexpr std::size_t kFieldsMax = 16;

// QEMU sends a locality as the whole union that it is in: three bytes of any value come after it, which swtpm drops. The
// two can be told apart: the first byte of a code is 0, its last is not.
inline constexpr std::size_t kLocalityPadding = 3;
[[nodiscard]] constexpr bool is_locality_padding(std::uint32_t next)
{
    return (next & 0xff) == 0;
}

[[nodiscard]] constexpr const CodeSpec *find(std::uint32_t code)
{
    for (const CodeSpec &one : kCodes) {
        if (static_cast<std::uint32_t>(one.code) == code) {
            return &one;
        }
    }
    return nullptr;
}

// ptm_res: result codes of TPM 1.2 (TPM Main, part 2, section 16), as swtpm gives them.
enum class Result : std::uint32_t {
    kSuccess = 0,
    kBadParameter = 0x03,
    kFail = 0x09,
    kBadOrdinal = 0x0a, // unknown, or not in this state
    kSize = 0x11,
    kIoError = 0x1f,
    kBadLocality = 0x3d,
};

inline constexpr std::uint32_t kInitDeleteVolatile = 1; // PTM_INIT_FLAG_DELETE_VOLATILE

enum class BlobType : std::uint32_t { kPermanent = 1, kVolatile = 2, kSaveState = 3 };

inline constexpr std::uint64_t kInfoSpecification = 1; // SWTPM_INFO_TPMSPECIFICATION
inline constexpr std::uint64_t kInfoAttributes = 2;    // SWTPM_INFO_TPMATTRIBUTES

inline constexpr std::uint32_t kBufferMin = 2808; // of libtpms
inline constexpr std::uint32_t kBufferMax = 4096;

} // namespace banyan::vtpm::swtpm
