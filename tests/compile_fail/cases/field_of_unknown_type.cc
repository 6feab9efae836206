// Fields are what a caller can give by name: float, int32_t, tables and bit masks.
// Expect: FieldTypeOf<double>
#include "portable/variant.h"

struct Scaled : fovea::VariantBase {
  struct Params {
#if defined(FOVEA_DEFECT)
    double factor;
#else
    float factor;
#endif
    FOVEA_FIELDS(Params, FOVEA_REQUIRED(factor))
  };
  Params p;
};

constexpr fovea::FieldList kFields = Scaled::Params::fields();
static_assert(kFields.count == 1);
