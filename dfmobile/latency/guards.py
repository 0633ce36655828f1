"""What watches over a build: disturbed passes, drift of the machine, blocks that contradict the order.

Each guard has passes measured again a bounded number of times. What was measured before is kept as rejected, with
the reason; what a guard finds afterwards is reported, not hidden.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dfmobile.architecture import PlacedBlock
from dfmobile.latency.contamination import contamination
from dfmobile.latency.drift import LEAST_JOBS, Anchors, largest_deviation, stored_anchors
from dfmobile.latency.measurement import PassResult
from dfmobile.latency.monotonicity import OrderFinding, order_findings
from dfmobile.latency.pooled import pooled_precision
from dfmobile.latency.rejected import Guard, RejectedPass, rejected_passes, store_rejected, withdraw
from dfmobile.latency.table import LatencyTable

# How often one pass may be rejected by a guard; after that it is recorded as it is, and marked.
MAX_REJECTIONS: dict[Guard, int] = {"contamination": 2, "drift": 1, "order": 1}
RECENT_PASSES = 100


@dataclass(frozen=True)
class GuardReport:
    """What the guards did in one sitting, and what they still find.

    Attributes:
        contaminated: passes rejected as disturbed.
        drifted: passes rejected because the machine had changed its pace.
        contradicting: passes rejected because their blocks contradicted the order.
        accepted: passes recorded although disturbed, since measuring again did not help.
        anchors: anchor measurements in the table, all sittings.
        largest_drift: largest relative distance of one of them from their median; None where there are too few.
        findings: contradictions of the order that measuring again did not settle.
    """

    contaminated: int
    drifted: int
    contradicting: int
    accepted: int
    anchors: int
    largest_drift: float | None
    findings: tuple[OrderFinding, ...]

    @property
    def rejected(self) -> int:
        """Passes rejected in this sitting."""
        return self.contaminated + self.drifted + self.contradicting

    @property
    def lines(self) -> list[str]:
        """What people should know; empty where all is well."""
        found = []
        if self.rejected:
            found.append(
                f"{self.rejected} passes rejected and measured again: {self.contaminated} disturbed,"
                f" {self.drifted} in a drift of the machine, {self.contradicting} against the order of widths"
            )
        if self.accepted:
            found.append(f"{self.accepted} passes stayed disturbed and are recorded so")
        found.extend(f"against the order: {finding.text}" for finding in self.findings)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON document."""
        return {
            "contaminated": self.contaminated,
            "drifted": self.drifted,
            "contradicting": self.contradicting,
            "accepted": self.accepted,
            "anchors": self.anchors,
            "largest_drift": self.largest_drift,
            "findings": [finding.to_dict() for finding in self.findings],
        }


class Guards:
    """The guards of one sitting of a build.

    Args:
        table: being built.
        blocks: of the build, by key.
    """

    def __init__(self, table: LatencyTable, blocks: Mapping[str, PlacedBlock]) -> None:
        self._table, self._blocks = table, blocks
        self._rejected = Counter((item.guard, item.key, item.pass_index) for item in rejected_passes(table))
        self._judged = {key for guard, key, _ in self._rejected if guard == "order"}
        self._recent: deque[PassResult] = deque(maxlen=RECENT_PASSES)
        self._anchors: Anchors | None = None
        self._counts: Counter[str] = Counter()

    def start(self, session: int, run_ms: Mapping[str, float], pending: int) -> None:
        """Choose anchors, where there is enough to measure.

        Args:
            session: of the table.
            run_ms: about how long each block takes, by key.
            pending: passes to measure.
        """
        if pending >= LEAST_JOBS:
            self._anchors = Anchors.choose(self._table, session, list(self._blocks.values()), run_ms)

    def anchor_before(self, key: str, pass_index: int) -> tuple[str, PlacedBlock] | None:
        """Take note that a pass is about to be measured; return (job id, block) of an anchor that is due first."""
        return None if self._anchors is None else self._anchors.before(key, pass_index)

    def last_anchor(self) -> tuple[str, PlacedBlock] | None:
        """Return the anchor that closes a stream of jobs."""
        return None if self._anchors is None else self._anchors.last()

    def take_anchor(self, identifier: str, result: PassResult) -> bool:
        """Take a result if it is an anchor's, and tell whether it was."""
        return self._anchors is not None and self._anchors.take(identifier, result)

    def refuse(self, block: PlacedBlock, pass_index: int, result: PassResult, session: int, sha256: str) -> bool:
        """Reject a pass that was just measured, if it was disturbed, and tell whether it is to be measured again."""
        reason = contamination(result, self._recent) if result.hot_ms else None
        if reason is None:
            self._recent.append(result)
            return False
        if not self._note("contamination", block.key, pass_index):
            result.extra["contamination"] = reason
            self._counts["accepted"] += 1
            return False
        store_rejected(
            self._table,
            RejectedPass(
                block.key,
                block.text,
                pass_index,
                self._attempt(block.key, pass_index),
                session,
                "contamination",
                reason,
                sha256,
                result,
            ),
        )
        return True

    def review(self) -> list[tuple[str, int]]:
        """Withdraw recorded passes that other measurements speak against; return (key, pass index) of each."""
        there = self._table.recorded()
        found = []
        for (key, number), reason in ({} if self._anchors is None else self._anchors.suspects()).items():
            if (key, number) in there and self._note("drift", key, number):
                withdraw(self._table, key, number, self._attempt(key, number), "drift", reason)
                found.append((key, number))
        if found:
            # Blocks are compared once their passes are there again.
            if self._anchors is not None:
                self._anchors.forget(found)
            return found
        for finding in self.findings():
            if {finding.narrow_key, finding.wide_key} & self._judged:
                continue
            for key in (finding.narrow_key, finding.wide_key):
                self._judged.add(key)
                for _, number in sorted(item for item in there if item[0] == key):
                    self._note("order", key, number)
                    withdraw(self._table, key, number, self._attempt(key, number), "order", finding.text)
                    found.append((key, number))
        return found

    def findings(self) -> list[OrderFinding]:
        """Return the contradictions of the order among the blocks of this build."""
        entries = self._table.entries()
        precision = pooled_precision(entries)
        return order_findings([entry for entry in entries if entry.key in self._blocks], precision)

    def report(self) -> GuardReport:
        """Return what was done, and what is left to say."""
        anchors, drift = largest_deviation(stored_anchors(self._table))
        return GuardReport(
            contaminated=self._counts["contamination"],
            drifted=self._counts["drift"],
            contradicting=self._counts["order"],
            accepted=self._counts["accepted"],
            anchors=anchors,
            largest_drift=drift,
            findings=tuple(self.findings()),
        )

    def _attempt(self, key: str, pass_index: int) -> int:
        """Return how many passes of a block and index were rejected before the one that was just noted."""
        return sum(self._rejected[guard, key, pass_index] for guard in MAX_REJECTIONS) - 1

    def _note(self, guard: Guard, key: str, pass_index: int) -> bool:
        """Count a rejection, and tell whether it was within the bound."""
        if self._rejected[guard, key, pass_index] >= MAX_REJECTIONS[guard]:
            return False
        self._rejected[guard, key, pass_index] += 1
        self._counts[guard] += 1
        return True


def guard_document(table: LatencyTable) -> dict[str, Any]:
    """Return what ``dfmobile lut show --json`` says of the guards: rejected passes, anchors, findings."""
    anchors, drift = largest_deviation(stored_anchors(table))
    return {
        "rejected": [
            {"key": item.key, "text": item.text, "pass": item.pass_index, "guard": item.guard, "reason": item.reason}
            for item in rejected_passes(table)
        ],
        "anchors": anchors,
        "largest_drift": drift,
        "findings": [finding.to_dict() for finding in order_findings(table.entries())],
    }
