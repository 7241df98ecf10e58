// SPDX-License-Identifier: GPL-2.0-or-later
// Any bytes on the management line: no crash, an answer, and no change unless a frame with a right CRC was among them.
// The first byte says whether to put a right CRC on the bytes behind it, so that the requests are reached too.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "tests/unit/hypervisor/fake_machine.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    using namespace banyan;
    using namespace banyan::hv;
    using namespace banyan::hv::test;
    if (size < 4) {
        return 0;
    }
    FakeMachine machine;
    add_pci(machine);
    const Modules modules = good_modules();
    Manager manager{machine, modules, kHypervisor};
    machine.changes = 0;

    const bool framed = (data[0] & 1) != 0;
    if (framed) { // a good create request with the fuzzer's bytes over it, from an offset of its choice
        mgmt::CreateRequest request = good_request();
        auto *bytes = reinterpret_cast<std::uint8_t *>(&request);
        const std::size_t offset = (data[1] << 8 | data[2]) % sizeof request;
        std::memcpy(bytes + offset, data + 3, std::min(size - 3, sizeof request - offset));
        const auto type = mgmt::Type{static_cast<std::uint16_t>((data[0] & 2) != 0 ? data[0] >> 2 : 1)};
        const auto frame = bytes_of(request_frame(type, bytes, (data[0] & 4) != 0 ? 8 : sizeof request));
        machine.line.assign(frame.begin(), frame.end());
    } else {
        machine.line.assign(data + 1, data + size);
    }
    Channel channel{machine};
    static Frame frame;
    const bool valid = channel.receive(frame);
    manager.handle(frame, valid);
    channel.send(frame);
    const bool changed = machine.changes != 0;
    if ((changed && !valid) || (!framed && valid) || machine.sent.size() < sizeof(mgmt::Header)) {
        std::abort();
    }
    return 0;
}
