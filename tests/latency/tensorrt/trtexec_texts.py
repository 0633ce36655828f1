# ruff: noqa: E501
"""Small outputs and files in the formats of trtexec's versions, written for the tests; every number is made up."""

from __future__ import annotations

V7 = """&&&& RUNNING TensorRT.trtexec # trtexec --loadEngine=a.engine
[01/02/2021-03:04:05] [I] === Inference Options ===
[01/02/2021-03:04:05] [I] Spin-wait: Disabled
[01/02/2021-03:04:05] [I] CUDA Graph: Disabled
[01/02/2021-03:04:06] [I] Warmup completed 20 queries over 200 ms
[01/02/2021-03:04:06] [I] Timing trace has 40 queries over 0.5 s
[01/02/2021-03:04:06] [I] Trace averages of 10 runs:
[01/02/2021-03:04:06] [I] Average on 10 runs - GPU latency: 12 ms - Host latency: 12.5 ms (end to end 12.6 ms, enqueue 3 ms)
[01/02/2021-03:04:06] [I] Host Latency
[01/02/2021-03:04:06] [I] min: 12.1 ms (end to end 12.2 ms)
[01/02/2021-03:04:06] [I] max: 13.9 ms (end to end 14 ms)
[01/02/2021-03:04:06] [I] mean: 12.5 ms (end to end 12.6 ms)
[01/02/2021-03:04:06] [I] median: 12.4 ms (end to end 12.5 ms)
[01/02/2021-03:04:06] [I] percentile: 13.8 ms at 99% (end to end 13.9 ms at 99%)
[01/02/2021-03:04:06] [I] throughput: 80 qps
[01/02/2021-03:04:06] [I] walltime: 0.5 s
[01/02/2021-03:04:06] [I] Enqueue Time
[01/02/2021-03:04:06] [I] min: 2.5 ms
[01/02/2021-03:04:06] [I] max: 3.5 ms
[01/02/2021-03:04:06] [I] median: 3 ms
[01/02/2021-03:04:06] [I] GPU Compute
[01/02/2021-03:04:06] [I] min: 11.6 ms
[01/02/2021-03:04:06] [I] max: 13.4 ms
[01/02/2021-03:04:06] [I] mean: 12 ms
[01/02/2021-03:04:06] [I] median: 11.9 ms
[01/02/2021-03:04:06] [I] percentile: 13.3 ms at 99%
[01/02/2021-03:04:06] [I] total compute time: 0.48 s
&&&& PASSED TensorRT.trtexec # trtexec --loadEngine=a.engine
"""

V10 = """&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --loadEngine=a.engine --useCudaGraph
[01/02/2025-03:04:05] [I] Data transfers: Disabled
[01/02/2025-03:04:05] [I] Spin-wait: Enabled
[01/02/2025-03:04:05] [I] CUDA Graph: Enabled
[01/02/2025-03:04:05] [I] Selected Device: Orin
[01/02/2025-03:04:05] [I] Compute Capability: 8.7
[01/02/2025-03:04:05] [I] TensorRT version: 10.3.0
[01/02/2025-03:04:05] [I] [TRT] Loaded engine size: 6 MiB
[01/02/2025-03:04:05] [I] Engine deserialized in 0.02 sec.
[01/02/2025-03:04:05] [W] The specified --useCudaGraph flag has been ignored. The inference will be launched without using CUDA graph launch.
[01/02/2025-03:04:09] [I] Warmup completed 200 queries over 200 ms
[01/02/2025-03:04:09] [I] Timing trace has 3000 queries over 3.0003 s
[01/02/2025-03:04:09] [I] === Performance summary ===
[01/02/2025-03:04:09] [I] Throughput: 999.9 qps
[01/02/2025-03:04:09] [I] Latency: min = 0.9 ms, max = 1.5 ms, mean = 1.01 ms, median = 1 ms, percentile(90%) = 1.1 ms, percentile(95%) = 1.2 ms, percentile(99%) = 1.4 ms
[01/02/2025-03:04:09] [I] Enqueue Time: min = 0.1 ms, max = 0.2 ms, mean = 0.15 ms, median = 0.14 ms, percentile(90%) = 0.16 ms, percentile(95%) = 0.17 ms, percentile(99%) = 0.19 ms
[01/02/2025-03:04:09] [I] H2D Latency: min = 0 ms, max = 0 ms, mean = 0 ms, median = 0 ms, percentile(90%) = 0 ms, percentile(95%) = 0 ms, percentile(99%) = 0 ms
[01/02/2025-03:04:09] [I] GPU Compute Time: min = 0.9 ms, max = 1.5 ms, mean = 1.01 ms, median = 1 ms, percentile(90%) = 1.1 ms, percentile(95%) = 1.2 ms, percentile(99%) = 1.4 ms
[01/02/2025-03:04:09] [I] D2H Latency: min = 0 ms, max = 0 ms, mean = 0 ms, median = 0 ms, percentile(90%) = 0 ms, percentile(95%) = 0 ms, percentile(99%) = 0 ms
[01/02/2025-03:04:09] [I] Total Host Walltime: 3.0003 s
[01/02/2025-03:04:09] [I] Total GPU Compute Time: 3.03 s
[01/02/2025-03:04:09] [W] * GPU compute time is unstable, with coefficient of variance = 4.2%.
[01/02/2025-03:04:09] [W]   If not already in use, locking GPU clock frequency or adding --useSpinWait may improve the stability.
&&&& PASSED TensorRT.trtexec [TensorRT v100300] # trtexec --loadEngine=a.engine --useCudaGraph
"""

NO_DRIVER = """&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec --onnx=a.onnx
[01/02/2025-03:04:05] [I] CUDA Graph: Disabled
Cuda failure: no CUDA-capable device is detected
"""

PARSE_ERROR = """&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec --onnx=a.onnx
[01/02/2025-03:04:05] [I] [TRT] Opset version:    17
[01/02/2025-03:04:05] [I] [TRT] No importer registered for op: LayerNormalization. Attempting to import as plugin.
[01/02/2025-03:04:05] [E] [TRT] ModelImporter.cpp:773: While parsing node number 12 [LayerNormalization -> "norm_out"]:
[01/02/2025-03:04:05] [E] [TRT] ModelImporter.cpp:774: --- Begin node ---
[01/02/2025-03:04:05] [E] [TRT] ModelImporter.cpp:775: input: "x"
[01/02/2025-03:04:05] [E] [TRT] ModelImporter.cpp:776: --- End node ---
[01/02/2025-03:04:05] [E] [TRT] ModelImporter.cpp:779: ERROR: builtin_op_importers.cpp:4870 In function importFallbackPluginImporter:
[8] Assertion failed: creator && "Plugin not found, are the plugin name, version, and namespace correct?"
[01/02/2025-03:04:05] [E] Failed to parse onnx file
[01/02/2025-03:04:05] [E] Engine set up failed
&&&& FAILED TensorRT.trtexec [TensorRT v8201] # trtexec --onnx=a.onnx
"""

PROFILE_8_2 = """[01/02/2025-03:04:05] [I] === Profile (100 iterations ) ===
[01/02/2025-03:04:05] [I]                      Layer   Time (ms)   Avg. Time (ms)   Time %
[01/02/2025-03:04:05] [I]              conv 1 + relu       60.00           0.6000     60.0
[01/02/2025-03:04:05] [I]  a very long name that is (       40.00           0.4000     40.0
[01/02/2025-03:04:05] [I]                      Total      100.00           1.0000    100.0
[01/02/2025-03:04:05] [I]
"""

PROFILE_8_6 = """[01/02/2025-03:04:05] [I] === Profile (100 iterations ) ===
[01/02/2025-03:04:05] [I]    Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer
[01/02/2025-03:04:05] [I]       60.00       0.6000       0.5900      60.0   conv 1 + relu
[01/02/2025-03:04:05] [I]       40.00       0.4000       0.4000      40.0   "quoted" \\ name 7.0
[01/02/2025-03:04:05] [I]      100.00       1.0000       0.9900     100.0   Total
[01/02/2025-03:04:05] [I]
"""

TIMES_7 = b"""[
  { "startEnqMs" : 1, "endEnqMs" : 1.5, "startInMs" : 0.5, "endInMs" : 0.75, "startComputeMs" : 1.5, "endComputeMs" : 3.5, "startOutMs" : 3.5, "endOutMs" : 4, "inMs" : 0.5, "computeMs" : 2, "outMs" : 0.5, "latencyMs" : 3, "endToEndMs" : 3.5 }
]
"""

TIMES_8_2 = b"""[
  { "startEnqMs" : 0.1, "endEnqMs" : 0.3, "startH2dMs" : 0.3, "endH2dMs" : 0.4, "startComputeMs" : 0.4, "endComputeMs" : 2.4, "startD2hMs" : 2.4, "endD2hMs" : 2.5, "h2dMs" : 0.1, "computeMs" : 2, "d2hMs" : 0.1, "latencyMs" : 2.2, "endToEndMs" : 2.4 }
, { "startEnqMs" : 2.6, "endEnqMs" : 2.7, "startH2dMs" : 2.8, "endH2dMs" : 2.9, "startComputeMs" : 3, "endComputeMs" : 4.9, "startD2hMs" : 4.9, "endD2hMs" : 5, "h2dMs" : 0.1, "computeMs" : 1.9, "d2hMs" : 0.1, "latencyMs" : 2.1, "endToEndMs" : 2.3 }
]
"""
