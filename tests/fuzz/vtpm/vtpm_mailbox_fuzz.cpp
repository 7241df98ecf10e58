// SPDX-License-Identifier: GPL-2.0-or-later
// The shared page as a hostile worker leaves it.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "vtpm/link/mailbox_host.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    using namespace banyan::vtpm;
    static Mailbox box;
    std::memset(&box, 0, sizeof(box));
    MailboxHost host;
    host.attach(&box);
    std::vector<std::uint8_t> into(kTpmBufferSize);
    const std::vector<std::uint8_t> command(12, 0x55);
    std::size_t at = 0;
    const auto next = [&] { return at < size ? data[at++] : std::uint8_t{0}; };
    auto op = Op::kCommand;
    while (at < size) {
        const std::uint8_t what = next();
        if (!host.pending()) {
            op = static_cast<Op>(1 + what % 9);
            host.post(op, 4, {command.data(), what % 13U});
        }
        // The worker may write anywhere in the page.
        auto *page = reinterpret_cast<std::uint8_t *>(&box);
        switch (what >> 6) {
        case 0:
            box.worker.response = box.host.request;
            box.worker.size = static_cast<std::uint32_t>(next() << 8 | next());
            box.worker.status = next();
            break;
        case 1:
            page[(static_cast<unsigned>(next()) << 8 | next()) % sizeof(box)] = next();
            break;
        case 2:
            for (unsigned i = next() % 32; i > 0; --i) {
                box.answer[i] = next();
            }
            break;
        default:
            box.worker.response = box.host.request;
            box.worker.status = 0;
            box.worker.size = 10 + next() % 16;
            box.answer[0] = 0x80;
            box.answer[1] = 1 + next() % 3;
            box.answer[5] = static_cast<std::uint8_t>(box.worker.size);
            break;
        }
        const auto answer = host.collect(into);
        if (answer && answer->kind == Answer::Kind::kOk && answer->size != 0 &&
            !(op == Op::kReadState && answer->size >= sizeof(std::uint32_t)) &&
            !response_header_ok({into.data(), answer->size})) {
            std::abort();
        }
        if (host.pending() && answer) {
            std::abort();
        }
    }
    return 0;
}
