# ruff: noqa: E501
"""Small logs in the formats of ``benchmark_model`` and ``benchmark_litert_model``, written for the tests."""

from __future__ import annotations

OLD = """STARTING!
Num runs: [5]
Use nnapi : [0]
nnapi error: unable to open library libneuralnetworks.so
Loaded model a.tflite
resolved reporter
Initialized session in 1.5ms
Running benchmark for 1 iterations
count=1 curr=2500

Running benchmark for 5 iterations
count=5 first=2100 curr=2050 min=2000 max=2200 avg=2080 std=70

Average inference timings in us: Warmup: 2500, Init: 1500, no stats: 2080
"""

NEW = """INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Graph: [/data/local/tmp/a.tflite]
INFO: Loaded model /data/local/tmp/a.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 5 out of 5 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions for the whole graph.
INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.
INFO: The input model file size (MB): 0.25
INFO: Initialized session in 12.5ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=4 first=2.0e5 curr=150100 min=150000 max=200000 avg=162525 std=20000 p5=150000 median=150050 p95=200000

INFO: Running benchmark for at least 3 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=7 first=150300 curr=150200 min=150000 max=151000 avg=150320 std=300 p5=150050 median=150210 p95=150950

INFO: Inference timings in us: Init: 12500, First inference: 200000, Warmup (avg): 162525, Inference (avg): 150320
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=2.5 overall=4
INFO: Overall peak memory footprint (MB) via periodic monitoring: 8.5
INFO: Memory status at the end of exeution:
INFO: - VmRSS              : 12 MB
"""

SCIENTIFIC = """INFO: count=1 curr=1530248
INFO: count=50 first=1497000 curr=1497300 min=1490000 max=1510000 avg=1.49712e+06 std=5000
INFO: Inference timings in us: Init: 36618, First inference: 1530248, Warmup (avg): 1.53025e+06, Inference (avg): 1.49712e+06
"""

ALL_SAME = """STARTING!
Running benchmark for at least 1 iterations and at least 0.5 seconds
count=30 curr=70(all same)

Running benchmark for at least 50 iterations and at least 1 seconds
count=50 curr=64(all same)

Inference timings in us: Init: 900, First inference: 70, Warmup (avg): 70, Inference (avg): 64
"""

ONE_RUN = """Running benchmark for at least 1 iterations and at least 0.5 seconds
count=1 curr=900000
Running benchmark for at least 1 iterations and at least 0 seconds
count=1 curr=880000
Inference timings in us: Init: 900, First inference: 900000, Warmup (avg): 900000, Inference (avg): 880000
"""

LITERT = """INFO: [benchmark_litert_model.cc:120] Loading model from: /data/local/tmp/a.tflite
VERBOSE: Replacing 31 out of 31 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions for subgraph 0.
INFO: [benchmark_litert_model.h:60]
========== BENCHMARK RESULTS ==========
INFO: [benchmark_litert_model.h:61] Model initialization: 45.32 ms
INFO: [benchmark_litert_model.h:62] Warmup (first):       3.10 ms
INFO: [benchmark_litert_model.h:63] Warmup (avg):         2.60 ms (180 runs)
INFO: [benchmark_litert_model.h:64] Inference (avg):      2.43 ms (50 runs)
INFO: [benchmark_litert_model.h:65] Inference (min):      2.31 ms
INFO: [benchmark_litert_model.h:66] Inference (max):      3.02 ms
INFO: [benchmark_litert_model.h:67] Inference (std):      0.11
INFO: [benchmark_litert_model.h:68] Throughput:           12.45 MB/s
Memory Usage:
Init footprint:       25.50 MB
Overall footprint:    32.00 MB
Peak memory:          35.25 MB
======================================
"""

GPU_PARTIAL = """INFO: STARTING!
INFO: Use gpu: [1]
INFO: Loaded model a.tflite
INFO: Created TensorFlow Lite delegate for GPU.
INFO: GPU delegate created.
ERROR: Following operations are not supported by GPU delegate:
ERROR: UNPACK: Operation is not supported.
ERROR: ARG_MAX: Operation is not supported.
12 operations will run on the GPU, and the remaining 4 operations will run on the CPU.
VERBOSE: Replacing 12 out of 16 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 2 partitions for the whole graph.
INFO: Explicitly applied GPU delegate, and the model graph will be partially executed by the delegate w/ 2 delegate kernels.
INFO: Initialized session in 870.557ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=5 first=3000 curr=2000 min=2000 max=3000 avg=2200 std=400
INFO: Running benchmark for at least 3 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=500 first=2000 curr=2010 min=1990 max=2300 avg=2020 std=30
INFO: Inference timings in us: Init: 870557, First inference: 3000, Warmup (avg): 2200, Inference (avg): 2020
"""

GPU_WHOLE = """INFO: Created TensorFlow Lite delegate for GPU.
VERBOSE: Replacing 16 out of 16 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions for the whole graph.
INFO: Initialized OpenCL-based API.
INFO: Created 1 GPU delegate kernels.
INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.
INFO: count=5 first=3000 curr=2000 min=2000 max=3000 avg=2200 std=400
INFO: count=500 first=2000 curr=2010 min=1990 max=2300 avg=2020 std=30
INFO: Inference timings in us: Init: 870557, First inference: 3000, Warmup (avg): 2200, Inference (avg): 2020
"""

HEXAGON = """INFO: Initialized TensorFlow Lite runtime.
loaded libcdsprpc.so
INFO: Created TensorFlow Lite delegate for Hexagon.
INFO: Hexagon delegate: 28 nodes delegated out of 31 nodes.

Applied Hexagon delegate, and the model graph will be partially executed w/ the delegate.
count=6 first=9000 curr=8000 min=8000 max=9000 avg=8200 std=400
count=50 first=8000 curr=8010 min=7990 max=8300 avg=8020 std=30
Inference timings in us: Init: 5811, First inference: 9000, Warmup (avg): 8200, Inference (avg): 8020
"""

PROFILED = """STARTING!
count=5 first=3000 curr=2000 min=2000 max=3000 avg=2200 std=400
count=50 first=2000 curr=2010 min=1990 max=2300 avg=2020 std=30
Inference timings in us: Init: 5811, First inference: 3000, Warmup (avg): 2200, Inference (avg): 2020
Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t ModifyGraphWithDelegate\t            0.000\t  413.346\t  413.346\t 56.670%\t 56.670%\t  1748.000\t        1\tModifyGraphWithDelegate/0

Number of nodes executed: 1
Timings (microseconds): count=1 curr=729391
Memory (bytes): count=0
1 nodes observed

Operator-wise Profiling Info for Regular Benchmark Runs:
node type, start, first, avg_ms, %, cdf%, mem KB, times called, name
CONV_2D, 0.001, 1.5, 1.4, 70%, 70%, 0, 1, [conv]:0
Timings (microseconds): count=50 first=164033 curr=158560 min=146535 max=166638 avg=158715 std=2931
"""

CRASHED = """STARTING!
Unconsumed cmdline flags: -use-gpu=true
Loaded model a.tflite
Initialized session in 16.374ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
Segmentation fault
"""

FAILED_DELEGATE = """STARTING!
INFO: Created TensorFlow Lite delegate for NNAPI.
NNAPI delegate created.
ERROR: NN API returned error ANEURALNETWORKS_BAD_DATA at line 1068 while adding operation.

ERROR: Restored original execution plan after delegate application failure.
Failed to apply NNAPI delegate.
Benchmarking failed.
"""

LOGCAT = "\n".join(
    f"05-30 15:16:44.857  3380  3380 {'E' if line.startswith('ERROR') else 'I'} tflite  : {line.partition(': ')[2]}"
    for line in GPU_PARTIAL.splitlines()
    if line.startswith(("INFO", "ERROR", "VERBOSE"))
)
