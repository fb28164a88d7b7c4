#include "support/catch.hpp"

#include <polyproc/backend/native.hpp>
#include <polyproc/wire/callable.hpp>

using backend = polyproc::native_backend;

namespace {

std::string greet(std::string const& name, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += name;
  return all;
}
std::size_t view(std::string_view text) { return text.size(); }
int letter(char const* text) noexcept { return text[0]; }
long wide(long n) { return n + 1; }
std::string taken(std::string&& text) { return std::move(text); }

struct adder {
  int by = 0;
  int operator()(int n) const { return n + by; }
};
struct runner {
  int value = 0;
  int run() const { return 2 * value; }
};

/// As if it had gone to another process.
template <class F, class... Args>
auto elsewhere(F target, Args&&... args) {
  using kept = polyproc::call_parameters_t<F, Args...>;
  polyproc::writer call;
  polyproc::detail::write_call<backend>(call, target, polyproc::detail::convert_arguments<kept>(std::forward<Args>(args)...));
  polyproc::reader in(call.view());
  polyproc::writer result;
  polyproc::detail::run_call<backend>(in, result);
  polyproc::reader out(result.view());
  return polyproc::decode<polyproc::call_result_t<F, Args...>>(out);
}

}  // namespace

TEST_CASE("arguments are converted to the target's parameter types before they travel") {
  CHECK(elsewhere(&greet, "egon", 2) == "egonegon");
  CHECK(elsewhere(&greet, "x", 3L) == "xxx");
  CHECK(elsewhere(&view, "four") == 4);
  CHECK(elsewhere(&letter, "abc") == 'a');
  CHECK(elsewhere(&wide, 41) == 42);
  CHECK(elsewhere(&taken, "moved") == "moved");
  static_assert(std::is_same_v<polyproc::call_parameters_t<decltype(&greet), char const (&)[5], int>, std::tuple<std::string, int>>);
  static_assert(std::is_same_v<polyproc::call_parameters_t<decltype(&view), char const*>, std::tuple<std::string>>);
}

TEST_CASE("targets may be lambdas, function objects with values, and objects with run()") {
  CHECK(elsewhere([](int a, int b) { return a * b; }, 6, 7) == 42);
  CHECK(elsewhere([](auto text) { return text + "!"; }, "generic") == "generic!");
  CHECK(elsewhere(adder{5}, 1) == 6);
  CHECK(elsewhere(runner{21}) == 42);
}

TEST_CASE("a call whose code is not of this build is refused with a sentence") {
  polyproc::writer call;
  auto where = backend::locate(reinterpret_cast<void const*>(&wide));
  where.build ^= 1;
  polyproc::detail::write_location(call, where);
  polyproc::reader in(call.view());
  polyproc::writer result;
  CHECK_THROWS_AS(polyproc::detail::run_call<backend>(in, result), polyproc::start_error);

  where = backend::locate(reinterpret_cast<void const*>(&wide));
  where.module = "/nonexistent/library";
  polyproc::writer other;
  polyproc::detail::write_location(other, where);
  polyproc::reader again(other.view());
  CHECK_THROWS_AS(polyproc::detail::run_call<backend>(again, result), polyproc::start_error);
}

TEST_CASE("arguments that are not whole are refused before the target runs") {
  static bool ran = false;
  auto const target = [](std::string const&) { ran = true; };
  polyproc::writer call;
  polyproc::detail::write_call<backend>(call, target, std::tuple<std::string>("text"));
  polyproc::reader in(call.view().first(call.view().size() - 1));
  polyproc::writer result;
  CHECK_THROWS_AS(polyproc::detail::run_call<backend>(in, result), polyproc::decode_error);
  CHECK_FALSE(ran);
}
