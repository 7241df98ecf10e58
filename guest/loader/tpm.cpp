// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/tpm.hpp"

#include "banyan/arch/boot_info.hpp"

namespace banyan::loader {
namespace {

// TPM 2.0 Library, part 2: 6.5.2 (command codes), 6.9 (tags), 6.12 (capabilities), 7.4 (permanent handles).
constexpr std::uint16_t kTagNoSessions = 0x8001;
constexpr std::uint16_t kTagSessions = 0x8002;
constexpr std::uint32_t kGetCapability = 0x17A;
constexpr std::uint32_t kPcrExtend = 0x182;
constexpr std::uint32_t kCapPcrs = 5;
constexpr std::uint32_t kPassword = 0x4000'0009; // TPM_RS_PW

class Reader {
public:
    explicit Reader(Bytes bytes) : bytes_(bytes) {}

    std::uint32_t take(unsigned size)
    {
        std::uint32_t value = 0;
        if (bytes_.size() < size) {
            good_ = false;
            return 0;
        }
        for (unsigned i = 0; i < size; ++i) {
            value = value << 8 | bytes_[i];
        }
        bytes_ = bytes_.subspan(size);
        return value;
    }

    bool good() const { return good_; }

private:
    Bytes bytes_;
    bool good_ = true;
};

TpmCommand begin_extend(std::uint32_t pcr, std::uint32_t digests)
{
    TpmCommand command(kTagSessions, kPcrExtend);
    command.put32(pcr);
    command.put32(9); // size of the authorization: an empty password
    command.put32(kPassword);
    command.put16(0);
    command.put(Bytes(std::array<std::uint8_t, 1>{0}));
    command.put16(0);
    command.put32(digests);
    return command;
}

void put_digest(TpmCommand &command, Alg alg, Bytes digest)
{
    command.put16(static_cast<std::uint16_t>(alg));
    command.put(digest);
}

} // namespace

TpmCommand::TpmCommand(std::uint16_t tag, std::uint32_t code)
{
    put16(tag);
    put32(0);
    put32(code);
}

void TpmCommand::put16(std::uint16_t value)
{
    buffer_[used_++] = static_cast<std::uint8_t>(value >> 8);
    buffer_[used_++] = static_cast<std::uint8_t>(value);
}

void TpmCommand::put32(std::uint32_t value)
{
    put16(static_cast<std::uint16_t>(value >> 16));
    put16(static_cast<std::uint16_t>(value));
}

void TpmCommand::put(Bytes bytes)
{
    for (const std::uint8_t byte : bytes) {
        buffer_[used_++] = byte;
    }
}

Bytes TpmCommand::bytes()
{
    buffer_[4] = static_cast<std::uint8_t>(used_ >> 8); // the size field: below 64 KiB
    buffer_[5] = static_cast<std::uint8_t>(used_);
    return Bytes(buffer_).first(used_);
}

TpmCommand pcr_extend_command(std::uint32_t pcr, const Digests &digests)
{
    TpmCommand command = begin_extend(pcr, 3);
    put_digest(command, Alg::kSha1, digests.sha1);
    put_digest(command, Alg::kSha256, digests.sha256);
    put_digest(command, Alg::kSha384, digests.sha384);
    return command;
}

TpmCommand pcr_cap_command(std::uint32_t pcr, Alg bank, std::size_t size)
{
    constexpr std::array<std::uint8_t, 64> kOne{1};
    TpmCommand command = begin_extend(pcr, 1);
    put_digest(command, bank, Bytes(kOne).first(size));
    return command;
}

TpmCommand get_banks_command()
{
    TpmCommand command(kTagNoSessions, kGetCapability);
    command.put32(kCapPcrs);
    command.put32(0);
    command.put32(1);
    return command;
}

bool parse_banks(Bytes response, OtherBanks &other)
{
    constexpr std::size_t kHeader = 10;
    if (response.size() < kHeader) {
        return false;
    }
    Reader reader(response.subspan(kHeader));
    reader.take(1); // moreData
    if (reader.take(4) != kCapPcrs) {
        return false;
    }
    const std::uint32_t banks = reader.take(4);
    for (std::uint32_t i = 0; i < banks && reader.good(); ++i) {
        const auto alg = static_cast<Alg>(reader.take(2));
        const std::uint32_t select = reader.take(1);
        bool active = false;
        for (std::uint32_t byte = 0; byte < select && reader.good(); ++byte) {
            const std::uint32_t bits = reader.take(1);
            if (byte == boot::kPcrCode / 8) {
                active = (bits >> boot::kPcrCode % 8 & 3) != 0; // PCR 17 or 18
            }
        }
        if (!active || alg == Alg::kSha1 || alg == Alg::kSha256 || alg == Alg::kSha384) {
            continue;
        }
        if (other.count == OtherBanks::kMax) {
            return false;
        }
        other.banks[other.count++] = alg;
    }
    return reader.good();
}

std::size_t digest_size(Alg alg)
{
    switch (alg) {
    case Alg::kSha1:
        return 20;
    case Alg::kSha256:
    case Alg::kSm3_256:
    case Alg::kSha3_256:
        return 32;
    case Alg::kSha384:
    case Alg::kSha3_384:
        return 48;
    case Alg::kSha512:
    case Alg::kSha3_512:
        return 64;
    }
    return 0;
}

} // namespace banyan::loader
