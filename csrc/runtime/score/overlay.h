// A score map in colors over its photo. Knows no torch.
#pragma once

#include <optional>

#include "photo.h"

namespace rwpm::score {

/// Colors a score map over its photo.
///
/// A score becomes a position on a range of colors: 0 at the map's 1st percentile, 1 at the threshold, or at the map's
/// 99.9th percentile where there is none. From 0 to 1 the photo, in gray, takes on more and more of a color that goes
/// from yellow to orange; above a threshold it is red, without one from 1 on. So red means alarm in every photo, or
/// marks the highest thousandth of each.
///
/// photo: [H, W, 3], at least one pixel. score: [H, W] contiguous, finite, higher is more anomalous; Package::run
/// refuses others. threshold: in units of the score.
/// Returns a picture of the photo's size.
Photo overlay(const Photo& photo, const float* score, std::optional<double> threshold);

}  // namespace rwpm::score
