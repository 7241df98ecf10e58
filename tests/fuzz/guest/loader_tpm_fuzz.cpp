// SPDX-License-Identifier: GPL-2.0-or-later
// The secure loader before a TPM whose registers read as the input says: it comes to an end, stays in its page, and takes
// no response for one that is none.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "banyan/arch/boot_info.hpp"
#include "guest/loader/tpm.hpp"
#include "guest/loader/tpm_interface.hpp"

namespace {

using namespace banyan;
using namespace banyan::loader;

void require(bool what)
{
    if (!what) {
        std::abort();
    }
}

constexpr std::uint32_t kPageSize = 0x1000;
constexpr std::uint32_t kPolls = 64;

/// The first byte picks the interface and how the registers lie; each further one is read where it matters.
class Registers {
public:
    Registers(const std::uint8_t *data, std::size_t size) : input_(data, size)
    {
        const std::uint8_t mode = next();
        crb_ = (mode & 1) != 0;
        honest_ = (mode & 2) != 0;
    }

    std::uint8_t read8(std::uint32_t offset)
    {
        require(offset < kPageSize);
        ++accesses_;
        if (honest_ && offset == tis::kAccess) {
            return tis::kAccessValid | tis::kAccessActive;
        }
        return next();
    }
    std::uint32_t read32(std::uint32_t offset)
    {
        require(offset <= kPageSize - 4 && offset % 4 == 0);
        ++accesses_;
        if (honest_) {
            switch (offset) { // what leads on to the response
            case interface::kId:
                return crb_ ? interface::kTypeCrb : interface::kTypeFifo;
            case tis::kSts:
                if (!crb_) {
                    return 0x0000'4000U | tis::kStsValid | tis::kStsCommandReady | tis::kStsDataAvail |
                           (next() < 8 ? tis::kStsExpect : 0);
                }
                break;
            case crb::kLocSts:
                return crb::kLocStsGranted;
            case crb::kCmdLow:
            case crb::kRspLow:
                return static_cast<std::uint32_t>(address() + crb::kBuffer);
            case crb::kCmdSize:
            case crb::kRspSize:
                return kPageSize - crb::kBuffer;
            case crb::kCmdHigh:
            case crb::kRspHigh:
            case crb::kCtrlReq:
            case crb::kCtrlSts:
            case crb::kCtrlStart:
                return 0;
            default:
                break;
            }
        }
        std::uint32_t value = 0;
        for (unsigned i = 0; i < 4; ++i) {
            value = value << 8 | next();
        }
        return value;
    }
    void write8(std::uint32_t offset, std::uint8_t)
    {
        require(offset < kPageSize);
        ++accesses_;
    }
    void write32(std::uint32_t offset, std::uint32_t)
    {
        require(offset <= kPageSize - 4 && offset % 4 == 0);
        ++accesses_;
    }
    static std::uint64_t address() { return 0xFED4'2000; }
    void pause() { ++pauses_; }

    [[nodiscard]] std::size_t accesses() const { return accesses_; }
    [[nodiscard]] std::size_t pauses() const { return pauses_; }

private:
    std::uint8_t next()
    {
        if (input_.empty()) {
            return 0;
        }
        const std::uint8_t byte = input_.front();
        input_ = input_.subspan(1);
        return byte;
    }

    std::span<const std::uint8_t> input_;
    bool crb_ = false;
    bool honest_ = false;
    std::size_t accesses_ = 0;
    std::size_t pauses_ = 0;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    Registers registers(data, size);
    TpmInterface interface(registers, kPolls);
    if (interface.request() == TransportFault::kNone) {
        Tpm tpm(interface);
        constexpr std::uint32_t kPcrs[] = {boot::kPcrCode, boot::kPcrPlatform};
        if (!tpm.prepare(kPcrs)) {
            (void)tpm.extend(boot::kPcrCode, {});
        }
        std::array<std::uint8_t, kTpmBuffer> response{};
        std::size_t answered = 0;
        if (interface.transmit(get_banks_command().bytes(), response, answered) == TransportFault::kNone) {
            require(answered >= kTpmHeader && answered <= response.size());
        }
        interface.relinquish();
    }
    // Every command: the waits of its bytes, or of the two that a burst has, each within the bound.
    constexpr std::size_t kCommands = 2 + 2 * OtherBanks::kMax + 1;
    require(registers.pauses() <= kCommands * kTpmBuffer * 4 * kPolls);
    require(registers.accesses() <= kCommands * kTpmBuffer * 8 * kPolls);
    return 0;
}
