// SPDX-License-Identifier: GPL-2.0-or-later
#include "cpu-ext/dma/dev_registers.hpp"

namespace banyan::dma {

using namespace dev;

namespace {

/// The register that DEV_OP selects.
Word selected(Word op, bool closed)
{
    switch (static_cast<Function>(Op::Function::get(op))) {
    case Function::kControl:
        return Control::SlDevEnable::with(0, closed);
    case Function::kCapability: // revision 0, no bitmap, no map
    case Function::kBaseLow:
    case Function::kBaseHigh:
    case Function::kMap:
    case Function::kErrorStatus:
    case Function::kErrorAddressLow:
    case Function::kErrorAddressHigh:
        break;
    }
    return 0;
}

constexpr std::uint16_t at(Reg reg)
{
    return static_cast<std::uint16_t>(reg);
}

} // namespace

std::uint32_t DevRegisters::read(std::uint32_t domain, std::uint8_t function, std::uint16_t offset, bool closed) const
{
    if (domain >= op_.size()) {
        return 0;
    }
    const auto word = static_cast<std::uint16_t>(offset & ~3U);
    if (function == kLinkFunction) {
        return word == kSlbProtection && closed ? 1 : 0;
    }
    if (function != kFunction) {
        return 0;
    }
    return word == at(Reg::kOp) ? op_[domain] : word == at(Reg::kData) ? selected(op_[domain], closed) : 0;
}

DevWish DevRegisters::write(std::uint32_t domain, std::uint8_t function, std::uint16_t offset, unsigned width,
                            std::uint32_t value, bool closed)
{
    const unsigned shift = (offset & 3U) * 8;
    if (domain >= op_.size() || (width != 1 && width != 2 && width != 4) || shift + width * 8 > 32) {
        return DevWish::kNothing;
    }
    const auto word_at = static_cast<std::uint16_t>(offset & ~3U);
    const auto lanes = static_cast<Word>(((std::uint64_t{1} << (width * 8)) - 1) << shift);
    const Word word = (read(domain, function, word_at, closed) & ~lanes) | (value << shift & lanes);

    if (function == kLinkFunction) {
        return word_at == kSlbProtection && closed && (word & 1) == 0 ? DevWish::kLiftWindow : DevWish::kNothing;
    }
    if (function != kFunction) {
        return DevWish::kNothing;
    }
    if (word_at == at(Reg::kOp)) {
        op_[domain] = word & (Op::Index::kMask | Op::Function::kMask);
    } else if (word_at == at(Reg::kData) &&
               static_cast<Function>(Op::Function::get(op_[domain])) == Function::kControl) {
        // Only the processor closes the block: setting the bit does nothing.
        return closed && !Control::SlDevEnable::get(word) ? DevWish::kLiftWindow : DevWish::kNothing;
    }
    return DevWish::kNothing;
}

} // namespace banyan::dma
