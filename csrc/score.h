// The anomaly scores that have kernels.
#pragma once

namespace rwpm {

enum class Score { energy, max_logit, max_softmax, entropy };  // of rwpm_fast/scores.py

}  // namespace rwpm
