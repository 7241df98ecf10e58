// SPDX-License-Identifier: GPL-2.0-or-later
// The window with a Command Response Buffer in it.
#include "tests/fuzz/vtpm/window_fuzz.hpp"
#include "vtpm/chip/crb_regs.hpp"

namespace {

using namespace banyan::vtpm;
using fuzz::require;

void check(Instance &instance)
{
    const auto read = [&](std::uint32_t page, crb::Reg reg) {
        return static_cast<std::uint32_t>(instance.read(page + static_cast<std::uint32_t>(reg), 4, 0));
    };
    const std::uint32_t state = read(0, crb::Reg::kLocState);
    if (state == 0 || state == 0xffff'ffff) { // starting, or without power
        return;
    }
    unsigned granted = 0;
    for (std::uint32_t locality = 0; locality < kLocalities; ++locality) {
        const std::uint32_t page = locality * kPageSize;
        require(read(page, crb::Reg::kLocState) == state);
        if (!crb::LocSts::Granted::get(read(page, crb::Reg::kLocSts))) {
            require(read(page, crb::Reg::kCtrlStart) == 0xffff'ffff); // and is kept out
            require(read(page, crb::Reg::kDataBuffer) == 0xffff'ffff);
            continue;
        }
        ++granted;
        require(crb::LocState::LocAssigned::get(state) && crb::LocState::ActiveLocality::get(state) == locality);
        const bool idle = crb::CtrlSts::TpmIdle::get(read(page, crb::Reg::kCtrlSts));
        const bool runs = crb::CtrlStart::Start::get(read(page, crb::Reg::kCtrlStart));
        require(!idle || !runs);
        require((!idle && !runs) || read(page, crb::Reg::kDataBuffer) == 0xffff'ffff);
        require(!crb::CtrlReq::GoIdle::get(read(page, crb::Reg::kCtrlReq)));
    }
    require(granted == (crb::LocState::LocAssigned::get(state) ? 1U : 0U));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    return fuzz::run({InterfaceKind::kCrb, crb::kDataBufferSize, crb::kDataBufferAt, 1, check}, data, size);
}
