"""Functions that a variant's text brings along where the vocabulary of portable/ has no word: each by name, with those that it calls."""

HELPERS = {
    "floor_div": (
        "static FOVEA_FN constexpr int32_t floor_div(int32_t a, int32_t b) { return a / b - (a % b < 0 ? 1 : 0); }",
        "static FOVEA_FN constexpr Interval floor_div(Interval a, int32_t b) { return {floor_div(a.lo, b), floor_div(a.hi, b)}; }",
    ),
    "floor_mod": (
        "static FOVEA_FN constexpr int32_t floor_mod(int32_t a, int32_t b) { return a % b + (a % b < 0 ? b : 0); }",
        "static FOVEA_FN constexpr Interval floor_mod(Interval a, int32_t b) {",
        "  const bool one_period = floor_div(a.lo, b) == floor_div(a.hi, b);",
        "  return one_period ? Interval{floor_mod(a.lo, b), floor_mod(a.hi, b)} : Interval{0, b - 1};",
        "}",
    ),
    # Division by 0 means nothing anywhere; it must not end a process.
    "floor_div_by_any": (
        "static FOVEA_FN constexpr int32_t floor_div_by_any(int32_t a, int32_t b) {",
        "  return b == 0 ? 0 : a / b - ((a % b != 0) & ((a % b < 0) != (b < 0)) ? 1 : 0);",
        "}",
    ),
    "floor_mod_by_any": (
        "static FOVEA_FN constexpr int32_t floor_mod_by_any(int32_t a, int32_t b) { return a - floor_div_by_any(a, b) * b; }",
    ),
    "trunc_div_by_any": ("static FOVEA_FN constexpr int32_t trunc_div_by_any(int32_t a, int32_t b) { return b == 0 ? 0 : a / b; }",),
    "trunc_mod_by_any": ("static FOVEA_FN constexpr int32_t trunc_mod_by_any(int32_t a, int32_t b) { return b == 0 ? a : a % b; }",),
    "absolute": (
        "template <class T>",
        "static FOVEA_FN T absolute(T x) {",
        "  return x < T(0) ? -x : x;",
        "}",
    ),
    # A float from 2^31 on is whole; below, an integer holds it.
    "trunc_of": (
        "template <class T>",
        "static FOVEA_FN T trunc_of(T x) {",
        "  return absolute(x) < T(2147483648.0) ? T(static_cast<int32_t>(x)) : x;",
        "}",
    ),
    "floor_of": (
        "template <class T>",
        "static FOVEA_FN T floor_of(T x) {",
        "  const T whole = trunc_of(x);",
        "  return whole > x ? whole - T(1) : whole;",
        "}",
    ),
    "ceil_of": (
        "template <class T>",
        "static FOVEA_FN T ceil_of(T x) {",
        "  return -floor_of(-x);",
        "}",
    ),
    # Halves go to the even neighbour.
    "round_of": (
        "template <class T>",
        "static FOVEA_FN T round_of(T x) {",
        "  const T below = floor_of(x), apart = x - below;",
        "  const bool odd = below - T(2) * floor_of(below * T(0.5)) != T(0);",
        "  return apart > T(0.5) || (apart == T(0.5) && odd) ? below + T(1) : below;",
        "}",
    ),
    # A step of Newton's after 2^(log2(x) / 2).
    "square_root": (
        "template <class T>",
        "static FOVEA_FN T square_root(T x) {",
        "  const T near = math::exp2(T(0.5) * math::log2(x));",
        "  const T nearer = T(0.5) * (near + x / near);",
        "  return x == T(0) || x == math::infinity<T>() ? x : nearer;",
        "}",
    ),
    "turns_of": (
        "template <class T>",
        "static FOVEA_FN T turns_of(T radians) {",
        "  const T turns = radians * T(0.15915494309189533577);",
        "  return turns - floor_of(turns + T(0.5));",
        "}",
    ),
    "sine": (
        "template <class T>",
        "static FOVEA_FN T sine(T radians) {",
        "  return math::sin_turns(turns_of(radians));",
        "}",
    ),
    "cosine": (
        "template <class T>",
        "static FOVEA_FN T cosine(T radians) {",
        "  return math::cos_turns(turns_of(radians));",
        "}",
    ),
}


def helpers_text(names, indent):
    """The lines of the helpers of these names and of those they call, in the order above."""
    needed, todo = set(), list(names)
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo += [other for other in HELPERS if other != name and any(f"{other}(" in line for line in HELPERS[name])]
    return [indent + line for name in HELPERS if name in needed for line in HELPERS[name]]
