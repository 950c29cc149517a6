"""`onnxruntime_perf_test` as its README and sources describe it, played with ONNX Runtime's Python package.

What `how` beside it says may go wrong: "crash", "hang", "silent", "nonsense", "endless", "status NUMBER".
"""

import os
import sys
import time
from pathlib import Path


def main(arguments):
    how_file = Path(__file__).with_name("how")
    how = how_file.read_text() if how_file.exists() else ""
    options = dict(zip(arguments[:-2:2], arguments[1:-2:2], strict=True))
    assert set(options) <= {"-e", "-m", "-t", "-o", "-x", "-y", "-C"}, options
    if how == "crash":
        os.abort()
    if how.startswith("status "):
        return int(how.split()[1])
    if how == "hang":
        time.sleep(60)
    if how == "endless":
        while True:
            os.write(1, b"y\n" * 4096)
    if how in ("silent", "nonsense"):
        Path(arguments[-1]).write_text("m,a while,1,1,0\n" if how == "nonsense" else "")
        return 0
    import onnx
    import onnxruntime

    began = time.perf_counter()
    session = onnxruntime.InferenceSession(arguments[-2])
    sys.stdout.write(f"Session creation time cost: {time.perf_counter() - began:g} s\n")
    feeds = {}
    for path in Path(arguments[-2]).with_name("test_data_set_0").glob("input_*.pb"):
        tensor = onnx.load_tensor(path)
        feeds[tensor.name] = onnx.numpy_helper.to_array(tensor)
    session.run(None, feeds)
    seconds, end = [], time.perf_counter() + min(0.3, float(options["-t"]))
    while time.perf_counter() < end:
        began = time.perf_counter()
        session.run(None, feeds)
        seconds.append(time.perf_counter() - began)
    with Path(arguments[-1]).open("a") as result:
        result.writelines(f"a,model,{one:g},{50 << 20},100,{run}\n" for run, one in enumerate(seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
