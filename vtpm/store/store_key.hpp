// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

namespace banyan::vtpm {

inline constexpr std::size_t kStoreKeySize = 32; // store.key of the private platform folder, raw
using StoreKey = std::array<std::uint8_t, kStoreKeySize>;

inline constexpr std::size_t kStoreMacSize = 32; // HMAC-SHA-256
using StoreMac = std::array<std::uint8_t, kStoreMacSize>;

/// Over the parts one after another. False if the library cannot.
[[nodiscard]] bool store_mac(const StoreKey &key, std::initializer_list<std::span<const std::uint8_t>> parts,
                             StoreMac &out);
/// In constant time.
[[nodiscard]] bool same_mac(std::span<const std::uint8_t, kStoreMacSize> one, const StoreMac &other);
void wipe_key(StoreKey &key);

} // namespace banyan::vtpm
