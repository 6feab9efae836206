// The text of wgmma's accumulator lists: what inline assembly can't compute. FOVEA_WGMMA_REGISTERS_k names the 4 k floats of an
// m64n(8 k) product, FOVEA_WGMMA_FLOATS_k are their operands d[0 .. 4 k), FOVEA_WGMMA_SHAPES(X) calls X(k, 8 k, then the numbers of the
// operands behind them) for every k.
#pragma once

// clang-format off
#define FOVEA_WGMMA_REGISTERS_1 "%0, %1, %2, %3"
#define FOVEA_WGMMA_REGISTERS_2 FOVEA_WGMMA_REGISTERS_1 ", %4, %5, %6, %7"
#define FOVEA_WGMMA_REGISTERS_3 FOVEA_WGMMA_REGISTERS_2 ", %8, %9, %10, %11"
#define FOVEA_WGMMA_REGISTERS_4 FOVEA_WGMMA_REGISTERS_3 ", %12, %13, %14, %15"
#define FOVEA_WGMMA_REGISTERS_5 FOVEA_WGMMA_REGISTERS_4 ", %16, %17, %18, %19"
#define FOVEA_WGMMA_REGISTERS_6 FOVEA_WGMMA_REGISTERS_5 ", %20, %21, %22, %23"
#define FOVEA_WGMMA_REGISTERS_7 FOVEA_WGMMA_REGISTERS_6 ", %24, %25, %26, %27"
#define FOVEA_WGMMA_REGISTERS_8 FOVEA_WGMMA_REGISTERS_7 ", %28, %29, %30, %31"
#define FOVEA_WGMMA_REGISTERS_9 FOVEA_WGMMA_REGISTERS_8 ", %32, %33, %34, %35"
#define FOVEA_WGMMA_REGISTERS_10 FOVEA_WGMMA_REGISTERS_9 ", %36, %37, %38, %39"
#define FOVEA_WGMMA_REGISTERS_11 FOVEA_WGMMA_REGISTERS_10 ", %40, %41, %42, %43"
#define FOVEA_WGMMA_REGISTERS_12 FOVEA_WGMMA_REGISTERS_11 ", %44, %45, %46, %47"
#define FOVEA_WGMMA_REGISTERS_13 FOVEA_WGMMA_REGISTERS_12 ", %48, %49, %50, %51"
#define FOVEA_WGMMA_REGISTERS_14 FOVEA_WGMMA_REGISTERS_13 ", %52, %53, %54, %55"
#define FOVEA_WGMMA_REGISTERS_15 FOVEA_WGMMA_REGISTERS_14 ", %56, %57, %58, %59"
#define FOVEA_WGMMA_REGISTERS_16 FOVEA_WGMMA_REGISTERS_15 ", %60, %61, %62, %63"
#define FOVEA_WGMMA_REGISTERS_17 FOVEA_WGMMA_REGISTERS_16 ", %64, %65, %66, %67"
#define FOVEA_WGMMA_REGISTERS_18 FOVEA_WGMMA_REGISTERS_17 ", %68, %69, %70, %71"
#define FOVEA_WGMMA_REGISTERS_19 FOVEA_WGMMA_REGISTERS_18 ", %72, %73, %74, %75"
#define FOVEA_WGMMA_REGISTERS_20 FOVEA_WGMMA_REGISTERS_19 ", %76, %77, %78, %79"
#define FOVEA_WGMMA_REGISTERS_21 FOVEA_WGMMA_REGISTERS_20 ", %80, %81, %82, %83"
#define FOVEA_WGMMA_REGISTERS_22 FOVEA_WGMMA_REGISTERS_21 ", %84, %85, %86, %87"
#define FOVEA_WGMMA_REGISTERS_23 FOVEA_WGMMA_REGISTERS_22 ", %88, %89, %90, %91"
#define FOVEA_WGMMA_REGISTERS_24 FOVEA_WGMMA_REGISTERS_23 ", %92, %93, %94, %95"
#define FOVEA_WGMMA_REGISTERS_25 FOVEA_WGMMA_REGISTERS_24 ", %96, %97, %98, %99"
#define FOVEA_WGMMA_REGISTERS_26 FOVEA_WGMMA_REGISTERS_25 ", %100, %101, %102, %103"
#define FOVEA_WGMMA_REGISTERS_27 FOVEA_WGMMA_REGISTERS_26 ", %104, %105, %106, %107"
#define FOVEA_WGMMA_REGISTERS_28 FOVEA_WGMMA_REGISTERS_27 ", %108, %109, %110, %111"
#define FOVEA_WGMMA_REGISTERS_29 FOVEA_WGMMA_REGISTERS_28 ", %112, %113, %114, %115"
#define FOVEA_WGMMA_REGISTERS_30 FOVEA_WGMMA_REGISTERS_29 ", %116, %117, %118, %119"
#define FOVEA_WGMMA_REGISTERS_31 FOVEA_WGMMA_REGISTERS_30 ", %120, %121, %122, %123"
#define FOVEA_WGMMA_REGISTERS_32 FOVEA_WGMMA_REGISTERS_31 ", %124, %125, %126, %127"

#define FOVEA_WGMMA_FLOATS_1 "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
#define FOVEA_WGMMA_FLOATS_2 FOVEA_WGMMA_FLOATS_1, "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
#define FOVEA_WGMMA_FLOATS_3 FOVEA_WGMMA_FLOATS_2, "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11])
#define FOVEA_WGMMA_FLOATS_4 FOVEA_WGMMA_FLOATS_3, "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
#define FOVEA_WGMMA_FLOATS_5 FOVEA_WGMMA_FLOATS_4, "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19])
#define FOVEA_WGMMA_FLOATS_6 FOVEA_WGMMA_FLOATS_5, "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23])
#define FOVEA_WGMMA_FLOATS_7 FOVEA_WGMMA_FLOATS_6, "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27])
#define FOVEA_WGMMA_FLOATS_8 FOVEA_WGMMA_FLOATS_7, "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#define FOVEA_WGMMA_FLOATS_9 FOVEA_WGMMA_FLOATS_8, "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35])
#define FOVEA_WGMMA_FLOATS_10 FOVEA_WGMMA_FLOATS_9, "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39])
#define FOVEA_WGMMA_FLOATS_11 FOVEA_WGMMA_FLOATS_10, "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43])
#define FOVEA_WGMMA_FLOATS_12 FOVEA_WGMMA_FLOATS_11, "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47])
#define FOVEA_WGMMA_FLOATS_13 FOVEA_WGMMA_FLOATS_12, "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51])
#define FOVEA_WGMMA_FLOATS_14 FOVEA_WGMMA_FLOATS_13, "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55])
#define FOVEA_WGMMA_FLOATS_15 FOVEA_WGMMA_FLOATS_14, "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59])
#define FOVEA_WGMMA_FLOATS_16 FOVEA_WGMMA_FLOATS_15, "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
#define FOVEA_WGMMA_FLOATS_17 FOVEA_WGMMA_FLOATS_16, "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67])
#define FOVEA_WGMMA_FLOATS_18 FOVEA_WGMMA_FLOATS_17, "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71])
#define FOVEA_WGMMA_FLOATS_19 FOVEA_WGMMA_FLOATS_18, "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75])
#define FOVEA_WGMMA_FLOATS_20 FOVEA_WGMMA_FLOATS_19, "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79])
#define FOVEA_WGMMA_FLOATS_21 FOVEA_WGMMA_FLOATS_20, "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83])
#define FOVEA_WGMMA_FLOATS_22 FOVEA_WGMMA_FLOATS_21, "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87])
#define FOVEA_WGMMA_FLOATS_23 FOVEA_WGMMA_FLOATS_22, "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91])
#define FOVEA_WGMMA_FLOATS_24 FOVEA_WGMMA_FLOATS_23, "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95])
#define FOVEA_WGMMA_FLOATS_25 FOVEA_WGMMA_FLOATS_24, "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99])
#define FOVEA_WGMMA_FLOATS_26 FOVEA_WGMMA_FLOATS_25, "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103])
#define FOVEA_WGMMA_FLOATS_27 FOVEA_WGMMA_FLOATS_26, "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107])
#define FOVEA_WGMMA_FLOATS_28 FOVEA_WGMMA_FLOATS_27, "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111])
#define FOVEA_WGMMA_FLOATS_29 FOVEA_WGMMA_FLOATS_28, "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115])
#define FOVEA_WGMMA_FLOATS_30 FOVEA_WGMMA_FLOATS_29, "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119])
#define FOVEA_WGMMA_FLOATS_31 FOVEA_WGMMA_FLOATS_30, "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123])
#define FOVEA_WGMMA_FLOATS_32 FOVEA_WGMMA_FLOATS_31, "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])

#define FOVEA_WGMMA_SHAPES(X) \
  X(1, 8, 4, 5, 6, 7, 8, 9, 10) \
  X(2, 16, 8, 9, 10, 11, 12, 13, 14) \
  X(3, 24, 12, 13, 14, 15, 16, 17, 18) \
  X(4, 32, 16, 17, 18, 19, 20, 21, 22) \
  X(5, 40, 20, 21, 22, 23, 24, 25, 26) \
  X(6, 48, 24, 25, 26, 27, 28, 29, 30) \
  X(7, 56, 28, 29, 30, 31, 32, 33, 34) \
  X(8, 64, 32, 33, 34, 35, 36, 37, 38) \
  X(9, 72, 36, 37, 38, 39, 40, 41, 42) \
  X(10, 80, 40, 41, 42, 43, 44, 45, 46) \
  X(11, 88, 44, 45, 46, 47, 48, 49, 50) \
  X(12, 96, 48, 49, 50, 51, 52, 53, 54) \
  X(13, 104, 52, 53, 54, 55, 56, 57, 58) \
  X(14, 112, 56, 57, 58, 59, 60, 61, 62) \
  X(15, 120, 60, 61, 62, 63, 64, 65, 66) \
  X(16, 128, 64, 65, 66, 67, 68, 69, 70) \
  X(17, 136, 68, 69, 70, 71, 72, 73, 74) \
  X(18, 144, 72, 73, 74, 75, 76, 77, 78) \
  X(19, 152, 76, 77, 78, 79, 80, 81, 82) \
  X(20, 160, 80, 81, 82, 83, 84, 85, 86) \
  X(21, 168, 84, 85, 86, 87, 88, 89, 90) \
  X(22, 176, 88, 89, 90, 91, 92, 93, 94) \
  X(23, 184, 92, 93, 94, 95, 96, 97, 98) \
  X(24, 192, 96, 97, 98, 99, 100, 101, 102) \
  X(25, 200, 100, 101, 102, 103, 104, 105, 106) \
  X(26, 208, 104, 105, 106, 107, 108, 109, 110) \
  X(27, 216, 108, 109, 110, 111, 112, 113, 114) \
  X(28, 224, 112, 113, 114, 115, 116, 117, 118) \
  X(29, 232, 116, 117, 118, 119, 120, 121, 122) \
  X(30, 240, 120, 121, 122, 123, 124, 125, 126) \
  X(31, 248, 124, 125, 126, 127, 128, 129, 130) \
  X(32, 256, 128, 129, 130, 131, 132, 133, 134)
// clang-format on
