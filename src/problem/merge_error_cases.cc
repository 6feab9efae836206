#include "src/problem/append_fixtures.h"
#include "src/problem/error_cases.h"

namespace fovea::test {

std::vector<ErrorCase> merge_error_cases() {
  using M = Merge;
  return {
      wrong<M>("merge_states: 0 states; it takes 1 to 64", [](M& m) { m.states.clear(); }),
      wrong<M>("merge_states: 65 states; it takes 1 to 64", [](M& m) { m.states.resize(65, m.states[0]); }),
      wrong<M>("merge_states: states[0].o is not given; it needs [tokens, heads, head_dim]", [](M& m) { m.states[0].o = {}; }),
      wrong<M>("merge_states: states[0].o is [4, 2, 2000]; at most [536870911, 32768, 1024]",
               [](M& m) { set_dim(m.states[0].o, 2, 2000); }),
      wrong<M>("merge_states: states[1].o is [3, 2, 8] but states[0].o is [4, 2, 8]",
               [](M& m) { m.states[1].o = m.states[1].o.slice(0, 0, 3); }),
      wrong<M>("merge_states: states[2].o has dtype e5m2; it may be f32, f16 or bf16", [](M& m) { m.states[2].o.dtype = DType::e5m2; }),
      wrong<M>("merge_states: states[1].lse is not given; it needs [tokens, heads]", [](M& m) { m.states[1].lse = {}; }),
      wrong<M>("merge_states: states[1].lse has dtype bf16; it needs f32", [](M& m) { m.states[1].lse.dtype = DType::bf16; }),
      wrong<M>("merge_states: states[2].lse is [4, 1] but states[0].o has 4 tokens and 2 heads",
               [](M& m) { m.states[2].lse = m.states[2].lse.slice(1, 0, 1); }),
      wrong<M>("merge_states: out.o is [4, 2, 4] but states[0].o is [4, 2, 8]", [](M& m) { m.out.o = m.out.o.slice(2, 0, 4); }),
      wrong<M>("merge_states: out.o is on cuda:1 but the engine runs on cpu", [](M& m) { set_cuda(m.out.o); }),
      wrong<M>("merge_states: out.o is written but its elements overlap: stride 0 of axis 0 is less than 1",
               [](M& m) { set_stride(m.out.o, 0, 0); }),
      wrong<M>("merge_states: out.o overlaps states[1].o in memory; what is written must lie apart",
               [](M& m) { m.out.o.data = m.states[1].o.as<float>() + 8; }),
      wrong<M>("merge_states: out.lse overlaps states[0].lse in memory; what is written must lie apart",
               [](M& m) { m.out.lse.data = m.states[0].lse.as<float>() + 1; }),
      wrong<M>("merge_states: out.o overlaps out.lse in memory; what is written must lie apart",
               [](M& m) { m.out.lse.data = m.out.o.data; }),
      wrong<M>("merge_states: out.o overlaps states[0].lse in memory; what is written must lie apart",
               [](M& m) { m.out.o.data = m.lse.data(), m.out.lse.data = m.o.data() + 192; }),
  };
}

}  // namespace fovea::test
