// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/serve/server.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vtpm/serve/streams.hpp"

namespace banyan::vtpm {
namespace {

constexpr unsigned kConnectionsMax = 64; // of an instance
constexpr std::size_t kRefusedToldMax = 16;
constexpr unsigned kRequestsInTurn = 16; // of a connection, before the others have theirs
constexpr unsigned kAcceptsInTurn = 64;
constexpr int kAskAgainMs = 10;
constexpr int kLookMs = 1000; // a worker that hangs is ended by its link when somebody looks

} // namespace

Opened<std::unique_ptr<Server>> Server::open(const ServerOptions &options, const TpmInformation &information,
                                             EngineLink &engine)
{
    std::unique_ptr<Server> server(new Server(engine));
    sigset_t ends;
    ::sigemptyset(&ends);
    for (const int one : {SIGINT, SIGTERM, SIGHUP}) {
        ::sigaddset(&ends, one);
    }
    ::sigprocmask(SIG_BLOCK, &ends, nullptr);
    server->signals_.reset(::signalfd(-1, &ends, SFD_NONBLOCK | SFD_CLOEXEC));
    server->spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    if (auto why = server->listen(options, information)) {
        return tl::unexpected<std::string>(std::move(*why));
    }
    return server;
}

Server::~Server()
{
    for (const std::string &path : paths_) {
        ::unlink(path.c_str());
    }
}

std::optional<std::string> Server::listen(const ServerOptions &options, const TpmInformation &information)
{
    auto folder = hold_folder(options.folder);
    if (!folder) {
        return folder.error();
    }
    folder_ = std::move(*folder);
    const auto add_unix = [&](const std::string &path, Kind kind,
                              std::uint32_t instance) -> std::optional<std::string> {
        auto fd = listen_unix(path);
        if (!fd) {
            return fd.error();
        }
        paths_.push_back(path);
        listeners_.push_back({std::move(*fd), kind, instance});
        return std::nullopt;
    };
    const auto add_pair = [&](Kind first, Kind second, std::uint32_t instance,
                              std::uint16_t &port) -> std::optional<std::string> {
        auto pair = listen_port_pair(0);
        if (!pair) {
            return pair.error();
        }
        port = pair->port;
        listeners_.push_back({std::move(pair->first), first, instance});
        listeners_.push_back({std::move(pair->second), second, instance});
        return std::nullopt;
    };
    for (std::uint32_t i = 0; i < options.instances; ++i) {
        Endpoints at;
        at.data = options.folder + "/vtpm" + std::to_string(i);
        at.control = at.data + ".ctrl";
        std::optional<std::string> why = add_unix(at.data, Kind::kCommands, i);
        why = why ? why : add_unix(at.control, Kind::kControl, i);
        if (!why && options.tcp) {
            why = add_pair(Kind::kCommands, Kind::kControl, i, at.tcp);
        }
        if (!why && options.mssim) {
            at.mssim = at.data + ".mssim";
            why = add_unix(at.mssim, Kind::kMssimCommands, i);
            why = why ? why : add_unix(at.mssim + ".ctrl", Kind::kMssimPlatform, i);
            why = why ? why : add_pair(Kind::kMssimCommands, Kind::kMssimPlatform, i, at.mssim_tcp);
        }
        if (why) {
            return why;
        }
        endpoints_.push_back(std::move(at));
        served_.push_back({std::make_unique<ControlMachine>(options.policy, information, engine_.instance(i)), {}, 0});
        if (options.power_on) {
            Request init;
            init.verb = Verb::kInit;
            served_.back().machine->request(0, std::move(init));
        }
    }
    return std::nullopt;
}

Server::Id Server::add(ServeFd fd, Kind kind, std::uint32_t instance)
{
    std::unique_ptr<ClientStream> stream;
    switch (kind) {
    case Kind::kControl:
        stream = std::make_unique<ControlStream>();
        break;
    case Kind::kCommands:
        stream = std::make_unique<CommandStream>();
        break;
    case Kind::kMssimCommands:
        stream = std::make_unique<MssimCommandStream>();
        break;
    case Kind::kMssimPlatform:
        stream = std::make_unique<MssimPlatformStream>();
        break;
    }
    ++served_[instance].connections;
    const Id id = next_id_++;
    Connection connection;
    connection.fd = std::move(fd);
    connection.kind = kind;
    connection.instance = instance;
    connection.stream = std::move(stream);
    connections_.emplace(id, std::move(connection));
    return id;
}

void Server::accept(const Listener &listener)
{
    for (unsigned i = 0; i < kAcceptsInTurn && accept_one(listener); ++i) {
    }
}

/// False: nobody waits.
bool Server::accept_one(const Listener &listener)
{
    ServeFd fd(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) {
        if (errno == EMFILE || errno == ENFILE) { // else poll() would say again and again that somebody waits
            spare_.reset(-1);
            fd.reset(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
            fd.reset(-1);
            spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        }
        return false;
    }
    const std::optional<uid_t> peer = peer_of(fd.get());
    if (!peer_allowed(peer)) {
        tell_refused(listener.instance, peer);
    } else if (served_[listener.instance].connections < kConnectionsMax) {
        (void)add(std::move(fd), listener.kind, listener.instance);
    }
    return true;
}

/// All that a refused client sees is the end of its connection; each user is told of once, and not without end.
void Server::tell_refused(std::uint32_t instance, std::optional<uid_t> peer)
{
    if (refused_.size() == kRefusedToldMax || !refused_.insert(peer).second) {
        return;
    }
    (void)std::fprintf(stderr,
                       "banyan: instance %u: refused: a client of user %s; clients are of user %u or root: serve as "
                       "the user that the clients have\n",
                       instance, peer ? std::to_string(*peer).c_str() : "unknown", ::geteuid());
}

void Server::receive(Connection &connection)
{
    const std::size_t have = connection.in.size();
    connection.in.resize(ClientStream::kInputMax);
    Received received =
        receive_some(connection.fd.get(), std::span(connection.in).subspan(have), connection.kind == Kind::kControl);
    connection.in.resize(have + received.size);
    if (received.passed) {
        connection.passed = std::move(received.passed);
    }
    connection.ended = connection.ended || received.closed;
}

/// Requests out of what was received, one at a time: the next when the last was replied to.
void Server::advance(Id id, Connection &connection)
{
    connection.more = false;
    for (unsigned i = 0; !connection.waiting && !connection.closing; ++i) {
        if (i == kRequestsInTurn) {
            connection.more = true;
            return;
        }
        ClientStream::Taken taken = connection.stream->take(connection.in);
        connection.in.erase(connection.in.begin(), connection.in.begin() + static_cast<long>(taken.consumed));
        if (taken.broken) {
            connection.closing = true;
            return;
        }
        if (!taken.request) {
            if (taken.consumed == 0) {
                break;
            }
            continue;
        }
        if (taken.request->verb == Verb::kSetDataFd) {
            take_data_fd(connection, *taken.request);
        }
        const bool ends = taken.request->verb == Verb::kShutdown;
        connection.waiting = true;
        served_[connection.instance].machine->request(id, std::move(*taken.request));
        deliver(connection.instance);
        connection.closing = connection.closing || ends;
    }
    if (connection.ended && !connection.waiting) { // what is left of its bytes is no request
        connection.closing = true;
    }
}

void Server::take_data_fd(Connection &connection, Request &request)
{
    ServeFd fd = std::move(connection.passed);
    if (fd && is_socket(fd.get()) && set_nonblocking(fd.get()) &&
        served_[connection.instance].connections < kConnectionsMax) {
        (void)add(std::move(fd), Kind::kCommands, connection.instance);
        request.number = 1;
    }
}

/// The machine's answers to the clients that asked.
void Server::deliver(std::uint32_t instance)
{
    while (auto answer = served_[instance].machine->next_answer()) {
        const auto at = connections_.find(answer->client);
        if (at == connections_.end()) {
            continue;
        }
        Connection &connection = at->second;
        auto encoded = connection.stream->encode(answer->reply);
        connection.out.insert(connection.out.end(), encoded.bytes.begin(), encoded.bytes.end());
        connection.waiting = false;
        connection.closing = connection.closing || encoded.close;
        flush(connection);
    }
}

void Server::flush(Connection &connection)
{
    while (connection.out_at < connection.out.size()) {
        const ssize_t put = ::send(connection.fd.get(), connection.out.data() + connection.out_at,
                                   connection.out.size() - connection.out_at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                connection.out.clear();
                connection.out_at = 0;
                connection.ended = true;
                connection.closing = true;
            }
            return;
        }
        connection.out_at += static_cast<std::size_t>(put);
    }
    connection.out.clear();
    connection.out_at = 0;
}

void Server::drop_finished()
{
    for (auto at = connections_.begin(); at != connections_.end();) {
        const Connection &connection = at->second;
        if (connection.closing && connection.out.empty()) {
            served_[connection.instance].machine->forget(at->first);
            --served_[connection.instance].connections;
            at = connections_.erase(at);
        } else {
            ++at;
        }
    }
}

void Server::tell_news()
{
    engine_.pump();
    for (const LinkEvent &event : engine_.take_events()) {
        (void)std::fprintf(stderr, "banyan: instance %u: %s: %s\n", event.instance, event.kind.c_str(),
                           event.text.c_str());
    }
}

void Server::look_after_workers()
{
    for (std::uint32_t i = 0; i < served_.size(); ++i) {
        if (served_[i].machine->busy()) {
            served_[i].machine->service();
            deliver(i);
        }
    }
}

std::optional<Server::End> Server::turn()
{
    enum class What : std::uint8_t { kSignals, kEngine, kListener, kConnection, kBell, kLine };
    struct Whose {
        What what;
        std::uint64_t which;
    };
    std::vector<pollfd> fds{{signals_.get(), POLLIN, 0}, {engine_.news(), POLLIN, 0}};
    std::vector<Whose> whose{{What::kSignals, 0}, {What::kEngine, 0}};
    const auto watch = [&](int fd, short events, What what, std::uint64_t which) {
        fds.push_back({fd, events, 0});
        whose.push_back({what, which});
    };
    for (std::size_t i = 0; i < listeners_.size(); ++i) {
        watch(listeners_[i].fd.get(), POLLIN, What::kListener, i);
    }
    int timeout_ms = -1;
    for (std::uint32_t i = 0; i < served_.size(); ++i) {
        if (served_[i].machine->asks_again()) {
            timeout_ms = kAskAgainMs;
        } else if (served_[i].machine->busy() && timeout_ms < 0) {
            timeout_ms = kLookMs;
        }
        const ServeState state = served_[i].machine->state();
        served_[i].waiter = served_[i].machine->waiter();
        if (served_[i].waiter && state != ServeState::kOff && state != ServeState::kFailed) {
            watch(served_[i].waiter->bell(), POLLIN, What::kBell, i);
            watch(served_[i].waiter->line(), 0, What::kLine, i); // says that the worker has died
        }
    }
    for (const auto &[id, connection] : connections_) {
        const bool sending = !connection.out.empty();
        const bool reading = !connection.waiting && !connection.closing && !sending && !connection.ended &&
                             connection.in.size() < ClientStream::kInputMax;
        if (connection.more && !sending) {
            timeout_ms = 0;
        }
        watch(connection.fd.get(), static_cast<short>((reading ? POLLIN : 0) | (sending ? POLLOUT : 0)),
              What::kConnection, id);
    }
    const int ready = ::poll(fds.data(), fds.size(), timeout_ms);
    if (ready < 0) {
        return std::nullopt;
    }
    if (ready == 0) {
        look_after_workers();
    }
    for (std::size_t i = 0; i < fds.size(); ++i) {
        if (fds[i].revents == 0) {
            continue;
        }
        switch (whose[i].what) {
        case What::kSignals: {
            signalfd_siginfo info{};
            if (::read(signals_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
                return info.ssi_signo == SIGINT ? End::kInterrupted : End::kTerminated;
            }
            break;
        }
        case What::kEngine:
            tell_news();
            if (!engine_.alive()) {
                return End::kEngineDied;
            }
            break;
        case What::kListener:
            accept(listeners_[whose[i].which]);
            break;
        case What::kBell: {
            std::uint64_t count = 0;
            (void)!::read(fds[i].fd, &count, sizeof(count));
            [[fallthrough]];
        }
        case What::kLine: {
            const auto instance = static_cast<std::uint32_t>(whose[i].which);
            served_[instance].machine->service();
            deliver(instance);
            break;
        }
        case What::kConnection: {
            const auto at = connections_.find(whose[i].which);
            if (at == connections_.end()) {
                break;
            }
            Connection &connection = at->second;
            if ((fds[i].revents & POLLOUT) != 0) {
                flush(connection);
            }
            if ((fds[i].revents & POLLIN) != 0) {
                receive(connection);
            } else if ((fds[i].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) { // nobody is there to read a reply
                connection.out.clear();
                connection.out_at = 0;
                connection.closing = true;
            }
            break;
        }
        }
    }
    return std::nullopt;
}

Server::End Server::run()
{
    for (;;) {
        if (const auto end = turn()) {
            return *end;
        }
        for (auto &[id, connection] : connections_) {
            if (connection.out.empty() && (!connection.in.empty() || connection.ended)) {
                advance(id, connection);
            }
        }
        drop_finished();
    }
}

} // namespace banyan::vtpm
