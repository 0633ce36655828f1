"""One run of the replay: build an engine, time it, or fail as it was told."""

import json
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from .engine import make_engine, make_runs
from .flags import OPSETS, number_of, read_flags
from .network import BadOnnxError, Network, read_network
from .text import (
    Document,
    Printer,
    complain,
    print_profile,
    profile_text,
    summarise,
    times_text,
)

ENGINE_MAGIC = "dfmobile replay engine"
FAILURES = (
    "no-driver", "killed", "crash", "hang", "unsupported-op", "gpu-memory", "workspace", "disk-full", "silent",
    "old-gpu", "cut-off", "ignores-graph",
)  # fmt: skip
HELP = "=== Help ===\n  --help, -h                  Print this message"


class Replay:
    """A run of the program.

    Attributes:
        will_fail: it was told to fail, and this is a run that does.
    """

    def __init__(self, command: List[str], settings: Dict[str, Any]) -> None:
        self._arguments = command[1:]
        self._settings = settings
        self._version = tuple(int(part) for part in settings["version"].split("."))
        self._printer = Printer(self._version, " ".join(["trtexec", *self._arguments]))
        loads = any(argument.startswith("--loadEngine") for argument in self._arguments)
        failure = os.environ.get("DFMOBILE_REPLAY_FAILURE", settings["failure"])
        if failure and failure not in FAILURES:
            raise ValueError("the replay has no failure {!r}".format(failure))
        phase = settings["failure_phase"]
        here = phase == "any" or phase == ("time" if loads else "build")
        self._failure = failure if here and settings["failures_left"] != 0 else ""
        self.will_fail = bool(self._failure)

    def run(self) -> int:
        """Play; return the exit code."""
        printer = self._printer
        printer.marker()
        printer.banner("RUNNING")
        try:
            values, unknown = read_flags(self._version, self._arguments)
            whole = self._version < (8, 4)
            numbers = {
                "iterations": number_of(values, "iterations", 10, whole=True),
                "duration": number_of(values, "duration", 3, whole=whole),
                "warmUp": number_of(values, "warmUp", 200, whole=whole),
            }
        except ValueError as error:
            return self._usage(str(error))
        if unknown:
            return self._usage("Unknown option: {} ".format(unknown[0]))
        if "help" in values:
            printer.plain(HELP)
            return 0
        if ("onnx" in values) == ("loadEngine" in values):
            return self._usage("Model missing or format not recognized")
        switches = self._switches(values)
        printer.options(switches, numbers)
        if self._failure in ("no-driver", "killed", "crash", "hang"):
            self._die()
        printer.device()
        if self._failure == "old-gpu":
            printer.error("Error[1]: Target GPU SM 53 is not supported by this TensorRT release.")
            return printer.failed()
        engine = self._load(values["loadEngine"]) if "loadEngine" in values else self._build(values)
        if engine is None:
            return printer.failed()
        if "skipInference" in values or "buildOnly" in values:
            flag = "--skipInference" if "skipInference" in values else "--buildOnly"
            printer.say("Skipped inference phase since {} is added.".format(flag))
        elif not self._time(engine, values, switches, numbers):
            return printer.failed()
        if self._failure in ("silent", "cut-off"):
            return 0
        printer.banner("PASSED")
        printer.marker()
        return 0

    def _usage(self, complaint: str) -> int:
        self._printer.error(complaint)
        self._printer.plain(HELP)
        return self._printer.failed()

    def _switches(self, values: Dict[str, str]) -> Dict[str, bool]:
        if self._version >= (11,):
            for flag in ("useCudaGraph", "useSpinWait", "noDataTransfers", "separateProfileRun", "stronglyTyped"):
                if flag in values:
                    self._printer.say("--{} is deprecated. This flag is a no-op.".format(flag), "W")
            return {
                "CUDA Graph": "noCudaGraph" not in values,
                "Spin-wait": "noSpinWait" not in values,
                "Data transfers": "includeDataTransfers" in values,
            }
        return {
            "CUDA Graph": "useCudaGraph" in values,
            "Spin-wait": "useSpinWait" in values,
            "Data transfers": "noDataTransfers" not in values,
        }

    def _die(self) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if self._failure == "no-driver":
            complain("Cuda failure: CUDA driver version is insufficient for CUDA runtime version")
            sys.stdout.flush()
            os.abort()
        if self._failure == "hang":
            while True:
                time.sleep(3600)
        os.kill(os.getpid(), signal.SIGKILL if self._failure == "killed" else signal.SIGSEGV)

    def _build(self, values: Dict[str, str]) -> Optional[Document]:
        printer, path = self._printer, Path(values["onnx"])
        try:
            network = read_network(path.read_bytes())
        except OSError:
            printer.error("Could not open file {}".format(path), library=True)
            printer.error("Failed to parse ONNX model from file: {}".format(path), library=True)
            self._not_built()
            return None
        except BadOnnxError as error:
            printer.plain(
                "[libprotobuf ERROR] Error parsing message of type 'onnx2trt_onnx.ModelProto': {}".format(error)
            )
            printer.error("Failed to parse ONNX model from file: {}".format(path), library=True)
            self._not_built()
            return None
        printer.say("Start parsing network model")
        printer.say("Opset version:    {}".format(network.opset), library=True)
        printer.say("Producer name:    {}".format(network.producer), library=True)
        if not self._parses(network):
            self._not_built()
            return None
        printer.say("Finish parsing network model")
        if self._failure in ("gpu-memory", "workspace"):
            if self._failure == "gpu-memory":
                printer.error(
                    "Error[1]: [defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)"
                )
            name = network.nodes[0].name if network.nodes else "?"
            printer.error("Error[10]: Could not find any implementation for node {}.".format(name))
            printer.error("Engine could not be created from network")
            self._not_built(parsed=True)
            return None
        if "calib" in values and not Path(values["calib"]).exists():
            printer.error("[TRT] Can not open provided calibration cache file")
            self._not_built(parsed=True)
            return None
        time.sleep(self._settings["build_s"])
        engine = make_engine(network, values, ".".join(map(str, self._version)), self._settings["scale"])
        text = ENGINE_MAGIC + "\n" + json.dumps(engine, sort_keys=True) + "\n"
        if self._version >= (10,):
            printer.say("Created engine with size: {:g} MiB".format(len(text) / 2**20))
        printer.say("Engine built in {:g} sec.".format(self._settings["build_s"]))
        if "saveEngine" in values:
            reason = self._save(Path(values["saveEngine"]), text)
            if reason:
                printer.error("Cannot open engine file: {} ({})".format(values["saveEngine"], reason))
                printer.error("Engine set up failed")
                return None
        return engine

    def _save(self, path: Path, text: str) -> str:
        """Write an engine; return why not."""
        if self._failure == "disk-full":
            return "No space left on device"
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            return str(error)
        return ""

    def _parses(self, network: Network) -> bool:
        """Say what the parser of this version would, of an opset that it does not know."""
        limit = OPSETS[(self._version[0], self._version[1])]
        if network.opset <= limit and self._failure != "unsupported-op":
            return True
        printer, node = self._printer, network.nodes[0] if network.nodes else None
        op, name, output = (node.op, node.name, node.output) if node else ("?", "?", "?")
        printer.error('ModelImporter.cpp:773: While parsing node number 0 [{} -> "{}"]:'.format(op, output), True)
        printer.error("ModelImporter.cpp:774: --- Begin node ---", True)
        printer.plain('output: "{}"\nname: "{}"\nop_type: "{}"\n'.format(output, name, op))
        printer.error("ModelImporter.cpp:775: --- End node ---", True)
        printer.error("ModelImporter.cpp:779: ERROR: ModelImporter.cpp:180 In function parseNode:", True)
        printer.plain("[6] Invalid Node - {}".format(name or output))
        printer.plain("replay: opset {}, and this version knows opsets to {}".format(network.opset, limit))
        return False

    def _not_built(self, parsed: bool = False) -> None:
        if not parsed:
            self._printer.error("Failed to parse onnx file")
            self._printer.error("Parsing model failed")
        self._printer.error("Failed to create engine from model or file.")
        self._printer.error("Engine set up failed")

    def _load(self, name: str) -> Optional[Document]:
        printer = self._printer
        try:
            data = Path(name).read_bytes()
        except OSError:
            printer.error("Error opening engine file: {}".format(name))
            printer.error(
                "Engine set up failed" if self._version < (8, 4) else "Failed to create engine from model or file."
            )
            return None
        head, _, body = data.partition(b"\n")
        engine: Document = {}
        if head == ENGINE_MAGIC.encode():
            try:
                engine = json.loads(body.decode("utf-8"))
            except ValueError:
                engine = {}
        if engine.get("version") != ".".join(map(str, self._version)):
            printer.error(
                "Error[1]: [runtime.cpp::parsePlan::314] Error Code 1: Serialization (Serialization assertion "
                "plan->header.magicTag == rt::kPLAN_MAGIC_TAG failed.)"
            )
            printer.error("Engine deserialization failed")
            printer.error("Inference set up failed")
            return None
        printer.say("Loaded engine size: {} MiB".format(len(data) >> 20), library=True)
        verb = "deserialized" if self._version >= (8, 5) else "loaded"
        printer.say("Engine {} in 0.001 sec.".format(verb))
        return engine

    def _time(
        self, engine: Document, values: Dict[str, str], switches: Dict[str, bool], numbers: Dict[str, float]
    ) -> bool:
        printer, version = self._printer, self._version
        printer.say("Starting inference")
        if self._failure == "cut-off":
            return True
        if self._failure == "ignores-graph" and switches["CUDA Graph"]:
            ignored = "The specified --useCudaGraph flag has been ignored. The inference will be launched without using"
            printer.say(ignored + " CUDA graph launch.", "W")
        time.sleep(self._settings["run_s"])
        if self._settings["recorded_log"]:
            return self._play_recorded(values)
        warm_up, runs = make_runs(engine, switches, numbers)
        profiles = "exportProfile" in values or "dumpProfile" in values
        separate = version >= (11,) or "separateProfileRun" in values
        # 8.2 prints a summary of the profiled runs; later versions print and export none.
        if not profiles or separate or version < (8, 4):
            summarise(printer, runs, warm_up, numbers["warmUp"])
            if "exportTimes" in values:
                Path(values["exportTimes"]).write_text(times_text(version, runs, warm_up), encoding="utf-8")
        else:
            printer.say(
                "The e2e network timing is not reported since it is inaccurate due to the extra synchronizations when "
                "the profiler is enabled."
            )
        layers = [(name, ms * engine["factor"] * 1.1) for name, ms in engine["layers"]]
        if "dumpProfile" in values:
            print_profile(printer, layers, len(runs))
        if "exportProfile" in values:
            Path(values["exportProfile"]).write_text(profile_text(version, layers, len(runs)), encoding="utf-8")
        return True

    def _play_recorded(self, values: Dict[str, str]) -> bool:
        """Print a recorded log and copy its file of times, whatever the engine is."""
        text = Path(self._settings["recorded_log"]).read_text(encoding="utf-8", errors="replace")
        passed = True
        for line in text.splitlines():
            passed = passed and not line.startswith("&&&& FAILED")
            if not line.startswith("&&&&"):
                self._printer.plain(line)
        if self._settings["recorded_times"] and "exportTimes" in values:
            shutil.copyfile(self._settings["recorded_times"], values["exportTimes"])
        return passed
