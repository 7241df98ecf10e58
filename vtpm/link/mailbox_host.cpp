// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/link/mailbox_host.hpp"

#include <algorithm>
#include <cstring>

namespace banyan::vtpm {

void MailboxHost::post(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes)
{
    const std::uint32_t number = posted_.load(std::memory_order_relaxed) + 1;
    op_ = op;
    shared_store(box_->host.op, static_cast<std::uint32_t>(op));
    shared_store(box_->host.locality, locality);
    shared_store(box_->host.size, static_cast<std::uint32_t>(bytes.size()));
    std::copy(bytes.begin(), bytes.end(), box_->command);
    posted_.store(number, std::memory_order_relaxed);
    pending_.store(true, std::memory_order_relaxed);
    announce(box_->host.request, number);
    if (look(box_->worker.dozes) != 0) {
        futex_wake_all(box_->host.request);
    }
}

std::optional<Answer> MailboxHost::collect(std::span<std::uint8_t> into)
{
    const std::uint32_t posted = posted_.load(std::memory_order_relaxed);
    const std::uint32_t answered = shared_load(box_->worker.response);
    if (!pending() || answered == posted - 1) {
        return std::nullopt;
    }
    pending_.store(false, std::memory_order_relaxed);
    const Answer hostile{Answer::Kind::kHostile, 0};
    if (answered != posted) {
        return hostile;
    }
    const auto status = static_cast<WorkerStatus>(shared_load(box_->worker.status));
    if (status == WorkerStatus::kRefused) {
        return Answer{Answer::Kind::kRefused, 0};
    }
    if (status != WorkerStatus::kOk && status != WorkerStatus::kStoreFailed) {
        return hostile;
    }
    std::size_t size = 0;
    if (op_ == Op::kCommand || op_ == Op::kReadState) {
        size = shared_load(box_->worker.size);
        if (size > into.size() || size > kTpmBufferSize) {
            return hostile;
        }
        std::memcpy(into.data(), box_->answer, size);
        if (op_ == Op::kCommand ? !response_header_ok(into.first(size)) : size < sizeof(std::uint32_t)) {
            return hostile;
        }
    }
    return Answer{status == WorkerStatus::kOk ? Answer::Kind::kOk : Answer::Kind::kStoreFailed, size};
}

} // namespace banyan::vtpm
