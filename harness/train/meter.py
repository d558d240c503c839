"""Energy, clocks and temperature of an NVIDIA GPU while a trial runs, from NVML.

Needs the optional extra ``energy``.
"""

from __future__ import annotations

import importlib.util
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(slots=True)
class Meter:
    """Reads one GPU; reads nothing, in silence, on another device or without NVML.

    Attributes:
        device: cpu, cuda or cuda:N.
    """

    device: str
    _nvml: Any = None
    _handle: Any = None
    _started: float = 0.0
    _millijoules: float | None = None
    _shared: bool = False  # whether another process was seen on the GPU
    _sm_mhz: list[float] = field(default_factory=list)
    _celsius: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if torch.device(self.device).type != "cuda" or importlib.util.find_spec("pynvml") is None:
            return
        import pynvml

        try:
            pynvml.nvmlInit()
            # by its identity: CUDA numbers only the GPUs that it may see, NVML all of them
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(
                f"GPU-{torch.cuda.get_device_properties(self.device).uuid}"
            )
        except pynvml.NVMLError:
            return
        self._nvml = pynvml
        self._started, self._millijoules = (
            time.perf_counter(),
            self._ask("nvmlDeviceGetTotalEnergyConsumption"),
        )

    def sample(self) -> None:
        """Note clock and temperature of this moment, and whether another process uses the GPU."""
        if self._nvml is None:
            return
        with suppress(self._nvml.NVMLError):  # nobody says: then the energy is taken for ours
            self._shared |= len(self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)) > 1
        clock = self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM)
        heat = self._ask("nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU)
        if clock is not None:
            self._sm_mhz.append(clock)
        if heat is not None:
            self._celsius.append(heat)

    def readings(self) -> dict[str, float]:
        """Return joules and watts since the start, sm_mhz (a mean), celsius (the highest).

        What is unknown is absent.

        The counter is the whole GPU's: of one that is shared nobody knows which part is this
        trial's.
        """
        values: dict[str, float] = {}
        # a counter since the driver was loaded: only its difference is the trial's
        now = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        if now is not None and self._millijoules is not None and not self._shared:
            values["joules"] = (now - self._millijoules) / 1000
            values["watts"] = values["joules"] / max(time.perf_counter() - self._started, 1e-9)
        if self._sm_mhz:
            values["sm_mhz"] = sum(self._sm_mhz) / len(self._sm_mhz)
        if self._celsius:
            values["celsius"] = max(self._celsius)
        return values

    def throttled(self) -> str:
        """Return why the clocks are held down now, empty if they are not or nobody knows."""
        if self._nvml is None:
            return ""
        bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        reasons = {
            "SwPowerCap": "the power cap",
            "HwSlowdown": "the hardware's own slowdown",
            "SwThermalSlowdown": "the temperature",
            "HwThermalSlowdown": "the temperature",
            "HwPowerBrakeSlowdown": "the power supply",
        }
        held = [
            words
            for name, words in reasons.items()
            if int(bits or 0) & getattr(self._nvml, f"nvmlClocksThrottleReason{name}", 0)
        ]
        return ", ".join(dict.fromkeys(held))

    def _ask(self, name: str, *arguments: Any) -> float | None:
        if self._nvml is None:
            return None
        try:
            return float(getattr(self._nvml, name)(self._handle, *arguments))
        except (self._nvml.NVMLError, AttributeError):  # not every GPU answers every question
            return None
