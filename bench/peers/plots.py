"""Pictures of results: times of every point beside the best, and the input-dynamism experiment. Needs matplotlib."""

import pathlib

from peers.compare import timed

LENGTHS = ("constant", "uniform", "zipf")
HEADS = ("mha", "gqa4", "gqa8")


def draw(result, folder):
    """Writes SVG files and returns their paths."""
    import matplotlib

    matplotlib.use("Agg")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [draw_points(result, folder / "points.svg")]
    if any(cell(result, phase, length, heads) for phase in ("decode", "prefill") for length in LENGTHS for heads in HEADS):
        paths.append(draw_dynamism(result, folder / "dynamism.svg"))
    return [path for path in paths if path]


def speed(record, best):
    """Of a peer, the fastest one of its point being 1."""
    return best["median_us"] / record["median_us"]


def draw_points(result, path):
    from matplotlib import pyplot

    points = [point for point in result["points"] if timed(point)]
    if not points:
        return None
    names = sorted({record["name"] for point in points for record in timed(point)}, key=lambda name: (name != "fovea", name))
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + 0.32 * len(points)), layout="constrained")
    for number, name in enumerate(names):
        places = [(speed(record, timed(point)[0]), row) for row, point in enumerate(points) for record in timed(point) if record["name"] == name]
        axes.plot([x for x, _ in places], [y for _, y in places], linestyle="", marker="D" if name == "fovea" else "osv^<>pPX*hd"[number % 12], label=name,
                  markersize=8 if name == "fovea" else 5)
    axes.set_yticks(range(len(points)), [point["workload"] for point in points])
    axes.invert_yaxis()
    axes.set_xlabel("speed, the fastest of the point = 1")
    axes.grid(alpha=0.3)
    axes.set_title(f"{result['machine'].get('gpu', result['machine']['device'])}, {result['date']}")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path)
    pyplot.close(figure)
    return path


def cell(result, phase, length, heads):
    return next((point for point in result["points"] if point["workload"] == f"{phase}_16_{length}_{heads}"), None)


def share(result, phase, record):
    """Bandwidth in decode, utilisation of the matrix product in prefill; rates where the yardsticks were not measured."""
    if phase == "decode":
        return record["tb_per_s"]
    product = result["yardsticks"].get("matmul_tflop_per_s")
    return record["tflop_per_s"] / product if product else record["tflop_per_s"]


def draw_dynamism(result, path):
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(2, len(HEADS), figsize=(12, 6), sharey="row", layout="constrained")
    points = filter(None, (cell(result, phase, length, heads) for phase in ("decode", "prefill") for length in LENGTHS for heads in HEADS))
    names = sorted({record["name"] for point in points for record in timed(point)}, key=lambda name: (name != "fovea", name))
    labels = {"decode": "TB/s of K and V", "prefill": "of the rate of a matrix product" if result["yardsticks"] else "TFLOP/s"}
    for row, phase in zip(rows, ("decode", "prefill")):
        row[0].set_ylabel(f"{phase}, {labels[phase]}")
        for axes, heads in zip(row, HEADS):
            axes.set_title(heads)
            for number, name in enumerate(names):
                heights = []
                for length in LENGTHS:
                    point = cell(result, phase, length, heads)
                    mine = [record for record in timed(point) if record["name"] == name] if point else []
                    heights.append(share(result, phase, mine[0]) if mine else 0)
                axes.bar([place + 0.8 * number / len(names) for place in range(len(LENGTHS))], heights, width=0.8 / len(names), label=name)
            axes.set_xticks([place + 0.4 for place in range(len(LENGTHS))], LENGTHS)
    handles, texts = rows[0][0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=5, fontsize="small")
    figure.savefig(path)
    pyplot.close(figure)
    return path
