// libtorch's wheels hold gloo compiled and c10d's headers, but not gloo's own, which
// `ProcessGroupGloo.hpp` includes. This folder names just the types that header needs to be read.
//
// Why that is sound: no object of these types is made, copied, sized or destroyed here. c10d's classes
// hold them behind `std::shared_ptr` and `std::unique_ptr` alone, whose layout does not depend on what
// they point to; the objects come from libtorch's code, their deleters with them. The classes that derive
// from gloo's (`GlooStore`) are never made here either, so no table of virtual functions is emitted from
// these declarations. What would break it: a c10d header that holds a gloo type by value, that calls one
// in an inline function which is used here (it would not link), or that overrides a function missing here
// (it would not compile). The tests of `distributed`, which reduce over several ranks, are the guard.
//
// build.rs puts this folder behind libtorch's own, so that real headers, where there are some, win.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace gloo {
class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};
}  // namespace gloo
