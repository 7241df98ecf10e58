// SPDX-License-Identifier: GPL-2.0-or-later
// What the engine's processes share: descriptors over sockets, shared memory, and the sandbox.
#pragma once

#include <cstddef>
#include <cstdint>
#include <linux/filter.h>
#include <span>
#include <string>
#include <vector>

namespace banyan::vtpm {

/// Sends one datagram with descriptors. flags: MSG_DONTWAIT or 0.
bool send_with_fds(int socket, const void *data, std::size_t size, std::span<const int> fds, int flags = 0);
/// Receives one datagram of exactly `size` bytes. Returns false at its end, an error, or another size; descriptors that
/// came along are in `fds` (close-on-exec), also then.
bool receive_with_fds(int socket, void *data, std::size_t size, std::vector<int> &fds, int flags = 0);

/// A memfd whose size is sealed: who shares it cannot take pages away.
[[nodiscard]] int make_shared_memory(const char *name, std::size_t size);
[[nodiscard]] void *map_shared(int fd, std::size_t size);

/// Moves `keep` to descriptors 3, 4, ... in order and closes every other one above 2.
void keep_only(std::span<const int> keep);

/// What ps shows, at most 15 characters.
void name_process(const char *name);

/// Ends with the parent, dumps no core, gains no privilege.
void harden_child(pid_t parent);

using Filter = std::vector<sock_filter>;

/// seccomp: only these calls; another raises SIGSYS.
[[nodiscard]] bool compile_filter(const std::vector<int> &calls, Filter &out);
[[nodiscard]] bool apply_filter(const Filter &filter);
[[nodiscard]] std::string syscall_name(int number);

/// Namespaces and Landlock for this process and its children. Says which of them are in place.
struct Sandbox {
    bool namespaces = false;
    bool landlock = false;
};
[[nodiscard]] Sandbox enter_sandbox();
/// Landlock alone. but_in: a folder in which files may be made, read, written and removed; empty: none.
[[nodiscard]] bool deny_files(const std::string &but_in = {});

[[noreturn]] void quit(int status);

// Exit status of a worker, told apart by the zygote.
inline constexpr int kExitRefusedCall = 70;
inline constexpr int kExitStore = 71;
inline constexpr int kExitTpm = 72;
inline constexpr int kExitProtocol = 73;
inline constexpr int kExitSandbox = 74;

} // namespace banyan::vtpm
