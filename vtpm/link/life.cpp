// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/link/life.hpp"

#include <algorithm>
#include <fcntl.h>
#include <new>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

namespace banyan::vtpm {
namespace {

constexpr std::uint64_t kSliceNs = 10'000'000; // of a sleep: the zygote tells of a death, if it lives itself
constexpr std::uint64_t kLookNs = 200'000;     // between two looks whether a worker has died

} // namespace

std::shared_ptr<Life> Life::make(std::uint32_t number, const std::shared_ptr<Crowd> &crowd)
{
    auto life = std::shared_ptr<Life>(new (std::nothrow) Life(number, crowd));
    return life && life->prepare() ? life : nullptr;
}

Life::~Life()
{
    if (box_ != nullptr) {
        ::munmap(box_, sizeof(Mailbox));
    }
}

void Life::given_away()
{
    memory_.reset(-1);
    far_line_.reset(-1);
}

bool Life::dead()
{
    const std::uint64_t now = monotonic_ns();
    if (!dead_ && (hung_ || now - looked_at_ >= kLookNs)) {
        looked_at_ = now;
        dead_ = hung_up();
    }
    return dead_;
}

void Life::post(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes)
{
    if (listened_) {
        std::uint64_t stale = 0;
        (void)!::read(bell_.get(), &stale, sizeof(stale));
    }
    posted_at_ = monotonic_ns();
    host_.post(op, locality, bytes);
}

void Life::cancel()
{
    if (host_.pending()) {
        host_.cancel();
        const char byte = 'c';
        (void)::send(line_.get(), &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

int Life::bell()
{
    if (!listened_.exchange(true)) {
        host_.listen(true);
        ring(); // what happened before was not rung for
    }
    return bell_.get();
}

void Life::listen_once()
{
    std::uint64_t stale = 0;
    (void)!::read(bell_.get(), &stale, sizeof(stale));
    host_.listen(true);
    if (!host_.pending() || host_.answered()) {
        ring();
    }
}

void Life::hush()
{
    if (!listened_) {
        host_.listen(false);
    }
    if (hung_up()) {
        hung_ = true;
    }
}

void Life::wait(std::uint64_t bound_ns, bool soon)
{
    const std::uint64_t begun = monotonic_ns();
    const Crowd::Member member(*crowd_);
    const bool booting = !host_.pending();
    const auto there = [&] { return booting ? host_.ready() : !host_.pending() || host_.answered(); };
    unsigned turns = 0;
    for (;;) {
        const std::uint64_t now = monotonic_ns();
        const std::uint64_t spent = now - begun;
        if (there() || spent >= bound_ns) {
            return;
        }
        const bool crowded = crowd_->more_than_cores();
        host_.tell_crowded(crowded);
        if (soon && !booting && giving_way_.turn(turns++, now, crowded)) {
            continue;
        }
        (void)host_.sleep(std::min(bound_ns - spent, kSliceNs), there);
        if (!there() && hung_up()) {
            hung_ = true;
            return;
        }
    }
}

void Life::ring()
{
    const std::uint64_t one = 1;
    (void)!::write(bell_.get(), &one, sizeof(one));
}

bool Life::hung_up() const
{
    pollfd line{line_.get(), 0, 0};
    return ::poll(&line, 1, 0) > 0 && (line.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

bool Life::prepare()
{
    memory_.reset(::memfd_create("banyan-vtpm-mailbox", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    bell_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!memory_.ok() || !bell_.ok() || !make_pair(SOCK_STREAM, line_, far_line_) ||
        ::ftruncate(memory_.get(), sizeof(Mailbox)) != 0 ||
        ::fcntl(memory_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return false;
    }
    void *at = ::mmap(nullptr, sizeof(Mailbox), PROT_READ | PROT_WRITE, MAP_SHARED, memory_.get(), 0);
    if (at == MAP_FAILED) {
        return false;
    }
    box_ = static_cast<Mailbox *>(at);
    host_.attach(box_);
    return true;
}

} // namespace banyan::vtpm
