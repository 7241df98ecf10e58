// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/huge_text.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <link.h>
#include <span>
#include <sys/mman.h>

namespace banyan::vtpm {
namespace {

constexpr std::uintptr_t kHuge = std::uintptr_t{2} << 20; // of x86-64

constexpr std::uintptr_t down(std::uintptr_t address)
{
    return address & ~(kHuge - 1);
}
constexpr std::uintptr_t up(std::uintptr_t address)
{
    return down(address + kHuge - 1);
}

struct Segment {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    std::uintptr_t next = UINTPTR_MAX; // where something else begins
};

Segment text_of(const dl_phdr_info &object)
{
    Segment text;
    const std::span segments(object.dlpi_phdr, object.dlpi_phnum);
    for (const ElfW(Phdr) & segment : segments) {
        if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0) {
            text.begin = object.dlpi_addr + segment.p_vaddr;
            text.end = text.begin + segment.p_memsz;
        }
    }
    for (const ElfW(Phdr) & segment : segments) {
        if (const std::uintptr_t begin = object.dlpi_addr + segment.p_vaddr;
            segment.p_type == PT_LOAD && begin >= text.end) {
            text.next = std::min(text.next, begin);
        }
    }
    return text;
}

/// The program itself comes first of what is loaded.
int take_first(dl_phdr_info *object, std::size_t, void *into)
{
    *static_cast<Segment *>(into) = text_of(*object);
    return 1;
}

} // namespace

void move_text_to_huge_pages()
{
    Segment text;
    (void)::dl_iterate_phdr(take_first, &text);
    // The linker leaves the last page to the code alone; where it did not, what is there of the code stays.
    const std::uintptr_t begin = up(text.begin);
    const std::uintptr_t end = up(text.end) <= text.next ? up(text.end) : down(text.end);
    if (begin >= end) {
        return;
    }
    const std::size_t size = end - begin;
    void *room = ::mmap(nullptr, size + kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) {
        return;
    }
    const auto lowest = reinterpret_cast<std::uintptr_t>(room);
    auto *copy = reinterpret_cast<std::byte *>(up(lowest));
    if (::madvise(copy, size, MADV_HUGEPAGE) == 0) {
        std::memcpy(copy, reinterpret_cast<const void *>(begin), std::min(end, text.end) - begin);
        if (::mprotect(copy, size, PROT_READ | PROT_EXEC) == 0 &&
            ::mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, reinterpret_cast<void *>(begin)) != MAP_FAILED) {
            // From here on this is the copy. What is left of the room lies before and behind where it was.
            (void)::munmap(copy + size, lowest + kHuge - up(lowest));
            (void)::munmap(room, up(lowest) - lowest);
            return;
        }
    }
    (void)::munmap(room, size + kHuge);
}

} // namespace banyan::vtpm
