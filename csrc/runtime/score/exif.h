// The orientation that a camera notes beside its pixels. Knows no torch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "photo.h"

namespace rwpm::score {

/// Finds the orientation in EXIF data, which begin with a TIFF header ("II" or "MM").
///
/// Returns 1 to 8 as in the EXIF standard (tag 0x0112): 1 is upright, and from 5 on height and width change places.
/// Data without the tag, or that make no sense, count as upright, as viewers take them.
int exif_orientation(const uint8_t* data, size_t size);

/// Turns a photo upright. orientation: 1 to 8, see exif_orientation.
Photo upright(Photo photo, int orientation);

}  // namespace rwpm::score
