// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/huge_pages.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
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

/// What nobody writes to once the program runs, and what of the program lies around it.
struct Constant {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    int protection = PROT_READ;
    std::uintptr_t before = 0;         // where what lies below it ends
    std::uintptr_t next = UINTPTR_MAX; // where what lies above it begins
};

struct Constants {
    std::array<Constant, 8> parts;
    std::size_t count = 0;
};

Constants constants_of(const dl_phdr_info &object)
{
    Constants found;
    const std::span segments(object.dlpi_phdr, object.dlpi_phnum);
    bool from_here = false; // below the code lies what only the loader reads
    for (const ElfW(Phdr) & segment : segments) {
        from_here = from_here || (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0);
        const bool constant =
            segment.p_type == PT_GNU_RELRO || (segment.p_type == PT_LOAD && (segment.p_flags & PF_W) == 0);
        if (!from_here || !constant || found.count == found.parts.size()) {
            continue;
        }
        Constant &part = found.parts.at(found.count++);
        part.begin = object.dlpi_addr + segment.p_vaddr;
        part.end = part.begin + segment.p_memsz;
        part.protection |= segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0 ? PROT_EXEC : 0;
        for (const ElfW(Phdr) & other : segments) {
            const std::uintptr_t begin = object.dlpi_addr + other.p_vaddr;
            const std::uintptr_t end = begin + other.p_memsz;
            if (other.p_type != PT_LOAD) {
                continue;
            }
            if (end <= part.begin) {
                part.before = std::max(part.before, end);
            } else if (begin < part.begin) {
                part.before = part.begin;
            }
            if (begin >= part.end) {
                part.next = std::min(part.next, begin);
            } else if (end > part.end) {
                part.next = part.end;
            }
        }
        // Outside of the program there may be anything.
        part.before = part.before == 0 ? part.begin : part.before;
        part.next = part.next == UINTPTR_MAX ? part.end : part.next;
    }
    return found;
}

/// The program itself comes first of what is loaded.
int take_first(dl_phdr_info *object, std::size_t, void *into)
{
    *static_cast<Constants *>(into) = constants_of(*object);
    return 1;
}

/// The program's headers have numbers for addresses.
std::byte *at(std::uintptr_t address)
{
    return reinterpret_cast<std::byte *>(address); // NOLINT(performance-no-int-to-ptr)
}

/// What lies between objects too, which is no object's: a sanitizer would stop memcpy there.
void copy_all(void *to, const void *from, std::size_t size)
{
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

void move(const Constant &part)
{
    // The linker leaves the pages around it to the part alone; where it did not, what is there of the part stays.
    const std::uintptr_t begin = part.before <= down(part.begin) ? down(part.begin) : up(part.begin);
    const std::uintptr_t end = up(part.end) <= part.next ? up(part.end) : down(part.end);
    if (begin >= end) {
        return;
    }
    const std::size_t size = end - begin;
    void *room = ::mmap(nullptr, size + kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) {
        return;
    }
    const auto lowest = reinterpret_cast<std::uintptr_t>(room);
    std::byte *copy = static_cast<std::byte *>(room) + (up(lowest) - lowest);
    if (::madvise(copy, size, MADV_HUGEPAGE) == 0) {
        const std::uintptr_t first = std::max(begin, part.begin);
        copy_all(copy + (first - begin), at(first), std::min(end, part.end) - first);
        if (::mprotect(copy, size, part.protection) == 0 &&
            ::mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, at(begin)) != MAP_FAILED) {
            // From here on this is the copy. What is left of the room lies before and behind where it was.
            (void)::munmap(copy + size, lowest + kHuge - up(lowest));
            (void)::munmap(room, up(lowest) - lowest);
            return;
        }
    }
    (void)::munmap(room, size + kHuge);
}

} // namespace

void move_constants_to_huge_pages()
{
    Constants constants;
    (void)::dl_iterate_phdr(take_first, &constants);
    for (const Constant &part : std::span(constants.parts).first(constants.count)) {
        move(part);
    }
}

} // namespace banyan::vtpm
