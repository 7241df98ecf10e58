// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/event_log.hpp"

#include <algorithm>

namespace banyan::loader {
namespace {

constexpr std::uint32_t kEvNoAction = 3;
constexpr std::uint8_t kSignature[16] = {'S', 'p', 'e', 'c', ' ', 'I', 'D', ' ', 'E', 'v', 'e', 'n', 't', '0', '3', 0};
constexpr std::uint32_t kAlgorithms = 3;
constexpr std::size_t kSpecIdSize = sizeof(kSignature) + 4 + 4 + 4 + kAlgorithms * 4 + 1;
constexpr std::size_t kHeaderSize = 4 + 4 + Sha1Rules::kDigest + 4 + kSpecIdSize;
constexpr std::size_t kEventFixed =
    4 + 4 + 4 + 3 * 2 + Sha1Rules::kDigest + Sha256Rules::kDigest + Sha384Rules::kDigest + 4;

} // namespace

EventLog::EventLog(std::span<std::uint8_t> area) : area_(area)
{
    std::fill(area_.begin(), area_.end(), std::uint8_t{0});
    if (area_.size() < kHeaderSize) {
        area_ = {};
        return;
    }
    // TCG_PCClientPCREvent with a TCG_EfiSpecIdEvent: what makes the rest crypto-agile.
    put(0, 4);
    put(kEvNoAction, 4);
    put(Bytes(Sha1::Digest{}));
    put(kSpecIdSize, 4);
    put(Bytes(kSignature));
    put(0, 4); // platformClass: client
    put(0, 1); // specVersionMinor
    put(2, 1); // specVersionMajor
    put(0, 1); // specErrata
    put(2, 1); // uintnSize: 64 bits
    put(kAlgorithms, 4);
    put(static_cast<std::uint16_t>(Alg::kSha1), 2);
    put(Sha1Rules::kDigest, 2);
    put(static_cast<std::uint16_t>(Alg::kSha256), 2);
    put(Sha256Rules::kDigest, 2);
    put(static_cast<std::uint16_t>(Alg::kSha384), 2);
    put(Sha384Rules::kDigest, 2);
    put(0, 1); // vendorInfoSize
}

bool EventLog::append(std::uint32_t pcr, std::uint32_t type, const Digests &digests, const char *text)
{
    std::size_t length = 0;
    while (text[length] != '\0') {
        ++length;
    }
    if (kEventFixed + length > area_.size() - used_) {
        return false;
    }
    put(pcr, 4);
    put(type, 4);
    put(kAlgorithms, 4);
    put(static_cast<std::uint16_t>(Alg::kSha1), 2);
    put(Bytes(digests.sha1));
    put(static_cast<std::uint16_t>(Alg::kSha256), 2);
    put(Bytes(digests.sha256));
    put(static_cast<std::uint16_t>(Alg::kSha384), 2);
    put(Bytes(digests.sha384));
    put(length, 4);
    for (std::size_t i = 0; i < length; ++i) {
        put(static_cast<std::uint8_t>(text[i]), 1);
    }
    return true;
}

void EventLog::put(std::uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; ++i) {
        area_[used_++] = static_cast<std::uint8_t>(value >> (8 * i));
    }
}

void EventLog::put(Bytes bytes)
{
    for (const std::uint8_t byte : bytes) {
        area_[used_++] = byte;
    }
}

} // namespace banyan::loader
