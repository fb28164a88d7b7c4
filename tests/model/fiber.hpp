/// Stacks that take turns on one thread of the system: participants of a model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <cxxabi.h>
#include <memory>
#include <sys/mman.h>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace model {

#if defined(__x86_64__)
// Saves what a call must preserve on the present stack, and goes on where `to` left off.
extern "C" void polyproc_model_switch(void** save, void* to);
asm(R"(
.text
.globl polyproc_model_switch
.type polyproc_model_switch, @function
polyproc_model_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size polyproc_model_switch, .-polyproc_model_switch
)");
#endif

/// One stack. begin() makes it ready to run a function from its start; enter() runs it until it calls leave(), from inside.
/// It may be begun anew at any time: what was on the stack is forgotten, no destructor runs (that is what a kill does).
class fiber {
 public:
  fiber()
      : stack_(static_cast<std::byte*>(
            ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {}
  fiber(fiber const&) = delete;
  fiber& operator=(fiber const&) = delete;
  ~fiber() { ::munmap(stack_, size); }

  /// `run` must not return; it ends with leave().
  void begin(void (*run)()) {
    std::memset(&exceptions_, 0, sizeof exceptions_);
#if defined(__x86_64__)
    auto* top = reinterpret_cast<std::uint64_t*>(stack_ + size);
    *--top = 0;  // where a return would go; also aligns the stack as a call does
    *--top = reinterpret_cast<std::uint64_t>(run);
    for (int i = 0; i < 6; ++i) *--top = 0;
    inside_ = top;
#else
    ::getcontext(&inside_);
    inside_.uc_stack.ss_sp = stack_;
    inside_.uc_stack.ss_size = size;
    inside_.uc_link = nullptr;
    ::makecontext(&inside_, run, 0);
#endif
  }
  void enter() {
    swap_exceptions();
#if defined(__x86_64__)
    polyproc_model_switch(&outside_, inside_);
#else
    ::swapcontext(&outside_, &inside_);
#endif
    swap_exceptions();
  }
  void leave() {
#if defined(__x86_64__)
    polyproc_model_switch(&inside_, outside_);
#else
    ::swapcontext(&inside_, &outside_);
#endif
  }

 private:
  static constexpr std::size_t size = std::size_t{1} << 18;

  // The runtime's list of exceptions being handled belongs to the thread; each fiber has its own.
  struct handled {
    void* caught;
    unsigned int uncaught;
  };
  void swap_exceptions() {
    auto* const mine = reinterpret_cast<handled*>(abi::__cxa_get_globals());
    std::swap(*mine, exceptions_);
  }

  std::byte* stack_;
  handled exceptions_{};
#if defined(__x86_64__)
  void* inside_ = nullptr;
  void* outside_ = nullptr;
#else
  ucontext_t inside_{};
  ucontext_t outside_{};
#endif
};

}  // namespace model
