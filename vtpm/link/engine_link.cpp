// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/link/engine_link.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <new>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vtpm/link/giving_way.hpp"
#include "vtpm/link/mailbox_host.hpp"
#include "vtpm/link/snapshot.hpp"

namespace banyan::vtpm {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kWatchdogNs = 60 * kSecond; // no TPM command takes that long; RSA keys take up to seconds
constexpr std::uint64_t kSliceNs = 10'000'000;      // of a sleep: the zygote tells of a death, if it lives itself
constexpr unsigned kVainMax = 16;                   // of rings; a start rings, too
constexpr std::uint64_t kLookNs = 200'000;          // between two looks whether a worker has died
constexpr std::uint64_t kHelloNs = 20 * kSecond;
constexpr std::uint64_t kAskNs = 20 * kSecond;   // the keeper flushes files, or waits for another machine's to end
constexpr std::uint64_t kAskSliceNs = 5'000'000; // somebody else may have taken in the answer

timespec to_timespec(std::uint64_t ns)
{
    return {static_cast<time_t>(ns / kSecond), static_cast<long>(ns % kSecond)};
}

class Fd {
public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    Fd(Fd &&other) noexcept : fd_(other.release()) {}
    Fd &operator=(Fd &&other) noexcept
    {
        reset(other.release());
        return *this;
    }
    Fd(const Fd &) = delete;
    Fd &operator=(const Fd &) = delete;
    ~Fd() { reset(-1); }
    [[nodiscard]] int get() const { return fd_; }
    [[nodiscard]] bool ok() const { return fd_ >= 0; }
    int release()
    {
        const int fd = fd_;
        fd_ = -1;
        return fd;
    }
    void reset(int fd)
    {
        if (fd_ >= 0) {
            ::close(fd_);
        }
        fd_ = fd;
    }

private:
    int fd_ = -1;
};

/// A life holds two descriptors here, and hands two over when it starts. The soft limit of most systems is 1024.
void make_room_for(std::uint32_t instances)
{
    constexpr rlim_t kOfTheProgram = 512;
    const rlim_t wanted = kOfTheProgram + 4 * static_cast<rlim_t>(instances);
    rlimit files{};
    if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < wanted) {
        files.rlim_cur = std::min(wanted, files.rlim_max);
        (void)::setrlimit(RLIMIT_NOFILE, &files);
    }
}

bool make_pair(int type, Fd &one, Fd &other)
{
    int fds[2];
    if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) != 0) {
        return false;
    }
    one.reset(fds[0]);
    other.reset(fds[1]);
    return true;
}

/// One life of one worker: its mailbox and bells. The mailbox's size is sealed, so that a worker cannot take pages away
/// from under QEMU.
class Life final : public Waiter {
public:
    static std::shared_ptr<Life> make(std::uint32_t number, const std::shared_ptr<Crowd> &crowd)
    {
        auto life = std::shared_ptr<Life>(new (std::nothrow) Life(number, crowd));
        return life && life->prepare() ? life : nullptr;
    }

    ~Life() override
    {
        if (box_ != nullptr) {
            ::munmap(box_, sizeof(Mailbox));
        }
    }
    Life(const Life &) = delete;
    Life &operator=(const Life &) = delete;

    [[nodiscard]] std::array<int, kSpawnFds> far_ends() const { return {memory_.get(), bell_.get(), far_line_.get()}; }
    void given_away()
    {
        memory_.reset(-1);
        far_line_.reset(-1);
    }

    [[nodiscard]] std::uint32_t number() const { return number_; }
    [[nodiscard]] const MailboxHost &host() const { return host_; }

    [[nodiscard]] bool dead()
    {
        const std::uint64_t now = monotonic_ns();
        if (!dead_ && (hung_ || now - looked_at_ >= kLookNs)) {
            looked_at_ = now;
            dead_ = hung_up();
        }
        return dead_;
    }

    void post(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes)
    {
        if (listened_) {
            std::uint64_t stale = 0;
            (void)!::read(bell_.get(), &stale, sizeof(stale));
        }
        posted_at_ = monotonic_ns();
        host_.post(op, locality, bytes);
    }

    [[nodiscard]] bool overdue() const { return host_.pending() && monotonic_ns() - posted_at_ > kWatchdogNs; }
    [[nodiscard]] std::optional<Answer> collect(std::span<std::uint8_t> into) { return host_.collect(into); }

    void cancel()
    {
        if (host_.pending()) {
            host_.cancel();
            const char byte = 'c';
            (void)::send(line_.get(), &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
    }

    [[nodiscard]] int bell() override
    {
        if (!listened_.exchange(true)) {
            host_.listen(true);
            ring(); // what happened before was not rung for
        }
        return bell_.get();
    }
    [[nodiscard]] int line() const override { return line_.get(); }

    /// The bell for what is pending alone.
    void listen_once()
    {
        std::uint64_t stale = 0;
        (void)!::read(bell_.get(), &stale, sizeof(stale));
        host_.listen(true);
        if (!host_.pending() || host_.answered()) {
            ring();
        }
    }
    void hush()
    {
        if (!listened_) {
            host_.listen(false);
        }
        if (hung_up()) {
            hung_ = true;
        }
    }
    [[nodiscard]] int own_bell() const { return bell_.get(); }

    void wait(std::uint64_t bound_ns, bool soon) override
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

private:
    void ring()
    {
        const std::uint64_t one = 1;
        (void)!::write(bell_.get(), &one, sizeof(one));
    }

    [[nodiscard]] bool hung_up() const
    {
        pollfd line{line_.get(), 0, 0};
        return ::poll(&line, 1, 0) > 0 && (line.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
    }

    Life(std::uint32_t number, std::shared_ptr<Crowd> crowd) : number_(number), crowd_(std::move(crowd)) {}

    bool prepare()
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

    const std::uint32_t number_;
    Mailbox *box_ = nullptr;
    MailboxHost host_;
    const std::shared_ptr<Crowd> crowd_;
    GivingWay giving_way_;
    Fd memory_;
    Fd bell_;
    Fd line_;
    Fd far_line_;
    std::uint64_t posted_at_ = 0;
    std::uint64_t looked_at_ = 0; // whether it has died
    bool dead_ = false;
    std::atomic<bool> hung_{false}; // who waited for it saw that it has
    std::atomic<bool> listened_{false};
};

class LiveInstance final : public InstanceLink {
public:
    LiveInstance(EngineLink &engine, std::uint32_t index) : engine_(engine), index_(index) {}

    void set_up(const TpmSetup &setup) override { setup_ = setup; }

    Status start(bool restore) override
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

    void stop() override
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

    Status erase() override
    {
        ControlMessage message;
        message.kind = ControlKind::kErase;
        message.instance = index_;
        return engine_.send(message, nullptr, 0);
    }

    bool erased() override
    {
        engine_.pump();
        return engine_.is_erased(index_);
    }

    Health health() override
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

    bool established() override { return life_ && life_->host().established(); }

    Status post(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes) override
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

    std::optional<Answer> collect(std::span<std::uint8_t> into) override
    {
        return life_ ? life_->collect(into) : std::nullopt;
    }

    void cancel() override
    {
        if (life_) {
            life_->cancel();
        }
    }

    std::shared_ptr<Waiter> waiter() override { return life_; }

    int bell() override
    {
        if (!bell_.ok()) {
            bell_.reset(::epoll_create1(EPOLL_CLOEXEC));
        }
        return bell_.get();
    }

    void ring_when_done() override
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

    void hush() override
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

    void report(const char *event, const char *text) override { engine_.report({index_, event, text}); }

    std::uint32_t restores() override
    {
        if (life_ && life_->host().ready()) {
            restores_ = life_->host().restores();
        }
        return restores_;
    }

    Result<std::vector<std::uint8_t>> seal(const SealOrder &order, std::span<const std::uint8_t> interface,
                                           std::string &why) override
    {
        std::vector<std::uint8_t> file(sizeof(order) + interface.size());
        std::memcpy(file.data(), &order, sizeof(order));
        std::copy(interface.begin(), interface.end(), file.begin() + sizeof(order));
        if (const Status done = engine_.ask(ControlKind::kSeal, index_, &file, why); !done) {
            return fail(done.error());
        }
        return file;
    }

    Result<std::vector<std::uint8_t>> open(std::span<const std::uint8_t> part, std::string &why) override
    {
        std::vector<std::uint8_t> file(part.begin(), part.end());
        if (const Status done = engine_.ask(ControlKind::kOpen, index_, &file, why); !done) {
            return fail(done.error());
        }
        return file;
    }

    Status install(std::string &why) override
    {
        drop_life();
        return engine_.ask(ControlKind::kInstall, index_, nullptr, why);
    }

private:
    void drop_life()
    {
        hush();
        life_ = nullptr;
    }

    /// Many instances that start at once fill the socket: who found it full asks again when it is looked at.
    Status send_start()
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

    EngineLink &engine_;
    const std::uint32_t index_;
    TpmSetup setup_;
    std::shared_ptr<Life> life_;
    Fd bell_;                           // an epoll instance
    bool heard_ = false;                // life_'s bell and line are in it
    unsigned vain_ = 0;                 // times that it was hushed before what is pending was done
    std::optional<ControlKind> unsent_; // the start of life_, not told to the zygote yet
    std::uint32_t lives_ = 0;
    std::uint32_t told_ = 0; // the last life that the zygote was asked for
    std::uint32_t stopped_ = 0;
    std::uint32_t restores_ = 0;
    std::uint64_t started_at_ = 0;
};

template <typename Message>
bool receive(int socket, Message &message, int flags)
{
    const ssize_t got = ::recv(socket, &message, sizeof(message), flags);
    return got == static_cast<ssize_t>(sizeof(message)) && message.version == kControlVersion;
}

bool readable_within(int fd, std::uint64_t bound_ns)
{
    pollfd one{fd, POLLIN, 0};
    const timespec bound = to_timespec(bound_ns);
    int ready = 0;
    do {
        ready = ::ppoll(&one, 1, &bound, nullptr);
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

} // namespace

Result<std::unique_ptr<EngineLink>> EngineLink::start(const Options &options, std::string &why)
{
    make_room_for(options.instances);
    Fd control;
    Fd far_control;
    Fd signer;
    Fd far_signer;
    if (!make_pair(SOCK_SEQPACKET, control, far_control) || !make_pair(SOCK_SEQPACKET, signer, far_signer)) {
        why = "cannot make a socket pair for the vTPM engine: " + std::string(std::strerror(errno));
        return fail(Errc::kIo);
    }
    // Out of the way of the numbers that they get in the child.
    far_control.reset(::fcntl(far_control.get(), F_DUPFD_CLOEXEC, 16));
    far_signer.reset(::fcntl(far_signer.get(), F_DUPFD_CLOEXEC, 16));

    std::string count = std::to_string(options.instances);
    std::string engine = options.engine;
    std::string platform = options.platform;
    char role[] = "zygote";
    char instances_flag[] = "--instances";
    char platform_flag[] = "--platform";
    char rollback_flag[] = "--rollback";
    char rollback[] = "report";
    char sandbox_flag[] = "--require-sandbox";
    char sandbox[] = "full";
    std::string snapshot_key = options.snapshot_key;
    char snapshot_key_flag[] = "--snapshot-key";
    char incoming_flag[] = "--incoming";
    char incoming[] = "yes";
    std::vector<char *> argv{engine.data(), role, instances_flag, count.data()};
    // NOLINTNEXTLINE(readability-non-const-parameter): that is what posix_spawn takes
    const auto add = [&argv](bool wanted, char *flag, char *value) {
        if (wanted) {
            argv.insert(argv.end(), {flag, value});
        }
    };
    add(!platform.empty(), platform_flag, platform.data());
    add(options.accept_rollback, rollback_flag, rollback);
    add(options.full_sandbox, sandbox_flag, sandbox);
    add(!snapshot_key.empty(), snapshot_key_flag, snapshot_key.data());
    add(options.incoming, incoming_flag, incoming);
    argv.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    ::posix_spawn_file_actions_adddup2(&actions, far_control.get(), kZygoteControlFd);
    ::posix_spawn_file_actions_adddup2(&actions, far_signer.get(), kSignerFd);
    sigset_t none;
    sigset_t all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    ::posix_spawnattr_setpgroup(&attributes, 0); // a Ctrl-C on the terminal is QEMU's to handle
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    pid_t pid = -1;
    const int error = ::posix_spawn(&pid, engine.c_str(), &actions, &attributes, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (error != 0) {
        why = "cannot start the vTPM engine " + engine + ": " + std::strerror(error);
        return fail(Errc::kNotFound);
    }
    far_control.reset(-1);
    far_signer.reset(-1);

    std::unique_ptr<EngineLink> link(new (std::nothrow) EngineLink);
    if (!link) {
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
        return fail(Errc::kNoSpace);
    }
    link->zygote_ = pid;
    link->control_ = control.release();
    link->signer_ = signer.release();

    ControlMessage hello;
    if (!readable_within(link->control_, kHelloNs) || !receive(link->control_, hello, 0) ||
        hello.kind != ControlKind::kHello) {
        why = "the vTPM engine " + engine + " did not come up";
        return fail(Errc::kIo);
    }
    hello.text[sizeof(hello.text) - 1] = '\0';
    if (hello.status != 0) {
        why = hello.text;
        return fail(static_cast<Errc>(-hello.status));
    }
    link->sandbox_ = hello.text;
    return link;
}

EngineLink::~EngineLink()
{
    if (zygote_ <= 1) {
        return;
    }
    ::close(control_); // the zygote ends when it sees this, and its workers with it
    ::close(signer_);
    for (int i = 0; i < 200; ++i) {
        const pid_t done = ::waitpid(zygote_, nullptr, WNOHANG);
        if (done == zygote_ || (done < 0 && errno != EINTR)) {
            return;
        }
        const timespec pause = to_timespec(10'000'000);
        ::nanosleep(&pause, nullptr);
    }
    ::kill(zygote_, SIGKILL);
    ::waitpid(zygote_, nullptr, 0);
}

std::unique_ptr<InstanceLink> EngineLink::instance(std::uint32_t index)
{
    return std::unique_ptr<InstanceLink>(new (std::nothrow) LiveInstance(*this, index));
}

Status EngineLink::send(const ControlMessage &message, const int *fds, unsigned count)
{
    iovec part{const_cast<ControlMessage *>(&message), sizeof(message)}; // sendmsg only reads it
    alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int) * kSpawnFds)] = {};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (count != 0) {
        header.msg_control = space;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
        std::memcpy(CMSG_DATA(rights), fds, sizeof(int) * count);
    }
    if (::sendmsg(control_, &header, MSG_DONTWAIT | MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof(message))) {
        return fail(errno == EAGAIN ? Errc::kBusy : Errc::kIo);
    }
    return {};
}

void EngineLink::pump()
{
    const std::lock_guard lock(control_mutex_);
    for (;;) {
        ControlMessage message;
        const ssize_t got = ::recv(control_, &message, sizeof(message), MSG_DONTWAIT);
        if (got == 0 && alive_.exchange(false)) {
            events_.push_back({0, "engine-died", "the vTPM engine has ended"});
            news_ = true;
        }
        if (got != static_cast<ssize_t>(sizeof(message))) {
            return;
        }
        message.event[sizeof(message.event) - 1] = '\0';
        message.text[sizeof(message.text) - 1] = '\0';
        take(message);
    }
}

void EngineLink::take(const ControlMessage &message)
{
    if (message.kind == ControlKind::kErased && message.instance < kMaxInstances && message.status == 0) {
        erased_[message.instance].store(true);
    }
    if (std::strcmp(message.event, kEventRolledBack) == 0) {
        rolled_back_.fetch_add(1, std::memory_order_relaxed);
    }
    if (message.kind == ControlKind::kDone) {
        done_ = message;
    }
    if (message.event[0] != '\0') {
        events_.push_back({message.instance, message.event, message.text});
        news_ = true;
    }
}

void EngineLink::report(LinkEvent event)
{
    const std::lock_guard lock(control_mutex_);
    events_.push_back(std::move(event));
    news_ = true;
}

namespace {

/// Memory that QEMU and the keeper write in turn; its size is sealed, so that nobody takes pages away.
class SharedFile {
public:
    SharedFile() : fd_(::memfd_create("banyan-vtpm-snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING))
    {
        if (fd_.ok() && ::ftruncate(fd_.get(), kSnapshotPartMax) == 0 &&
            ::fcntl(fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
            void *at = ::mmap(nullptr, kSnapshotPartMax, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
            bytes_ = at == MAP_FAILED ? nullptr : static_cast<std::uint8_t *>(at);
        }
    }
    ~SharedFile()
    {
        if (bytes_ != nullptr) {
            ::munmap(bytes_, kSnapshotPartMax);
        }
    }
    SharedFile(const SharedFile &) = delete;
    SharedFile &operator=(const SharedFile &) = delete;
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] std::uint8_t *bytes() const { return bytes_; }

private:
    Fd fd_;
    std::uint8_t *bytes_ = nullptr;
};

} // namespace

Status EngineLink::ask(ControlKind kind, std::uint32_t instance, std::vector<std::uint8_t> *file, std::string &why)
{
    const std::lock_guard one_at_a_time(ask_mutex_);
    const auto refuse = [&](Errc code, const char *text) {
        why = text;
        return fail(code);
    };
    std::optional<SharedFile> memory;
    if (file != nullptr) {
        memory.emplace();
        if (memory->bytes() == nullptr || file->size() > kSnapshotPartMax) {
            return refuse(Errc::kNoSpace, "no memory for the snapshot");
        }
        std::copy(file->begin(), file->end(), memory->bytes());
    }
    ControlMessage message;
    message.kind = kind;
    message.instance = instance;
    message.life = ++asked_;
    message.status = file != nullptr ? static_cast<std::int32_t>(file->size()) : 0;
    const int fd = memory ? memory->fd() : -1;
    const std::uint64_t begun = monotonic_ns();
    Status sent = fail(Errc::kBusy);
    while (!sent) {
        sent = send(message, &fd, file != nullptr ? 1 : 0);
        if (!sent && (sent.error() != Errc::kBusy || monotonic_ns() - begun > kAskNs)) {
            return refuse(Errc::kIo, "the vTPM engine does not answer");
        }
    }
    for (;;) {
        pump();
        {
            const std::lock_guard lock(control_mutex_);
            if (done_ && done_->life == asked_) {
                break;
            }
        }
        if (!alive() || monotonic_ns() - begun > kAskNs) {
            return refuse(Errc::kIo, "the vTPM engine does not answer");
        }
        (void)readable_within(control_, kAskSliceNs);
    }
    const std::lock_guard lock(control_mutex_);
    const ControlMessage done = *done_;
    done_.reset();
    if (done.status < 0) {
        return refuse(static_cast<Errc>(-done.status), done.text);
    }
    if (file != nullptr) {
        const auto size = static_cast<std::size_t>(done.status);
        if (size > kSnapshotPartMax) {
            return refuse(Errc::kIo, "the vTPM engine answered with nonsense");
        }
        file->assign(memory->bytes(), memory->bytes() + size);
    }
    return {};
}

bool EngineLink::is_erased(std::uint32_t instance) const
{
    return instance < erased_.size() && erased_[instance].load();
}

std::vector<LinkEvent> EngineLink::take_events()
{
    std::vector<LinkEvent> events;
    if (!news_.load(std::memory_order_relaxed)) {
        return events;
    }
    const std::lock_guard lock(control_mutex_);
    events.swap(events_);
    news_ = false;
    return events;
}

Status EngineLink::sign(std::uint32_t slot, const banyan_report_facts &facts)
{
    const std::lock_guard lock(sign_mutex_);
    if (slot >= kSignSlots) {
        return fail(Errc::kBadArgument);
    }
    Slot &mine = slots_[slot];
    if (mine.busy && !mine.reply) {
        return fail(Errc::kBusy);
    }
    SignRequest request;
    request.slot = slot;
    request.ticket = ++next_ticket_;
    request.facts = facts;
    if (::send(signer_, &request, sizeof(request), MSG_DONTWAIT | MSG_NOSIGNAL) !=
        static_cast<ssize_t>(sizeof(request))) {
        return fail(errno == EAGAIN ? Errc::kBusy : Errc::kIo);
    }
    mine = {true, request.ticket, std::nullopt};
    return {};
}

void EngineLink::drain_signer()
{
    SignReply reply;
    while (receive(signer_, reply, MSG_DONTWAIT)) {
        if (reply.slot < kSignSlots && slots_[reply.slot].busy && slots_[reply.slot].ticket == reply.ticket &&
            reply.size <= BANYAN_REPORT_MAX) {
            slots_[reply.slot].reply = reply;
        }
    }
}

banyan_status EngineLink::sign_poll(std::uint32_t slot, std::uint8_t *out, std::uint32_t *size, bool wait)
{
    const std::lock_guard lock(sign_mutex_);
    if (slot >= kSignSlots || !slots_[slot].busy) {
        return -static_cast<banyan_status>(Errc::kBadState);
    }
    Slot &mine = slots_[slot];
    drain_signer();
    const std::uint64_t begun = monotonic_ns();
    while (wait && !mine.reply && monotonic_ns() - begun < kWatchdogNs && readable_within(signer_, kWatchdogNs)) {
        pollfd one{signer_, 0, 0};
        if (::poll(&one, 1, 0) > 0) {
            break; // hung up
        }
        drain_signer();
    }
    if (!mine.reply) {
        pollfd one{signer_, 0, 0};
        if (::poll(&one, 1, 0) > 0 && (one.revents & (POLLHUP | POLLERR)) != 0) {
            mine.busy = false;
            return -static_cast<banyan_status>(Errc::kIo);
        }
        return BANYAN_BUSY;
    }
    mine.busy = false;
    const SignReply &reply = *mine.reply;
    if (reply.status == 0) {
        std::memcpy(out, reply.bytes, reply.size);
        *size = reply.size;
    }
    const banyan_status status = reply.status;
    mine.reply.reset();
    return status;
}

} // namespace banyan::vtpm
