// How far the logits of a model are from another's, row by row.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace atl::models {

// Of each row of `vocab` logits |a - b| / |b|, ascending; prints the least, the largest and the median.
inline std::vector<double> RowDifferences(const std::vector<float>& a, const std::vector<float>& b, size_t vocab,
                                          const std::string& what) {
  std::vector<double> differences;
  for (size_t row = 0; row < b.size(); row += vocab) {
    double difference = 0, square = 0;
    for (size_t i = row; i < row + vocab; ++i) {
      difference += std::pow(a[i] - b[i], 2), square += std::pow(b[i], 2);
    }
    differences.push_back(std::sqrt(difference / square));
  }
  std::sort(differences.begin(), differences.end());
  std::printf("%s: relative difference of a row %.4f to %.4f, half below %.4f\n", what.c_str(), differences.front(),
              differences.back(), differences[differences.size() / 2]);
  return differences;
}

}  // namespace atl::models
