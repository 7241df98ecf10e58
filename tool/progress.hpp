// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <string>

namespace banyan::tool {

/// What is being done, for a person: on a terminal one line that changes, else a line a step.
class Progress {
public:
    Progress(int fd, bool terminal);
    ~Progress();
    Progress(const Progress &) = delete;
    Progress &operator=(const Progress &) = delete;

    /// Something has happened.
    void step(const std::string &text);
    /// Takes the changing line away; a table or a message comes next.
    void clear();

private:
    void write(const std::string &text) const;

    int fd_;
    bool terminal_;
    bool shown_ = false;
    std::chrono::steady_clock::time_point start_;
};

} // namespace banyan::tool
