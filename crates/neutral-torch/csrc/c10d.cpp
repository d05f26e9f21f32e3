// Several processes as one: c10d's store and process group, and hooks on gradients. No arithmetic happens
// here, every failure is a message, and neither exceptions nor panics cross.

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <cstring>
#include <stdexcept>
#include <string>

namespace {

struct Group {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::Backend> backend;
};

using Work = c10::intrusive_ptr<c10d::Work>;

// c10's errors carry a trace of addresses that says nothing to who reads the message.
template <typename Body>
char* guarded(Body body) {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an exception of an unknown type");
  }
}

c10::intrusive_ptr<c10d::Backend> connect(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                          int size, std::chrono::milliseconds timeout,
                                          const char* hostname, const char* interface, int cuda) {
  if (cuda >= 0) {
#ifdef USE_C10D_NCCL
    // Else waiting is the device's, and a process that is gone is noticed by NCCL's watchdog, which aborts.
    setenv("TORCH_NCCL_BLOCKING_WAIT", "1", /*overwrite=*/0);
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
    backend->setBoundDeviceId(at::Device(at::kCUDA, static_cast<at::DeviceIndex>(cuda)));
    return backend;
#else
    throw std::runtime_error(
        "this build of neutral has no NCCL, which processes on CUDA devices talk through; build it with the "
        "CUDA half of libtorch (`scripts/libtorch cuda`) and with nccl.h, or choose the device cpu");
#endif
  }
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  options->devices.push_back(
      interface != nullptr ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
      : hostname != nullptr ? c10d::ProcessGroupGloo::createDeviceForHostname(hostname)
                            : c10d::ProcessGroupGloo::createDefaultDevice());
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
}

// What a hook calls; returns null, or a message to be released with `release_message`.
using Seen = char* (*)(void* closure, const at::Tensor* gradient);
using Drop = void (*)(void* closure);
using ReleaseMessage = void (*)(char*);

struct Hook {
  at::Tensor leaf;
  unsigned position;
};

}  // namespace

extern "C" {

// The process group of `size` processes that meet at `address`:`port`, where rank 0 listens: on the
// socket `listener` if it is not negative (taken over), else on all interfaces; or where somebody else does,
// whose store is used below `prefix`, if that is not null. `cuda` is the device's
// index, or negative for the CPU, for which `interface` or else `hostname` (null: this host's name) says
// which of this host's addresses the others connect to.
char* neutral_group_connect(const char* address, uint16_t port, const char* prefix, int listener,
                            int rank, int size, int64_t timeout_ms, const char* hostname, const char* interface, int cuda,
                            Group** result) {
  return guarded([&] {
    const std::chrono::milliseconds timeout(timeout_ms);
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = rank == 0 && prefix == nullptr;
    options.numWorkers = size;
    options.timeout = timeout;
    if (listener >= 0) options.masterListenFd = listener;
    c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::TCPStore>(address, options);
    if (prefix != nullptr) store = c10::make_intrusive<c10d::PrefixStore>(prefix, store);
    auto backend = connect(store, rank, size, timeout, hostname, interface, cuda);
    *result = new Group{std::move(store), std::move(backend)};
  });
}

// Waits for what was begun and not waited for.
char* neutral_group_free(Group* group) {
  return guarded([&] { delete group; });
}

char* neutral_group_all_reduce(Group* group, const at::Tensor* tensor, Work** work) {
  return guarded([&] {
    std::vector<at::Tensor> tensors{*tensor};
    *work = new Work(group->backend->allreduce(tensors));
  });
}

char* neutral_group_broadcast(Group* group, const at::Tensor* tensor, int from, Work** work) {
  return guarded([&] {
    std::vector<at::Tensor> tensors{*tensor};
    c10d::BroadcastOptions options;
    options.rootRank = from;
    *work = new Work(group->backend->broadcast(tensors, options));
  });
}

char* neutral_group_barrier(Group* group, Work** work) {
  return guarded([&] { *work = new Work(group->backend->barrier()); });
}

// Consumes the work.
char* neutral_work_wait(Work* work) {
  std::unique_ptr<Work> owned(work);
  return guarded([&] {
    if (!(*owned)->wait()) throw std::runtime_error("it was aborted");
  });
}

// What is begun goes on, and keeps its tensor.
void neutral_work_free(Work* work) { delete work; }

char* neutral_group_set(Group* group, const char* key, const uint8_t* bytes, size_t n) {
  return guarded([&] { group->store->set(key, std::vector<uint8_t>(bytes, bytes + n)); });
}

// The value of a key, if it was set: `take(context, bytes, n)`.
char* neutral_group_get(Group* group, const char* key, void (*take)(void*, const uint8_t*, size_t),
                        void* context) {
  return guarded([&] {
    if (!group->store->check({key})) return;
    const auto value = group->store->get(key);
    take(context, value.data(), value.size());
  });
}

// Adds to a counter, 0 at first, and gives what it is then.
char* neutral_group_add(Group* group, const char* key, int64_t amount, int64_t* result) {
  return guarded([&] { *result = group->store->add(key, amount); });
}

// Calls the closure with the leaf's whole gradient in every backward pass that computes it, until the
// hook is removed. Owns the closure either way.
char* neutral_hook(const at::Tensor* leaf, void* closure, Seen seen, Drop drop,
                   ReleaseMessage release_message, Hook** result) {
  return guarded([&] {
    const std::shared_ptr<void> owned(closure, drop);
    const unsigned position = leaf->register_hook([=](const at::Tensor& gradient) {
      if (char* message = seen(owned.get(), &gradient)) {
        const std::string text = message;
        release_message(message);
        throw std::runtime_error(text);
      }
    });
    *result = new Hook{*leaf, position};
  });
}

char* neutral_unhook(Hook* hook) {
  std::unique_ptr<Hook> owned(hook);
  return guarded([&] { owned->leaf.remove_hook(owned->position); });
}

}  // extern "C"
