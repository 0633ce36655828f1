"""Flags of trtexec 8.2.1, 8.5.1, 10.3.0 and 11.0, by hand from the option parsers of NVIDIA's open releases.

Written apart from ``dfmobile.latency.tensorrt.flags``, so that each can find the other's mistakes.
"""

from typing import Dict, FrozenSet, List, Tuple

# Flags that take no value; all others take one.
_SWITCHES = (
    "explicitBatch fp16 bf16 int8 fp8 best stronglyTyped allowGPUFallback dumpProfile dumpLayerInfo dumpOutput "
    "separateProfileRun useSpinWait noSpinWait noDataTransfers includeDataTransfers buildOnly skipInference "
    "useCudaGraph noCudaGraph noTF32 threads verbose useManagedMemory timeDeserialize buildDLAStandalone dumpRefit "
    "errorOnTimingCacheMiss versionCompatible getPlanVersionOnly safe cpuOnly help"
)
SWITCHES: FrozenSet[str] = frozenset(_SWITCHES.split())

_ALWAYS = (
    "onnx useDLACore allowGPUFallback saveEngine loadEngine iterations duration warmUp avgRuns idleTime sleepTime "
    "streams exportTimes exportOutput exportProfile exportLayerInfo dumpProfile dumpLayerInfo dumpOutput "
    "separateProfileRun profilingVerbosity timingCacheFile percentile useSpinWait noDataTransfers useCudaGraph noTF32 "
    "threads shapes minShapes sparsity verbose device useManagedMemory timeDeserialize inputIOFormats outputIOFormats "
    "dumpRefit plugins avgTiming safe help"
)
_EIGHT = (
    "deploy uff model explicitBatch batch fp16 int8 best calib nvtxMode workspace buildOnly precisionConstraints "
    "minTiming"
)
_TEN = (
    "stronglyTyped infStreams memPoolSize skipInference builderOptimizationLevel layerDeviceTypes versionCompatible "
    "hardwareCompatibilityLevel getPlanVersionOnly useRuntime buildDLAStandalone tempdir staticPlugins "
    "errorOnTimingCacheMiss useProfile"
)
_FLAGS: Dict[Tuple[int, int], str] = {
    (8, 2): _ALWAYS + " " + _EIGHT,
    (8, 5): _ALWAYS + " " + _EIGHT + " memPoolSize layerPrecisions",
    (10, 3): _ALWAYS + " " + _TEN + " fp16 bf16 int8 fp8 best calib precisionConstraints layerPrecisions",
    # The string --int8 in 11's sources is the safety builder's: trtexec itself does not take it.
    (11, 0): _ALWAYS + " " + _TEN + " noCudaGraph noSpinWait includeDataTransfers cpuOnly remoteAutoTuningConfig",
}

# The newest opset that each version's parser takes.
OPSETS = {(8, 2): 13, (8, 5): 17, (10, 3): 20, (11, 0): 24}


def flags_of(version: Tuple[int, ...]) -> FrozenSet[str]:
    """Return the names of a version's flags, without dashes."""
    return frozenset(_FLAGS[(version[0], version[1])].split())


def read_flags(version: Tuple[int, ...], arguments: List[str]) -> Tuple[Dict[str, str], List[str]]:
    """Split arguments into flags with their values, and those that the version does not know.

    Raises:
        ValueError: if a value is missing or superfluous; its text is what trtexec says.
    """
    known = flags_of(version)
    values: Dict[str, str] = {}
    unknown: List[str] = []
    for argument in arguments:
        name, equals, value = argument[2:].partition("=")
        if not argument.startswith("--") or name not in known:
            unknown.append(argument)
        elif name in SWITCHES and equals:
            raise ValueError("Unknown option: --{} {}".format(name, value))
        elif name not in SWITCHES and not value:
            raise ValueError("Missing value of --{}".format(name))
        else:
            values[name] = value
    return values, unknown


def number_of(values: Dict[str, str], name: str, default: float, *, whole: bool = False) -> float:
    """Return a flag's number; ``whole``: as C++'s ``stoi`` reads it, which drops a fraction.

    Raises:
        ValueError: if it is none.
    """
    try:
        number = float(values.get(name, default))
        return float(int(number)) if whole else number
    except (ValueError, OverflowError):
        raise ValueError("Invalid number in --{}={}".format(name, values[name])) from None
