// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/pool.hpp"

#include <algorithm>
#include <unistd.h>
#include <utility>

#include <openssl/crypto.h>

#include "vtpm/store/store.hpp"

namespace banyan::vtpm {

void Pool::want(std::uint32_t instance)
{
    if (std::find(waiting_.begin(), waiting_.end(), instance) == waiting_.end()) {
        waiting_.push_back(instance);
    }
}

void Pool::forget(std::uint32_t instance)
{
    waiting_.erase(std::remove(waiting_.begin(), waiting_.end(), instance), waiting_.end());
}

std::optional<Pool::Grant> Pool::grant()
{
    if (ready_.empty() || waiting_.empty()) {
        return std::nullopt;
    }
    const std::uint32_t instance = waiting_.front();
    waiting_.pop_front();
    return give(instance);
}

std::optional<Pool::Grant> Pool::grant_ahead(std::uint32_t instance)
{
    if (ready_.empty() || !waiting_.empty()) {
        return std::nullopt;
    }
    return give(instance);
}

Pool::Grant Pool::give(std::uint32_t instance)
{
    const Grant grant{instance, ready_.front().ticket, ready_.front().names};
    ready_.pop_front();
    --unmade_;
    return grant;
}

Pool::Need Pool::need() const
{
    if (!waiting_.empty()) {
        // One in the background does not count: it may never get the processor.
        return urgent_ < std::min<std::size_t>(waiting_.size(), kMakersAtOnce) ? Need::kUrgent : Need::kNone;
    }
    const std::size_t wanted = std::min(kPoolDepth, unmade_);
    return works_ && urgent_ + ahead_ == 0 && ready_.size() < wanted ? Need::kAhead : Need::kNone;
}

void Pool::begun(Need maker)
{
    ++(maker == Need::kUrgent ? urgent_ : ahead_);
}

void Pool::ended(Need maker)
{
    --(maker == Need::kUrgent ? urgent_ : ahead_);
}

std::uint32_t Pool::made(Need maker, const SignerNames &names)
{
    ended(maker);
    works_ = true;
    ready_.push_back({next_ticket_, names});
    return next_ticket_++;
}

std::optional<std::uint32_t> Pool::failed(Need maker)
{
    ended(maker);
    works_ = false;
    if (waiting_.empty()) {
        return std::nullopt;
    }
    const std::uint32_t instance = waiting_.front();
    waiting_.pop_front();
    return instance;
}

void Pool::spoilt(std::uint32_t ticket)
{
    std::erase_if(ready_, [&](const Ready &one) { return one.ticket == ticket; });
    works_ = false;
}

Stock::~Stock()
{
    for (auto &[ticket, state] : states_) {
        OPENSSL_cleanse(state.data(), state.size());
    }
}

bool Stock::put(std::uint32_t ticket, int file)
{
    const off_t size = ::lseek(file, 0, SEEK_END);
    if (size <= 0 || size > static_cast<off_t>(kPermanentMax) || states_.contains(ticket)) {
        return false;
    }
    std::vector<std::uint8_t> state(static_cast<std::size_t>(size));
    const bool whole = ::pread(file, state.data(), state.size(), 0) == size;
    const std::vector<std::uint8_t> zeros(state.size());
    const bool wiped = ::pwrite(file, zeros.data(), zeros.size(), 0) == size;
    if (!whole || !wiped) {
        OPENSSL_cleanse(state.data(), state.size());
        return false;
    }
    states_.emplace(ticket, std::move(state));
    return true;
}

std::optional<std::vector<std::uint8_t>> Stock::take(std::uint32_t ticket)
{
    const auto at = states_.find(ticket);
    if (at == states_.end()) {
        return std::nullopt;
    }
    std::vector<std::uint8_t> state = std::move(at->second);
    states_.erase(at);
    return state;
}

} // namespace banyan::vtpm
