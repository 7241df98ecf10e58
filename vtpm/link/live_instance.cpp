// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/link/live_instance.hpp"

#include <cstring>
#include <sys/epoll.h>

#include "vtpm/link/snapshot.hpp"

namespace banyan::vtpm {
namespace {

constexpr unsigned kVainMax = 16; // of rings; a start rings, too

} // namespace

Status LiveInstance::start(bool restore)
{
    drop_life();
    auto life = Life::make(++lives_, engine_.crowd());
    if (!life) {
        return fail(Errc::kNoSpace);
    }
    life_ = std::move(life);
    unsent_ = restore ? ControlKind::kRestore : ControlKind::kSpawn;
    started_at_ = monotonic_ns();
    return send_start();
}

void LiveInstance::stop()
{
    if (!life_ || stopped_ == life_->number()) {
        return;
    }
    ControlMessage message;
    message.kind = ControlKind::kKill;
    message.instance = index_;
    message.life = unsent_ ? told_ : life_->number(); // of an unsent life the zygote knows nothing
    if (message.life == 0 || engine_.send(message, nullptr, 0)) {
        stopped_ = life_->number();
        if (unsent_.has_value()) {
            unsent_.reset();
            drop_life();
        }
    }
}

Status LiveInstance::erase()
{
    ControlMessage message;
    message.kind = ControlKind::kErase;
    message.instance = index_;
    return engine_.send(message, nullptr, 0);
}

bool LiveInstance::erased()
{
    engine_.pump();
    return engine_.is_erased(index_);
}

Health LiveInstance::health()
{
    if (!life_) {
        return Health::kOff;
    }
    if (unsent_ && !send_start()) {
        return Health::kDead;
    }
    const bool ready = life_->host().ready();
    const bool hangs = !ready && monotonic_ns() - started_at_ > kWatchdogNs;
    if (hangs || life_->overdue()) {
        stop();
        return hangs ? Health::kRefused : Health::kDead;
    }
    if (life_->dead()) {
        engine_.pump(); // how it died
        return !ready && life_->host().gave_up() ? Health::kRefused : Health::kDead;
    }
    return ready ? Health::kReady : Health::kBooting;
}

Status LiveInstance::post(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes)
{
    if (!life_ || life_->host().pending() || bytes.size() > kTpmBufferSize) {
        return fail(Errc::kBadState);
    }
    if (vain_ != 0) { // a new request, a new chance
        hush();
        vain_ = 0;
    }
    life_->post(op, locality, bytes);
    return {};
}

std::optional<Answer> LiveInstance::collect(std::span<std::uint8_t> into)
{
    return life_ ? life_->collect(into) : std::nullopt;
}

bool LiveInstance::gave_up()
{
    return life_ && life_->dead() && life_->host().gave_up();
}

void LiveInstance::cancel()
{
    if (life_) {
        life_->cancel();
    }
}

int LiveInstance::bell()
{
    if (!bell_.ok()) {
        bell_.reset(::epoll_create1(EPOLL_CLOEXEC));
    }
    return bell_.get();
}

void LiveInstance::ring_when_done()
{
    if (!bell_.ok() || !life_ || heard_) {
        return;
    }
    heard_ = true;
    const auto watch = [&](int fd) {
        epoll_event event{EPOLLIN, {}};
        (void)::epoll_ctl(bell_.get(), EPOLL_CTL_ADD, fd, &event);
    };
    watch(life_->line());
    if (vain_ < kVainMax) { // one that rings for fun is not listened to
        watch(life_->own_bell());
        life_->listen_once();
    }
}

void LiveInstance::hush()
{
    if (!heard_) {
        return;
    }
    heard_ = false;
    // Not left to closing them: a worker that dies holds its bell a little longer.
    (void)::epoll_ctl(bell_.get(), EPOLL_CTL_DEL, life_->own_bell(), nullptr);
    (void)::epoll_ctl(bell_.get(), EPOLL_CTL_DEL, life_->line(), nullptr);
    vain_ += life_->host().pending() && !life_->host().answered() ? 1 : 0;
    life_->hush();
}

std::uint32_t LiveInstance::restores()
{
    if (life_ && life_->host().ready()) {
        restores_ = life_->host().restores();
    }
    return restores_;
}

Result<std::vector<std::uint8_t>> LiveInstance::seal(const SealOrder &order, std::span<const std::uint8_t> interface,
                                                     std::string &why)
{
    std::vector<std::uint8_t> file(sizeof(order) + interface.size());
    std::memcpy(file.data(), &order, sizeof(order));
    std::copy(interface.begin(), interface.end(), file.begin() + sizeof(order));
    if (const Status done = engine_.ask(ControlKind::kSeal, index_, &file, why); !done) {
        return fail(done.error());
    }
    return file;
}

Result<std::vector<std::uint8_t>> LiveInstance::open(std::span<const std::uint8_t> part, std::string &why)
{
    std::vector<std::uint8_t> file(part.begin(), part.end());
    if (const Status done = engine_.ask(ControlKind::kOpen, index_, &file, why); !done) {
        return fail(done.error());
    }
    return file;
}

Status LiveInstance::install(std::string &why)
{
    drop_life();
    return engine_.ask(ControlKind::kInstall, index_, nullptr, why);
}

void LiveInstance::drop_life()
{
    hush();
    life_ = nullptr;
}

Status LiveInstance::send_start()
{
    ControlMessage message;
    message.kind = *unsent_;
    message.instance = index_;
    message.life = life_->number();
    message.setup = setup_;
    const auto fds = life_->far_ends();
    const Status sent = engine_.send(message, fds.data(), kSpawnFds);
    if (!sent && sent.error() == Errc::kBusy) {
        return {};
    }
    unsent_.reset();
    if (!sent) {
        drop_life();
        return sent;
    }
    told_ = life_->number();
    life_->given_away();
    return {};
}

} // namespace banyan::vtpm
