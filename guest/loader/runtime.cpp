// SPDX-License-Identifier: GPL-2.0-or-later
#include <cstddef>
#include <cstdint>

// The four functions that a C++ compiler calls without being asked.

extern "C" {

void *memcpy(void *__restrict to, const void *__restrict from, std::size_t size)
{
    void *const result = to;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return result;
}

void *memmove(void *to, const void *from, std::size_t size)
{
    if (to <= from || static_cast<const char *>(from) + size <= to) {
        return memcpy(to, from, size);
    }
    auto *d = static_cast<std::uint8_t *>(to);
    const auto *s = static_cast<const std::uint8_t *>(from);
    while (size-- != 0) {
        d[size] = s[size];
    }
    return to;
}

void *memset(void *to, int value, std::size_t size)
{
    void *const result = to;
    asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return result;
}

int memcmp(const void *a, const void *b, std::size_t size)
{
    const auto *x = static_cast<const std::uint8_t *>(a);
    const auto *y = static_cast<const std::uint8_t *>(b);
    for (; size != 0; --size, ++x, ++y) {
        if (*x != *y) {
            return *x - *y;
        }
    }
    return 0;
}

} // extern "C"
