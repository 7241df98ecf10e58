// SPDX-License-Identifier: GPL-2.0-or-later
// A store file with any content. The first byte says which half of a good file is kept around the input.
#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <string>
#include <unistd.h>

#include "vtpm/store/store.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    using namespace banyan::vtpm;
    static const std::string path = "/dev/shm/banyan-store-fuzz-" + std::to_string(::getpid());
    StoreKey key{};
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        std::abort();
    }
    (void)::unlink((path + ".x").c_str());
    const std::uint8_t where = size > 0 ? data[0] : 0;
    constexpr off_t kSlot = 132 * 1024;
    if (size > 1) {
        const off_t at = (where & 1) != 0 ? kSlot : 0;
        if (::pwrite(fd, data + 1, size - 1, at) < 0 || ((where & 2) != 0 && ::ftruncate(fd, 2 * kSlot) != 0)) {
            std::abort();
        }
    }
    ::close(fd);
    const auto record = load_store(path, key, 0);
    (void)::unlink(path.c_str());
    if (record) {
        std::abort(); // nobody forges a MAC
    }
    return 0;
}
