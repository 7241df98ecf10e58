// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <cerrno>
#include <deque>
#include <sys/socket.h>

namespace banyan::vtpm {

/// What a process has to say over a SEQPACKET socket, one message a datagram: in order, and without ever waiting for
/// who reads it. What the socket has no room for waits here for flush().
///
/// It is bounded if every message is an answer, of which there are as many as questions, or a notice, of which one of a
/// kind waits.
template <typename Message>
class Outbox {
public:
    explicit Outbox(int socket) : socket_(socket) {}

    void answer(const Message &message)
    {
        waiting_.push_back(message);
        flush();
    }

    /// same(waiting): whether one that was not sent yet says no more than this one does; it is replaced.
    template <typename Same>
    void notice(const Message &message, Same same)
    {
        const auto earlier = std::find_if(waiting_.begin(), waiting_.end(), same);
        if (earlier == waiting_.end()) {
            answer(message);
        } else {
            *earlier = message;
        }
    }

    /// flush() is wanted when the socket can be written.
    [[nodiscard]] bool waiting() const { return !waiting_.empty(); }

    void flush()
    {
        while (!waiting_.empty()) {
            if (::send(socket_, &waiting_.front(), sizeof(Message), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
                waiting_.pop_front();
            } else if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) {
                return;
            } else if (errno != EINTR) {
                waiting_.clear(); // nobody is there
            }
        }
    }

private:
    const int socket_;
    std::deque<Message> waiting_;
};

} // namespace banyan::vtpm
